"""Start training: begun once the project has been compared with Label Studio, so with all that is approved there."""

import logging
import uuid
from typing import TYPE_CHECKING

from backend.errors import LabelConfigError, NotFound, Refused
from backend.jobs.lanes import QUEUE_TROUBLES, is_waiting
from backend.wiring import Backend

if TYPE_CHECKING:
    from backend.jobs import Jobs

log = logging.getLogger(__name__)


def pressed(backend: Backend, jobs: "Jobs", project: str) -> None:
    """Note that somebody asked for a tuning, and have the project compared; without Label Studio begin at once."""
    if backend.label_studio.configured:
        backend.store.set_note(_name(project), uuid.uuid4().hex)
        jobs.reconcile(project)
    else:
        _begin(backend, jobs, project)


def waits(backend: Backend, project: str) -> str:
    """Which press waits for a comparison, to be asked before it is begun; "" where none does."""
    press = backend.store.note(_name(project)) or ""
    return "" if press == backend.store.note(_begun(project)) else press


def compared(backend: Backend, jobs: "Jobs", project: str, press: str) -> None:
    """Begin what waited for a comparison, made or failed; a press during it waits for the next one."""
    if press:
        _begin(backend, jobs, project)
        # In a note of its own: a press at this moment is not lost.
        backend.store.set_note(_begun(project), press)


def is_left(backend: Backend, jobs: "Jobs", project: str) -> bool:
    """Whether a press waits for a comparison that nobody makes: its worker has died."""
    if not waits(backend, project) or backend.store.held("reconcile"):
        return False
    return not is_waiting(jobs.events, "reconcile", project)


def _begin(backend: Backend, jobs: "Jobs", project: str) -> None:
    try:
        asked = backend.tunings.ask(project, "Start training", news_only=True)
    except (Refused, NotFound, LabelConfigError) as error:
        log.info("project %s: Start training: %s", project, error)
        return
    for tuning in asked:
        if tuning.is_open and not _has_job(jobs, tuning.id):
            jobs.tune(tuning.id)


def _has_job(jobs: "Jobs", tuning: int) -> bool:
    try:
        return is_waiting(jobs.tuning, "tune", tuning)
    except QUEUE_TROUBLES:  # it is told where the job cannot be queued either
        return False


def _name(project: str) -> str:
    return f"start-training:{project}"


def _begun(project: str) -> str:
    return f"start-training-begun:{project}"
