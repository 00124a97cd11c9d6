"""Revision: the schedule on which `model_version` moves, and the snapshot that one request works on.

Freshness and revision are two things. An approval is used by the very next prediction, whatever the version; the
revision, which makes Label Studio ask again for tasks that it has a prediction for, moves when asking again pays.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from backend.errors import LabelConfigError
from backend.label_config import LabelConfig, Target, parse
from backend.protocol import project_number
from backend.store import ExampleInfo, ProjectRecord, PromptRecord, Store

Standing = Literal["there", "withdrawn_during", "withdrawn_since", "gone"]
"""An example of a prompt: still in the pool; withdrawn or corrected, while it was tuned or later; or not to be told."""

_OURS = re.compile(r"seggpt-.+-r[0-9]+(?:-p(?P<prompts>[0-9]+(?:\.[0-9]+)*))?")


def pays_at(approvals: int) -> bool:
    """Whether the approval of this number (from 1) moves the revision: 1, 2, 3, 5, 8, 13, 21 and so on."""
    low, high = 1, 2
    while low < approvals:
        low, high = high, low + high
    return approvals == low


def name(checkpoint: str, generation: int, prompts: Iterable[int] = ()) -> str:
    """`model_version` of a project: the same from every process and after every restart.

    Args:
        checkpoint: identity of the weights.
        generation: moves with what the project's examples say.
        prompts: numbers of the active prompts. Without them it is what it was before they were activated: what was
            predicted then is what would be predicted now.
    """
    active = ".".join(str(number) for number in sorted(prompts))
    return f"seggpt-{checkpoint}-r{generation}" + (f"-p{active}" if active else "")


def is_ours(model_version: object) -> bool:
    """Whether a stored prediction's `model_version` has the form that `name` gives."""
    return isinstance(model_version, str) and _OURS.fullmatch(model_version) is not None


def prompts_in(model_version: str) -> frozenset[int]:
    """Numbers of the prompts that were active under a `model_version` of ours."""
    found = _OURS.fullmatch(model_version)
    numbers = found["prompts"] if found else None
    return frozenset(map(int, numbers.split("."))) if numbers else frozenset()


@dataclass(frozen=True)
class Snapshot:
    """What one request works on from beginning to end.

    Attributes:
        project: project key, "" for a request that names none.
        revision: its `model_version`.
        config: targets of the project.
        pool: examples of every target that has any, by target id, oldest approval first.
        prompts: active prompts that fit checkpoint and config, by target id.
        record: the project's record; None where the project is unknown.
    """

    project: str
    revision: str
    config: LabelConfig
    pool: dict[str, tuple[ExampleInfo, ...]]
    prompts: Mapping[str, PromptRecord] = field(default_factory=dict)
    record: ProjectRecord | None = None

    @property
    def ready(self) -> tuple[Target, ...]:
        """Targets of which something has been approved, or for which a prompt is active."""
        return tuple(
            target for target in self.config.targets if self.pool.get(target.id) or target.id in self.prompts
        )

    def tasks(self, target: str, keys: Collection[str]) -> list[int]:
        """The tasks that the examples of a target with these keys are of, oldest approval first."""
        return [info.task for info in self.pool.get(target, ()) if info.key in keys]


def take(store: Store, project: str, checkpoint: str) -> Snapshot:
    """The project's snapshot now; without examples where the project is unknown or its config is unreadable."""
    record = store.project(project) if project else None
    if record is None:
        return Snapshot(project, name(checkpoint, 0), config_of(None), {})
    config = config_of(record)
    prompts = _in_use(store, record, config, checkpoint)
    version = _named(record, prompts, checkpoint)
    return Snapshot(project, version, config, _by_target(store.pool(project)), prompts, record)


def current(store: Store, record: ProjectRecord, checkpoint: str) -> str:
    """The project's `model_version` now, for whoever needs no pool."""
    return _named(record, _in_use(store, record, config_of(record), checkpoint), checkpoint)


def config_of(record: ProjectRecord | None) -> LabelConfig:
    """What a project's label config holds for us; nothing where the project is unknown or its config unreadable."""
    try:
        return parse(record.label_config) if record else LabelConfig(targets=())
    except LabelConfigError:
        return LabelConfig(targets=())


def project_of(store: Store, named: int | str) -> str | None:
    """The key of the project that is meant; None where none like it has been seen.

    Args:
        store: where projects are known.
        named: its key, or Label Studio's number of it. Numbers come again where Label Studio was set up anew: of
            several projects with one number it is the newest.
    """
    keys = [record.key for record in store.projects()]
    if named in keys:
        return str(named)
    same = [key for key in keys if str(project_number(key)) == str(named)]
    return max(same, key=lambda key: int(key.partition(".")[2] or 0), default=None)


def standing(prompt: PromptRecord, pool: Sequence[ExampleInfo], pool_size: int) -> dict[str, Standing]:
    """What became of the examples that a prompt learned from, by key.

    Args:
        prompt: the version.
        pool: examples of its target now.
        pool_size: most examples of a pool; what is missing from a full one may only have made room.
    """
    there = {info.key for info in pool}
    missing: Standing = "gone" if len(pool) >= pool_size else "withdrawn_since"
    return {
        key: "withdrawn_during" if key in prompt.withdrawn else "there" if key in there else missing
        for key in prompt.examples
    }


def unfit(prompt: PromptRecord, config: LabelConfig, checkpoint: str) -> str | None:
    """Why a prompt cannot be used with a config and a checkpoint, a sentence; None where it can."""
    if prompt.target not in {target.id for target in config.targets}:
        return f"Label '{prompt.label}' (target {prompt.target}) is not in the labeling config."
    if prompt.checkpoint != checkpoint:
        return f"It was tuned for the checkpoint {prompt.checkpoint}; this backend has {checkpoint}."
    return None


def _in_use(
    store: Store, record: ProjectRecord, config: LabelConfig, checkpoint: str
) -> dict[str, PromptRecord]:
    """Active prompts that fit, by target id."""
    return {
        prompt.target: prompt
        for prompt in store.prompts.prompts(record.key)
        if prompt.status == "active" and unfit(prompt, config, checkpoint) is None
    }


def _named(record: ProjectRecord, prompts: Mapping[str, PromptRecord], checkpoint: str) -> str:
    return name(checkpoint, record.generation, [prompt.number for prompt in prompts.values()])


def _by_target(pool: Sequence[ExampleInfo]) -> dict[str, tuple[ExampleInfo, ...]]:
    grouped: dict[str, list[ExampleInfo]] = {}
    for info in pool:
        grouped.setdefault(info.target, []).append(info)
    return {target: tuple(infos) for target, infos in grouped.items()}
