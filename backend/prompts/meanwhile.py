"""What a run of a tuning begins with, and what of it is otherwise at its end: the prompt in use, and its examples."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from backend import dropped, unpacking
from backend.errors import BadRequest
from backend.prompts.seen import seen_by
from backend.revision import Snapshot
from backend.store import Approval, PromptRecord, Store
from model.example import Prompt
from model.gate import Incumbent, Use, Verdict
from model.tuning import Tuned

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a run begins with.

    Attributes:
        target: target id.
        approvals: that of each example that it learns from, by key; None where it was corrected or withdrawn just then.
        in_use: number of the prompt that was in use; None where it was examples alone.
        incumbent: that prompt; None also where its tensors cannot be read, as predictions do without it then.
        is_known: whether it is known what the incumbent has learned from.
    """

    target: str
    approvals: Mapping[str, Approval | None]
    in_use: int | None
    incumbent: Incumbent | None
    is_known: bool

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot, target: str, keys: Collection[str]) -> "Beginning":
        """What a run begins with that learns from the examples of these keys."""
        infos = [info for info in snapshot.pool.get(target, ()) if info.key in keys]
        approved = store.approvals(snapshot.project, tasks={info.task for info in infos})
        approvals = {approval.annotation: approval for approval in approved}
        # What was corrected since the snapshot was taken has the approval of the correction.
        there = {info.key for info in store.pool(snapshot.project, target)}
        of = {info.key: approvals.get(info.annotation) for info in infos if info.key in there}
        record = snapshot.prompts.get(target)
        incumbent, seen = None, None
        if record is not None and (prompt := _tensors(store, record)) is not None:
            seen = seen_by(store, record, infos)
            incumbent = Incumbent(prompt, record.uses, seen or frozenset())
        return cls(
            target,
            {key: of.get(key) for key in keys},
            record.number if record else None,
            incumbent,
            is_known=incumbent is None or seen is not None,
        )

    def withdrawn(self, store: Store, now: Snapshot) -> tuple[str, ...]:
        """Keys of the examples that were withdrawn, corrected or taken out of use since; not of what made room."""
        there = {info.key for info in now.pool.get(self.target, ())}
        missing = {key: approval for key, approval in self.approvals.items() if key not in there}
        tasks = {approval.task for approval in missing.values() if approval is not None}
        says = {
            approval.annotation: approval.digest for approval in store.approvals(now.project, tasks=tasks)
        }
        everyone = [info for infos in now.pool.values() for info in infos]
        out = {one.key for one in dropped.listed(store, now.project, everyone)}
        return tuple(
            key
            for key, approval in missing.items()
            if key in out or approval is None or says.get(approval.annotation) != approval.digest
        )

    def still(self, verdict: Verdict, now: Snapshot) -> Verdict:
        """What was measured, less what was measured of a prompt that is no longer in use: then examples count."""
        record = now.prompts.get(self.target)
        if (record.number if record else None) == self.in_use:
            return verdict
        return replace(verdict, incumbent_iou=None, rival_iou=None)

    def objection(self, store: Store, now: Snapshot, tuned: Tuned, uses: Use, *, compare: bool) -> str:
        """What the prompt in use says against a candidate, whatever was measured: half a sentence, "" for nothing.

        Args:
            store: where it is.
            now: the project's snapshot at the end.
            tuned: the candidate.
            uses: how it is used.
            compare: whether the candidate has to be compared with it.
        """
        record = now.prompts.get(self.target)
        if record is None:
            return ""
        prompt = _tensors(store, record)
        if prompt is not None and record.uses == uses and _are_same(prompt, tuned):
            return f"it is the very same as prompt {record.number}, which is in use"
        if compare and record.number != self.in_use:
            return f"prompt {record.number} came into use meanwhile, and it was not compared with that"
        return ""


def _tensors(store: Store, record: PromptRecord) -> Prompt | None:
    """A version's tensors; None where they cannot be read."""
    try:
        return unpacking.prompt(record, store.prompts.prompt_content(record.project, record.number) or b"")
    except BadRequest as error:
        said = "project %s: prompt %d of '%s' is in use, but cannot be read; a tuning passes it over: %s"
        log.warning(said, record.project, record.number, record.label, error)
        return None


def _are_same(prompt: Prompt, tuned: Tuned) -> bool:
    """Whether they show the same: the size of objects decides what is too small to be one."""
    return (
        np.array_equal(prompt.image, tuned.image)
        and np.array_equal(prompt.mask, tuned.mask)
        and prompt.object_side == tuned.object_side
    )
