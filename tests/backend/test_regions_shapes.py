"""Pixels to components, outlines and back, against scikit-image and counting by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from skimage import measure

from backend.regions.components import Runs, components, numbered, runs_of, without_specks
from backend.regions.filling import direction, fill_ellipse, fill_polygon, fill_rectangle
from backend.regions.outlines import MAX_HOLES, MAX_POINTS, outline

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24))
quick = settings(max_examples=60, deadline=None)

label: Callable[..., Any] = measure.label
points_in_poly: Callable[..., Any] = measure.points_in_poly


def centres(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = np.mgrid[:height, :width]
    return columns + 0.5, rows + 0.5


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def painted(shape: tuple[int, ...], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=np.bool_)
    fill_polygon(mask, points)
    return mask


def whole(runs: Runs) -> NDArray[np.bool_]:
    return runs.mask((0, 0, runs.height, runs.width))


@quick
@given(masks)
def test_runs_paint_the_mask_they_were_read_from(mask: NDArray[np.bool_]) -> None:
    runs = runs_of(mask)
    assert np.array_equal(whole(runs), mask)
    assert runs.area == mask.sum()
    assert (runs.starts // runs.width == (runs.ends - 1) // runs.width).all()


@quick
@given(masks)
def test_components_are_those_of_scikit_image(mask: NDArray[np.bool_]) -> None:
    labels = label(mask, connectivity=2)
    parts = components(runs_of(mask), mask.size)
    assert len(parts) == labels.max()
    assert [part.area for part in parts] == sorted((part.area for part in parts), reverse=True)
    for part in parts:
        pixels = whole(part)
        number = labels[pixels][0]
        assert np.array_equal(pixels, labels == number)


@quick
@given(masks, st.integers(0, 9))
def test_specks_go_and_the_rest_stays(mask: NDArray[np.bool_], smallest: int) -> None:
    labels = label(mask, connectivity=2)
    large = np.bincount(labels.reshape(-1)) >= smallest
    assert np.array_equal(whole(without_specks(runs_of(mask), smallest)), mask & large[labels])


def test_a_spiral_is_one_component() -> None:
    """Neighbouring rows of a spiral belong together only round its far ends, the worst case for joining runs."""
    mask = np.zeros((101, 101), dtype=np.bool_)
    for ring in range(0, 50, 2):
        mask[ring, max(ring - 2, 0) : 101 - ring] = True
        mask[ring : 101 - ring, 100 - ring] = True
        mask[100 - ring, ring : 101 - ring] = True
        mask[ring + 2 : 101 - ring, ring] = True
    (part,) = components(runs_of(mask), 9)
    assert part.area == mask.sum()


def test_only_as_many_components_as_wanted_are_given() -> None:
    mask = np.zeros((9, 9), dtype=np.bool_)
    mask[::2, ::2] = True
    mask[0, :2] = True
    assert [part.area for part in components(runs_of(mask), 3)] == [3, 1, 1]
    assert components(runs_of(~mask & mask), 3) == []


def test_the_mean_over_runs_is_the_mean_over_their_pixels() -> None:
    rng = np.random.default_rng(0)
    mask, values = rng.random((20, 30)) < 0.4, rng.random((20, 30)).astype(np.float32)
    assert runs_of(mask).mean(values) == pytest.approx(values[mask].mean(), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (5, 6), (4, 15), (40, 90)])
def test_the_mean_takes_values_of_another_resolution(shape: tuple[int, int]) -> None:
    """The sizes divide each other, so the values can be repeated, or their own mean taken, by hand."""
    rng = np.random.default_rng(1)
    mask, values = rng.random((20, 30)) < 0.4, rng.random(shape).astype(np.float32)
    if shape[0] > 20:
        across = values.reshape(40, 30, 3).mean(axis=2)
        wanted = across[1::2][
            mask
        ].mean()  # of two rows of values, the one in the middle of the pixel or below it
    else:
        wanted = values.repeat(20 // shape[0], axis=0).repeat(30 // shape[1], axis=1)[mask].mean()
    assert runs_of(mask).mean(values) == pytest.approx(wanted, rel=1e-5)


@quick
@given(arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)))
def test_numbered_objects_are_found_again_as_runs(labels: NDArray[np.int32]) -> None:
    parts = numbered(labels, 9)
    areas = np.bincount(labels.ravel())[1:]
    assert [part.area for part in parts] == sorted(areas[areas > 0].tolist(), reverse=True)
    found = np.zeros_like(labels)
    for part in parts:
        pixels = whole(part)
        (number,) = set(labels[pixels].tolist())
        found[pixels] = number
    assert np.array_equal(found, labels)
    assert len(numbered(labels, 2)) == min(2, len(parts))


@quick
@given(masks)
def test_an_outline_covers_exactly_a_small_component_with_its_holes(mask: NDArray[np.bool_]) -> None:
    for part in components(runs_of(mask), 3):
        pixels = whole(part)
        holes = label(~np.pad(pixels, 1), connectivity=1).max() - 1
        points = outline(pixels, smallest_hole=1)
        assert 3 <= len(points) <= MAX_POINTS
        if pixels.sum() < 40 and holes <= MAX_HOLES:
            assert np.array_equal(painted(pixels.shape, points), pixels)


def test_a_rectangle_has_four_corners() -> None:
    mask = np.zeros((50, 60), dtype=np.bool_)
    mask[10:40, 20:55] = True
    assert sorted(map(tuple, outline(mask, smallest_hole=1).tolist())) == [
        (20, 10),
        (20, 40),
        (55, 10),
        (55, 40),
    ]


def test_pixels_that_touch_by_a_corner_share_one_ring() -> None:
    for mask in (np.eye(4, dtype=np.bool_), np.eye(4, dtype=np.bool_)[::-1]):
        points = outline(mask, smallest_hole=1)
        assert np.array_equal(painted((4, 4), points), mask)


def test_large_holes_are_cut_out_and_small_ones_filled() -> None:
    x, y = centres(300, 400)
    disc = np.hypot(x - 200, y - 150) < 140
    large = (np.hypot(x - 150, y - 150) < 40) | (np.hypot(x - 260, y - 150) < 30)
    small = np.hypot(x - 200, y - 230) < 4
    result = painted((300, 400), outline(disc & ~large & ~small, smallest_hole=200))
    assert overlap(result, disc & ~large) > 0.99
    assert result[230, 200]
    assert not result[150, 150]
    assert not result[150, 260]


def test_a_sieve_keeps_its_largest_holes_within_the_bound_of_points() -> None:
    mask = np.ones((200, 200), dtype=np.bool_)
    for number in range(36):
        row, column, side = 10 + 30 * (number // 6), 10 + 30 * (number % 6), 4 + number // 2
        mask[row : row + side, column : column + side] = False
    points = outline(mask, smallest_hole=1)
    assert len(points) <= MAX_POINTS
    result = painted((200, 200), points)
    assert not result[mask == 0][-18 * 18 :].any()
    assert label(~result, connectivity=1).max() == MAX_HOLES


@quick
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(3, 8), st.just(2)),
        elements=st.floats(-3, 15).map(lambda number: round(number, 1) + 0.01),
    )
)
def test_a_pixel_is_inside_a_polygon_where_its_centre_is(points: NDArray[np.float64]) -> None:
    x, y = centres(12, 11)
    winding = np.zeros(x.shape, dtype=int)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = sorted([start, end], key=lambda point: float(point[1]))
        crossed = (y0 <= y) & (y1 > y)
        crossing = x0 + (y - y0) * ((x1 - x0) / (y1 - y0 or 1))
        winding += np.where(crossed & (crossing <= x), 1 if end[1] > start[1] else -1, 0)
    assert np.array_equal(painted((12, 11), points), winding != 0)


def test_a_seam_there_and_back_leaves_no_trace() -> None:
    """At 0.1, 0.7 and the like the two directions used to round differently where a seam meets a pixel's centre."""
    for far in np.linspace(3.1, 9.7, 67):
        there_and_back = np.array([[0.1, 0.1], [far, far], [far, far], [0.1, 0.1]])
        assert not painted((12, 12), there_and_back).any()


def test_a_simple_polygon_is_that_of_scikit_image() -> None:
    points = np.array([[3.2, 1.1], [17.7, 4.3], [14.1, 15.9], [9.0, 8.2], [2.3, 13.6]])
    x, y = centres(20, 20)
    expected = points_in_poly(np.stack([x, y], axis=-1).reshape(-1, 2), points).reshape(20, 20)
    assert np.array_equal(painted((20, 20), points), expected)
    assert np.array_equal(painted((20, 20), points[::-1]), expected)


def test_neighbouring_polygons_neither_overlap_nor_leave_a_gap() -> None:
    left = painted((10, 10), np.array([[0, 0], [4.5, 0], [4.5, 10], [0, 10]], dtype=float))
    right = painted((10, 10), np.array([[4.5, 0], [10, 0], [10, 10], [4.5, 10]], dtype=float))
    assert np.array_equal(left, ~right)


def test_a_polygon_of_very_many_edges_is_filled_in_parts() -> None:
    """A comb whose teeth cross every row has more crossings than are worked on at once."""
    teeth, height = 1500, 800
    x = np.repeat(np.arange(2 * teeth), 2)
    y = np.tile([0, height, height, 0], teeth)
    points = np.stack([x, y], axis=1).astype(float)
    mask = painted((height, 2 * teeth), points)
    assert (mask == (np.arange(2 * teeth) % 2 == 0)).all()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 360, -90, 450])
def test_right_angles_are_exact(degrees: int) -> None:
    assert set(direction(degrees)) <= {0.0, 1.0, -1.0}
    assert direction(degrees) == pytest.approx((np.cos(np.radians(degrees)), np.sin(np.radians(degrees))))


@pytest.mark.parametrize("degrees", [0, 17.5, 45, 90, 123, 180, 270, 359])
def test_turned_rectangles_and_ellipses_are_right_to_the_pixel(degrees: float) -> None:
    x, y = centres(120, 150)
    turn = np.radians(degrees)

    def own(left: float, top: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        dx, dy = x - left, y - top
        return dx * np.cos(turn) + dy * np.sin(turn), -dx * np.sin(turn) + dy * np.cos(turn)

    rectangle, ellipse = np.zeros((2, 120, 150), dtype=np.bool_)
    fill_rectangle(rectangle, 70.2, 61.3, 50.1, 20.4, degrees)
    u, v = own(70.2, 61.3)
    assert np.array_equal(rectangle, (u > 0) & (u < 50.1) & (v > 0) & (v < 20.4))
    fill_ellipse(ellipse, 70.2, 61.3, 50.1, 20.4, degrees)
    assert np.array_equal(ellipse, (u / 50.1) ** 2 + (v / 20.4) ** 2 < 1)


def test_an_ellipse_keeps_the_pixels_on_its_edge() -> None:
    mask = np.zeros((9, 9), dtype=np.bool_)
    fill_ellipse(mask, 4.5, 4.5, 3, 2, 0)
    assert mask[4].tolist() == [False] + [True] * 7 + [False]
    assert mask[:, 4].tolist() == [False] * 2 + [True] * 5 + [False] * 2


def test_shapes_without_area_or_outside_paint_nothing() -> None:
    mask = np.zeros((10, 10), dtype=np.bool_)
    fill_polygon(mask, np.array([[1.0, 1.0], [9.0, 1.0]]))
    fill_polygon(mask, np.array([[20.0, 1.0], [30.0, 1.0], [30.0, 9.0]]))
    fill_polygon(mask, np.array([[-20.0, 1.0], [-10.0, 1.0], [-10.0, 9.0]]))
    fill_polygon(mask, np.array([[1.0, -20.0], [9.0, -20.0], [9.0, -10.0]]))
    fill_rectangle(mask, 2, 2, 5, 0, 0)
    fill_ellipse(mask, 5, 5, 0, 3, 0)
    fill_ellipse(mask, 5, 50, 3, 3, 0)
    fill_ellipse(mask, 50, 5, 3, 3, 0)
    assert not mask.any()
