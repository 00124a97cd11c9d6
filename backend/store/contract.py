"""The contract that every engine fulfils; `tests/backend/store` holds the one test class for all of them.

All methods are safe to call from several threads and several processes at once. A method that writes is atomic:
after a crash either all of it is there or nothing. Times are Unix seconds unless a record says otherwise.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from backend.store.records import (
    Approval,
    Event,
    ExampleInfo,
    KeptFigures,
    KeptIoU,
    PredictedFrame,
    PredictionRecord,
    ProjectRecord,
    PromptRecord,
    StoredExample,
    TaskState,
    TuningRecord,
    WaitingEvents,
    WaitingTasks,
)


class Change(Enum):
    """What storing an approval changed."""

    NEW = "new"  # its annotation had not been approved before
    CHANGED = "changed"  # it says something else than before
    UNCHANGED = "unchanged"  # same digest: only the approval was written, where it is later
    STALE = "stale"  # older (by `at`) than what is stored: nothing was written


REPLACED = "Replaced by prompt %d."
"""Reason of a prompt that is retired because another one of its target came into use."""

IN_USE_AGAIN = "In use again: prompt %d was rolled back."
"""Reason of a prompt that is active because the one after it was taken out of use."""


class PromptStore(Protocol):
    """Tunings and the prompts that come of them."""

    # -- tunings -------------------------------------------------------------------------------------------------
    def add_tuning(self, project: str, target: str, asked_by: str, at: float) -> TuningRecord | None:
        """A new tuning, queued; None where one of this target waits or runs already."""

    def tuning(self, number: int) -> TuningRecord | None:
        """A tuning by its id; None where there is none."""

    def tunings(self, project: str | None = None) -> list[TuningRecord]:
        """Tunings of a project, or of all, newest first."""

    def put_tuning(self, tuning: TuningRecord, state: bytes | None = None) -> None:
        """Remember how far a tuning is, and, where given, what it needs to go on; `stop` is left as it is.

        What it needs to go on is forgotten once it is done or has failed.
        """

    def tuning_state(self, number: int) -> bytes | None:
        """What a tuning needs to go on; None where nothing was kept."""

    def ask_stop(self, number: int) -> None:
        """Ask a tuning to stop; unknown ids are ignored."""

    def reopen_tuning(self, number: int) -> bool:
        """Queue a stopped tuning again; False where it is not stopped or another one of its target is open."""

    # -- prompts -------------------------------------------------------------------------------------------------
    def add_prompt(
        self,
        prompt: PromptRecord,
        content: bytes,
        *,
        tuning: TuningRecord | None = None,
        activate: bool = False,
    ) -> PromptRecord:
        """Keep a new version under the project's next number, as a candidate or active at once (`activate_prompt`).

        Where it came of a tuning, the tuning's record is kept in the same transaction, with the prompt's number.
        """

    def prompts(self, project: str, target: str | None = None) -> list[PromptRecord]:
        """Versions of a project by number; of one target where given."""

    def prompt_content(self, project: str, number: int) -> bytes | None:
        """The file that a version's tensors are kept in; None where there is no such version."""

    def activate_prompt(self, project: str, target: str, number: int, at: float, reason: str) -> bool:
        """Let a version be the target's active one, for a reason; the one that was is retired as `REPLACED`.

        Returns whether anything changed. The active number, or one that the target does not have, changes nothing.
        """

    def retire_prompt(self, project: str, number: int, back_to: int | None, at: float, reason: str) -> bool:
        """Take the active version of this number out of use, for a reason.

        In its place is another version of its target, as `IN_USE_AGAIN`, or none where `back_to` is None. Returns
        whether anything changed: nothing does where this one is not active (any more), or there is no such other.
        """


class Store(Protocol):
    """What the backend remembers."""

    @property
    def prompts(self) -> PromptStore:
        """The part about tunings and prompts."""

    # -- projects ------------------------------------------------------------------------------------------------
    def project(self, key: str) -> ProjectRecord | None:
        """The project's record; None where it has never been seen."""

    def projects(self) -> list[ProjectRecord]:
        """All projects, by key."""

    def put_label_config(self, key: str, label_config: str, targets: str) -> bool:
        """Remember a project's label config; create the record where there is none.

        Where `targets` differs from a non-empty stored fingerprint, the generation moves by one in the same
        transaction. Returns whether it moved.
        """

    def move_generation(self, key: str) -> int:
        """Move the project's generation by one; returns the new one. Creates the record where there is none."""

    def mark_reconciled(self, key: str, at: float, signs: str) -> None:
        """Remember that everything was compared with the export at `at`, with the cheap figures seen then."""

    # -- events --------------------------------------------------------------------------------------------------
    def add_event(self, project: str, action: str, body: Mapping[str, Any], received: float) -> int:
        """Keep an event durably; returns its id. Raises StoreError where it cannot be kept."""

    def pending_events(self, limit: int = 100, project: str | None = None) -> list[Event]:
        """Events not finished yet, of one project or of all, oldest first."""

    def waiting_events(self) -> dict[str, WaitingEvents]:
        """How many events each project has that are not finished yet; a project without any is left out."""

    def count_events(self) -> int:
        """How many events are not finished yet."""

    def retry_event(self, event: int, reason: str) -> int:
        """Count a failed attempt and keep the reason; returns the attempts so far."""

    def finish_event(self, event: int) -> None:
        """The event has been dealt with; it may be forgotten. Unknown ids are ignored."""

    # -- approvals and examples ----------------------------------------------------------------------------------
    def put_approval(self, approval: Approval, examples: Sequence[StoredExample] | None) -> Change:
        """Store an approval and its examples in place of all that its annotation had taught before.

        An example is pinned where it says so, or where the one of its target that it replaces was. A NEW approval adds
        one to the project's `approvals`. With STALE nothing is written; with UNCHANGED only the approval, where it is
        later. Without examples (None), what has another digest than what is stored is STALE.
        """

    def withdraw(self, project: str, annotations: Collection[int]) -> list[Approval]:
        """Remove approvals and their examples; returns those that were there."""

    def approvals(self, project: str, tasks: Collection[int] | None = None) -> list[Approval]:
        """Approvals of a project, by annotation id; of some tasks only where `tasks` is given."""

    def pool(self, project: str, target: str | None = None) -> list[ExampleInfo]:
        """Examples of a project, oldest approval (`at`, then key) first; of one target where given."""

    def examples(self, keys: Collection[str]) -> dict[str, StoredExample]:
        """Examples with their arrays, by key; unknown keys are left out."""

    def drop_examples(self, keys: Collection[str]) -> int:
        """Take examples out of the pool; their approvals stay. Returns how many were there."""

    def score_examples(self, scores: Mapping[str, float]) -> None:
        """Remember what examples are worth to the others, by key, see `ExampleInfo`; unknown keys are ignored."""

    def pin_examples(self, keys: Collection[str], pinned: bool) -> int:
        """Pin examples, or unpin them; returns how many of them there are."""

    def place_examples(self, places: Mapping[str, tuple[str, float | None]]) -> None:
        """Remember sequence and frame of examples, by key; unknown keys are ignored."""

    # -- predictions ---------------------------------------------------------------------------------------------
    def put_prediction(self, prediction: PredictionRecord) -> None:
        """Remember a prediction in place of an earlier one of the same project, task and revision."""

    def predictions(self, project: str, task: int) -> list[PredictionRecord]:
        """What was predicted for a task, newest first."""

    def predicted_tasks(self, project: str, revision: str) -> set[int]:
        """Tasks that have a prediction under a revision."""

    def pushed(self, project: str, *, except_revision: str | None = None) -> list[PredictionRecord]:
        """Predictions that we pushed and Label Studio still holds (masks left out), oldest first."""

    def forget_pushed(self, project: str, pushed: Collection[int]) -> None:
        """Label Studio no longer holds these prediction ids; the records stay."""

    def drop_superseded(self, project: str, before: float) -> int:
        """Remove predictions of a task that has a newer one made before a time; returns how many.

        What Label Studio still holds (see `pushed`) stays, and so does each task's newest. Done task by task: others
        write meanwhile, and where it is cut off it goes on the next time.
        """

    def put_frames(self, project: str, task: int, frames: Sequence[PredictedFrame], keep: int) -> None:
        """Remember a task's predicted frames in place of all its earlier ones; of a project's, the newest `keep` stay."""

    def frame_before(self, project: str, target: str, sequence: str, frame: float) -> PredictedFrame | None:
        """The last predicted frame of a sequence before one, of a target; None where there is none."""

    def add_kept(self, kept: Iterable[KeptIoU]) -> None:
        """Remember kept IoUs, each in place of an earlier one of the same annotation and target."""

    def kept(
        self,
        project: str,
        since: float = 0.0,
        *,
        before: float = math.inf,
        target: str | None = None,
        newest: int | None = None,
    ) -> list[KeptIoU]:
        """Kept IoUs of a project, oldest first; all, or fewer of them.

        Args:
            project: project key.
            since: Unix time; those of earlier submissions are left out.
            before: Unix time; those of this moment and later are left out.
            target: only those of this one.
            newest: of all these only so many, the newest.
        """

    def kept_figures(self, project: str, newest: int = 50) -> KeptFigures:
        """How many kept IoUs a project has, and the mean of its newest; none of them is loaded."""

    # -- background work -----------------------------------------------------------------------------------------
    def set_task_states(self, states: Iterable[TaskState]) -> None:
        """Remember where tasks stand, each in place of the task's earlier state."""

    def task_states(self, project: str, tasks: Collection[int] | None = None) -> list[TaskState]:
        """States of a project's tasks, by task id; of some tasks only where `tasks` is given."""

    def waiting_tasks(self, project: str) -> WaitingTasks:
        """Tasks of a project that are queued or running; the others are not loaded."""

    def forget_tasks(self, project: str, tasks: Collection[int]) -> None:
        """The tasks are gone: their states, predictions and frames go too (approvals: see `withdraw`)."""

    def acquire(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a lease; False where another owner holds it and it has not run out."""

    def release(self, name: str, owner: str) -> None:
        """Give a lease back; ignored where the owner does not hold it."""

    def held(self, prefix: str) -> bool:
        """Whether a lease whose name starts with `prefix` is held by anyone."""

    def set_note(self, name: str, value: str) -> None:
        """Keep a short text under a name, in place of an earlier one."""

    def note(self, name: str) -> str | None:
        """The text kept under a name; None where there is none."""

    def note_once(self, name: str, value: str) -> bool:
        """Keep a text under a name unless one is there; returns whether it was kept."""

    def warnings(self) -> list[str]:
        """What puts at risk what is kept, a sentence each, for people; empty where all is well."""

    def close(self) -> None:
        """Let go of connections; the store must not be used afterwards."""
