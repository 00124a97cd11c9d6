"""Pinned examples: what an admin wants to stay in its pool, and to be used; loads no torch.

A pinned example never leaves a full pool (`learner.pool`) and is a candidate for every context. Half of a pool can be
pinned, so that the other half stays open to what is approved next; and pinned ones get half of a context's places
before all others.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from backend.errors import NotFound, Refused
from backend.store import ExampleInfo, Store
from backend.store.leases import held
from model import retrieval

_MOST = 1000  # that are waited for; older ones come back unpinned

Taught = tuple[int, str]
"""An annotation and a target: what an example is of, whatever its key."""


def pin(store: Store, project: str, key: str, pool_size: int) -> ExampleInfo:
    """Pin an example; one that is pinned stays so.

    Args:
        store: where it is.
        project: project key.
        key: of the example.
        pool_size: most examples of a pool.

    Raises:
        NotFound: if the project's pools do not hold it.
        Refused: if half of its pool is pinned already.
    """
    with _changing(store, project):
        info = _info(store, project, key)
        others = sum(one.pinned for one in store.pool(project, info.target) if one.key != key)
        if others >= most(pool_size):
            raise Refused(
                f"{others} examples of this label are pinned, and no more than half of a pool can be "
                f"(POOL_SIZE is {pool_size}).",
                remedy="Unpin another one first.",
            )
        store.pin_examples([key], True)
    return _info(store, project, key)


def unpin(store: Store, project: str, key: str) -> ExampleInfo:
    """Unpin an example; one that is not pinned stays so.

    Raises:
        NotFound: if the project's pools do not hold it.
    """
    with _changing(store, project):
        _info(store, project, key)
        store.pin_examples([key], False)
    return _info(store, project, key)


def most(pool_size: int) -> int:
    """How many examples of a pool can be pinned."""
    return max(1, pool_size // 2)


def best_of_tasks(pool: Iterable[ExampleInfo]) -> list[ExampleInfo]:
    """One example a task: a pinned one, or its newest.

    Args:
        pool: oldest first, as the store gives it; so is what is returned, but pinned ones come last.
    """
    return list({info.task: info for info in sorted(pool, key=lambda info: info.pinned)}.values())


def choose(
    query: NDArray[np.float32], descriptors: NDArray[np.float32], infos: Sequence[ExampleInfo], places: int
) -> list[int]:
    """Indices of a context's examples: half of the places for pinned ones, the others for the best of all that is left.

    Args:
        query: `[D]`, the query picture's descriptor.
        descriptors: `[N, D]`, one row an example.
        infos: N examples.
        places: how many are wanted at most.
    """

    def chosen(among: list[int], places: int) -> list[int]:
        found = retrieval.choose(query, descriptors[among], [infos[index].score for index in among], places)
        return [among[index] for index in found]

    pinned = [index for index, info in enumerate(infos) if info.pinned]
    first = chosen(pinned, min(places, max(1, places // 2)))
    rest = [index for index in range(len(infos)) if index not in first]
    return first + chosen(rest, places - len(first))


def wait_for(store: Store, project: str, taught: Collection[Taught]) -> None:
    """Pin examples as soon as they are read (again): see `came`."""
    if taught:
        with _changing(store, project):
            _note(store, project, [one for one in _awaited(store, project) if one not in taught] + [*taught])


def came(store: Store, project: str, infos: Iterable[ExampleInfo]) -> None:
    """Examples have been read: pin those that were waited for."""
    awaited = _awaited(store, project)
    here = [info for info in infos if (info.annotation, info.target) in awaited]
    if here:
        with _changing(store, project):
            store.pin_examples([info.key for info in here], True)
            done = {(info.annotation, info.target) for info in here}
            _note(store, project, [one for one in _awaited(store, project) if one not in done])


def _info(store: Store, project: str, key: str) -> ExampleInfo:
    for info in store.pool(project):
        if info.key == key:
            return info
    raise NotFound("The project's pools hold no such example (any more).")


def _changing(store: Store, project: str) -> AbstractContextManager[None]:
    return held(store, f"changing:{_name(project)}", "Somebody else pins examples at this moment; try again.")


def _awaited(store: Store, project: str) -> list[Taught]:
    noted: list[list[object]] = json.loads(store.note(_name(project)) or "[]")
    return [(int(str(annotation)), str(target)) for annotation, target in noted]


def _note(store: Store, project: str, awaited: Sequence[Taught]) -> None:
    store.set_note(_name(project), json.dumps(awaited[-_MOST:]))


def _name(project: str) -> str:
    return f"pins:{project}"
