"""Which predictions can be accepted in bulk: the score from which on they are kept unchanged, as arithmetic.

What is asked for is a threshold and a promise about all predictions above it, from few submissions. Scores are tried
from the top down, and the first that cannot be promised ends it: tests in an order that is fixed beforehand need no
correction for their number ("fixed sequence testing", Angelopoulos et al., Learn then Test, 2021, arXiv 2110.01052).
Each is the exact binomial test whose inversion is the bound of Clopper and Pearson (1934).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

UNCHANGED = 0.99
"""Kept IoU of each label from which on a prediction counts as kept unchanged."""

SHARE = 0.9
"""Share of the predictions above the threshold that are to be kept unchanged, at least."""

CONFIDENCE = 0.95
"""How sure that is, if what comes is like what was submitted."""

FEWEST = 61
"""Submissions above a threshold below which it is not tried: of so many, two may have been changed."""

NEWEST = 300
"""So many submissions count, the last ones: what was predicted long ago says little of the next."""

_STEPS = 100  # thresholds are tried at each hundredth

AcceptVerdict = Literal["too early", "none", "found"]


@dataclass(frozen=True)
class Submission:
    """What became of a prediction.

    Attributes:
        score: that it was given, 0 to 1.
        unchanged: whether it was submitted as it was.
    """

    score: float
    unchanged: bool


@dataclass(frozen=True)
class Acceptance:
    """From which score on predictions can be accepted in bulk.

    Attributes:
        count: submissions that it is told from.
        threshold: the lowest score, 0 to 1; None where there is none, like those that follow.
        above: submissions with at least this score.
        unchanged: how many of these were submitted as they were.
        low: the share that would be, at least, with `CONFIDENCE`.
        verdict: whether there is one; `too early` with fewer than `FEWEST` submissions.
    """

    count: int
    threshold: float | None
    above: int | None
    unchanged: int | None
    low: float | None
    verdict: AcceptVerdict


def accept_from(submissions: Sequence[Submission], share: float = SHARE) -> Acceptance:
    """The lowest score from which on at least a share of the predictions is kept unchanged.

    Args:
        submissions: oldest first.
        share: that is to be kept unchanged, above 0 and below 1.
    """
    counted = list(submissions)[-NEWEST:]
    if len(counted) < FEWEST:
        return Acceptance(len(counted), None, None, None, None, "too early")
    found = Acceptance(len(counted), None, None, None, None, "none")
    for step in range(_STEPS, -1, -1):
        above = [one.unchanged for one in counted if one.score >= step / _STEPS]
        if len(above) < FEWEST:
            continue
        low = at_least(sum(above), len(above))
        if low < share:
            break
        found = Acceptance(len(counted), step / _STEPS, len(above), sum(above), low, "found")
    return found


def at_least(good: int, count: int, confidence: float = CONFIDENCE) -> float:
    """Lower bound of a share of which so many of so many were seen, by Clopper and Pearson; one-sided.

    Args:
        good: seen, 0 to `count`.
        count: looked at, at least 1.
        confidence: above 0 and below 1.

    Returns:
        0 to 1, to a millionth, rounded down.
    """
    steps = 1_000_000
    return bisect_left(range(1, steps), 1.0 - confidence, key=lambda k: _tail(good, count, k / steps)) / steps


def _tail(good: int, count: int, share: float) -> float:
    """How probable it is that at least so many of so many are seen where the share is this."""
    return math.fsum(
        math.comb(count, k) * share**k * (1.0 - share) ** (count - k) for k in range(good, count + 1)
    )
