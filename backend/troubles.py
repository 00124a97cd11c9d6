"""Troubles that last: told once when they begin, not each time that they are met, and kept for `doctor` to find."""

import logging
import time
from typing import Literal, get_args

from backend.errors import BackendError
from backend.label_studio import is_outage
from backend.store import Store

log = logging.getLogger(__name__)

Work = Literal["look", "reconcile", "push", "learn", "gone"]
"""What cannot be done; `gone`: all of it, see `is_gone`."""

_SAID: dict[Work, str] = {
    "look": "project {project} cannot be looked at: {error}",
    "reconcile": "project {project} not compared with Label Studio: {error}",
    "push": "project {project}: predictions not pushed: {error}",
    "learn": "project {project} learns nothing from its approvals: {error}",
    "gone": "{error} It is asked for once an hour, and what it taught stays in the store.",
}
_ASK_AGAIN = 3600.0  # seconds


def met(store: Store, work: Work, project: str, error: BackendError) -> None:
    """Note why some work for a project cannot be done, and log it where that is new.

    That Label Studio is away or refuses the token is not logged here: its client tells, once for all projects.
    """
    said = _SAID[work].format(project=project, error=error)
    if work == "gone":
        store.set_note(_asked(project), str(time.time()))
    if store.note(_name(work, project)) != said:
        store.set_note(_name(work, project), said)
        if not is_outage(error):
            log.warning("%s", said)


def over(store: Store, work: Work, project: str) -> None:
    """Note that the work can be done."""
    if store.note(_name(work, project)):
        store.set_note(_name(work, project), "")


def lasting(store: Store, project: str) -> list[str]:
    """What could not be done for a project at the last try, a sentence each; nothing of one that is gone."""
    if is_gone(store, project):
        return []
    return [said for work in get_args(Work) if (said := store.note(_name(work, project)))]


def is_gone(store: Store, project: str) -> bool:
    """Whether Label Studio no longer had the project when it was asked for, and has not been heard to speak of it since.

    It may be there all the same: the token, or the Label Studio, may have been another one. So whatever is heard of it
    (`/setup`, `/predict`, an event, `sync`) ends this, and it is asked for again, see `rests`.
    """
    return bool(store.note(_name("gone", project)))


def rests(store: Store, project: str) -> bool:
    """Whether a project is gone, and was asked for less than an hour ago."""
    return is_gone(store, project) and time.time() - float(store.note(_asked(project)) or 0) < _ASK_AGAIN


def _asked(project: str) -> str:
    return f"gone-asked:{project}"


def _name(work: Work, project: str) -> str:
    return f"trouble:{work}:{project}"
