"""Regions that cannot be meant are refused with the region's error, and cost neither memory nor a crash."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import regions
from backend.errors import RegionError
from backend.label_config import Kind, Target

HUGE = 10**9


def repr_short(value: object) -> str:
    return repr(value)[:20]


def target(kind: Kind) -> Target:
    return Target("tag", "image", "cell", kind, "image")


def region(kind: Kind, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "from_name": "tag",
        "to_name": "image",
        "type": f"{kind}labels",
        "original_width": 30,
        "original_height": 20,
        "value": {f"{kind}labels": ["cell"], **value},
        **more,
    }


BOX = {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0}


@pytest.mark.parametrize("name", ["original_width", "original_height"])
@pytest.mark.parametrize(
    "side",
    [None, 0, -5, 1.5, "30", True, float("nan"), float("inf"), HUGE, 10**400, [30]],
    ids=repr_short,
)
def test_a_size_that_cannot_be_is_refused_before_memory_is_taken(name: str, side: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RegionError, match="image"):
            regions.decode([region("rectangle", BOX, **{name: side})], target("rectangle"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["original_width", "original_height"])
def test_an_image_of_too_many_pixels_is_refused(name: str) -> None:
    item = region("rectangle", BOX, **{name: regions.MAX_PIXELS})
    with pytest.raises(RegionError, match="is larger than"):
        regions.decode([item], target("rectangle"))


@pytest.mark.parametrize("name", ["original_width", "original_height"])
def test_a_missing_size_is_refused(name: str) -> None:
    item = region("rectangle", BOX)
    del item[name]
    with pytest.raises(RegionError, match=name):
        regions.original_size([item], target("rectangle"))


@pytest.mark.parametrize(
    "number", ["1", True, [1], {}, float("nan"), float("inf"), 1e300, -1e300, 10**400], ids=repr_short
)
@pytest.mark.parametrize("name", ["x", "y", "width", "height", "rotation"])
def test_a_coordinate_that_is_no_sane_number_is_refused(name: str, number: Any) -> None:
    if name == "rotation" and number == {}:
        number = "turned"
    with pytest.raises(RegionError, match="coordinate"):
        regions.decode([region("rectangle", {**BOX, name: number})], target("rectangle"))


@pytest.mark.parametrize(
    "points",
    [
        [[1, 2], [3, 4], [5]],
        [[1, 2], [3, 4], [5, 6, 7]],
        [1, 2, 3],
        [None, None, None],
        [["a", "b"]] * 3,
        "points",
        7,
        {"x": 1},
        [[0, 0], [1, float("nan")], [1, 1]],
    ],
)
def test_points_that_are_no_pairs_of_numbers_are_refused(points: Any) -> None:
    with pytest.raises(RegionError):
        regions.decode([region("polygon", {"points": points})], target("polygon"))


@pytest.mark.parametrize("rle", ["text", 7, {"0": 1}, [256], [1.5] * 20, True])
def test_strokes_that_are_no_stream_are_refused(rle: Any) -> None:
    with pytest.raises(RegionError):
        regions.decode([region("brush", {"rle": rle})], target("brush"))


percent = st.floats(-1e6, 1e6) | st.integers(-200, 200)


@settings(max_examples=100, deadline=None)
@given(percent, percent, percent, percent, percent)
def test_any_box_or_ellipse_in_numbers_is_painted(
    x: float, y: float, a: float, b: float, turn: float
) -> None:
    box = {"x": x, "y": y, "width": a, "height": b, "rotation": turn}
    ellipse = {"x": x, "y": y, "radiusX": a, "radiusY": b, "rotation": turn}
    shapes: list[tuple[Kind, dict[str, Any]]] = [("rectangle", box), ("ellipse", ellipse)]
    for kind, value in shapes:
        mask = regions.decode([region(kind, value)], target(kind))
        assert mask is None or mask.shape == (20, 30)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(percent, percent), min_size=3, max_size=12))
def test_any_polygon_in_numbers_is_painted(points: list[tuple[float, float]]) -> None:
    mask = regions.decode([region("polygon", {"points": points})], target("polygon"))
    assert mask is None or mask.shape == (20, 30)


def test_an_image_of_the_largest_size_costs_a_byte_a_pixel() -> None:
    side = 4000
    tracemalloc.start()
    try:
        item = region("rectangle", BOX, original_width=side, original_height=side)
        mask = regions.decode([item], target("rectangle"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert mask is not None
    assert np.count_nonzero(mask) == side * side // 4
    assert peak < 4 * side * side
