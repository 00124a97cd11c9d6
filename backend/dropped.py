"""Examples that somebody took out of use: noted, so that they can be put back; loads no torch.

An example's approval stays, and says that its annotation has been read; so nothing brings the example back by itself.
To put it back, that is forgotten: the next comparison with Label Studio reads the annotation again.
"""

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace

from backend.errors import NotFound, Refused
from backend.store import ExampleInfo, Store
from backend.store.leases import held

_MOST = 1000  # noted of one project; of older ones it is forgotten that they can be put back
_PATIENCE = 5.0  # seconds for the worker to end what it reads


@dataclass(frozen=True)
class Dropped:
    """What is remembered of an example that was taken out of use.

    Attributes:
        key: of the example.
        target: target id.
        task: Label Studio's number of the task.
        annotation: its number of the annotation.
        at: Unix time.
    """

    key: str
    target: str
    task: int
    annotation: int
    at: float


def drop(store: Store, project: str, keys: Collection[str]) -> list[Dropped]:
    """Take examples out of use and move the revision; their approvals stay.

    Raises:
        NotFound: if the project's pools hold none of them; of several, those that are there are dropped.
    """
    there = [info for info in store.pool(project) if info.key in keys]
    if not there:
        raise NotFound("The project's pools hold no such example (any more).")
    now = time.time()
    gone = [Dropped(info.key, info.target, info.task, info.annotation, now) for info in there]
    _note(store, project, gone, without=())
    store.drop_examples([info.key for info in there])
    store.move_generation(project)
    return gone


def listed(store: Store, project: str, pool: Iterable[ExampleInfo]) -> list[Dropped]:
    """Those that can be put back, the last first.

    Args:
        store: where it is noted.
        project: project key.
        pool: the project's examples now; what is there again, or was withdrawn since, is left out.
    """
    teaching = {(info.annotation, info.target) for info in pool}
    approved = {approval.annotation for approval in store.approvals(project)}
    return [
        one
        for one in reversed(_read(store, project))
        if (one.annotation, one.target) not in teaching and one.annotation in approved
    ]


def put_back(store: Store, project: str, key: str) -> Dropped:
    """Let an example be read again at the next comparison with Label Studio.

    Raises:
        NotFound: if no such example was taken out of use.
        Refused: if it is there again, its annotation was withdrawn since, or the worker learns at this moment.
    """
    with held(
        store, f"learn:{project}", "The project's annotations are being read; try again.", patience=_PATIENCE
    ):
        return _put_back(store, project, key)


def still_out(store: Store, project: str, annotation: int) -> set[str]:
    """The targets of an annotation whose examples are out of use, those left out that were put back."""
    gone = listed(store, project, store.pool(project))
    return {one.target for one in gone if one.annotation == annotation}


def _put_back(store: Store, project: str, key: str) -> Dropped:
    noted = next((one for one in _read(store, project) if one.key == key), None)
    if noted is None:
        raise NotFound("No such example was taken out of use.")
    pool = store.pool(project)
    if noted not in listed(store, project, pool):
        raise Refused("It is in use again, or its annotation was withdrawn since.")
    known = store.approvals(project, tasks=[noted.task])
    approval = next((one for one in known if one.annotation == noted.annotation), None)
    if approval is None:
        raise Refused("Its annotation was withdrawn since.")
    staying = [info.key for info in pool if info.annotation == noted.annotation]
    store.put_approval(replace(approval, digest=""), list(store.examples(staying).values()))
    _note(store, project, (), without=[key])
    return noted


def _read(store: Store, project: str) -> list[Dropped]:
    return [Dropped(**one) for one in json.loads(store.note(_name(project)) or "[]")]


def _note(store: Store, project: str, more: Collection[Dropped], without: Collection[str]) -> None:
    """Change what is noted; whoever else changes it meanwhile waits."""
    left_out = {*without, *(one.key for one in more)}
    busy = "Somebody else takes examples out of use at this moment; try again."
    with held(store, f"changing:{_name(project)}", busy):
        kept = [*(one for one in _read(store, project) if one.key not in left_out), *more][-_MOST:]
        store.set_note(_name(project), json.dumps([asdict(one) for one in kept]))


def _name(project: str) -> str:
    return f"dropped:{project}"
