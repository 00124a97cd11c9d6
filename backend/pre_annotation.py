"""Pre-annotation: which tasks are predicted ahead, in what order; `Pushing` brings what it predicts to Label Studio.

Works in short steps, so that it gives way: a step says as a value whether more is to be done, and by whom.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend import revision
from backend.errors import LabelStudioError
from backend.label_studio import LabelStudio, is_outage
from backend.ordering import Ordering
from backend.predictor import Predictions, Predictor
from backend.pushing import Pushing
from backend.revision import Snapshot
from backend.settings import Settings
from backend.store import Store
from backend.store.leases import claimed

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
_LONGEST_UNREAD = 14 * 86400.0  # what has been unreadable for longer keeps nothing from being tidied

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
        self._pushing = Pushing(store, label_studio)
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
        number = self._label_studio.project_of(project).id  # not another's that has its number now
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
        number = self._label_studio.project_of(project).id
        found = {task["id"]: task for task in self._label_studio.tasks(number, now)}
        self._store.forget_tasks(project, set(now) - found.keys())
        done = self._push(snapshot, [found[task] for task in now if task in found])
        left = (*done.left, *waiting[STEP_TASKS:])
        return replace(done, more=bool(left), left=left)

    def queue(self, snapshot: Snapshot, tasks: Iterable[int], reason: str) -> None:
        """Note that tasks wait for a background prediction, and why."""
        self._pushing.note(snapshot, tasks, "queued", reason)

    def answered(self, snapshot: Snapshot, tasks: Iterable[int]) -> None:
        """Note that tasks were predicted in a reply, which Label Studio stores if it was still listening."""
        self._pushing.note_answered(snapshot, tasks)

    def failed(self, snapshot: Snapshot, reasons: Mapping[int, str]) -> None:
        """Note why tasks could not be predicted."""
        self._pushing.note_each(snapshot, "failed", reasons)

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
        known = max(record.reconciled, now - _LONGEST_UNREAD) if self._label_studio.configured else now
        self._store.set_note(f"tidied:{project}", str(now))
        waiting = self._store.waiting_events().get(project)
        heard = waiting.since if waiting else now
        return self._store.drop_superseded(project, min(now, known, heard) - _STILL_NEEDED)

    # -- inside --------------------------------------------------------------------------------------------------
    def _settled(
        self, project: str, version: str, tasks: Collection[int], bare: Collection[int] = ()
    ) -> set[int]:
        """Those of the tasks that need nothing under this revision now: pushed, or failed a short while ago.

        What was pushed to the bare ones somebody has deleted since.
        """
        again = time.time() - _FAILED_AGAIN
        states = [state for state in self._store.task_states(project, tasks) if state.revision == version]
        lately = {state.task for state in states if state.status == "failed" and state.at > again}
        return lately | self._pushing.settled(states, bare)

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
        numbers = [task["id"] for task in tasks]
        stays = frozenset({snapshot.revision, self._ordering.shown(snapshot.project)})
        # Annotations made from a prediction name it: leave those of labeled tasks alone.
        free = [task["id"] for task in tasks if not task.get("total_annotations")]
        held = {task: self._pushing.held(snapshot, task, stays, labeled=task not in free) for task in numbers}
        there = [held[task] for task in numbers if held[task].current]
        self._pushing.note_there(snapshot, there)
        missing = [task for task in numbers if not held[task].current]
        awaited = self._pushing.being_stored(snapshot, missing)
        wanted = [task for task in tasks if task["id"] in missing and task["id"] not in awaited]
        states = self._store.task_states(snapshot.project, [task["id"] for task in wanted])
        tried = {state.task for state in states if state.reason == _NO_IMAGE}
        self._pushing.begin(snapshot, [task["id"] for task in wanted])
        predictions = self._predictor.predict(snapshot, wanted, time.monotonic() + _STEP_SECONDS)
        once_more = self._once_more(snapshot, predictions, tried)
        self.failed(
            snapshot, {task: why for task, why in predictions.failed.items() if task not in once_more}
        )
        self.queue(snapshot, predictions.unready, _NOTHING_YET)
        self.queue(snapshot, predictions.unreached, "comes with the next step")
        for one in there:  # what is newer goes
            if not one.labeled:
                self._predictor.shown_again(snapshot, one.task)
        awaited += self._pushing.being_stored(snapshot, predictions.done)  # somebody has opened it meanwhile
        done = {task: found for task, found in predictions.done.items() if task not in awaited}
        pushed = self._pushing.push(snapshot, done, held)
        removed = self._pushing.remove(snapshot, [*there, *pushed])
        return Step(len(pushed), removed, left=(*awaited, *once_more, *predictions.unreached))

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
