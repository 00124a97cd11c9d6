"""What a prediction's score says: the IoU to expect of a map, set right by masks that are known; knows no service.

The raw figure orders a target's predictions well and is too sure of some targets, too shy of others. A calibration
keeps that order and brings the level to what was measured. A figure lower than that of any mask worth keeping may say
that the target is not there at all: `absence`. How it was chosen is in `docs/log.md`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from model import retrieval, zoom
from model.edges import ProbabilityMap
from model.evaluation import EvaluationError, Progress, iou
from model.example import Context, Example, Picture
from model.segmenter import Query, Segmenter

PRIOR = 1.0  # how firmly the fit holds to "the raw figure is right": about as much as four masks that say so
LEAST_SLOPE = 0.1  # a calibration never turns the order round, nor takes it away
LIVE_PRIOR = 8  # kept IoUs that weigh as much as all of leave-one-out, where the two differ in level
AT_ONCE = 4  # pictures segmented between two calls of `progress`
WORTH_KEEPING = 0.5  # IoU from which on a mask is corrected; a worse one is rather drawn anew
LOST = 0.05  # of the masks worth keeping, and of what all masks find together, that may be taken for wrong at most
LEAST_KEPT = 5  # masks worth keeping, of which a spread is known
_NEAREST = 0.005  # to 0 and 1 that a figure counts as, so that its logit is bounded
_STEPS = 200


@dataclass(frozen=True)
class Calibration:
    """A rising curve from raw figures to expected IoU; as it is made without arguments, it changes nothing.

    Attributes:
        offset: added to the logit.
        slope: the logit's factor, at least `LEAST_SLOPE`.
    """

    offset: float = 0.0
    slope: float = 1.0

    def __call__(self, raw: float) -> float:
        """The IoU to expect where the raw figure is `raw`, both 0 to 1."""
        if self == Calibration():
            return raw
        return float(_share(self.offset + self.slope * _logit([raw]))[0])


@dataclass(frozen=True)
class Absence:
    """When a target is taken not to be on a picture; as it is made without arguments, never.

    Attributes:
        below: the raw figure, 0 to 1, below which nothing is shown.
        score: the IoU to expect of that, 0 to 1: how often the target is really not there.
    """

    below: float = 0.0
    score: float = 0.0

    def hides(self, raw: float) -> bool:
        """Whether nothing is to be shown where the raw figure is `raw`, 0 to 1."""
        return raw < self.below


def expected_iou(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """IoU to expect if every pixel's probability is right: expected intersection over expected union.

    Args:
        probability: `[H, W]`, 0 to 1.
        mask: `[H, W]` bool, what is predicted.

    Returns:
        0 to 1, finite. For an empty mask, how sure it is that nothing is there.
    """
    inside = float(probability[mask].sum(dtype=np.float64))
    if not mask.any():
        return float(np.clip(1.0 - probability.max(initial=0.0), 0.0, 1.0))
    outside = float(probability.sum(dtype=np.float64)) - inside
    return float(np.clip(inside / (int(mask.sum()) + max(outside, 0.0)), 0.0, 1.0))


def rehearse(
    examples: Sequence[Example],
    segmenter: Segmenter,
    shots: int,
    worth: Sequence[float | None],
    threshold: float,
    progress: Progress | None = None,
    nearer: bool = False,
) -> list[tuple[float, float]]:
    """Predict each example by the others as the service would: what a calibration is fitted to.

    Args:
        examples: at least two, of one target.
        segmenter: what to segment with.
        shots: how many of the others are used at most, chosen as `model.retrieval` chooses.
        worth: the examples' measured scores, for the choice.
        threshold: of a probability, from which on a pixel is the target's.
        progress: called with (examples done, examples in all); what it raises ends the rehearsal.
        nearer: whether small objects get a nearer look, as `model.zoom` decides.

    Returns:
        (raw figure, true IoU) of each example on which something was found; both 0 to 1.

    Raises:
        EvaluationError: if there are fewer than two examples.
    """
    if len(examples) < 2:
        raise EvaluationError(f"leave-one-out needs at least two examples, not {len(examples)}")
    described = np.stack([segmenter.describe(example.image) for example in examples])
    asked = [
        _Asked(example.image, described[place], [other for other in range(len(examples)) if other != place])
        for place, example in enumerate(examples)
    ]
    made = _predicted(asked, examples, described, segmenter, shots, worth, progress, nearer)
    found = []
    for example, likely in zip(examples, made, strict=True):
        inside = likely.values >= threshold
        if inside.any():
            true = iou(likely.mask(threshold), example.mask)
            found.append((expected_iou(likely.values, inside), true))
    return found


def rehearse_absent(
    pictures: Sequence[Picture],
    examples: Sequence[Example],
    segmenter: Segmenter,
    shots: int,
    worth: Sequence[float | None],
    threshold: float,
    progress: Progress | None = None,
    nearer: bool = False,
) -> list[float]:
    """Predict pictures that lack the target as the service would: the other half of what `absence` is found by.

    Args:
        pictures: on which the target is known not to be.
        examples: at least one, of the target.
        segmenter: as in `rehearse`, like all that follow.
        shots: likewise.
        worth: likewise.
        threshold: likewise.
        progress: called with (pictures done, pictures in all); what it raises ends the rehearsal.
        nearer: as in `rehearse`.

    Returns:
        The raw figure, 0 to 1, of each picture on which something was found all the same.
    """
    described = np.stack([segmenter.describe(example.image) for example in examples])
    every = list(range(len(examples)))
    asked = [_Asked(picture, segmenter.describe(picture), every) for picture in pictures]
    made = _predicted(asked, examples, described, segmenter, shots, worth, progress, nearer)
    found = []
    for likely in made:
        inside = likely.values >= threshold
        if inside.any():
            found.append(expected_iou(likely.values, inside))
    return found


@dataclass(frozen=True, eq=False)
class _Asked:
    """A picture, its descriptor, and the places of the examples that may be used for it."""

    picture: Picture
    described: NDArray[np.float32]
    allowed: Sequence[int]


def _predicted(
    asked: Sequence[_Asked],
    examples: Sequence[Example],
    described: NDArray[np.float32],
    segmenter: Segmenter,
    shots: int,
    worth: Sequence[float | None],
    progress: Progress | None,
    nearer: bool,
) -> Iterator[ProbabilityMap]:
    """One map a picture, a few pictures at a time."""
    for start in range(0, len(asked), AT_ONCE):
        part = asked[start : start + AT_ONCE]
        queries = []
        for one in part:
            known = [worth[place] for place in one.allowed]
            picked = retrieval.choose(one.described, described[one.allowed], known, shots)
            context = Context(tuple(examples[one.allowed[place]] for place in picked))
            queries.append(Query(one.picture, context))
        yield from zoom.maps(segmenter, queries, nearer)
        if progress:
            progress(start + len(part), len(asked))


def calibrate(raw: Sequence[float], ious: Sequence[float], kept: Sequence[float] = ()) -> Calibration:
    """Fit a target's calibration.

    Args:
        raw: raw figures of predictions whose true masks are known, such as those of leave-one-out.
        ious: their true IoUs, 0 to 1, as many.
        kept: the newest kept IoUs of the target. They have no raw figures and set the level only: annotators keep
            more, or less, than two masks of the same thing agree.

    Returns:
        What fits; where there is nothing to fit to, the calibration that changes nothing.

    Raises:
        ValueError: if `raw` and `ious` differ in number.
    """
    if len(raw) != len(ious):
        raise ValueError(f"{len(raw)} raw figures, but {len(ious)} IoUs")
    if not raw:
        return Calibration()
    seen, true = _logit(raw), np.asarray(ious, dtype=np.float64)
    offset, slope = _fitted(seen, true)
    if kept:
        weight = len(kept) / (len(kept) + LIVE_PRIOR)
        offset += weight * float(_logit([np.mean(kept)])[0] - _logit([true.mean()])[0])
    return Calibration(offset, slope)


def absence(seen: Sequence[tuple[float, float]], absent: Sequence[float], odds: float) -> Absence:
    """When it is safer to show nothing: masks worth keeping stay, and what is found where nothing is goes.

    The figure lies below that of every mask worth keeping, and so low that no more than `LOST` of such masks to come lie
    below it, with as much confidence, if logits of their figures are normal (a tolerance bound: few masks bring a low
    one). Poor masks are something, too: of the IoUs of all together no more than `LOST` goes. Whatever that hides of
    what was found where nothing is must be more than the masks lost can be: more often, and so clearly that a share of
    `LOST` would do as much by chance in one of twenty cases at most.

    Args:
        seen: (raw figure, true IoU) of predictions on pictures that hold the target, such as `rehearse` gives.
        absent: raw figures of predictions on pictures that lack it, as `rehearse_absent` gives.
        odds: how many pictures without the target on which something is found there are for each picture with it.

    Returns:
        The rule of the target; the one that hides nothing where there is too little to go by, or it brings nothing.
    """
    kept = [raw for raw, true in seen if true >= WORTH_KEEPING]
    if len(kept) < LEAST_KEPT or not absent:
        return Absence()
    logits = _logit(kept)
    bound = float(logits.mean()) - _margin(len(kept)) * float(logits.std(ddof=1))
    below = min(*kept, _spent(seen), float(_share(np.asarray(bound))))
    hidden = sum(raw < below for raw in absent)
    if odds * hidden / len(absent) <= LOST or _by_chance(hidden, len(absent)) >= LOST:
        return Absence()
    right = odds * (hidden + 0.5) / (len(absent) + 1)
    wrong = (sum(raw < below for raw, _ in seen) + 0.5) / (len(seen) + 1)
    return Absence(below, right / (right + wrong))


def _spent(seen: Sequence[tuple[float, float]]) -> float:
    """The raw figure below which no more than `LOST` of all IoU lies."""
    left = LOST * sum(true for _, true in seen)
    for raw, true in sorted(seen):
        left -= true
        if left < 0:
            return raw
    return 1.0


def _margin(count: int) -> float:
    """Deviations below the mean of `count` normal figures, at least 5, below which at most `LOST` of all to come lie.

    It is wrong in `LOST` of all cases: the one-sided tolerance bound, by Natrella's approximation, to 2 %.
    """
    z2 = NormalDist().inv_cdf(1 - LOST) ** 2
    first = 1 - z2 / (2 * (count - 1))
    return (math.sqrt(z2) + math.sqrt(z2 - first * (z2 - z2 / count))) / first


def _by_chance(hits: int, tries: int) -> float:
    """How probable so many hits, or more, are where each try is one with `LOST`."""
    return sum(math.comb(tries, n) * LOST**n * (1 - LOST) ** (tries - n) for n in range(hits, tries + 1))


def _fitted(seen: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[float, float]:
    """Offset and slope of least cross-entropy, held to 0 and 1 by `PRIOR`."""
    columns = np.stack([np.ones_like(seen), seen])
    offset, slope = _descended(columns, true, np.zeros_like(seen), np.array([0.0, 1.0]))
    if slope < LEAST_SLOPE:
        (offset,) = _descended(columns[:1], true, LEAST_SLOPE * seen, np.zeros(1))
    return float(offset), max(float(slope), LEAST_SLOPE)


def _descended(
    columns: NDArray[np.float64],
    true: NDArray[np.float64],
    given: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The factors of `columns` `[K, N]` whose sum, with what is given, has the least loss.

    The loss is convex. Its greatest curvature stands for the one at hand, so that no step goes too far.
    """
    inverse = np.linalg.inv(columns @ columns.T / 4 + PRIOR * np.eye(len(prior)))
    found = prior
    for _ in range(_STEPS):
        expected = _share(found @ columns + given)
        found = found - inverse @ (columns @ (expected - true) + PRIOR * (found - prior))
    return found


def _logit(values: Sequence[float] | Sequence[np.floating]) -> NDArray[np.float64]:
    bounded = np.clip(np.asarray(values, dtype=np.float64), _NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(bounded / (1 - bounded)))


def _share(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logits)))
