"""When kept IoU tells against a prompt: the rule of the automatic roll back, as arithmetic; knows no store."""

from collections.abc import Sequence
from statistics import fmean, variance

FEWEST_SINCE = 8
"""Submissions since the activation below which nothing is said."""

FEWEST_BEFORE = 8
"""Submissions before it below which there is nothing to compare with."""

MOST_BEFORE = 32
"""Of the submissions before it, so many count, the last ones."""

MOST_LOOKED_AT = 1000
"""Of a label's submissions on either side of the activation, so many are looked at, the newest."""

CLEAR_FALL = 0.05
"""A smaller fall of the mean kept IoU is no reason, however sure."""

_STANDARD_ERRORS = 2.0


def fell(before: Sequence[float], since: Sequence[float]) -> str | None:
    """Why a prompt is to be rolled back; None where there is no reason or too little to judge by.

    It is where the mean since the activation lies more than `CLEAR_FALL`, and more than two standard errors of the
    difference of the two means (variances not assumed equal, as in Welch's test), below the mean before.

    Args:
        before: kept IoUs without the prompt, 0 to 1, oldest first.
        since: kept IoUs of its own predictions.
    """
    before = before[-MOST_BEFORE:]
    if len(since) < FEWEST_SINCE or len(before) < FEWEST_BEFORE:
        return None
    fall = fmean(before) - fmean(since)
    error = (variance(before) / len(before) + variance(since) / len(since)) ** 0.5
    if fall <= CLEAR_FALL or fall <= _STANDARD_ERRORS * error:
        return None
    return (
        f"Kept IoU fell from {fmean(before):.2f} ({len(before)} submissions before it) "
        f"to {fmean(since):.2f} ({len(since)} with it)."
    )
