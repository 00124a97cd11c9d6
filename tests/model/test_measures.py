"""Boundary F and object F1 against counts made by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.measures import ObjectCounts, boundary_f, components, count_objects


def box(top: int, left: int, bottom: int, right: int, side: int = 100) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_equal_masks_have_all_of_their_boundary_in_common() -> None:
    assert boundary_f(box(20, 20, 60, 70), box(20, 20, 60, 70)) == 1


def test_a_boundary_within_the_tolerance_counts_and_beyond_it_does_not() -> None:
    """The diagonal is 141.4 pixels, so that a share of .02 is 2.8, and rounded up 3 pixels."""
    wanted = box(20, 0, 80, 100)
    assert boundary_f(box(23, 0, 77, 100), wanted, 0.02) == 1
    assert boundary_f(box(24, 0, 76, 100), wanted, 0.02) == 0


def test_precision_and_recall_are_weighed_alike() -> None:
    """A second thing that is not there doubles the boundary found: precision a half, recall 1."""
    wanted = box(10, 10, 30, 30)
    both = wanted | box(60, 60, 80, 80)
    assert boundary_f(both, wanted) == pytest.approx(2 * 0.5 / 1.5)
    assert boundary_f(wanted, both) == pytest.approx(2 * 0.5 / 1.5)


def test_masks_without_a_boundary() -> None:
    nothing, everything = np.zeros((9, 9), np.bool_), np.ones((9, 9), np.bool_)
    assert boundary_f(nothing, everything) == 1
    assert boundary_f(nothing, box(2, 2, 5, 5, 9)) == 0
    assert boundary_f(box(2, 2, 5, 5, 9), everything) == 0


def test_an_object_is_matched_by_more_than_half_of_the_union() -> None:
    wanted = components(box(0, 0, 10, 10) | box(50, 50, 60, 60))
    exactly_half = components(box(0, 0, 10, 5) | box(50, 50, 60, 60))
    assert count_objects(exactly_half, wanted) == ObjectCounts(1, 2, 2)
    more = components(box(0, 0, 10, 6) | box(50, 50, 60, 60) | box(80, 80, 82, 82))
    found = count_objects(more, wanted)
    assert found == ObjectCounts(2, 3, 2)
    assert found.f1 == pytest.approx(4 / 5)


def test_two_objects_in_one_match_none_or_the_larger() -> None:
    wanted = components(box(0, 0, 10, 10) | box(0, 11, 10, 21))
    assert count_objects(components(box(0, 0, 10, 21)), wanted) == ObjectCounts(0, 1, 2)


def test_counts_add_up() -> None:
    assert ObjectCounts(1, 2, 3) + ObjectCounts(1, 1, 1) == ObjectCounts(2, 3, 4)
    assert ObjectCounts().f1 == 1
    nothing = components(np.zeros((5, 5), np.bool_))
    assert count_objects(nothing, nothing) == ObjectCounts()


def test_pixels_that_touch_by_a_corner_are_one_object() -> None:
    assert components(np.eye(4, dtype=np.bool_)).max() == 1


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match="different shape"):
        boundary_f(np.ones((3, 4), np.bool_), np.ones((4, 3), np.bool_))
    with pytest.raises(ValueError, match="different shape"):
        count_objects(np.ones((3, 4), np.int32), np.ones((4, 3), np.int32))
