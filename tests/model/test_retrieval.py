"""Choosing examples: similar, good and unlike one another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model import retrieval


def at(*degrees: float) -> NDArray[np.float32]:
    turns = np.radians(degrees)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


QUERY = at(0)[0]


def test_a_pool_that_is_small_enough_is_taken_whole_and_in_order() -> None:
    assert retrieval.choose(QUERY, at(80, 10, 40), [None] * 3, 3) == [0, 1, 2]
    assert retrieval.choose(QUERY, at(80, 10, 40), [None] * 3, 8) == [0, 1, 2]
    assert retrieval.choose(QUERY, np.zeros((0, 2), dtype=np.float32), [], 4) == []


def test_the_most_similar_example_comes_first() -> None:
    assert retrieval.choose(QUERY, at(80, 10, 40), [None] * 3, 1) == [1]


def test_a_second_look_at_the_same_thing_gives_way_to_another_view() -> None:
    pool = at(5, 5, -6, -60, -90, 100)
    assert retrieval.choose(QUERY, pool, [None] * 6, 2) == [0, 2]


def test_a_measured_score_outweighs_a_little_similarity() -> None:
    pool = at(10, 12, 170)
    assert retrieval.choose(QUERY, pool, [0.2, 0.9, None], 1) == [1]
    assert retrieval.choose(QUERY, pool, [0.9, 0.2, None], 1) == [0]


def test_an_unmeasured_example_counts_as_an_average_one() -> None:
    pool = at(10, 10, 10)
    assert retrieval.choose(QUERY, pool, [0.2, None, 0.4], 1) == [2]
    assert retrieval.choose(QUERY, pool, [0.2, None, 0.2], 1) == [0]


def test_a_score_counts_by_how_it_stands_in_the_pool_not_by_its_size() -> None:
    """The second is 1.2 deviations better than the first, and hardly less similar: for small scores as for large."""
    pool = at(10, 14, 60, 80)
    for scale in (1.0, 0.01):
        scores = [scale * score for score in (0.3, 0.6, 0.2, 0.1)]
        assert retrieval.choose(QUERY, pool, scores, 1) == [1]


def test_where_a_wrong_mask_lies_on_the_most_similar_picture_another_is_taken() -> None:
    assert retrieval.choose(QUERY, at(0, 20, 25, 30, 35), [0.05, 0.6, 0.62, 0.58, 0.6], 1) == [1]


def test_what_is_far_from_the_query_is_not_shortlisted_for_its_score() -> None:
    pool = at(*range(1, retrieval.SHORTLIST + 1), 45)
    scores = [0.0] * retrieval.SHORTLIST + [1.0]
    assert retrieval.SHORTLIST not in retrieval.choose(QUERY, pool, scores, 1)


def test_descriptions_that_are_empty_or_no_numbers_are_chosen_last() -> None:
    pool = np.array([[0, 0], [np.nan, 1], [np.inf, 0], [0.9, 0.1]], dtype=np.float32)
    assert retrieval.choose(QUERY, pool, [None] * 4, 1) == [3]
    assert len(retrieval.choose(np.zeros(2, dtype=np.float32), pool, [None] * 4, 3)) == 3


def test_shapes_that_do_not_fit_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="2 descriptors, but 1 scores"):
        retrieval.choose(QUERY, at(1, 2), [None], 1)
    with pytest.raises(ValueError, match="do not fit"):
        retrieval.choose(np.ones(3, dtype=np.float32), at(1, 2), [None, None], 1)


@given(
    degrees=st.lists(st.integers(0, 359), min_size=1, max_size=20),
    k=st.integers(0, 20),
    seed=st.integers(0, 5),
)
def test_any_choice_is_of_different_examples_and_comes_again(degrees: list[int], k: int, seed: int) -> None:
    pool = at(*degrees)
    scores = [
        None if value < 0.3 else value for value in np.random.default_rng(seed).random(len(pool)).tolist()
    ]
    chosen = retrieval.choose(QUERY, pool, scores, k)
    assert len(set(chosen)) == len(chosen) == min(k, len(pool))
    assert set(chosen) <= set(range(len(pool)))
    assert chosen == retrieval.choose(QUERY, pool * 4, scores, k)


# -- what is like nothing approved yet ---------------------------------------------------------------------------------
def test_a_query_farther_off_than_the_most_solitary_example_is_unfamiliar() -> None:
    """Neighbours stand 5 degrees apart, but the last one 20."""
    pool = at(0, 5, 10, 15, 20, 25, 30, 50)
    assert retrieval.is_familiar(at(69)[0], pool)
    assert not retrieval.is_familiar(at(71)[0], pool)
    assert not retrieval.is_familiar(at(180)[0], pool)


def test_a_pool_too_small_to_know_finds_everything_familiar() -> None:
    pool = at(*range(retrieval.LEAST_KNOWN - 1))
    assert retrieval.is_familiar(at(180)[0], pool)
    assert retrieval.is_familiar(at(180)[0], np.zeros((0, 2), dtype=np.float32))


def test_of_pictures_of_one_kind_few_are_told_to_be_unlike_the_others() -> None:
    """Of seventeen, each left out in turn, none but the most solitary can be: once in seventeen at most."""
    for seed in range(20):
        rows = np.random.default_rng(seed).normal(size=(17, 30)).astype(np.float32)
        strange = [
            not retrieval.is_familiar(rows[index], np.delete(rows, index, axis=0)) for index in range(17)
        ]
        assert sum(strange) <= 1


def test_a_copy_of_what_is_approved_is_never_unfamiliar() -> None:
    """Nine equal descriptors and an equal query: rounding told a third of such queries to be unlike the pool."""
    for seed in range(60):
        row = np.random.default_rng(seed).normal(size=64).astype(np.float32)
        assert retrieval.is_familiar(row, np.stack([row] * 9))
