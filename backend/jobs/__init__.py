"""Jobs: the only room that knows Huey. Ids in, ids out; three lanes, so that what is quick stands behind nothing slow.

Queued jobs are stored by this module's name and the function's: neither may ever change.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from huey import Huey

from backend import troubles
from backend.errors import LabelConfigError, LabelStudioError, NotFound, Refused, StoreError
from backend.jobs import start_training, taking_up
from backend.jobs.lanes import QUEUE_TROUBLES, LaneConsumer, is_waiting, open_lane, stop_all
from backend.jobs.queue_log import QueueLog
from backend.learner import Learnt
from backend.pre_annotation import PREDICTING, STEP_TASKS, Step
from backend.settings import Settings
from backend.store import Event
from backend.store.leases import leased
from backend.wiring import Backend

log = logging.getLogger(__name__)

_ATTEMPTS = 8
_LEASE = 20.0  # renewed all the time
_LEARN_LEASE = 30.0  # renewed with every event; what a worker that died held is free after so long
_GIVE_WAY = 0.5
_TROUBLES = 40
_TUNING_LEASE = 20.0  # renewed all the time; what a worker that was killed had begun goes on after so long
_BUSY_LOOK = 0.05
_LONGEST_WAIT = 30.0  # for predictions, before each update: slow where people are many, but never at a stand
_PATIENCE = 8.0  # for jobs that are in the middle of something; less than the supervisor has
_URGENT, _USUAL, _LATER = 100, 50, 10


class Jobs:
    """The queue as seen from outside (enqueue) and, where a backend is given, from a worker (run)."""

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._backend = backend
        self._every = settings.reconcile_every
        self._queue_log = QueueLog()
        self.events = open_lane("events", settings)
        self.predictions = open_lane("predictions", settings)
        self.tuning = open_lane("tuning", settings)
        self._learn = self._register(self.events, learn, _URGENT)
        self._reconcile = self._register(self.events, reconcile, _USUAL)
        self._left_overs = self._register(self.predictions, left_overs, _USUAL)
        self._pre_annotate = self._register(self.predictions, pre_annotate, _LATER)
        self._shadow = self._register(self.predictions, shadow, _LATER)
        self._look = self._register(self.events, look, _USUAL)
        self._tune = self._register(self.tuning, tune, _USUAL)
        self._measure = self._register(self.tuning, measure, _LATER)
        self.stopping = threading.Event()
        self.looking = threading.Lock()

    def _register(self, lane: Huey, function: Callable[..., None], priority: int) -> Callable[..., None]:
        def job(*args: Any) -> None:
            if self._backend is None:
                raise RuntimeError("jobs run in a worker only")
            metrics, name = self._backend.metrics, function.__name__
            with metrics.jobs.labels(name).time(), metrics.job_failures.labels(name).count_exceptions():
                function(self._backend, self, *args)

        job.__module__, job.__name__ = function.__module__, function.__name__
        task = lane.task(priority=priority, name=function.__name__)(job)

        def enqueue(*args: Any, delay: float = 0.0) -> None:
            try:
                if delay:
                    task.schedule(args=args, delay=delay)
                else:
                    task(*args)
                self._queue_log.over()
            except QUEUE_TROUBLES as error:  # what the job is about is stored: the next look finds it
                self._queue_log.met(error)

        return enqueue

    # -- enqueue -------------------------------------------------------------------------------------------------
    def learn(self, project: str, delay: float = 0.0) -> None:
        """Apply the project's stored events."""
        self._learn(project, delay=delay)

    def learn_again(self, project: str, delay: float) -> None:
        """Apply the project's stored events later, unless that is to be done anyway: one try at a time waits."""
        self._once(self._learn, learn.__name__, project, delay)

    def reconcile(self, project: str, delay: float = 0.0) -> None:
        """Compare the project with Label Studio's export, unless that is to be done anyway."""
        self._once(self._reconcile, reconcile.__name__, project, delay)

    def _once(self, enqueue: Callable[..., None], name: str, project: str, delay: float) -> None:
        try:
            if not is_waiting(self.events, name, project):
                enqueue(project, delay=delay)
        except QUEUE_TROUBLES as error:  # the next look finds what it is about
            self._queue_log.met(error)

    def left_overs(self, project: str, tasks: Sequence[int], met: int = 0, delay: float = 0.0) -> None:
        """Predict and push tasks that a request did not reach; in parts, so that workers share them."""
        for start in range(0, len(tasks), STEP_TASKS):
            self._left_overs(project, list(tasks[start : start + STEP_TASKS]), met, delay=delay)

    def pre_annotate(self, project: str, after: int = 0, seen: int = 0, delay: float = 0.0) -> None:
        """Predict the project's unlabeled tasks ahead, those after a task's id."""
        self._pre_annotate(project, after, seen, delay=delay)

    def tune(self, tuning: int, delay: float = 0.0) -> None:
        """Run a tuning that was asked for, or go on with it."""
        self._tune(tuning, delay=delay)

    def measure(self, project: str) -> None:
        """Measure what people asked for, and which of the project's examples harm the others."""
        self._measure(project)

    def shadow(self, project: str) -> None:
        """Predict by the project's shadows what was submitted."""
        self._shadow(project)

    def look(self) -> None:
        """Look at all projects for silent changes."""
        self._look()

    def depths(self) -> dict[str, int]:
        """Jobs waiting, by lane."""
        lanes = {"events": self.events, "predictions": self.predictions, "tuning": self.tuning}
        return {name: lane.pending_count() + lane.scheduled_count() for name, lane in lanes.items()}

    # -- run -----------------------------------------------------------------------------------------------------
    def run(self, stop: threading.Event) -> bool:
        """Work on all lanes until `stop` is set, and let jobs come to their end for some seconds more.

        Returns whether all have. Where not, their threads still use the backend: the process is to end without closing
        it. What they were at is done again, as after a crash.
        """
        with self._queue_log.listening():
            return self._run(stop)

    def _run(self, stop: threading.Event) -> bool:
        lanes = ((self.events, 3), (self.predictions, 2), (self.tuning, 1))
        consumers = [LaneConsumer(lane, workers) for lane, workers in lanes]
        threads = [threading.Thread(target=consumer.run, name="lane", daemon=True) for consumer in consumers]
        for thread in threads:
            thread.start()
        while not stop.is_set():
            self.look()
            stop.wait(self._every)
        self.stopping.set()
        return stop_all(consumers, threads, _PATIENCE)


def ask_again(backend: Backend, jobs: Jobs, project: str) -> None:
    """The revision has moved: predict the project's tasks anew, where they can be pushed."""
    if backend.label_studio.configured:
        jobs.pre_annotate(project)


# -- jobs: what each does; names are stored in the queue -----------------------------------------------------------
def learn(backend: Backend, jobs: Jobs, project: str) -> None:
    """Apply the project's stored events in their order; what could not be applied is tried again after the others.

    One process at a time works on a project. Whoever finds it taken may leave: the holder looks again after it let go.
    """
    owner = uuid.uuid4().hex
    tried: set[int] = set()
    count = (
        backend.store.count_events()
    )  # of all projects; to read the events themselves again costs far more
    while fresh := [event for event in backend.store.pending_events(1000, project) if event.id not in tried]:
        if jobs.stopping.is_set():  # the next worker's first look takes them up
            return
        if not backend.store.acquire(f"learn:{project}", owner, _LEARN_LEASE):
            jobs.learn_again(project, delay=_LEARN_LEASE)  # unless the holder has died
            return
        try:
            for event in [event for event in fresh if not event.attempts] or fresh:
                if jobs.stopping.is_set():
                    return
                backend.store.acquire(f"learn:{project}", owner, _LEARN_LEASE)
                tried.add(event.id)
                if not _apply(backend, jobs, event):
                    return
                before, count = count, backend.store.count_events()
                if event.attempts and count > before:
                    break  # what could not be read holds up nothing that came meanwhile
        finally:
            backend.store.release(f"learn:{project}", owner)
        count = backend.store.count_events()


def _apply(backend: Backend, jobs: Jobs, event: Event) -> bool:
    """Apply one event; a bad one is given up after some attempts and must not keep others waiting.

    None is given up while Label Studio is away (False: leave those after it) or the label config cannot be read.
    """
    away = waits = False
    try:
        learnt = backend.learner.apply(event)
        _follow_up(backend, jobs, event.project, learnt)  # before it is forgotten: it may be all that asks
        reason, away = learnt.unread[0][1] if learnt.unread else "", learnt.away
        troubles.over(backend.store, "learn", event.project)
    except LabelConfigError as error:
        troubles.met(backend.store, "learn", event.project, error)
        reason, waits = str(error), True
    except Exception as error:  # whatever one event does, those after it are applied
        said = "project %s: event %d (%s) cannot be applied: %s"
        page = not isinstance(error, StoreError)  # that a store is away needs none
        log.error(said, event.project, event.id, event.action, error, exc_info=page)
        reason = str(error) or type(error).__name__
    attempts = event.attempts if reason else _ATTEMPTS
    if reason and not (attempts and (away or waits)):  # once, so that a withdrawal knows that it waits
        attempts = backend.store.retry_event(event.id, reason)
    if away:
        jobs.learn_again(event.project, delay=backend.label_studio.trouble.pause)
    elif attempts < _ATTEMPTS and not waits:
        jobs.learn_again(event.project, delay=min(60.0, 2.0**attempts))
    elif not waits:  # what waits is found by the next look
        backend.store.finish_event(event.id)
    return not away


def reconcile(backend: Backend, jobs: Jobs, project: str) -> None:
    """Make the project's approvals equal to Label Studio's export; one project at a time, so that events have threads."""
    with leased(backend.store, "reconcile", _LEASE) as mine:
        if not mine:
            jobs.reconcile(project, delay=2.0)
            return
        press = start_training.waits(backend, project)  # read first: the export may be older than a later one
        learnt = None
        try:
            learnt = backend.learner.reconcile(project)
        except NotFound as error:
            troubles.met(backend.store, "gone", project, error)
            return
        except (LabelStudioError, LabelConfigError) as error:
            troubles.met(backend.store, "reconcile", project, error)
        except Refused as error:  # somebody else withdraws something all the time
            log.info("project %s: not compared with Label Studio yet: %s", project, error)
            jobs.reconcile(project, delay=2.0)
            return
        except StoreError:
            raise
        except Exception:
            start_training.compared(backend, jobs, project, press)  # else each look asks for another export
            raise
    if learnt is not None:
        troubles.over(backend.store, "reconcile", project)
        _follow_up(backend, jobs, project, learnt)
    start_training.compared(backend, jobs, project, press)


def left_overs(backend: Backend, jobs: Jobs, project: str, tasks: list[int], met: int = 0) -> None:
    """Predict and push what a request did not reach, a few tasks at a time.

    Where Label Studio lets nothing be pushed for long, the next pass ahead takes over.
    """
    step = _step(backend, project, lambda: backend.pre_annotation.left_overs(project, tasks))
    if step is None and met < _TROUBLES and not troubles.is_gone(backend.store, project):
        jobs.left_overs(project, tasks, met + 1, delay=backend.label_studio.trouble.pause)
    elif step is not None and step.more:
        jobs.left_overs(project, step.left, delay=0.0 if len(step.left) < len(tasks) else _GIVE_WAY)


def pre_annotate(backend: Backend, jobs: Jobs, project: str, after: int = 0, seen: int = 0) -> None:
    """Predict the project's unlabeled tasks ahead, a few at a time; one pass at a time a project.

    A job without `after` begins a pass. Where one is on its way, it goes round once more instead.
    """
    with leased(backend.store, f"pre-annotate:{project}", _LEASE) as taken:
        if not taken:
            backend.store.set_note(f"again:{project}", "yes")
            return
        if after == 0:
            backend.store.set_note(f"again:{project}", "")
        backend.store.set_note(f"pass:{project}", str(time.time()))
        step = _step(backend, project, lambda: backend.pre_annotation.step(project, after, seen))
    if step is None and troubles.is_gone(backend.store, project):
        backend.store.set_note(f"pass:{project}", "")
    elif step is None:
        jobs.pre_annotate(project, after, seen, delay=backend.label_studio.trouble.pause)
    elif step.more:
        jobs.pre_annotate(project, step.after, step.seen, delay=_pause(step, after))
    elif backend.store.note(f"again:{project}"):
        jobs.pre_annotate(project)
    else:
        backend.store.set_note(f"ahead:{project}", str(time.time()))
        backend.store.set_note(f"pass:{project}", "")


def tune(backend: Backend, jobs: Jobs, tuning: int) -> None:
    """Run a tuning, or go on with it; who finds it running elsewhere leaves it alone."""
    with leased(backend.store, f"tuning:{tuning}", _TUNING_LEASE) as taken:
        if not taken:
            jobs.tune(tuning, delay=_TUNING_LEASE)  # unless the holder has died, this finds nothing to do
            return
        ended = backend.tunings.run(tuning, lambda: _may_go_on(backend, jobs))
    if ended.moved:
        ask_again(backend, jobs, ended.tuning.project)


def measure(backend: Backend, jobs: Jobs, project: str) -> None:
    """Measure what people wait for, and then which examples harm the others, where that is to be done."""

    def go_on(*_progress: int) -> None:
        if not _may_go_on(backend, jobs):
            raise _Ending

    with suppress(_Ending):
        backend.why.measure(project, go_on)
        backend.influence.weigh(project, go_on)
        if backend.alarm.is_due(project):
            backend.alarm.measure(project, go_on)


def shadow(backend: Backend, jobs: Jobs, project: str) -> None:
    """Predict by the project's shadows what was submitted, one at a time: whatever somebody waits for goes first."""
    with leased(backend.store, f"shadow:{project}", _LEASE) as taken:
        may_go_on = taken and backend.shadowing.step(project, lambda: _may_go_on(backend, jobs))
    if may_go_on and backend.shadowing.settle(project):  # also what came while others found the lease taken
        jobs.shadow(project)


class _Ending(Exception):
    """The worker ends in the middle of something that is begun anew another time."""


def _may_go_on(backend: Backend, jobs: Jobs) -> bool:
    """Wait while a request is answered; False where the worker ends."""
    deadline = time.monotonic() + _LONGEST_WAIT
    while backend.store.held(PREDICTING) and time.monotonic() < deadline:
        if jobs.stopping.wait(_BUSY_LOOK):
            return False
    return not jobs.stopping.is_set()


def look(backend: Backend, jobs: Jobs) -> None:
    """Drain what was left behind and find what Label Studio did not tell; a worker makes one look at a time."""
    if not jobs.looking.acquire(blocking=False):
        return
    try:
        taking_up.everything(backend, jobs)
    finally:
        jobs.looking.release()


def _follow_up(backend: Backend, jobs: Jobs, project: str, learnt: Learnt) -> None:
    if learnt.approved or learnt.withdrawn:
        log.info("project %s: %d approved, %d withdrawn", project, learnt.approved, learnt.withdrawn)
    for tuning in backend.tunings.due(project) if learnt.approved else ():
        jobs.tune(tuning.id)
    if learnt.train:
        start_training.pressed(backend, jobs, project)
    if learnt.approved and backend.prompts.watch(project):
        learnt = replace(learnt, moved=True)
    if learnt.moved:
        jobs.measure(project)
    if backend.label_studio.configured:
        if learnt.read_again:
            jobs.reconcile(project)
        elif learnt.moved or learnt.new_tasks or (learnt.approved and backend.pre_annotation.follows):
            jobs.pre_annotate(project)
    if learnt.approved:
        taking_up.shadow(backend, jobs, project)


def _step(backend: Backend, project: str, work: Callable[[], Step]) -> Step | None:
    """Do a step; None where Label Studio did not let it be done."""
    try:
        step = work()
    except NotFound as error:
        troubles.met(backend.store, "gone", project, error)
        return None
    except LabelStudioError as error:
        troubles.met(backend.store, "push", project, error)
        return None
    except StoreError as error:
        log.error("project %s: step failed: %s", project, error)
        return None
    troubles.over(backend.store, "push", project)
    backend.metrics.pushed.labels(project).inc(step.pushed)
    return step


def _pause(step: Step, after: int) -> float:
    """A step that did nothing gave way to a request: come back a little later."""
    return 0.0 if step.pushed or step.removed or step.after > after else _GIVE_WAY
