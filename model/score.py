"""What a prediction's score says: the IoU to expect of a map, set right by masks that are known; knows no service.

The raw figure orders a target's predictions well and is too sure of some targets, too shy of others. A calibration
keeps that order and brings the level to what was measured. How it was chosen is in `docs/log.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import retrieval
from model.evaluation import EvaluationError, Progress, iou
from model.example import Context, Example
from model.segmenter import Query, Segmenter

PRIOR = 1.0  # how firmly the fit holds to "the raw figure is right": about as much as four masks that say so
LEAST_SLOPE = 0.1  # a calibration never turns the order round, nor takes it away
LIVE_PRIOR = 8  # kept IoUs that weigh as much as all of leave-one-out, where the two differ in level
AT_ONCE = 4  # pictures segmented between two calls of `progress`
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
) -> list[tuple[float, float]]:
    """Predict each example by the others as the service would: what a calibration is fitted to.

    Args:
        examples: at least two, of one target.
        segmenter: what to segment with.
        shots: how many of the others are used at most, chosen as `model.retrieval` chooses.
        worth: the examples' measured scores, for the choice.
        threshold: of a probability, from which on a pixel is the target's.
        progress: called with (examples done, examples in all); what it raises ends the rehearsal.

    Returns:
        (raw figure, true IoU) of each example on which something was found; both 0 to 1.

    Raises:
        EvaluationError: if there are fewer than two examples.
    """
    if len(examples) < 2:
        raise EvaluationError(f"leave-one-out needs at least two examples, not {len(examples)}")
    described = np.stack([segmenter.describe(example.image) for example in examples])
    found = []
    for start in range(0, len(examples), AT_ONCE):
        part = range(start, min(start + AT_ONCE, len(examples)))
        queries = []
        for index in part:
            others = [other for other in range(len(examples)) if other != index]
            known = [worth[other] for other in others]
            picked = retrieval.choose(described[index], described[others], known, shots)
            context = Context(tuple(examples[others[place]] for place in picked))
            queries.append(Query(examples[index].image, context))
        for index, likely in zip(part, segmenter.maps(queries), strict=True):
            inside = likely.values >= threshold
            if inside.any():
                true = iou(likely.mask(threshold), examples[index].mask)
                found.append((expected_iou(likely.values, inside), true))
        if progress:
            progress(part.stop, len(examples))
    return found


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
