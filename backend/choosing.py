"""Which examples a context is made of: near frames first, then pinned ones, then the best of the rest; loads no torch."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backend import pins, sequences
from backend.sequences import Place
from backend.settings import Settings
from backend.store import ExampleInfo

Descriptor = NDArray[np.float32]
"""`[D]`, of a picture."""


def choose(
    infos: Sequence[ExampleInfo],
    places: int,
    usual: int,
    place: Place | None,
    query: Callable[[], Descriptor],
) -> tuple[ExampleInfo, ...]:
    """The examples of one context.

    Args:
        infos: one a task, oldest first, as `pins.best_of_tasks` gives them.
        places: how many it has at most.
        usual: how many contexts have, `SHOTS`; where frames are near, half of these are enough.
        place: of the task that is to be predicted, if it is a frame of a sequence.
        query: gives the descriptor of its picture; asked only where there is a choice.

    Returns:
        The best first. Where descriptors cannot be compared, the newest of those that are not near frames.
    """
    near, others, free = sequences.near_first(place, infos, places, usual)
    if len(others) <= free or not free:
        return (*near, *others[:free])
    described = query()
    descriptors = comparable(others, described)
    if descriptors is None:
        return (*near, *others[len(others) - free :])
    return (*near, *(others[index] for index in pins.choose(described, descriptors, others, free)))


def comparable(infos: Sequence[ExampleInfo], query: Descriptor) -> NDArray[np.float32] | None:
    """`[N, D]`, one row an example; None where some cannot be compared with the query's."""
    if any(len(info.descriptor) != query.nbytes for info in infos):
        return None
    return np.stack([np.frombuffer(info.descriptor, np.float32) for info in infos])


def among(
    infos: Sequence[ExampleInfo], settings: Settings
) -> Callable[[str, Collection[str], int], list[str]]:
    """How contexts are chosen for the pictures of the examples themselves, as for tasks that are alike.

    Without what examples are worth to each other: that was measured on the masks that such a context is judged by.

    Args:
        infos: one a task, oldest first.
        settings: of sequences, and `SHOTS`.

    Returns:
        A function of the key of an example, the keys of those that its context may be made of, and the most that it has
        places for; it gives their keys, the best first.
    """
    known = {info.key: replace(info, score=None) for info in infos}

    def chosen(key: str, keys: Collection[str], places: int) -> list[str]:
        query = known[key]
        others = pins.best_of_tasks(info for info in known.values() if info.key in keys)
        place = sequences.of_example(query, settings)
        found = choose(
            others, places, settings.shots, place, lambda: np.frombuffer(query.descriptor, np.float32)
        )
        return [info.key for info in found]

    return chosen
