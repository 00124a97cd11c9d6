"""Which approved masks harm the others: pools measured example by example, and a rule that says which to recheck.

Every example is used alone to find the others. What a wrong mask finds on their pictures is not what the rest finds
there; that it is itself not found tells less, since good masks of hard pictures are not found either. How the rule was
chosen, and which ones lost, is in `docs/log.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from model import canvas
from model.evaluation import THRESHOLD, EvaluationError, Progress, iou
from model.example import Context, Example, Mask
from model.segmenter import Query, Segmenter

LEAST_EXAMPLES = 4  # of two or three, nobody can say which one the others are right against
LEAST_AGREEMENT = 0.2  # IoU; where even usual examples find different things, nothing strays from the rest
STRAYS_BELOW = 1 / 3  # of the pool's usual `agrees`: what it finds is something else
UNSEEN_BELOW = 1 / 40  # of the pool's usual `found * agrees`: it is as good as not found, and strays somewhat
AT_MOST = 32  # others tried on a picture: a larger pool's cost grows with its size, not with its square
AT_ONCE = 8  # pictures segmented between two calls of `progress`


@dataclass(frozen=True)
class Influence:
    """What one example was measured to be worth to the others, and they to it.

    Attributes:
        key: the example's.
        found: mean IoU, 0 to 1, with which each of the others alone finds this example's mask.
        finds: mean IoU, 0 to 1, with which this example alone finds the others' masks: what `model.retrieval` ranks by.
        agrees: mean IoU, 0 to 1, between what this example finds on the others' pictures and what the rest finds there
            (the mean of their maps). No mask is taken for the truth here, so one wrong mask does not lower all others.
        suspicious: whether its mask should be looked at again.
        reason: one sentence for people; empty where not suspicious.
    """

    key: str
    found: float
    finds: float
    agrees: float
    suspicious: bool
    reason: str


def examine(
    examples: Sequence[Example],
    segmenter: Segmenter,
    at_most: int = AT_MOST,
    progress: Progress | None = None,
) -> list[Influence]:
    """Measure a pool's examples by each other, and name those whose masks to recheck.

    With fewer than `LEAST_EXAMPLES` the figures are measured and nothing is suspicious: where one of two contradicts
    the other, either may be wrong, and a third is too little of a majority. Masks that are wrong alike in half of the
    pool are its usual, and stay unseen.

    Args:
        examples: at least two, of one target; pictures of any size, compared at the network's.
        segmenter: what to segment with; one picture by one example, at most `len(examples) * at_most` times.
        at_most: of the others, this many are tried on each picture, evenly spread over the sequence.
        progress: called with (pictures segmented, pictures in all); what it raises ends the examination.

    Returns:
        One an example, in their order.

    Raises:
        EvaluationError: if there are fewer than two examples.
        ValueError: if `at_most` is less than 1.
    """
    if len(examples) < 2:
        raise EvaluationError(f"examining a pool needs at least two examples, not {len(examples)}")
    if at_most < 1:
        raise ValueError(f"at_most must be at least 1, not {at_most}")
    size = segmenter.image_size
    small = [_resized(example, size) for example in examples]
    tried = _pairs(len(small), at_most)
    report = _Counted(progress, sum(map(len, tried)))
    found: list[float] = []
    finds: list[list[float]] = [[] for _ in small]
    agrees: list[list[float]] = [[] for _ in small]
    for example, others in zip(small, tried, strict=True):
        maps = _maps(example, [small[other] for other in others], segmenter, report)
        ious = [iou(each > THRESHOLD, example.mask) for each in maps]
        found.append(fmean(ious))
        for other, overlap, agreement in zip(others, ious, agreements(maps), strict=True):
            finds[other].append(overlap)
            agrees[other].append(agreement)
    return judge(
        [example.key for example in examples], found, list(map(fmean, finds)), list(map(fmean, agrees))
    )


def judge(
    keys: Sequence[str], found: Sequence[float], finds: Sequence[float], agrees: Sequence[float]
) -> list[Influence]:
    """The rule alone, of measured figures.

    Suspicious is whose `agrees` is below `STRAYS_BELOW` of the pool's median, or whose `found * agrees` is below
    `UNSEEN_BELOW` of the medians' product. `finds` is only reported: it named fewer wrong masks than `agrees`.

    Args:
        keys: of N examples.
        found: N figures, as in `Influence`.
        finds: N figures, as in `Influence`.
        agrees: N figures, as in `Influence`.

    Returns:
        One an example; none suspicious if there are fewer than `LEAST_EXAMPLES`, or where the median of `agrees`
        is below `LEAST_AGREEMENT`: there the checkpoint does not know the target.
    """
    usual_found, usual_agrees = median(found), median(agrees)
    judged = len(keys) >= LEAST_EXAMPLES and usual_agrees >= LEAST_AGREEMENT
    results = []
    for key, is_found, does_find, does_agree in zip(keys, found, finds, agrees, strict=True):
        strays = does_agree < STRAYS_BELOW * usual_agrees
        unseen = is_found * does_agree < UNSEEN_BELOW * usual_found * usual_agrees
        suspicious = judged and (strays or unseen)
        reason = (
            "Please recheck this mask: what it finds on the other examples' pictures agrees with what they find there "
            f"to {does_agree:.2f} (usual in this pool: {usual_agrees:.2f}), and they find it with IoU {is_found:.2f} "
            f"(usual: {usual_found:.2f})."
        )
        results.append(
            Influence(key, is_found, does_find, does_agree, suspicious, reason if suspicious else "")
        )
    return results


def agreements(maps: NDArray[np.float32]) -> list[float]:
    """How far each of several maps of one picture is like the mean of the rest.

    Args:
        maps: `[P, H, W]`, probabilities 0 to 1, P at least 1.

    Returns:
        IoU, 0 to 1, one a map, above `THRESHOLD`; 1 where there is no rest to differ from.
    """
    rest = len(maps) - 1
    if not rest:
        return [1.0]
    total = maps.sum(axis=0, dtype=np.float64)
    return [iou(each > THRESHOLD, (total - each) / rest > THRESHOLD) for each in maps]


def _pairs(count: int, at_most: int) -> list[list[int]]:
    """Who is tried on each picture: at the same distances round the circle, so each is tried equally often, too."""
    tried = min(at_most, count - 1)
    steps = [1 + (count - 1) * place // tried for place in range(tried)]
    return [[(index + step) % count for step in steps] for index in range(count)]


def _resized(example: Example, size: int) -> Example:
    """The example as the network sees it: pictures of many megapixels are resized once, not once a pair."""
    picture = canvas.resize_picture(example.image, size, size)
    mask: Mask = canvas.resize_mask(example.mask, size, size)
    return Example(example.key, picture, mask)


def _maps(
    example: Example, others: Sequence[Example], segmenter: Segmenter, report: "_Counted"
) -> NDArray[np.float32]:
    """`[P, S, S]`: what each of the others alone finds on an example's picture."""
    maps: list[NDArray[np.float32]] = []
    for start in range(0, len(others), AT_ONCE):
        part = [Query(example.image, Context((other,))) for other in others[start : start + AT_ONCE]]
        maps += segmenter.segment(part)
        report.add(len(part))
    return np.stack(maps)


class _Counted:
    """Progress over all pictures."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, done: int) -> None:
        self._done += done
        if self._progress:
            self._progress(self._done, self._total)
