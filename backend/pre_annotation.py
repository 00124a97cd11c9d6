"""Pre-annotation: which tasks are predicted ahead, in what order; pushes predictions and tidies superseded ones.

Works in short steps, so that it gives way: a step says as a value whether more is to be done, and by whom.
"""

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend import revision
from backend.errors import LabelStudioError, Unauthorized
from backend.label_studio import LabelStudio, is_outage
from backend.ordering import Ordering
from backend.predictor import Predictions, Predictor, TaskPrediction
from backend.protocol import project_number
from backend.revision import Snapshot
from backend.settings import Settings
from backend.store import Store, TaskState
from backend.store.leases import claimed
from backend.store.records import TaskStatus

log = logging.getLogger(__name__)

STEP_TASKS = 8
"""Tasks a step predicts at most before it gives way."""

PREDICTING = "predict:"
"""Prefix of the leases that are held while a request is answered."""

_CLAIM_SECONDS = 20.0  # renewed all the time; after which a task that a dead worker was at is free
_STEP_SECONDS = 5.0  # after which a step takes up no further task
_PAGE = 100  # tasks asked for at once
_PASS_EVERY = 600.0  # a pass now and then finds what failed or was not announced
_FAILED_AGAIN = 600.0  # seconds until a task that could not be predicted is tried again
_STILL_NEEDED = (
    86_400.0  # seconds in which an approval that was made before a newer prediction may still come
)
_TIDY_EVERY = 3600.0

_PUSHED = "pushed"
_ANSWERED = "answered"
_NOTHING_YET = "nothing approved yet"
_NO_IMAGE = "Label Studio did not give its image"
_ABANDONED = 60.0  # seconds without news of a pass, or of tasks that wait, after which nobody works on them


@dataclass(frozen=True)
class Step:
    """What a step did.

    Attributes:
        pushed: predictions that Label Studio now holds.
        removed: superseded predictions of ours that it no longer holds.
        more: whether there may be work for another step.
        after: id of the last task that the pass has looked at.
        seen: how many tasks the pass has looked at.
        left: of the tasks that a step was given, those that it did not get to.
    """

    pushed: int = 0
    removed: int = 0
    more: bool = False
    after: int = 0
    seen: int = 0
    left: tuple[int, ...] = ()


class PreAnnotation:
    """Predicts ahead and pushes through Label Studio's API."""

    def __init__(
        self,
        store: Store,
        label_studio: LabelStudio,
        predictor: Predictor,
        ordering: Ordering,
        settings: Settings,
        checkpoint: str,
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._predictor = predictor
        self._ordering = ordering
        self._settings = settings
        self._checkpoint = checkpoint

    def is_due(self, project: str) -> bool:
        """Whether a pass should begin: long after the last one, where one died with its worker, upon another setting."""
        now = time.time()
        stepped = float(self._store.note(f"pass:{project}") or 0)
        silent = bool(stepped) and now - stepped > _ABANDONED
        died = silent and not self._store.held(f"pre-annotate:{project}")
        long_ago = now - float(self._store.note(f"ahead:{project}") or 0) > _PASS_EVERY
        return died or long_ago or self._ordering.is_due(project)

    @property
    def follows(self) -> bool:
        """Whether each approval should begin a pass: the next task comes within reach, and nobody will ask for it."""
        return self._ordering.on and self._settings.pre_annotate_limit is not None

    def step(self, project: str, after: int = 0, seen: int = 0) -> Step:
        """Predict and push the next few unlabeled tasks, in the order in which the label stream shows them.

        At the end of a pass the project may show the version that was pushed, see `Ordering`; another pass follows where
        the version has moved meanwhile.

        Args:
            project: project key.
            after: id of the last task that the pass has looked at; 0 begins a pass.
            seen: how many tasks the pass has looked at.

        Raises:
            LabelStudioError: Label Studio gave no answer or refused; nothing is lost, step again later.
        """
        if self._store.held(PREDICTING):
            return Step(more=True, after=after, seen=seen)
        if after == 0:
            self._ordering.begin(project)
        step = self._next(project, after, seen)
        if step.more or self._ordering.settle(project):
            return step
        return replace(step, more=True)

    def _next(self, project: str, after: int, seen: int) -> Step:
        limit = self._settings.pre_annotate_limit
        if limit is not None and seen >= limit:
            return Step()
        snapshot = revision.take(self._store, project, self._checkpoint)
        if not snapshot.ready:
            return Step()
        size = _PAGE if limit is None else min(_PAGE, limit - seen)
        number = project_number(project)
        page = self._label_studio.unlabeled_tasks(number, limit=size, after=after, begun=self._ordering.on)
        bare = {task["id"] for task in page if self._ordering.on and not task.get("total_predictions")}
        settled = self._settled(project, snapshot.revision, [task["id"] for task in page], bare)
        waiting = [task for task in page if task["id"] not in settled]
        now = waiting[:STEP_TASKS]
        done = self._push(snapshot, now)
        if done.left:
            page = page[: [task["id"] for task in page].index(done.left[0])]
        elif len(waiting) > len(now):
            page = page[: page.index(now[-1]) + 1]
        elif len(page) < size:
            return done
        last = int(page[-1]["id"]) if page else after
        return replace(done, more=True, after=last, seen=seen + len(page), left=())

    def left_overs(self, project: str, tasks: Sequence[int]) -> Step:
        """Predict and push the first of the tasks that a request did not reach; `left` says which are still to do."""
        if self._store.held(PREDICTING):
            return Step(more=True, left=tuple(tasks))
        snapshot = revision.take(self._store, project, self._checkpoint)
        settled = self._settled(project, snapshot.revision, tasks)
        waiting = [task for task in tasks if task not in settled]
        now = waiting[:STEP_TASKS]
        found = {task["id"]: task for task in self._label_studio.tasks(project_number(project), now)}
        self._store.forget_tasks(project, set(now) - found.keys())
        done = self._push(snapshot, [found[task] for task in now if task in found])
        left = (*done.left, *waiting[STEP_TASKS:])
        return replace(done, more=bool(left), left=left)

    def queue(self, snapshot: Snapshot, tasks: Iterable[int], reason: str) -> None:
        """Note that tasks wait for a background prediction, and why."""
        self._note(snapshot, tasks, "queued", reason)

    def answered(self, snapshot: Snapshot, tasks: Iterable[int]) -> None:
        """Note that tasks were predicted in a reply, which Label Studio stores if it was still listening."""
        self._note(snapshot, tasks, "done", _ANSWERED)

    def failed(self, snapshot: Snapshot, reasons: Mapping[int, str]) -> None:
        """Note why tasks could not be predicted."""
        now = time.time()
        self._store.set_task_states(
            TaskState(snapshot.project, task, "failed", reason, snapshot.revision, now)
            for task, reason in reasons.items()
        )

    def abandoned(self, project: str) -> list[int]:
        """Tasks that wait, or were being predicted, while nobody works on them: a worker died over them."""
        record = self._store.project(project)
        if record is None:
            return []
        known = self._store.waiting_tasks(project)
        version = revision.current(self._store, record, self._checkpoint)
        waiting = [
            state.task for state in known.states if state.reason != _NOTHING_YET and state.revision == version
        ]
        if known.news > time.time() - _ABANDONED:
            return []
        return waiting

    def tidy(self, project: str) -> int:
        """Now and then forget what was predicted under earlier revisions and no approval is compared with any more.

        A kept IoU compares with the newest prediction from before the submission, and an approval may be heard of
        late: by an event that waits, or by the next comparison with Label Studio. What Label Studio still holds stays
        too, so that people can ask why a mask is as it is. Returns how many predictions are gone.
        """
        record, now = self._store.project(project), time.time()
        if record is None or now - float(self._store.note(f"tidied:{project}") or 0) <= _TIDY_EVERY:
            return 0
        known = record.reconciled if self._label_studio.configured else now
        if not known:
            return 0
        self._store.set_note(f"tidied:{project}", str(now))
        waiting = self._store.waiting_events().get(project)
        heard = waiting.since if waiting else now
        return self._store.drop_superseded(project, min(now, known, heard) - _STILL_NEEDED)

    # -- inside --------------------------------------------------------------------------------------------------
    def _note(self, snapshot: Snapshot, tasks: Iterable[int], status: TaskStatus, reason: str) -> None:
        now = time.time()
        self._store.set_task_states(
            TaskState(snapshot.project, task, status, reason, snapshot.revision, now) for task in tasks
        )

    def _settled(
        self, project: str, version: str, tasks: Collection[int], bare: Collection[int] = ()
    ) -> set[int]:
        """Those of the tasks that need nothing under this revision now: pushed, or failed a short while ago.

        What was pushed to the bare ones somebody has deleted since.
        """
        again = time.time() - _FAILED_AGAIN
        return {
            state.task
            for state in self._store.task_states(project, tasks)
            if state.revision == version
            and (
                (state.reason == _PUSHED and state.task not in bare)
                or (state.status == "failed" and state.at > again)
            )
        }

    def _push(self, snapshot: Snapshot, tasks: Sequence[Mapping[str, Any]]) -> Step:
        """Predict and push those of the tasks that nobody else is at; the others are left."""
        names = {task["id"]: f"task:{snapshot.project}:{task['id']}" for task in tasks}
        with claimed(self._store, names.values(), _CLAIM_SECONDS) as claims:
            step = self._push_mine(snapshot, [task for task in tasks if names[task["id"]] in claims])
        taken = [number for number, name in names.items() if name not in claims]
        left = {*step.left, *taken}
        return replace(step, left=tuple(task["id"] for task in tasks if task["id"] in left))

    def _push_mine(self, snapshot: Snapshot, tasks: Sequence[Mapping[str, Any]]) -> Step:
        if not tasks:
            return Step()
        held = {task["id"]: self._ours(task["id"]) for task in tasks}
        there = [task for task, versions in held.items() if snapshot.revision in versions.values()]
        self._note(snapshot, there, "done", _PUSHED)
        wanted = [task for task in tasks if task["id"] not in there]
        states = self._store.task_states(snapshot.project, [task["id"] for task in wanted])
        tried = {state.task for state in states if state.reason == _NO_IMAGE}
        self._note(snapshot, [task["id"] for task in wanted], "running", "")
        predictions = self._predictor.predict(snapshot, wanted, time.monotonic() + _STEP_SECONDS)
        once_more = self._once_more(snapshot, predictions, tried)
        self.failed(
            snapshot, {task: why for task, why in predictions.failed.items() if task not in once_more}
        )
        self.queue(snapshot, predictions.unready, _NOTHING_YET)
        self.queue(snapshot, predictions.unreached, "comes with the next step")
        stays = {snapshot.revision, self._ordering.shown(snapshot.project)}
        # Annotations made from a prediction name it: leave those of labeled tasks alone.
        unlabeled = [task["id"] for task in tasks if not task.get("total_annotations")]
        for task in set(there).intersection(unlabeled):  # what is newer goes
            self._predictor.shown_again(snapshot, task)
        old = {
            task: sorted(number for number, version in held[task].items() if version not in stays)
            for task in unlabeled
        }
        pushed = self._push_all(snapshot, predictions.done, old)
        removed = self._remove(
            snapshot, [number for task in (*there, *pushed) for number in old.get(task, ())]
        )
        return Step(len(pushed), removed, left=(*once_more, *predictions.unreached))

    def _once_more(self, snapshot: Snapshot, predictions: Predictions, tried: Collection[int]) -> list[int]:
        """Tasks whose images Label Studio did not give, and that are worth another try at once.

        Raises:
            LabelStudioError: it is still away: nothing is to be pushed, and none of the tasks has failed by itself.
        """
        if not predictions.away:
            return []
        try:
            self._label_studio.whoami()
        except LabelStudioError as error:
            if not is_outage(error):
                return []
            waiting = [*predictions.done, *predictions.away, *predictions.unreached]
            self.queue(snapshot, waiting, str(error))
            raise
        first = [task for task in predictions.failed if task in predictions.away and task not in tried]
        self.queue(snapshot, first, _NO_IMAGE)
        return first

    def _ours(self, task: int) -> dict[int, str]:
        """Version by id of the predictions of ours that Label Studio holds for a task."""
        held = self._label_studio.predictions(task)
        return {row["id"]: row["model_version"] for row in held if revision.is_ours(row.get("model_version"))}

    def _push_all(
        self, snapshot: Snapshot, predictions: Mapping[int, TaskPrediction], old: Mapping[int, list[int]]
    ) -> list[int]:
        """Push in the order of the tasks; which of them Label Studio now holds.

        Args:
            snapshot: that they were made on.
            predictions: by task id.
            old: superseded ones by task id; the last, which somebody may have open, is replaced, and taken off the list.
        """
        pushed: list[int] = []
        refused: dict[int, LabelStudioError] = {}
        for task, prediction in predictions.items():
            try:
                number = self._send(prediction, old.get(task, []))
            except LabelStudioError as error:
                if not _is_of_one(error):
                    self.queue(snapshot, [other for other in predictions if other not in pushed], str(error))
                    raise
                refused[task] = error
                continue
            pushed.append(task)
            self._note(snapshot, [task], "done", _PUSHED)
            for record in self._store.predictions(snapshot.project, task):
                if record.revision == prediction.revision:
                    self._store.put_prediction(record.with_pushed(number))
        self._see_refused(snapshot, refused, nothing_else=not pushed)
        return pushed

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
            self.queue(snapshot, list(refused), str(broken[-1]))
            raise broken[-1]
        for task, error in refused.items():
            if self._label_studio.tasks(project_number(snapshot.project), [task]):
                self.failed(snapshot, {task: str(error)})
            else:
                self._store.forget_tasks(snapshot.project, [task])

    def _send(self, prediction: TaskPrediction, old: list[int]) -> int:
        """Let Label Studio store a prediction, in place of the last old one where there is any; returns its id."""
        given = (prediction.task, prediction.result, prediction.score, prediction.revision)
        if old:
            number = old.pop()
            try:
                self._label_studio.replace_prediction(number, *given)
                return number
            except LabelStudioError as error:
                if error.status != 404:
                    raise
        return self._label_studio.create_prediction(*given)

    def _remove(self, snapshot: Snapshot, old: Sequence[int]) -> int:
        """Remove superseded predictions; how many are gone."""
        if not old:
            return 0
        try:
            gone = self._label_studio.delete_predictions(old)
        except LabelStudioError as error:
            log.warning("project %s: superseded predictions stay for now: %s", snapshot.project, error)
            return 0
        self._store.forget_pushed(snapshot.project, gone)
        return len(gone)


def _is_of_one(error: LabelStudioError) -> bool:
    """Whether Label Studio, or a proxy before it, refused one prediction: the next one may be taken."""
    everyone_s = is_outage(error) or isinstance(error, Unauthorized)
    return not everyone_s and error.status is not None and error.status >= 400 and error.status != 429
