"""When a project's next full comparison with Label Studio pays.

A comparison costs an export of the whole project. So it is made where Label Studio's cheap figures, or what its
annotations are read by here, are others than before; and anew after an hour, whatever they are. One that could not read
all that it found is repeated at once, and then at growing distances: what is unreadable for good would have the project
exported for ever.
"""

import json
import time
from dataclasses import asdict, dataclass

from backend import reading_again, sequences
from backend.settings import Settings
from backend.store import ProjectRecord, Store

LONG_AGO = 3600.0
_EXPORTS = 20  # times as long as it takes, a comparison is not repeated
_FIRST_WAIT, _LONGEST_WAIT = 60.0, 600.0  # where it takes no longer


@dataclass(frozen=True)
class _Incomplete:
    """The last comparison, where it could not read everything.

    Attributes:
        at: when it began, Unix time.
        signs: what it went by.
        wait: seconds until it is repeated.
    """

    at: float
    signs: str
    wait: float


def signs(store: Store, project: str, told: str, settings: Settings) -> str:
    """What a comparison goes by.

    Args:
        store: where the label config is, and what is to be read again.
        project: project key.
        told: Label Studio's own figures.
        settings: sequence and frame key.
    """
    record = store.project(project)
    read_by = f"{record.targets if record else ''}/{reading_again.last_asked(store, project)}"
    return f"{sequences.signed(told, settings)} {read_by}"


def ended(store: Store, project: str, at: float, signs: str, seconds: float, *, unread: bool) -> None:
    """Remember a full comparison.

    Args:
        store: where.
        project: project key.
        at: when it began, Unix time.
        signs: what it went by, as they were then.
        seconds: what it took, without what is done only where there is time.
        unread: whether it could not read all that it found.
    """
    last = _incomplete(store, project)
    if unread:
        wait = max(_FIRST_WAIT, min(2 * last.wait, _LONGEST_WAIT), _EXPORTS * seconds) if last else 0.0
        store.set_note(_name(project), json.dumps(asdict(_Incomplete(at, signs, min(wait, LONG_AGO)))))
        return
    if last:
        store.set_note(_name(project), "")
    store.mark_reconciled(project, at, signs)
    usual = _usual(store, project)
    store.set_note(_seconds(project), str(min(seconds, max(1.0, 2 * usual))))  # a standstill is not usual


def by_time(store: Store, record: ProjectRecord) -> bool | None:
    """Whether a comparison is due (or is not) whatever Label Studio's figures are; None where these decide."""
    last = _incomplete(store, record.key)
    age = time.time() - (last.at if last else record.reconciled)
    if age > (last.wait if last else LONG_AGO):
        return True
    return False if age < _EXPORTS * _usual(store, record.key) else None


def by_signs(store: Store, record: ProjectRecord, signs: str) -> bool:
    """Whether a comparison is due since what it would go by has changed."""
    last = _incomplete(store, record.key)
    return signs != (last.signs if last else record.signs)


def _incomplete(store: Store, project: str) -> _Incomplete | None:
    noted = store.note(_name(project))
    return _Incomplete(**json.loads(noted)) if noted else None


def _usual(store: Store, project: str) -> float:
    return float(store.note(_seconds(project)) or 0)


def _name(project: str) -> str:
    return f"compared-in-part:{project}"


def _seconds(project: str) -> str:
    """Name of the note that says how long a comparison takes."""
    return f"reconcile-seconds:{project}"
