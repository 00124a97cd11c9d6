"""Which examples of a pool become a query's context: pure arithmetic on descriptors and scores; knows no pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHORTLIST = 4  # times as many candidates as are wanted are looked at, the most similar ones
LEAST_KNOWN = 8  # of a pool; of fewer, too many pictures that are like it would be told to be unlike it
_SAME = 1e-6  # figures that vary less than this do not vary


def choose(
    query: NDArray[np.float32],
    descriptors: NDArray[np.float32],
    scores: Sequence[float | None],
    k: int,
) -> list[int]:
    """Choose examples: shortlisted by similarity, then one by one the best that is unlike those chosen.

    The best has the greatest sum of similarity to the query and measured score, less the similarity to the most
    similar example chosen already. Each of the three is counted in its own standard deviations over the pool, so each
    has one vote whatever its scale is.

    Args:
        query: `[D]`, the query picture's descriptor.
        descriptors: `[N, D]`, one row an example; lengths do not matter.
        scores: N measured qualities, 0 to 1, higher is better; None where not measured, which counts as the mean of
            those that are.
        k: how many are wanted.

    Returns:
        `min(k, N)` different indices into `descriptors`, the best first; where `N <= k`, all of them in order. Equal
        examples are taken in the order of their indices.

    Raises:
        ValueError: if the shapes do not fit.
    """
    count = len(descriptors)
    if len(scores) != count:
        raise ValueError(f"{count} descriptors, but {len(scores)} scores")
    if count <= k:
        return list(range(count))
    if descriptors.ndim != 2 or query.shape != descriptors.shape[1:]:
        raise ValueError(f"descriptors {descriptors.shape} do not fit the query's {query.shape}")
    if k <= 0:
        return []

    units = _unit(descriptors)
    similarity = units @ _unit(query[None])[0]
    alike = units @ units.T
    worth = _standard(similarity) + _standard(_filled(scores))
    likeness = _standard(alike, ~np.eye(count, dtype=np.bool_))
    shortlist = np.argsort(-similarity, kind="stable")[: SHORTLIST * k]
    open_ones = sorted(int(index) for index in shortlist)
    redundancy = np.full(count, -np.inf)
    chosen: list[int] = []
    while len(chosen) < k:
        gain = worth if not chosen else worth - redundancy
        best = max(open_ones, key=lambda index: gain[index])
        chosen.append(best)
        open_ones.remove(best)
        redundancy = np.maximum(redundancy, likeness[best])
    return chosen


def is_familiar(query: NDArray[np.float32], descriptors: NDArray[np.float32]) -> bool:
    """Whether a query is as near to a pool as the pool's own pictures are to each other.

    It is, unless its most similar example is less similar than that of the pool's most solitary example. One of N + 1
    pictures of a kind is told to be unlike the N others at most once in N + 1 times.

    Args:
        query: `[D]`, the query picture's descriptor.
        descriptors: `[N, D]`, one row an example, the query's own not among them.

    Returns:
        True also where N is less than `LEAST_KNOWN`: nobody knows.
    """
    if len(descriptors) < LEAST_KNOWN:
        return True
    units = _unit(descriptors)
    alike = units @ units.T
    np.fill_diagonal(alike, -np.inf)
    return bool((units @ _unit(query[None])[0]).max() >= alike.max(axis=1).min() - _SAME)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows of length one; a row of zeros, or with anything that is no number, is like nothing."""
    known = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0).astype(np.float64)
    return np.asarray(known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12))


def _standard(values: NDArray[np.float64], counted: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Values less their mean in standard deviations, both of those that are counted; zeros where they are the same."""
    those = values if counted is None else values[counted]
    spread = float(those.std())
    return (values - those.mean()) / spread if spread > _SAME else np.zeros_like(values)


def _filled(scores: Sequence[float | None]) -> NDArray[np.float64]:
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if known else 0.0
    return np.array([mean if score is None else score for score in scores], dtype=np.float64)
