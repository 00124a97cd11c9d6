"""Scores: the IoU to expect of a map, and how it is set right by masks that are known."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model import score
from model.edges import ProbabilityMap
from model.evaluation import EvaluationError
from model.example import Example
from model.score import Calibration, calibrate, expected_iou
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter

SHARES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (np.zeros((3, 3)), 1.0),
        (np.full((3, 3), 0.3), 0.7),
        (np.ones((3, 3)), 1.0),
        (np.full((3, 3), 0.6), 0.6),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), 1.0),
        (np.array([[0.8, 0.2], [0.0, 0.0]]), 0.8 / 1.2),
        (np.zeros((0, 0)), 1.0),
    ],
    ids=["nothing", "nothing sure", "all", "all unsure", "sharp", "soft", "no pixels"],
)
def test_the_raw_score_is_the_iou_to_expect(probability: NDArray[np.float64], expected: float) -> None:
    likely = probability.astype(np.float32)
    assert expected_iou(likely, likely >= 0.5) == pytest.approx(expected, abs=1e-6)


def test_the_raw_score_is_what_is_met_on_average() -> None:
    """Drawn from the probabilities themselves, masks have that IoU with ours."""
    random = np.random.default_rng(0)
    probability = random.random((60, 60)).astype(np.float32)
    mask = probability >= 0.5
    met = []
    for _ in range(40):
        truth = random.random((60, 60)) < probability
        met.append((truth & mask).sum() / (truth | mask).sum())
    assert expected_iou(probability, mask) == pytest.approx(np.mean(met), abs=0.01)


# -- calibration -------------------------------------------------------------------------------------------------------
def test_where_nothing_was_measured_the_raw_score_stands() -> None:
    assert calibrate([], []) == calibrate([], [], kept=[1.0, 0.9]) == Calibration()
    assert [Calibration()(raw) for raw in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]


def test_a_network_that_is_too_sure_of_a_target_is_brought_down_to_what_was_measured() -> None:
    raw = [0.95, 0.9, 0.97, 0.92] * 8
    calibration = calibrate(raw, [0.5, 0.4, 0.6, 0.5] * 8)
    assert np.mean([calibration(one) for one in raw]) == pytest.approx(0.5, abs=0.05)


def test_one_measured_mask_moves_the_score_a_little_and_many_move_it_to_themselves() -> None:
    moved = [0.9 - calibrate([0.9] * count, [0.3] * count)(0.9) for count in (1, 4, 64)]
    assert 0 < moved[0] < moved[1] < moved[2]
    assert moved[0] < 0.3
    assert moved[2] == pytest.approx(0.6, abs=0.05)


def test_a_straight_relation_is_found() -> None:
    raw = np.linspace(0.05, 0.95, 50)
    calibration = calibrate(raw.tolist(), (raw / 2).tolist())
    assert [calibration(one) for one in (0.2, 0.5, 0.8)] == pytest.approx([0.1, 0.25, 0.4], abs=0.06)


def test_what_annotators_keep_lately_sets_the_level() -> None:
    """Leave-one-out says 0.6, annotators keep all: the more of them, the nearer to what they keep."""
    raw, ious = [0.7] * 20, [0.6] * 20
    levels = [calibrate(raw, ious, [1.0] * count)(0.7) for count in (0, 2, 8, 100)]
    assert levels == sorted(levels)
    assert levels[0] == pytest.approx(0.6, abs=0.05)
    assert levels[-1] > 0.95
    assert calibrate(raw, ious, [0.1] * 20)(0.7) < 0.4


@given(
    pairs=st.lists(st.tuples(SHARES, SHARES), max_size=30),
    kept=st.lists(SHARES, max_size=20),
    asked=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=10, unique_by=lambda one: round(one, 3)),
)
def test_any_calibration_keeps_the_order_and_gives_shares(
    pairs: list[tuple[float, float]], kept: list[float], asked: list[float]
) -> None:
    calibration = calibrate([raw for raw, _ in pairs], [true for _, true in pairs], kept)
    made = [calibration(raw) for raw in sorted(asked)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert 0 <= made[0] <= made[-1] <= 1


def test_what_does_not_pair_up_is_refused() -> None:
    with pytest.raises(ValueError, match="2 raw figures, but 1 IoUs"):
        calibrate([0.5, 0.6], [0.5])


# -- rehearsal ---------------------------------------------------------------------------------------------------------
class Copier(Segmenter):
    """Finds on every picture the first example's mask, with 0.8; keeps what was asked."""

    def __init__(self, model: SegGPT) -> None:
        super().__init__(model, name="copier")
        self.asked: list[Query] = []

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        self.asked += queries
        masks = [query.context.examples[0].mask for query in queries]
        return [ProbabilityMap(np.float32(0.8) * mask, mask.shape[0], mask.shape[1]) for mask in masks]


def columns(number: int, low: int, high: int) -> Example:
    mask = np.zeros((32, 32), dtype=np.bool_)
    mask[:, low:high] = True
    return Example(f"columns/{number}", np.full((32, 32, 3), number, dtype=np.uint8), mask)


def test_each_example_is_predicted_by_the_others_and_compared(small_model: SegGPT) -> None:
    copier = Copier(small_model)
    pool = [columns(0, 0, 16), columns(1, 0, 8), columns(2, 0, 16)]
    calls = []
    seen = score.rehearse(pool, copier, 2, [None] * 3, 0.5, lambda done, total: calls.append((done, total)))
    assert np.array(seen) == pytest.approx(np.array([[0.8, 0.5], [0.8, 0.5], [0.8, 1.0]]))
    assert [query.context.keys for query in copier.asked] == [
        ("columns/1", "columns/2"),
        ("columns/0", "columns/2"),
        ("columns/0", "columns/1"),
    ]
    assert calls == [(3, 3)]


def test_measured_worth_has_its_say_in_a_rehearsal(small_model: SegGPT) -> None:
    """All pictures are alike; the last example is by far the best, so it is who predicts the others."""
    copier = Copier(small_model)
    pool = [columns(number, 0, 16) for number in (100, 100, 100, 100)]
    score.rehearse(pool, copier, 1, [0.1, 0.1, 0.2, 0.9], 0.5)
    assert [query.context.examples[0] for query in copier.asked] == [pool[3]] * 3 + [pool[2]]


def test_where_nothing_was_found_nothing_is_learned_about_masks(small_model: SegGPT) -> None:
    pool = [columns(0, 0, 0), columns(1, 0, 8)]
    (seen,) = score.rehearse(pool, Copier(small_model), 1, [None] * 2, 0.5)
    assert seen == pytest.approx((0.8, 0.0))


def test_one_example_alone_cannot_be_left_out(small_model: SegGPT) -> None:
    with pytest.raises(EvaluationError, match="at least two"):
        score.rehearse([columns(0, 0, 8)], Copier(small_model), 1, [None], 0.5)
