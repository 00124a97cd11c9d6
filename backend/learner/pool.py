"""The rule that keeps a pool within bounds: variety stays, and what a person drew stays before what was accepted."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from backend.absent import note_left
from backend.store import ExampleInfo, Store


def bound(store: Store, project: str, targets: Collection[str], size: int) -> None:
    """Let the surplus of targets' pools leave."""
    for target in targets:
        pool = store.pool(project, target)
        leaving = surplus(pool, size)
        if leaving:
            store.drop_examples(leaving)
            note_left(store, project, target, {info.task for info in pool if info.key in leaving})


def is_closed(pool: Sequence[ExampleInfo], annotation: int, at: str, size: int) -> bool:
    """Whether a pool is full of what stays before an approval: newer masks that people drew or corrected, and pinned ones.

    Args:
        pool: one target's examples.
        annotation: the approval's, whose own example does not count.
        at: when it was approved.
        size: how many may stay, at least 1.
    """
    staying = [
        info
        for info in pool
        if info.annotation != annotation and (info.pinned or (info.at > at and info.kind != "accepted"))
    ]
    return len(staying) >= size


def surplus(pool: Sequence[ExampleInfo], size: int) -> Collection[str]:
    """Keys of the examples that must leave so that at most `size` remain.

    As long as there are too many: among accepted masks, or where there is none among all, of the two most alike
    (cosine of their descriptors) the older leaves. The newest example stays, and whatever is pinned: the newest leaves
    only where all others are pinned, and a pinned one never. The last example of a sequence leaves only where it would
    be the turn of nothing else.

    Args:
        pool: one target's examples, oldest first.
        size: how many may stay, at least 1.
    """
    staying = list(pool)
    leaving: list[str] = []
    while len(staying) > size:
        candidates = [info for info in staying[:-1] if not info.pinned] or [
            info for info in staying[-1:] if not info.pinned
        ]
        if not candidates:
            break
        accepted = [info for info in candidates if info.kind == "accepted"]
        victim = _most_redundant(_not_last(accepted or candidates, staying), staying)
        staying.remove(victim)
        leaving.append(victim.key)
    return leaving


def _not_last(candidates: Sequence[ExampleInfo], everyone: Sequence[ExampleInfo]) -> Sequence[ExampleInfo]:
    """Those that are not the last of their sequence; all, where there is none."""
    count = Counter(info.sequence for info in everyone)
    return [info for info in candidates if not info.sequence or count[info.sequence] > 1] or candidates


def _most_redundant(candidates: Sequence[ExampleInfo], everyone: Sequence[ExampleInfo]) -> ExampleInfo:
    """The candidate closest to any other example; the oldest among equals."""
    described = [info for info in everyone if info.descriptor]
    if len({len(info.descriptor) for info in described}) != 1 or len(described) < len(everyone):
        return candidates[0]
    keys = [info.key for info in everyone]
    vectors = np.stack([np.frombuffer(info.descriptor, np.float32) for info in everyone])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    closest = likeness.max(axis=1)
    return max(
        candidates, key=lambda info: (round(float(closest[keys.index(info.key)]), 6), -keys.index(info.key))
    )
