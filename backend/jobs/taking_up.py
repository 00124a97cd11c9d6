"""What each look takes up: what Label Studio did not tell, and what waits since a worker was stopped or killed."""

from contextlib import suppress
from typing import TYPE_CHECKING

from backend import troubles
from backend.errors import LabelStudioError, NotFound, Refused
from backend.jobs import start_training
from backend.jobs.lanes import is_waiting
from backend.label_studio import is_outage
from backend.store import ProjectRecord
from backend.wiring import Backend

if TYPE_CHECKING:
    from backend.jobs import Jobs


def everything(backend: Backend, jobs: "Jobs") -> None:
    """Queue all that is to be done and that nobody has queued."""
    for project in backend.store.waiting_events():
        jobs.learn(project)
    tunings(backend, jobs)
    shadows(backend, jobs)
    measurings(backend, jobs)
    records = backend.store.projects()
    for record in records:
        backend.pre_annotation.tidy(record.key)
    for record in records if backend.label_studio.configured else ():
        if troubles.rests(backend.store, record.key):
            continue
        try:
            if troubles.is_gone(backend.store, record.key):
                backend.label_studio.project_of(record.key)
                troubles.over(backend.store, "gone", record.key)
            changes(backend, jobs, record)
            troubles.over(backend.store, "look", record.key)
        except NotFound as error:
            troubles.met(backend.store, "gone", record.key, error)
        except LabelStudioError as error:
            troubles.met(backend.store, "look", record.key, error)
            if is_outage(error):
                return  # the same for all


def changes(backend: Backend, jobs: "Jobs", record: ProjectRecord) -> None:
    """Queue what Label Studio's own figures of a project ask for, and tasks that wait.

    Raises:
        LabelStudioError: no answer, or a refusal.
        NotFound: the project is gone.
    """
    if backend.learner.is_due(record.key) or start_training.is_left(backend, jobs, record.key):
        jobs.reconcile(record.key)
    elif backend.pre_annotation.is_due(record.key):
        jobs.pre_annotate(record.key)
    if abandoned := backend.pre_annotation.abandoned(record.key):
        jobs.left_overs(record.key, abandoned)
    if authorizations := backend.settings.basic_authorizations:
        user = backend.settings.basic_auth_user
        backend.label_studio.authorize_webhooks(record.id, user, authorizations[0])


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
