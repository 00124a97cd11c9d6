"""Jobs: the only room that knows Huey. Ids in, ids out; two lanes, so that nothing stands behind a tuning.

Queued jobs are stored by this module's name and the function's: neither may ever change.
"""

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from huey import SqliteHuey
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

from backend.errors import LabelStudioError, NotFound, StoreError
from backend.learner import Learnt
from backend.pre_annotation import Step
from backend.settings import Settings
from backend.store import Event
from backend.wiring import Backend

log = logging.getLogger(__name__)

_ATTEMPTS = 8
_LEASE = 120.0
_LEARN_LEASE = 30.0  # renewed with every event; what a worker that died held is free after so long
_GIVE_WAY = 0.5
_TROUBLE_PAUSE = 15.0
_TROUBLES = 40
_RECONCILE_LEASE = 120.0  # two at a time do no harm; one that was killed must not block for long
_PASS_EVERY = 600.0  # a pass now and then finds what failed or was not announced
_URGENT, _USUAL, _LATER = 100, 50, 10


class JsonSerializer(Serializer):  # type: ignore[misc]  # Huey has no types
    """Messages as JSON: a queue that somebody else can write to must never unpickle."""

    def _serialize(self, data: Any) -> bytes:
        if not isinstance(data, Message):
            return json.dumps(data).encode()
        fields = data._asdict()
        fields["eta"] = data.eta.isoformat() if data.eta else None
        fields["expires_resolved"] = None
        return json.dumps(fields).encode()

    def _deserialize(self, data: bytes) -> Any:
        fields = json.loads(data)
        if not isinstance(fields, dict) or "name" not in fields:
            return fields
        fields["eta"] = datetime.fromisoformat(fields["eta"]) if fields["eta"] else None
        fields["args"] = tuple(fields["args"] or ())
        return Message(**fields)


class _LaneConsumer(Consumer):  # type: ignore[misc]  # Huey has no types
    """A consumer that leaves signals to the process that runs several lanes."""

    def _set_signal_handlers(self) -> None:
        return


class Jobs:
    """The queue as seen from outside (enqueue) and, where a backend is given, from a worker (run)."""

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._backend = backend
        self._every = settings.reconcile_every
        self.events = self._lane("events", settings)
        self.tuning = self._lane("tuning", settings)
        self._learn = self._register(self.events, learn, _URGENT)
        self._reconcile = self._register(self.events, reconcile, _USUAL)
        self._left_overs = self._register(self.events, left_overs, _USUAL)
        self._pre_annotate = self._register(self.events, pre_annotate, _LATER)
        self._look = self._register(self.events, look, _USUAL)

    @staticmethod
    def _lane(name: str, settings: Settings) -> SqliteHuey:
        filename = str(settings.data_dir / "queue.sqlite3")
        return SqliteHuey(name, filename=filename, serializer=JsonSerializer(), results=False, timeout=10)

    def _register(
        self, lane: SqliteHuey, function: Callable[..., None], priority: int
    ) -> Callable[..., None]:
        def job(*args: Any) -> None:
            if self._backend is None:
                raise RuntimeError("jobs run in a worker only")
            function(self._backend, self, *args)

        job.__module__, job.__name__ = function.__module__, function.__name__
        task = lane.task(priority=priority, name=function.__name__)(job)

        def enqueue(*args: Any, delay: float = 0.0) -> None:
            try:
                if delay:
                    task.schedule(args=args, delay=delay)
                else:
                    task(*args)
            except (
                OSError,
                sqlite3.Error,
            ) as error:  # what the job is about is stored: the next look finds it
                log.warning("job %s not queued: %s", function.__name__, error)

        return enqueue

    # -- enqueue -------------------------------------------------------------------------------------------------
    def learn(self, project: str, delay: float = 0.0) -> None:
        """Apply the project's stored events."""
        self._learn(project, delay=delay)

    def reconcile(self, project: str, delay: float = 0.0) -> None:
        """Compare the project with Label Studio's export."""
        self._reconcile(project, delay=delay)

    def left_overs(self, project: str, tasks: Sequence[int], troubles: int = 0, delay: float = 0.0) -> None:
        """Predict and push tasks that a request did not reach."""
        self._left_overs(project, list(tasks), troubles, delay=delay)

    def pre_annotate(self, project: str, after: int = 0, seen: int = 0, delay: float = 0.0) -> None:
        """Predict the project's unlabeled tasks ahead, those after a task's id."""
        self._pre_annotate(project, after, seen, delay=delay)

    def look(self) -> None:
        """Look at all projects for silent changes."""
        self._look()

    def depths(self) -> dict[str, int]:
        """Jobs waiting, by lane."""
        return {
            lane.name: lane.pending_count() + lane.scheduled_count() for lane in (self.events, self.tuning)
        }

    # -- run -----------------------------------------------------------------------------------------------------
    def run(self, stop: threading.Event) -> None:
        """Work on both lanes until `stop` is set."""
        consumers = [
            _LaneConsumer(
                lane, workers=workers, periodic=False, initial_delay=0.05, max_delay=0.2, backoff=1.2
            )
            for lane, workers in ((self.events, 4), (self.tuning, 1))
        ]
        threads = [threading.Thread(target=consumer.run, name="lane", daemon=True) for consumer in consumers]
        for thread in threads:
            thread.start()
        while not stop.is_set():
            self.look()
            stop.wait(self._every)
        for consumer in consumers:
            consumer.stop()
        for thread in threads:
            thread.join(timeout=10)


# -- jobs: what each does; names are stored in the queue -----------------------------------------------------------
def learn(backend: Backend, jobs: Jobs, project: str) -> None:
    """Apply the project's stored events in their order; those that cannot be applied yet are tried again.

    One process at a time works on a project. Whoever finds it taken may leave: the holder looks again after it let go.
    """
    owner = uuid.uuid4().hex
    tried: set[int] = set()
    while fresh := [event for event in _pending(backend, project) if event.id not in tried]:
        if not backend.store.acquire(f"learn:{project}", owner, _LEARN_LEASE):
            jobs.learn(project, delay=_LEARN_LEASE)  # unless the holder has died
            return
        try:
            for event in fresh:
                backend.store.acquire(f"learn:{project}", owner, _LEARN_LEASE)
                tried.add(event.id)
                _apply(backend, jobs, event)
        finally:
            backend.store.release(f"learn:{project}", owner)


def _pending(backend: Backend, project: str) -> list[Event]:
    return [event for event in backend.store.pending_events(1000) if event.project == project]


def _apply(backend: Backend, jobs: Jobs, event: Event) -> None:
    """Apply one event; a bad one is given up after some attempts and must not keep others waiting."""
    try:
        learnt = backend.learner.apply(event)
        trouble = learnt.unread[0][1] if learnt.unread else ""
    except Exception as error:  # whatever one event does, those after it are applied
        log.exception("project %s: event %d (%s) cannot be applied", event.project, event.id, event.action)
        learnt, trouble = Learnt(), str(error) or type(error).__name__
    if trouble and (attempts := backend.store.retry_event(event.id, trouble)) < _ATTEMPTS:
        jobs.learn(event.project, delay=min(60.0, 2.0**attempts))
    else:
        backend.store.finish_event(event.id)
    _follow_up(backend, jobs, event.project, learnt)


def reconcile(backend: Backend, jobs: Jobs, project: str) -> None:
    """Make the project's approvals equal to Label Studio's export."""
    owner = uuid.uuid4().hex
    if not backend.store.acquire("reconcile", owner, _RECONCILE_LEASE):
        jobs.reconcile(project, delay=2.0)
        return
    try:
        learnt = backend.learner.reconcile(project)
    except (LabelStudioError, NotFound) as error:
        _say_once(
            backend, f"reconcile:{project}", f"project {project} not compared with Label Studio: {error}"
        )
        return
    finally:
        backend.store.release("reconcile", owner)
    _say_once(backend, f"reconcile:{project}", "")
    _follow_up(backend, jobs, project, learnt)


def left_overs(backend: Backend, jobs: Jobs, project: str, tasks: list[int], troubles: int = 0) -> None:
    """Predict and push what a request did not reach, a few tasks at a time.

    Where Label Studio lets nothing be pushed for long, the next pass ahead takes over.
    """
    owner = uuid.uuid4().hex
    lease = f"pre-annotate:{project}"  # what a pass ahead pushes at this moment must not be pushed twice
    if not backend.store.acquire(lease, owner, _LEASE):
        jobs.left_overs(project, tasks, troubles, delay=1.0)
        return
    try:
        step = _step(backend, project, lambda: backend.pre_annotation.left_overs(project, tasks))
    finally:
        backend.store.release(lease, owner)
    if step is None and troubles < _TROUBLES:
        jobs.left_overs(project, tasks, troubles + 1, delay=_TROUBLE_PAUSE)
    elif step is not None and step.more:
        jobs.left_overs(project, step.left, delay=0.0 if len(step.left) < len(tasks) else _GIVE_WAY)


def pre_annotate(backend: Backend, jobs: Jobs, project: str, after: int = 0, seen: int = 0) -> None:
    """Predict the project's unlabeled tasks ahead, a few at a time; one pass at a time a project.

    A job without `after` begins a pass. Where one is on its way, it goes round once more instead.
    """
    owner = uuid.uuid4().hex
    lease = f"pre-annotate:{project}"
    if not backend.store.acquire(lease, owner, _LEASE):
        backend.store.set_note(f"again:{project}", "yes")
        return
    if after == 0:
        backend.store.set_note(f"again:{project}", "")
    try:
        step = _step(backend, project, lambda: backend.pre_annotation.step(project, after, seen))
    finally:
        backend.store.release(lease, owner)
    if step is None:
        jobs.pre_annotate(project, after, seen, delay=_TROUBLE_PAUSE)
    elif step.more:
        jobs.pre_annotate(project, step.after, step.seen, delay=_pause(step, after))
    elif backend.store.note(f"again:{project}"):
        jobs.pre_annotate(project)
    else:
        backend.store.set_note(f"ahead:{project}", str(time.time()))


def look(backend: Backend, jobs: Jobs) -> None:
    """Drain what was left behind and find what Label Studio did not tell."""
    for project in {event.project for event in backend.store.pending_events()}:
        jobs.learn(project)
    if not backend.label_studio.configured:
        return
    for record in backend.store.projects():
        try:
            if authorization := backend.settings.basic_authorization:
                user = backend.settings.basic_auth_user
                backend.label_studio.authorize_webhooks(record.id, user, authorization)
            if backend.learner.is_due(record.key):
                jobs.reconcile(record.key)
            elif time.time() - float(backend.store.note(f"ahead:{record.key}") or 0) > _PASS_EVERY:
                jobs.pre_annotate(record.key)
            _say_once(backend, f"look:{record.key}", "")
        except LabelStudioError as error:
            _say_once(backend, f"look:{record.key}", f"project {record.key} cannot be looked at: {error}")


def _follow_up(backend: Backend, jobs: Jobs, project: str, learnt: Learnt) -> None:
    if learnt.approved or learnt.withdrawn:
        log.info("project %s: %d approved, %d withdrawn", project, learnt.approved, learnt.withdrawn)
    if not backend.label_studio.configured:
        return
    if learnt.read_again:
        jobs.reconcile(project)
    elif learnt.moved or learnt.new_tasks:
        jobs.pre_annotate(project)


def _step(backend: Backend, project: str, work: Callable[[], Step]) -> Step | None:
    """Do a step; None where Label Studio did not let it be done."""
    try:
        step = work()
    except LabelStudioError as error:
        _say_once(backend, f"push:{project}", f"project {project}: predictions not pushed: {error}")
        return None
    except StoreError:
        log.exception("project %s: step failed", project)
        return None
    _say_once(backend, f"push:{project}", "")
    return step


def _pause(step: Step, after: int) -> float:
    """A step that did nothing gave way to a request: come back a little later."""
    return 0.0 if step.pushed or step.removed or step.after > after else _GIVE_WAY


def _say_once(backend: Backend, name: str, message: str) -> None:
    """Log a lasting trouble when it begins, not each time it is met."""
    if backend.store.note(f"trouble:{name}") != message:
        backend.store.set_note(f"trouble:{name}", message)
        if message:
            log.warning("%s", message)
