"""What was withdrawn lately: noted, so that nothing older that is told, read or exported after it brings it back.

Label Studio's events come in no certain order, and to read an image takes a while. So whoever withdraws notes it first,
and whoever stores an approval looks before and after: one of the two sees the other.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

from backend.protocol import as_list, is_id, parse_time
from backend.store import Approval, Store
from backend.store.leases import held

FOR_GOOD = math.inf
"""Until when something that was deleted is withdrawn: Label Studio never gives a number again."""

_MOST = 1000  # noted of one project, and the last that were withdrawn at once in any case; older ones were told long ago


def note(store: Store, project: str, annotations: Mapping[int, float], tasks: Collection[int] = ()) -> None:
    """Note what is being withdrawn.

    Args:
        store: where it is noted.
        project: project key.
        annotations: by number: states of up to this time, Unix seconds of Label Studio's clock, teach no longer.
        tasks: numbers of deleted tasks.

    Raises:
        Refused: if somebody else notes something all the time.
    """
    more = {_annotation(number): until for number, until in annotations.items()}
    more |= {_task(number): FOR_GOOD for number in tasks}
    with _changing(store, project):
        before = noted(store, project)
        latest = {name: max(until, before.pop(name, 0.0)) for name, until in more.items()}
        _write(store, project, [*before.items(), *latest.items()][-max(_MOST, len(more)) :])


def noted(store: Store, project: str) -> dict[str, float]:
    """All that is noted, the oldest first: until when, by a name."""
    found: dict[str, float] = json.loads(store.note(_name(project)) or "{}")
    return found


def covers(store: Store, approval: Approval) -> bool:
    """Whether an approval is older than its withdrawal."""
    there = noted(store, approval.project)
    names = (_annotation(approval.annotation), _task(approval.task))
    return (parse_time(approval.at) or 0.0) <= max(there.get(name, -math.inf) for name in names)


def forget(
    store: Store,
    project: str,
    before: Mapping[str, float],
    annotations: Collection[int],
    tasks: Collection[int],
) -> None:
    """Forget what Label Studio has after all.

    Args:
        store: where it is noted.
        project: project key.
        before: what was noted before the export was begun; what came since is known better than by the export.
        annotations: those that the export has as approved.
        tasks: those that it has.

    Raises:
        Refused: as `note`.
    """
    here = before.keys() & ({*map(_annotation, annotations)} | {*map(_task, tasks)})
    if here:
        with _changing(store, project):
            staying = [
                (name, until)
                for name, until in noted(store, project).items()
                if name not in here or until != before[name]
            ]
            _write(store, project, staying)


def until(annotations: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """When annotations of Label Studio were last changed, Unix seconds by number; 0.0 where that is not said."""
    changed = {one["id"]: parse_time(one.get("updated_at")) for one in annotations if is_id(one.get("id"))}
    return {number: at or 0.0 for number, at in changed.items()}


def but_for_newer(
    gone: Mapping[int, float], now: Mapping[int, str], before: Mapping[int, str] = MappingProxyType({})
) -> dict[int, float]:
    """What is gone, those left out that were approved later than it says.

    Args:
        gone: as for `note`; where no time is known, 0.0, nothing is left out.
        now: by number, when approved annotations were last changed, ISO 8601.
        before: the same before it was seen that they are gone: what has not changed since is gone whatever the time.
    """
    return {
        number: until
        for number, until in gone.items()
        if not until or (parse_time(now.get(number)) or 0.0) <= until or now.get(number) == before.get(number)
    }


def waiting(store: Store, project: str) -> set[int]:
    """The annotations of events that wait to be tried again."""
    return {
        annotation["id"]
        for event in store.pending_events(1000, project)
        if event.attempts
        for annotation in as_list(event.body.get("annotation"))
        if is_id(annotation.get("id"))
    }


def _annotation(number: int) -> str:
    return f"annotation {number}"


def _task(number: int) -> str:
    return f"task {number}"


def _changing(store: Store, project: str) -> AbstractContextManager[None]:
    busy = "Somebody else withdraws approvals at this moment; try again."
    return held(store, f"changing:{_name(project)}", busy)


def _write(store: Store, project: str, noted: Collection[tuple[str, float]]) -> None:
    store.set_note(_name(project), json.dumps(dict(noted)))


def _name(project: str) -> str:
    return f"withdrawn:{project}"
