"""The rule that keeps a pool within bounds: variety stays, and what a person drew stays before what was accepted."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from backend.absent import note_left
from backend.store import Approval, ExampleInfo, Store


def bound(store: Store, project: str, targets: Collection[str], size: int) -> None:
    """Let the surplus of targets' pools leave."""
    for target in targets:
        pool = store.pool(project, target)
        leaving = surplus(pool, size)
        if leaving:
            store.drop_examples(leaving)
            note_left(store, project, target, {info.task for info in pool if info.key in leaving})


def are_closed(store: Store, approval: Approval, targets: Collection[str], sequence: str, size: int) -> bool:
    """Whether none of the pools that an approval would join has room for it; see `is_closed`."""
    pools = [store.pool(approval.project, target) for target in targets]
    return bool(pools) and all(is_closed(pool, approval, sequence, size) for pool in pools)


def is_closed(pool: Sequence[ExampleInfo], approval: Approval, sequence: str, size: int) -> bool:
    """Whether a pool is full of what stays before an approval: newer masks that people drew or corrected, and pinned ones.

    To the first drawn mask of a sequence it is open as long as something else can leave, see `surplus`.

    Args:
        pool: one target's examples, oldest first.
        approval: whose own example does not count.
        sequence: that the approval's task is of; "" where it is of none.
        size: how many may stay, at least 1.
    """
    others = [info for info in pool if info.annotation != approval.annotation]
    staying = [info for info in others if info.pinned or (info.at > approval.at and info.kind != "accepted")]
    if sequence and approval.kind != "accepted" and all(info.sequence != sequence for info in others):
        lasting = _last_ones(others)
        staying = [info for info in staying if info.pinned or info is others[-1] or info in lasting]
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
    last = _last_ones(everyone)
    return [info for info in candidates if info not in last] or candidates


def _last_ones(pool: Sequence[ExampleInfo]) -> list[ExampleInfo]:
    """Those that are the last of their sequence."""
    count = Counter(info.sequence for info in pool)
    return [info for info in pool if info.sequence and count[info.sequence] == 1]


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
