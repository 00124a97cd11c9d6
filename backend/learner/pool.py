"""The rule that keeps a pool within bounds: variety stays, and what a person drew stays before what was accepted."""

from collections.abc import Collection, Sequence

import numpy as np

from backend.store import ExampleInfo


def surplus(pool: Sequence[ExampleInfo], size: int) -> Collection[str]:
    """Keys of the examples that must leave so that at most `size` remain.

    As long as there are too many: among accepted masks, or where there is none among all, of the two most alike
    (cosine of their descriptors) the older leaves. The newest example never does.

    Args:
        pool: one target's examples, oldest first.
        size: how many may stay, at least 1.
    """
    staying = list(pool)
    leaving: list[str] = []
    while len(staying) > size:
        candidates = staying[:-1]
        accepted = [info for info in candidates if info.kind == "accepted"]
        victim = _most_redundant(accepted or candidates, staying)
        staying.remove(victim)
        leaving.append(victim.key)
    return leaving


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
