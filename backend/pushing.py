"""Pushing: predictions into Label Studio, one of a version for each task, in place of the superseded ones."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from backend import revision
from backend.errors import LabelStudioError, Unauthorized, Unreachable
from backend.label_studio import LabelStudio, is_outage
from backend.predictor import TaskPrediction
from backend.protocol import project_number
from backend.revision import Snapshot
from backend.store import Store, TaskState
from backend.store.records import TaskStatus

log = logging.getLogger(__name__)

_PUSHED = "pushed"
_ANSWERED = "answered"
_UNANSWERED = "Label Studio did not say whether it stored the prediction"
_PUSHED_AGAIN = "pushed again, since Label Studio had not said whether it stored the prediction"
_DOUBT_SECONDS = 60.0  # after which what was sent before has been stored, or never will be
_STORING_SECONDS = 10.0  # in which Label Studio usually stores what it was answered


@dataclass(frozen=True)
class Held:
    """What Label Studio holds of ours for a task.

    Attributes:
        task: task id.
        current: numbers of its predictions of the snapshot's version, the oldest last: that one has been there to be
            opened for the longest time, and whoever has opened a prediction that goes cannot submit.
        superseded: numbers of those of other versions that may go, the newest last.
        stays: versions that are not superseded.
        labeled: whether annotations may name its predictions, so that none may go.
    """

    task: int
    current: tuple[int, ...]
    superseded: tuple[int, ...]
    stays: frozenset[str]
    labeled: bool

    @property
    def removable(self) -> tuple[int, ...]:
        """Numbers of all that may go: superseded ones, and twins of the current one."""
        return () if self.labeled else (*self.superseded, *self.current[:-1])


class Pushing:
    """Lets Label Studio store predictions, and remembers of which task it did."""

    def __init__(self, store: Store, label_studio: LabelStudio) -> None:
        self._store = store
        self._label_studio = label_studio

    def held(self, snapshot: Snapshot, task: int, stays: frozenset[str], *, labeled: bool) -> Held:
        """What Label Studio holds of ours for a task now.

        Args:
            snapshot: whose version is current.
            task: task id.
            stays: as in `Held`.
            labeled: as in `Held`.

        Raises:
            LabelStudioError: no answer, or a refusal.
        """
        rows = sorted(self._label_studio.predictions(task), key=lambda row: int(row["id"]))
        ours = {
            int(row["id"]): row["model_version"] for row in rows if revision.is_ours(row.get("model_version"))
        }
        current = tuple(number for number, version in ours.items() if version == snapshot.revision)
        others = () if labeled else tuple(number for number, version in ours.items() if version not in stays)
        return Held(task, current[::-1], others, stays, labeled)

    def settled(self, states: Iterable[TaskState], bare: Collection[int] = ()) -> set[int]:
        """Tasks whose state says that they were pushed; what was pushed to the bare ones somebody has deleted since.

        Where Label Studio may have stored one twice it says so for a while only, so that it is looked at again.
        """
        doubted = time.time() - _DOUBT_SECONDS
        return {
            state.task
            for state in states
            if state.task not in bare
            and (state.reason == _PUSHED or (state.reason == _PUSHED_AGAIN and state.at > doubted))
        }

    def being_stored(self, snapshot: Snapshot, tasks: Collection[int]) -> list[int]:
        """Those of the tasks whose predictions were answered a moment ago: pushed as well, they would be there twice."""
        recent = time.time() - _STORING_SECONDS
        return [
            state.task
            for state in self._store.task_states(snapshot.project, tasks)
            if state.reason == _ANSWERED and state.revision == snapshot.revision and state.at > recent
        ]

    def begin(self, snapshot: Snapshot, tasks: Collection[int]) -> None:
        """Note that tasks are being predicted, and of which Label Studio may yet store a prediction."""
        states = self._store.task_states(snapshot.project, tasks)
        doubted = {
            state.task
            for state in states
            if state.reason == _UNANSWERED
            or (state.reason == _ANSWERED and state.revision == snapshot.revision)
        }
        self.note_each(snapshot, "running", {task: _UNANSWERED if task in doubted else "" for task in tasks})

    def push(
        self, snapshot: Snapshot, predictions: Mapping[int, TaskPrediction], held: Mapping[int, Held]
    ) -> list[Held]:
        """Push in the order of the tasks.

        Args:
            snapshot: that they were made on.
            predictions: by task id.
            held: what Label Studio holds, by task id; the newest superseded one, which somebody may have open, is
                replaced.

        Returns:
            What Label Studio holds now of those that it took.

        Raises:
            LabelStudioError: no answer, or a refusal that is not about one prediction; the tasks wait.
        """
        states = self._store.task_states(snapshot.project, predictions)
        doubted = {state.task for state in states if state.reason == _UNANSWERED}
        pushed: list[Held] = []
        refused: dict[int, LabelStudioError] = {}
        for task, prediction in predictions.items():
            # Should this worker end before there is an answer, the next one knows that there may be one.
            self.note(snapshot, [task], "running", _UNANSWERED)
            try:
                now = self._send(prediction, held[task])
                now = self._look_again(snapshot, now) if task in doubted else now
            except LabelStudioError as error:
                if not _is_of_one(error):
                    waiting = predictions.keys() - {one.task for one in pushed}
                    unsure = {task} if isinstance(error, Unreachable) else set()
                    self._wait(snapshot, waiting, doubted | unsure, error)
                    raise
                refused[task] = error
                continue
            pushed.append(now)
            again = task in doubted and len(now.current) < 2
            self.note(snapshot, [task], "done", _PUSHED_AGAIN if again else _PUSHED)
            self._number(snapshot, now)
        self._see_refused(snapshot, refused, nothing_else=not pushed)
        return pushed

    def note_there(self, snapshot: Snapshot, held: Collection[Held]) -> None:
        """Note that Label Studio holds tasks' predictions, and under which numbers."""
        self.note(snapshot, [one.task for one in held], "done", _PUSHED)
        for one in held:
            self._number(snapshot, one)

    def note_answered(self, snapshot: Snapshot, tasks: Iterable[int]) -> None:
        """Note that tasks were predicted in a reply, which Label Studio stores if it was still listening."""
        self.note(snapshot, tasks, "done", _ANSWERED)

    def remove(self, snapshot: Snapshot, held: Iterable[Held]) -> int:
        """Remove what may go; how many are gone."""
        old = [number for one in held for number in one.removable]
        if not old:
            return 0
        try:
            gone = self._label_studio.delete_predictions(old)
        except LabelStudioError as error:
            log.warning("project %s: superseded predictions stay for now: %s", snapshot.project, error)
            return 0
        self._store.forget_pushed(snapshot.project, gone)
        return len(gone)

    def note(self, snapshot: Snapshot, tasks: Iterable[int], status: TaskStatus, reason: str) -> None:
        """Remember where tasks stand, and why."""
        self.note_each(snapshot, status, dict.fromkeys(tasks, reason))

    def note_each(self, snapshot: Snapshot, status: TaskStatus, reasons: Mapping[int, str]) -> None:
        """Remember where tasks stand, and why, by task id."""
        now = time.time()
        self._store.set_task_states(
            TaskState(snapshot.project, task, status, reason, snapshot.revision, now)
            for task, reason in reasons.items()
        )

    # -- inside --------------------------------------------------------------------------------------------------
    def _see_refused(
        self, snapshot: Snapshot, refused: Mapping[int, LabelStudioError], *, nothing_else: bool
    ) -> None:
        """Forget tasks that are gone, and note why the others failed.

        Raises:
            LabelStudioError: where Label Studio breaks on several and took none, that is on whatever it is given, as
                with a full disk; the tasks wait.
        """
        broken = [error for error in refused.values() if (error.status or 0) >= 500]
        if nothing_else and len(broken) > 1:
            self.note(snapshot, list(refused), "queued", str(broken[-1]))
            raise broken[-1]
        for task, error in refused.items():
            if self._label_studio.tasks(project_number(snapshot.project), [task]):
                self.note(snapshot, [task], "failed", str(error))
            else:
                self._store.forget_tasks(snapshot.project, [task])

    def _wait(
        self, snapshot: Snapshot, tasks: Collection[int], doubted: Collection[int], error: LabelStudioError
    ) -> None:
        """Note that tasks wait, and of which it is not known whether Label Studio has stored their predictions."""
        reasons = {task: _UNANSWERED if task in doubted else str(error) for task in tasks}
        self.note_each(snapshot, "queued", reasons)

    def _send(self, prediction: TaskPrediction, held: Held) -> Held:
        """Let Label Studio store a prediction, in place of the newest superseded one where there is any."""
        given = (prediction.task, prediction.result, prediction.score, prediction.revision)
        number, left = None, held.superseded
        if left:
            try:
                self._label_studio.replace_prediction(left[-1], *given)
                number = left[-1]
            except LabelStudioError as error:
                if error.status != 404:
                    raise
            left = left[:-1]
        if number is None:
            number = self._label_studio.create_prediction(*given)
        return replace(held, current=(number,), superseded=left)

    def _look_again(self, snapshot: Snapshot, sent: Held) -> Held:
        """What Label Studio holds now that it has taken a prediction which it may have stored before."""
        found = self.held(snapshot, sent.task, sent.stays, labeled=sent.labeled)
        return found if found.current else sent

    def _number(self, snapshot: Snapshot, held: Held) -> None:
        """Record under which numbers Label Studio holds a prediction."""
        for record in self._store.predictions(snapshot.project, held.task):
            if record.revision == snapshot.revision:
                for number in held.current:
                    self._store.put_prediction(record.with_pushed(number))


def _is_of_one(error: LabelStudioError) -> bool:
    """Whether Label Studio, or a proxy before it, refused one prediction: the next one may be taken."""
    everyone_s = is_outage(error) or isinstance(error, Unauthorized)
    return not everyone_s and error.status is not None and error.status >= 400 and error.status != 429
