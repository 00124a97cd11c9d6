"""Which examples of a pool become a query's context: pure arithmetic on descriptors and scores; knows no pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHORTLIST = 4  # times as many candidates as are wanted are looked at, the most similar ones
SCORE_WEIGHT = 0.5  # of a measured score of 0 to 1, against a similarity of -1 to 1
REDUNDANCY_WEIGHT = 1.0  # of the similarity to the most similar example chosen already


def choose(
    query: NDArray[np.float32],
    descriptors: NDArray[np.float32],
    scores: Sequence[float | None],
    k: int,
) -> list[int]:
    """Choose examples: shortlisted by similarity, then one by one the best that is unlike those chosen.

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
    shortlist = np.argsort(-similarity, kind="stable")[: SHORTLIST * k]
    worth = similarity + SCORE_WEIGHT * _filled(scores)
    redundancy = np.full(count, -np.inf)
    open_ones = sorted(int(index) for index in shortlist)
    chosen: list[int] = []
    while len(chosen) < k:
        gain = worth if not chosen else worth - REDUNDANCY_WEIGHT * redundancy
        best = max(open_ones, key=lambda index: gain[index])
        chosen.append(best)
        open_ones.remove(best)
        redundancy = np.maximum(redundancy, units @ units[best])
    return chosen


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows of length one; a row of zeros, or with anything that is no number, is like nothing."""
    known = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0).astype(np.float64)
    return np.asarray(known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12))


def _filled(scores: Sequence[float | None]) -> NDArray[np.float64]:
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if known else 0.0
    return np.array([mean if score is None else score for score in scores], dtype=np.float64)
