"""A mask to its objects: parted where they narrow, whole where they do not, and nothing lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from model import instances
from model.instances import split
from model.measures import components, count_objects


def discs(*places: tuple[float, float, float], side: int = 120) -> NDArray[np.bool_]:
    """Discs by row, column and radius."""
    rows, columns = np.mgrid[:side, :side]
    mask = np.zeros((side, side), dtype=np.bool_)
    for row, column, radius in places:
        mask |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return mask


def test_discs_that_touch_are_parted_at_their_waist() -> None:
    labels = split(discs((50, 40, 20), (50, 76, 20)), 10)
    assert labels.max() == 2
    wanted = np.where(np.arange(120) <= 58, 1, 2) * discs((50, 40, 20), (50, 76, 20))
    assert count_objects(labels, wanted.astype(np.int32)).matched == 2
    left, right = labels[50, 40], labels[50, 76]
    assert (labels[:, :56][labels[:, :56] > 0] == left).all()
    assert (labels[:, 61:][labels[:, 61:] > 0] == right).all()


def test_discs_that_lie_well_within_each_other_are_one() -> None:
    assert split(discs((50, 40, 20), (50, 58, 20)), 10).max() == 1
    assert split(discs((50, 40, 20), (50, 76, 20)), 10, neck=0).max() == 1


def test_a_chain_is_parted_into_all_of_its_members() -> None:
    assert split(discs((60, 20, 14), (60, 45, 14), (60, 70, 14), (60, 95, 14)), 10).max() == 4


def test_small_beside_large_is_parted_too() -> None:
    labels = split(discs((50, 45, 30), (50, 84, 10)), 10)
    assert labels.max() == 2
    assert np.count_nonzero(labels == labels[50, 86]) == pytest.approx(np.pi * 100, rel=0.15)


def test_what_would_be_too_small_stays_with_its_neighbour() -> None:
    mask = discs((50, 45, 30), (50, 84, 10))
    labels = split(mask, 400)
    assert labels.max() == 1
    assert np.array_equal(labels > 0, mask)


def test_specks_are_left_out_and_small_holes_filled_at_the_same_size() -> None:
    mask = discs((50, 50, 30), (100, 100, 3))
    mask[48:53, 48:53] = False
    labels = split(mask, 30)
    assert labels.max() == 1
    assert labels[50, 50] == 1
    assert not labels[100, 100]
    assert not split(mask, 20)[50, 50], "the hole has 25 pixels"
    assert split(mask, 20).max() == 2


def test_a_bay_at_the_border_is_no_hole() -> None:
    mask = np.ones((40, 40), np.bool_)
    mask[0:4, 10:14] = False
    assert np.array_equal(split(mask, 30) > 0, mask)


def test_a_large_mask_is_parted_at_a_reduced_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "WORKING_SIDE", 50)
    mask = discs((50, 40, 20), (50, 76, 20), side=119)
    labels = split(mask, 10)
    assert labels.max() == 2
    assert np.array_equal(labels > 0, mask)
    assert abs(np.count_nonzero(labels == 1) - np.count_nonzero(labels == 2)) < 0.1 * mask.sum()


def test_what_a_reduced_size_does_not_show_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "WORKING_SIDE", 10)
    line = np.zeros((60, 60), np.bool_)
    line[0] = True
    assert np.array_equal(split(line, 5) > 0, line)


@settings(max_examples=100, deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_nothing_is_lost_and_no_object_spans_two_components(mask: NDArray[np.bool_]) -> None:
    labels = split(mask, 0)
    assert np.array_equal(labels > 0, mask)
    assert sorted(set(labels.ravel().tolist()) - {0}) == list(range(1, labels.max() + 1))
    parts = components(mask)
    for number in range(1, labels.max() + 1):
        assert len(set(parts[labels == number].tolist())) == 1
