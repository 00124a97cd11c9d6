"""Examples that somebody took out of use: noted, so that they can be put back; loads no torch.

An example's approval stays, and says that its annotation has been read; so nothing brings the example back but a
correction of its annotation. To put it back, what was read is forgotten: the next comparison with Label Studio reads
the annotation again. Until that has been done, which may be long where the image cannot be read, it stays noted, as one
that returns. Several that are taken out in one act are put back as one.
"""

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from backend import pins
from backend.errors import NotFound, Refused
from backend.reading_again import read_again, while_nothing_is_read
from backend.store import ExampleInfo, Store
from backend.store.leases import held

_MOST = 1000  # noted of one project, and the last act in any case; of older ones it is forgotten that they can be put back


@dataclass(frozen=True)
class Dropped:
    """What is remembered of an example that was taken out of use.

    Attributes:
        key: of the example.
        target: target id.
        task: Label Studio's number of the task.
        annotation: its number of the annotation.
        at: Unix time.
        pinned: whether it was pinned, and will be when it is back.
        act: what it was taken out by together with others, "" where it was alone.
        because: what the act was, a few words for people.
        returning: whether it was put back, and its annotation is still to be read.
        of: when the annotation that it is of had been changed, ISO 8601; "" where an earlier version noted it.
    """

    key: str
    target: str
    task: int
    annotation: int
    at: float
    pinned: bool = False
    act: str = ""
    because: str = ""
    returning: bool = False
    of: str = ""


def drop(store: Store, project: str, keys: Collection[str], because: str = "") -> list[Dropped]:
    """Take examples out of use and move the revision; their approvals stay.

    Args:
        store: where they are.
        project: project key.
        keys: of the examples.
        because: what is done by it, in a few words; then they can be put back as one.

    Raises:
        NotFound: if the project's pools hold none of them; of several, those that are there are dropped.
    """
    there = [info for info in store.pool(project) if info.key in keys]
    if not there:
        raise NotFound("The project's pools hold no such example (any more).")
    now, act = time.time(), uuid.uuid4().hex[:12] if because else ""
    gone = [
        Dropped(info.key, info.target, info.task, info.annotation, now, info.pinned, act, because, of=info.at)
        for info in there
    ]
    _note(store, project, gone)
    store.drop_examples([info.key for info in there])
    store.move_generation(project)
    return gone


def listed(store: Store, project: str, pool: Iterable[ExampleInfo]) -> list[Dropped]:
    """Those that can be put back, and those that were and are still to be read, the last first.

    Args:
        store: where it is noted.
        project: project key.
        pool: the project's examples now; what is there again, or was withdrawn since, is left out.
    """
    teaching = {(info.annotation, info.target) for info in pool}
    noted = _read(store, project)
    tasks = {one.task for one in noted}
    approved = {approval.annotation for approval in store.approvals(project, tasks=tasks)}
    return [
        one
        for one in reversed(noted)
        if (one.annotation, one.target) not in teaching and one.annotation in approved
    ]


def remembers_all(store: Store, project: str) -> bool:
    """Whether whatever was taken out of use is still noted: not where it was so much that some was forgotten."""
    return len(_read(store, project)) < _MOST and not store.note(_forgotten(project))


def put_back(store: Store, project: str, key: str) -> Dropped:
    """Let an example be read again at the next comparison with Label Studio; one that returns already, once more.

    Raises:
        NotFound: if no such example was taken out of use.
        Refused: if it is there again, its annotation was withdrawn since, or the worker learns at this moment.
    """
    with while_nothing_is_read(store, project):
        noted = [one for one in _read(store, project) if one.key == key]
        if not noted:
            raise NotFound("No such example was taken out of use.")
        return _put_back(store, project, noted)[0]


def put_back_act(store: Store, project: str, act: str) -> list[Dropped]:
    """Let all that an act took out of use be read again; what is there already, or was withdrawn, is passed over.

    Raises:
        NotFound: if there is no such act.
        Refused: if nothing of it is left to be put back, or the worker learns at this moment.
    """
    with while_nothing_is_read(store, project):
        noted = [one for one in _read(store, project) if act and one.act == act]
        if not noted:
            raise NotFound("Nothing was taken out of use by such an act.")
        return _put_back(store, project, noted)


def still_out(store: Store, project: str, annotation: int) -> set[str]:
    """The targets of an annotation whose examples are out of use and are to stay so: not those that return."""
    if all(one.annotation != annotation for one in _read(store, project)):
        return set()  # as of most, which are asked about one by one
    gone = listed(store, project, store.pool(project))
    return {one.target for one in gone if one.annotation == annotation and not one.returning}


def _put_back(store: Store, project: str, noted: Sequence[Dropped]) -> list[Dropped]:
    out = set(listed(store, project, store.pool(project)))
    back = [one for one in noted if one in out]
    if not back:
        raise Refused("It is in use again, or its annotation was withdrawn since.")
    pins.wait_for(store, project, [(one.annotation, one.target) for one in back if one.pinned])
    back = [replace(one, returning=True) for one in back]
    # Noted first, or a comparison that reads in between would leave out what is still noted as out.
    _note(store, project, back, lambda: read_again(store, project, {one.annotation for one in back}))
    return back


def _read(store: Store, project: str) -> list[Dropped]:
    """What is noted, the oldest first, without those that were put back and whose annotations have been read since."""
    noted = [Dropped(**one) for one in json.loads(store.note(_name(project)) or "[]")]
    tasks = {one.task for one in noted if one.returning}
    approvals = store.approvals(project, tasks=tasks) if tasks else ()
    unread = {approval.annotation for approval in approvals if not approval.digest}  # see `read_again`
    return [one for one in noted if not one.returning or one.annotation in unread]


def _note(
    store: Store, project: str, more: Collection[Dropped], then: Callable[[], None] = lambda: None
) -> None:
    """Add to what is noted, in place of what is noted of the same, and then do the rest; whoever else changes it waits."""
    again = {(one.annotation, one.target) for one in more}
    busy = "Somebody else takes examples out of use at this moment; try again."
    with held(store, f"changing:{_name(project)}", busy):
        staying = [one for one in _read(store, project) if (one.annotation, one.target) not in again]
        kept = sorted([*staying, *more], key=lambda one: one.at)
        most = max(_MOST, len(more))
        if len(kept) > most:
            store.set_note(_forgotten(project), "some")  # for good: that others are put back recalls nothing
        kept = kept[-most:]
        store.set_note(_name(project), json.dumps([asdict(one) for one in kept]))
        then()


def _name(project: str) -> str:
    return f"dropped:{project}"


def _forgotten(project: str) -> str:
    return f"dropped-forgotten:{project}"
