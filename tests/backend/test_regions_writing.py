"""Masks to regions: complete, bounded, and covering what was predicted."""

import json
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from label_studio_sdk.label_interface.interface import LabelInterface
from numpy.typing import NDArray
from skimage import measure

from backend import regions
from backend.label_config import Kind, Target

label: Callable[..., Any] = measure.label
KINDS: tuple[Kind, ...] = get_args(Kind)


def target(kind: Kind, labels_control: str | None = None) -> Target:
    return Target("tag", "image", "cell", kind, "image", labels_control)


def read(result: list[dict[str, Any]], of: Target) -> NDArray[np.bool_]:
    mask = regions.decode(result, of)
    assert mask is not None
    return mask


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def blobs() -> NDArray[np.bool_]:
    """Three shapes of 20 x 30, 10 x 10 and 4 x 5 pixels on 100 x 120."""
    mask = np.zeros((100, 120), dtype=np.bool_)
    mask[10:30, 20:50] = True
    mask[50:60, 70:80] = True
    mask[80:84, 100:105] = True
    return mask


def coastline() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """2000 px wide, with two holes; and the same with 300 specks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:1500, :2000]
    shore = 700 + 3 * np.cumsum(rng.standard_normal(2000))
    land = y > shore
    for column, row, radius in ((500, 1200, 80), (1500, 1300, 60)):
        land &= np.hypot(x - column, y - row) >= radius
    specks = np.zeros_like(land)
    for column, row in zip(rng.integers(0, 1995, 300), rng.integers(0, 400, 300), strict=True):
        specks[row : row + 4, column : column + 5] = True
    return land, land | specks


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_is_complete_as_label_studio_wants_it(kind: Kind) -> None:
    for item in regions.encode(blobs(), target(kind), score=0.75):
        assert isinstance(item["id"], str)
        assert item["value"].pop(f"{kind}labels") == ["cell"]
        assert {key: item[key] for key in item if key not in ("id", "value")} == {
            "from_name": "tag",
            "to_name": "image",
            "type": f"{kind}labels",
            "origin": "prediction",
            "original_width": 120,
            "original_height": 100,
            "image_rotation": 0,
            "score": 0.75,
        }
        json.dumps(item, allow_nan=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sdk_takes_our_regions_for_a_valid_prediction(kind: Kind) -> None:
    interface: Any = LabelInterface(
        f'<View><Image name="image" value="$image"/><{kind.title()}Labels name="tag" toName="image">'
        f'<Label value="cell"/></{kind.title()}Labels></View>'
    )
    result = regions.encode(blobs(), target(kind), score=0.5)
    prediction = {"result": result, "score": 0.5, "model_version": "x"}
    assert interface.validate_prediction(prediction, return_errors=True) == []


@settings(max_examples=50, deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=25)))
def test_a_brush_mask_survives_the_round_trip(mask: NDArray[np.bool_]) -> None:
    for instances in (False, True):
        result = regions.encode(mask, target("brush"), score=1, instances=instances, min_area=0)
        decoded = regions.decode(result, target("brush"))
        assert np.array_equal(np.zeros_like(mask) if decoded is None else decoded, mask)


def test_a_brush_gives_one_region_or_with_instances_one_for_each_component() -> None:
    mask = blobs()
    assert len(regions.encode(mask, target("brush"), score=0.5)) == 1
    parts = regions.encode(mask, target("brush"), score=0.5, instances=True)
    assert [read([part], target("brush")).sum() for part in parts] == [600, 100, 20]


@pytest.mark.parametrize("kind", ["polygon", "rectangle", "ellipse"])
def test_other_controls_give_a_region_for_each_component(kind: Kind) -> None:
    mask = blobs()
    for instances in (False, True):
        result = regions.encode(mask, target(kind), score=0.5, instances=instances)
        assert len(result) == 3
        assert overlap(mask, read(result, target(kind))) >= (0.8 if kind == "ellipse" else 1)


def test_rectangles_are_the_bounding_boxes_and_never_turned() -> None:
    first = regions.encode(blobs(), target("rectangle"), score=0.5)[0]
    box = {key: first["value"][key] for key in ("x", "y", "width", "height", "rotation")}
    assert box == pytest.approx({"x": 100 / 6, "y": 10, "width": 25, "height": 20, "rotation": 0})


def test_an_ellipse_is_found_again_from_its_pixels() -> None:
    y, x = np.mgrid[:300, :500]
    mask = ((x + 0.5 - 210) / 120) ** 2 + ((y + 0.5 - 140) / 50) ** 2 < 1
    (found,) = regions.encode(mask, target("ellipse"), score=0.5)
    shape = {key: found["value"][key] for key in ("x", "y", "radiusX", "radiusY", "rotation")}
    expected = {"x": 42, "y": 140 / 3, "radiusX": 24, "radiusY": 50 / 3, "rotation": 0}
    assert shape == pytest.approx(expected, rel=1e-3)
    assert overlap(mask, read([found], target("ellipse"))) > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_what_covers_the_whole_image_stays_within_it(kind: Kind) -> None:
    mask = np.ones((37, 53), dtype=np.bool_)
    (found,) = regions.encode(mask, target(kind), score=0.5)
    assert overlap(mask, read([found], target(kind))) > (0.85 if kind == "ellipse" else 0.999)
    if kind == "polygon":
        assert np.array(found["value"]["points"]).min() == 0
        assert np.array(found["value"]["points"]).max() == 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_pixel_is_a_region(kind: Kind) -> None:
    mask = np.zeros((9, 11), dtype=np.bool_)
    mask[4, 7] = True
    assert np.array_equal(read(regions.encode(mask, target(kind), score=0.5), target(kind)), mask)


def test_a_coastline_with_specks_and_holes_becomes_few_points() -> None:
    land, mask = coastline()
    assert label(mask).max() > 200
    result = regions.encode(mask, target("polygon"), score=0.5)
    assert 1 <= len(result) <= 5
    for item in result:
        points = np.array(item["value"]["points"])
        assert 3 <= len(points) <= regions.MAX_POINTS
        assert points.min() >= 0
        assert points.max() <= 100
    found = read(result, target("polygon"))
    assert overlap(mask, found) >= 0.95
    assert overlap(land, found) >= 0.98
    assert not found[1200, 500]
    assert not found[1300, 1500]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instances", [False, True])
def test_components_below_the_least_area_are_left_out(kind: Kind, instances: bool) -> None:
    def parts(min_area: float) -> int:
        result = regions.encode(blobs(), target(kind), score=0.5, instances=instances, min_area=min_area)
        return int(label(read(result, target(kind))).max()) if result else 0

    assert [parts(least) for least in (0, 20, 21, 101, 601)] == [3, 3, 2, 1, 0]
    assert [parts(least / 12_000) for least in (19.5, 20.5, 100.5, 600.5)] == [3, 2, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_with_instances_things_that_touch_are_told_apart_and_small_holes_filled(kind: Kind) -> None:
    y, x = np.mgrid[:100, :120]
    mask = (np.hypot(x - 40, y - 50) <= 20) | (np.hypot(x - 76, y - 50) <= 20)
    mask[49:51, 39:41] = False
    options: dict[str, Any] = {"score": 0.5, "min_area": 10}
    assert len(regions.encode(mask, target(kind), **options)) == 1
    both = regions.encode(mask, target(kind), **options, instances=True)
    assert len(both) == 2
    left, right = sorted(
        (read([region], target(kind)) for region in both), key=lambda part: np.argmax(part.any(axis=0))
    )
    assert left[50, 40]
    assert right[50, 76]
    assert not (left & right).any() or kind in ("rectangle", "ellipse", "polygon")
    assert overlap(left, np.hypot(x - 40, y - 50) <= 20) > (0.75 if kind == "rectangle" else 0.9)


def test_an_empty_mask_has_no_regions_with_instances_either() -> None:
    assert regions.encode(np.zeros((0, 9), np.bool_), target("brush"), score=0.5, instances=True) == []
    assert regions.encode(np.zeros((4, 9), np.bool_), target("brush"), score=0.5, instances=True) == []


@pytest.mark.parametrize("kind", ["polygon", "rectangle", "ellipse", "brush"])
def test_the_number_of_regions_is_bounded_and_the_largest_stay(kind: Kind) -> None:
    mask = np.zeros((80, 100), dtype=np.bool_)
    mask[::4, ::4] = True
    mask[40:42, 40:42] = True
    result = regions.encode(mask, target(kind), score=0.5, instances=True, min_area=0)
    assert len(result) == regions.MAX_REGIONS
    assert len({item["id"] for item in result}) == len(result)
    assert read(result[:1], target(kind))[40, 40]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_gives_no_region(kind: Kind) -> None:
    empty = np.zeros((20, 30), dtype=np.bool_)
    assert regions.encode(empty, target(kind), score=0.5) == []
    assert regions.encode(empty, target(kind, "l"), score=0.5, instances=True) == []
    assert regions.encode(np.zeros((0, 3), dtype=np.bool_), target(kind), score=0.5) == []


def test_with_probabilities_a_region_is_as_good_as_its_pixels_are_sure() -> None:
    mask = blobs()
    probability = np.full(mask.shape, 0.1, dtype=np.float32)
    probability[10:30, 20:50] = 0.9
    probability[50:60, 70:75] = 1.0
    scores = [
        item["score"] for item in regions.encode(mask, target("polygon"), score=0.5, probability=probability)
    ]
    assert scores == pytest.approx([0.9, 0.55, 0.1], abs=1e-6)
    assert all(type(score) is float for score in scores)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1, np.float32("nan")])
def test_a_score_that_is_no_share_is_refused(score: Any) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        regions.encode(blobs(), target("brush"), score=score)


def test_a_probability_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        regions.encode(
            blobs(), target("brush"), score=0.5, probability=np.full((100, 120), np.nan, np.float32)
        )


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="height x width"):
        regions.encode(np.ones((3, 4, 4), dtype=np.bool_), target("brush"), score=0.5)


def test_masks_of_other_dtypes_are_inside_where_not_zero() -> None:
    mask = blobs()
    values = [
        item["value"] for item in regions.encode(mask.astype(np.uint8) * 255, target("brush"), score=0.5)
    ]
    assert values == [item["value"] for item in regions.encode(mask, target("brush"), score=0.5)]
