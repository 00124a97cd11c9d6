"""What each look takes up again: what waits while nobody works on it, since a worker was stopped or killed."""

from contextlib import suppress
from typing import TYPE_CHECKING

from backend.errors import Refused
from backend.jobs.lanes import is_waiting
from backend.wiring import Backend

if TYPE_CHECKING:
    from backend.jobs import Jobs


def tunings(backend: Backend, jobs: "Jobs") -> None:
    """Queue what the schedule asks for, and tunings that wait or were cut off while nobody works on them."""
    for record in backend.store.projects():
        for tuning in backend.tunings.due(record.key):
            jobs.tune(tuning.id)
    if any(task.name == "tune" for task in (*jobs.tuning.pending(), *jobs.tuning.scheduled())):
        return
    for tuning in reversed(backend.store.prompts.tunings()):
        if tuning.is_open:
            jobs.tune(tuning.id)


def shadows(backend: Backend, jobs: "Jobs") -> None:
    """End shadows that must end, and queue what waits for the others."""
    for record in backend.store.projects():
        shadow(backend, jobs, record.key)


def shadow(backend: Backend, jobs: "Jobs", project: str) -> None:
    """The same for one project; not while somebody else changes its shadows: the next look does it."""
    with suppress(Refused):
        if backend.shadowing.settle(project):
            jobs.shadow(project)


def measurings(backend: Backend, jobs: "Jobs") -> None:
    """Forget what was measured of superseded predictions, and queue what people asked to be measured."""
    for record in backend.store.projects():
        with suppress(Refused):  # somebody asks at this moment
            if backend.why.tidy(record.key) and not is_waiting(jobs.tuning, "measure", record.key):
                jobs.measure(record.key)
