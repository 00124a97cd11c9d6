"""Scores: the IoU to expect of a map, and how it is set right by masks that are known."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model import score
from model.edges import ProbabilityMap
from model.evaluation import EvaluationError
from model.example import Example
from model.score import LOST, Absence, Calibration, absence, calibrate, expected_iou
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


# -- is it there at all? -----------------------------------------------------------------------------------------------
FINDS = [(0.9, 0.8), (0.85, 0.9), (0.92, 0.6), (0.88, 0.7), (0.9, 0.95), (0.86, 0.8)]
FALSE = [0.3, 0.4, 0.5, 0.35, 0.45, 0.2, 0.6, 0.89]


def test_what_lies_below_every_mask_worth_keeping_is_taken_for_wrong() -> None:
    rule = absence(FINDS, FALSE, 1.0)
    assert 0.6 < rule.below <= 0.85
    assert [rule.hides(raw) for raw in (0.3, 0.6, 0.85, 0.95)] == [True, True, False, False]
    assert 0.8 < rule.score < 1


@pytest.mark.parametrize(
    ("seen", "absent", "odds"),
    [
        ([], FALSE, 1.0),
        (FINDS[:4], FALSE, 1.0),
        ([(raw, 0.49) for raw, _ in FINDS], FALSE, 1.0),
        (FINDS, [], 0.0),
        (FINDS, [0.3], 1.0),
        (FINDS, [0.9, 0.87, 0.95, 0.92, 0.3], 1.0),
        (FINDS, FALSE, LOST / 2),
        ([*FINDS, (0.1, 0.9)], FALSE, 1.0),
        ([*FINDS, (0.2, 0.4)], FALSE, 1.0),
    ],
    ids=[
        "no masks",
        "too few masks",
        "none worth keeping",
        "nothing found without it",
        "one picture without it",
        "not told apart",
        "seldom without it",
        "a good mask with a low figure",
        "a poor one that is much of all",
    ],
)
def test_where_it_is_not_known_or_brings_nothing_all_is_shown(
    seen: list[tuple[float, float]], absent: list[float], odds: float
) -> None:
    assert absence(seen, absent, odds) == Absence()
    assert not Absence().hides(0.0)


def test_two_pictures_without_it_are_enough_where_both_are_told() -> None:
    assert absence(FINDS, [0.3, 0.4], 1.0) != Absence()


def test_few_or_scattered_figures_bring_a_lower_bound() -> None:
    close, wide = [0.9, 0.88, 0.92, 0.9, 0.91], [0.9, 0.7, 0.97, 0.85, 0.95]
    bounds = [
        absence([(raw, 1.0) for raw in raws], [0.01] * 20, 1.0).below for raws in (wide, wide * 4, close)
    ]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[1] - 0.05 <= 0.65
    assert bounds[2] > 0.8


@pytest.mark.parametrize("count", [5, 8, 40])
def test_with_confidence_no_more_of_the_masks_to_come_are_lost_than_is_allowed(count: int) -> None:
    random = np.random.default_rng(count)
    figures = 1 / (1 + np.exp(-random.normal(1.5, 1.0, (2000, count))))
    bounds = [absence([(raw, 1.0) for raw in row], [0.0] * 20, 1.0).below for row in figures.tolist()]
    allowed = 1 / (1 + np.exp(-NormalDist(1.5, 1.0).inv_cdf(LOST)))
    too_many = np.mean(np.array(bounds) > allowed)
    assert 0.01 < too_many <= LOST + 0.01, "two standard errors of 2000 draws"


def test_the_score_of_nothing_shown_is_how_often_that_is_right() -> None:
    poor = [(0.2, 0.05), (0.3, 0.1)]
    scores = [
        absence([*FINDS, *poor], FALSE, 0.1).score,
        absence([*FINDS, *poor], FALSE, 1.0).score,
        absence(FINDS, FALSE, 1.0).score,
        absence(FINDS, FALSE, 9.0).score,
    ]
    assert scores == sorted(scores)
    assert scores[0] < 0.3
    assert 0.97 < scores[3] < 1


@given(
    seen=st.lists(st.tuples(SHARES, SHARES), max_size=30),
    absent=st.lists(SHARES, max_size=30),
    odds=st.floats(0, 100),
)
def test_no_measured_mask_worth_keeping_is_hidden_and_of_all_no_more_than_is_allowed(
    seen: list[tuple[float, float]], absent: list[float], odds: float
) -> None:
    rule = absence(seen, absent, odds)
    assert not any(rule.hides(raw) for raw, true in seen if true >= score.WORTH_KEEPING)
    hidden = sum(true for raw, true in seen if rule.hides(raw))
    assert hidden <= LOST * sum(true for _, true in seen) + 1e-9
    assert 0 <= rule.below <= 1
    assert 0 <= rule.score <= 1


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


def test_pictures_without_the_target_are_predicted_by_the_whole_pool(small_model: SegGPT) -> None:
    copier = Copier(small_model)
    pool = [columns(number, 0, 16) for number in (100, 100, 100)]
    pictures = [np.full((32, 32, 3), number, dtype=np.uint8) for number in range(5)]
    calls = []
    figures = score.rehearse_absent(
        pictures, pool, copier, 2, [0.1, 0.9, 0.1], 0.5, lambda done, total: calls.append((done, total))
    )
    assert figures == pytest.approx([0.8] * 5)
    assert [query.context.examples[0] for query in copier.asked] == [pool[1]] * 5
    assert {len(query.context) for query in copier.asked} == {2}
    assert [int(query.image[0, 0, 0]) for query in copier.asked] == [0, 1, 2, 3, 4]
    assert calls == [(4, 5), (5, 5)]


def test_where_nothing_was_found_there_is_no_figure(small_model: SegGPT) -> None:
    blank = np.zeros((32, 32, 3), dtype=np.uint8)
    assert score.rehearse_absent([blank], [columns(0, 0, 0)], Copier(small_model), 1, [None], 0.5) == []
    assert score.rehearse_absent([], [columns(0, 0, 8)], Copier(small_model), 1, [None], 0.5) == []


def test_small_objects_are_rehearsed_with_the_nearer_look_that_they_are_predicted_with(
    small_model: SegGPT,
) -> None:
    def small(number: int) -> Example:
        mask = np.zeros((256, 256), dtype=np.bool_)
        mask[100:108, 100:108] = True
        return Example(f"small/{number}", np.full((256, 256, 3), number, dtype=np.uint8), mask)

    pool = [small(number) for number in range(9)]
    asked = []
    for nearer in (False, True):
        copier = Copier(small_model)
        score.rehearse(pool, copier, 8, [None] * 9, 0.5, nearer=nearer)
        score.rehearse_absent([pool[0].image], pool, copier, 8, [None] * 9, 0.5, nearer=nearer)
        asked.append(len(copier.asked))
    assert asked == [10, 20], "each picture's one tile that shows anything, too"
