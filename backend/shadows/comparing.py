"""What pairs of kept IoUs say: the shadow's beside that of what was shown, as arithmetic; knows no store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

FEWEST = 8
"""Pairs below which nothing is said of their difference."""

_STANDARD_ERRORS = 2.0

Verdict = Literal["too_few", "better", "worse", "open"]
"""What pairs say of the shadow; `open`: there is no difference that chance would not bring."""

_SAID: Mapping[Verdict, str] = {
    "too_few": f"Too few to say: it takes {FEWEST} at least.",
    "better": "The shadow is clearly better, although annotators started from the other masks.",
    "worse": "The shadow is clearly worse; that annotators started from the other masks is a part of it.",
    "open": "No clear difference; as annotators started from the other masks, an equal shadow is the better one.",
}


@dataclass(frozen=True)
class Pair:
    """Two kept IoUs of one submission, 0 to 1.

    Attributes:
        task: Label Studio's number of the task.
        annotation: its number of the annotation.
        shown: of the mask that was shown.
        shadow: what would have been kept of the shadow's.
    """

    task: int
    annotation: int
    shown: float
    shadow: float


@dataclass(frozen=True)
class Comparison:
    """What pairs come to.

    Attributes:
        shown: mean kept IoU, 0 to 1, of what was shown; None without pairs, like `shadow` and `difference`.
        shadow: the same of the shadow.
        difference: by how much the shadow's is greater, -1 to 1.
        error: standard error of the difference, by the differences of the pairs; None of fewer than two.
        verdict: what that says.
        said: the same, a sentence for people.
    """

    shown: float | None
    shadow: float | None
    difference: float | None
    error: float | None
    verdict: Verdict
    said: str


def compare(pairs: Sequence[Pair]) -> Comparison:
    """What pairs come to: a difference is clear where it is more than two of its standard errors."""
    differences = [pair.shadow - pair.shown for pair in pairs]
    error = stdev(differences) / len(pairs) ** 0.5 if len(pairs) > 1 else None
    verdict = _verdict(differences, error)
    return Comparison(
        shown=fmean(pair.shown for pair in pairs) if pairs else None,
        shadow=fmean(pair.shadow for pair in pairs) if pairs else None,
        difference=fmean(differences) if pairs else None,
        error=error,
        verdict=verdict,
        said=_SAID[verdict],
    )


def _verdict(differences: Sequence[float], error: float | None) -> Verdict:
    if error is None or len(differences) < FEWEST:
        return "too_few"
    mean = fmean(differences)
    if abs(mean) <= _STANDARD_ERRORS * error:
        return "open"
    return "better" if mean > 0 else "worse"
