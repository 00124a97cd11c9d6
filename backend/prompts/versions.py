"""Versions of prompts: activated, rolled back, watched, exported and imported; knows no tuning."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from backend import revision
from backend.errors import BadRequest, NotFound, Refused
from backend.label_config import LabelConfig, Target
from backend.prompts.keeping import MOST_LOOKED_AT, fell
from backend.store import KeptIoU, PromptRecord, Store
from backend.store.tensors import tidy_label, unpack_prompt


@dataclass(frozen=True)
class RolledBack:
    """A prompt that was taken out of use.

    Attributes:
        retired: the prompt, with the reason.
        active: what is in use now in its place; None where it is examples alone.
    """

    retired: PromptRecord
    active: PromptRecord | None


class Prompts:
    """The versions of all projects. Each change is one transaction, is in every new snapshot, and computes nothing."""

    def __init__(self, store: Store, checkpoint: str, image_size: int) -> None:
        """Look after the prompts in `store`.

        Args:
            store: where they are kept.
            checkpoint: identity of the weights that this backend predicts with.
            image_size: side in pixels of the tensors that these weights take.
        """
        self._store = store
        self._checkpoint = checkpoint
        self._image_size = image_size

    def get(self, project: str, number: int) -> PromptRecord:
        """A version.

        Raises:
            NotFound: if the project has no version of this number.
        """
        for prompt in self._store.prompts.prompts(project):
            if prompt.number == number:
                return prompt
        raise NotFound(
            f"Project {project} has no prompt {number}.", remedy="`prompts list` shows those that there are."
        )

    def activate(self, project: str, number: int, reason: str = "Activated by hand.") -> PromptRecord:
        """Use a version from the next request on; the revision moves with it.

        Raises:
            NotFound: if there is no such version.
            Refused: if it is active already, or fits the checkpoint or the labeling config no longer.
        """
        prompt = self.get(project, number)
        if prompt.status == "active":
            raise Refused(f"Prompt {number} is active already.")
        if (why := revision.unfit(prompt, self._config(project), self._checkpoint)) is not None:
            raise Refused(f"Prompt {number} cannot be activated. {why}")
        self._store.prompts.activate_prompt(project, prompt.target, number, time.time(), reason)
        return self.get(project, number)

    def roll_back(
        self,
        project: str,
        target: str | None = None,
        *,
        label: str | None = None,
        number: int | None = None,
        reason: str = "Rolled back by hand.",
    ) -> RolledBack:
        """Take an active prompt out of use and go back to what was in use before it.

        That is the prompt that it replaced, where that still fits, else examples alone.

        Args:
            project: project key.
            target: whose prompt; with neither this nor `label` nor `number`, the only one that is in use.
            label: the same, by the label's name.
            number: the prompt that the caller saw in use.
            reason: kept with the retired prompt.

        Raises:
            NotFound: if there is no version of this number.
            Refused: if none is active, the one of this number is not (any more), or several are meant.
        """
        prompt = self._meant(project, target, label, number)
        if (done := self._retire(prompt, reason)) is None:
            raise self._not_active(prompt)
        return done

    def watch(self, project: str) -> list[RolledBack]:
        """Roll back each active prompt whose predictions annotators keep clearly less of than what was there before."""
        active = [prompt for prompt in self._store.prompts.prompts(project) if prompt.status == "active"]
        gone = []
        for prompt in active:
            activated = prompt.activated or 0.0
            kept = partial(self._store.kept, project, target=prompt.target, newest=MOST_LOOKED_AT)
            since = [row.iou for row in kept(activated) if _is_by(prompt, row)]
            before = [row.iou for row in kept(before=activated) if not _is_by(prompt, row)]
            if (why := fell(before, since)) is None:
                continue
            # What somebody put in its place meanwhile has nothing to do with its figures.
            if (done := self._retire(prompt, f"Rolled back by itself. {why}")) is not None:
                gone.append(done)
        return gone

    def export(self, project: str, number: int) -> bytes:
        """A version as one safetensors file with its card (see `backend.store.tensors`).

        Raises:
            NotFound: if there is no such version.
        """
        content = self._store.prompts.prompt_content(project, self.get(project, number).number)
        if content is None:
            raise NotFound(f"The tensors of prompt {number} are gone.")
        return content

    def bring_in(self, project: str, content: bytes, target: str | None = None) -> PromptRecord:
        """Keep an exported file as a candidate of a project.

        Args:
            project: project key.
            content: what `export` gave, of any project and backend.
            target: target id that it is for; None for the target of the file's own label.

        Raises:
            BadRequest: if the file is damaged or not a prompt.
            Refused: if it fits neither the checkpoint nor a target of the project.
        """
        file = unpack_prompt(content)
        config = self._config(project)
        found = _chosen(config, file.card.label, target)
        prompt = PromptRecord(
            project=project,
            number=0,
            target=found.id,
            label=found.label,
            checkpoint=file.card.checkpoint,
            status="candidate",
            uses=file.card.uses,
            origin="imported",
            created=time.time(),
            figures={**file.card.figures, "examples": float(file.card.examples)},
            reason=f"Imported; made {file.card.created} from {file.card.examples} examples of '{file.card.label}'.",
        )
        if (why := revision.unfit(prompt, config, self._checkpoint)) is not None:
            raise Refused(f"The prompt cannot be used here. {why}")
        if file.image.shape[-1] != self._image_size:
            sizes = f"{file.image.shape[-1]} px, and this checkpoint takes {self._image_size} px"
            raise BadRequest(f"The file's checkpoint is right, but not its size: it has {sizes}.")
        return self._store.prompts.add_prompt(prompt, content)

    # -- inside --------------------------------------------------------------------------------------------------
    def _config(self, project: str) -> LabelConfig:
        return revision.config_of(self._store.project(project))

    def _meant(self, project: str, target: str | None, label: str | None, number: int | None) -> PromptRecord:
        """The prompt that is to be rolled back; those in use go before active ones that do not fit."""
        if number is not None:
            seen = self.get(project, number)
            if target not in (None, seen.target) or label not in (None, seen.label):
                raise Refused(f"Prompt {number} is of '{seen.label}', target {seen.target}.")
            return seen
        active = [
            prompt
            for prompt in self._store.prompts.prompts(project, target)
            if prompt.status == "active" and label in (None, prompt.label)
        ]
        if not active:
            of = "".join(f" of '{named}'" for named in (label, target) if named is not None)
            raise Refused(f"No prompt{of} is active: there is nothing to roll back.")
        config = self._config(project)
        in_use = [prompt for prompt in active if revision.unfit(prompt, config, self._checkpoint) is None]
        found = in_use or active
        if len(found) > 1:
            numbers = ", ".join(f"{prompt.number} ({prompt.target})" for prompt in found)
            raise Refused("Several prompts are active.", remedy=f"Say which one: {numbers}.")
        return found[0]

    def _not_active(self, prompt: PromptRecord) -> Refused:
        versions = self._store.prompts.prompts(prompt.project, prompt.target)
        active = [f"prompt {version.number}" for version in versions if version.status == "active"]
        now = "".join(active) or "examples alone"
        return Refused(
            f"Prompt {prompt.number} of '{prompt.label}' is not active; in use: {now}.",
            remedy="Look again before you roll back: it would take back something else.",
        )

    def _retire(self, prompt: PromptRecord, reason: str) -> RolledBack | None:
        """Take a prompt out of use; None where it is not active any more."""
        known = {version.number: version for version in self._store.prompts.prompts(prompt.project)}
        before = known.get(prompt.replaced or 0)
        config = self._config(prompt.project)
        if before is not None and revision.unfit(before, config, self._checkpoint) is not None:
            before = None
        number = before.number if before else None
        if not self._store.prompts.retire_prompt(prompt.project, prompt.number, number, time.time(), reason):
            return None
        active = self.get(prompt.project, number) if number is not None else None
        return RolledBack(self.get(prompt.project, prompt.number), active)


def _is_by(prompt: PromptRecord, row: KeptIoU) -> bool:
    return prompt.number in revision.prompts_in(row.revision)


def _chosen(config: LabelConfig, label: str, wanted: str | None) -> Target:
    found: Collection[Target] = [
        target
        for target in config.targets
        if (target.id == wanted if wanted is not None else tidy_label(target.label) == label)
    ]
    if len(found) == 1:
        return next(iter(found))
    ids = ", ".join(target.id for target in config.targets) or "none"
    if wanted is not None:
        raise Refused(f"The project has no target '{wanted}'.", remedy=f"Its targets: {ids}.")
    several = "several targets" if found else "no target"
    raise Refused(f"The project has {several} with the label '{label}'.", remedy=f"Name one of: {ids}.")
