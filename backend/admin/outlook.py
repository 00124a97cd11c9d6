"""What kept IoU and lead times say of what is still to come: pure arithmetic; knows no store."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Literal

Verdict = Literal["too early", "go on", "unclear", "stop"]

FEWEST = 12
"""Submissions of a target below which no trend is told."""

NEWEST = 200
"""So many of them count, the last ones: what was long ago says little of the next ten."""

AHEAD = 10
"""Masks that are asked about."""

WORTH = 0.01
"""Mean kept IoU that ten more masks must bring to be worth the work."""

FEWEST_TIMES = 5
"""Lead times, of each kind, below which no saving is told."""

_STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Outlook:
    """What ten more masks are expected to bring.

    Attributes:
        count: submissions that it is told from.
        level: kept IoU now, by the trend, 0 to 1; None where it is too early, like those that follow.
        gain: expected change of kept IoU.
        low: two standard errors below; the true gain is seldom lower.
        high: two standard errors above.
        verdict: what follows from it.
    """

    count: int
    level: float | None
    gain: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Saving:
    """How much time predictions saved, by the annotators' lead times.

    Attributes:
        without: annotations drawn from nothing whose lead time is known.
        with_: those that began with a prediction.
        median_without: seconds; None where there are none, like `median_with`.
        hours: saved so far; None where there are too few to tell.
        low: hours by the quartiles of both kinds that tell least for predictions.
        high: hours by those that tell most.
    """

    without: int
    with_: int
    median_without: float | None
    median_with: float | None
    hours: float | None
    low: float | None
    high: float | None


def look_ahead(kept: Sequence[float]) -> Outlook:
    """What ten more masks are expected to bring, from the trend of kept IoU.

    Kept IoU is taken to grow with the logarithm of the number of submissions, as accuracy does with examples: each
    doubling brings about the same. The line is fitted by least squares; its slope's standard error gives the spread.

    Args:
        kept: kept IoUs of one target, 0 to 1, oldest first.
    """
    counted = list(kept)[-NEWEST:]
    before = len(kept) - len(counted)
    if len(counted) < FEWEST:
        return Outlook(len(counted), None, None, None, None, "too early")
    grown = [math.log(before + number) for number in range(1, len(counted) + 1)]
    middle, mean = fmean(grown), fmean(counted)
    spread = math.fsum((x - middle) ** 2 for x in grown)
    slope = math.fsum((x - middle) * (y - mean) for x, y in zip(grown, counted, strict=True)) / spread
    residue = math.fsum((y - mean - slope * (x - middle)) ** 2 for x, y in zip(grown, counted, strict=True))
    error = math.sqrt(residue / (len(counted) - 2) / spread)
    step = math.log(len(kept) + AHEAD) - grown[-1]
    level = min(1.0, max(0.0, mean + slope * (grown[-1] - middle)))
    low, gain, high = (
        min(1.0 - level, max(-level, by * step))
        for by in (slope - _STANDARD_ERRORS * error, slope, slope + _STANDARD_ERRORS * error)
    )
    verdict: Verdict = "stop" if high < WORTH else "go on" if low >= WORTH else "unclear"
    return Outlook(len(counted), level, gain, low, high, verdict)


def saved(without: Sequence[float], with_: Sequence[float]) -> Saving:
    """How much time predictions saved.

    Medians are compared, since a lead time also counts coffee breaks. The range compares the quartiles that tell least
    and most for predictions; it is no promise: the first tasks are drawn from nothing, and people also get faster.

    Args:
        without: seconds for each annotation that was drawn from nothing.
        with_: seconds for each that began with a prediction.
    """
    medians = median(without) if without else None, median(with_) if with_ else None
    if min(len(without), len(with_)) < FEWEST_TIMES:
        return Saving(len(without), len(with_), *medians, None, None, None)
    drawn, begun = quantiles(without, n=4, method="inclusive"), quantiles(with_, n=4, method="inclusive")
    pairs = (drawn[1], begun[1]), (drawn[0], begun[2]), (drawn[2], begun[0])
    hours, low, high = (len(with_) * (one - other) / 3600 for one, other in pairs)
    return Saving(len(without), len(with_), *medians, hours, low, high)
