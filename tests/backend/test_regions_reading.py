"""Annotations to masks: what counts as a region of a target, and which pixels it covers."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter import brush as sdk_brush
from numpy.typing import NDArray

from backend import brush_rle, regions
from backend.errors import RegionError
from backend.label_config import Kind, Target, parse

sdk: Any = sdk_brush
FIXTURES = Path(__file__).parents[1] / "fixtures" / "label_studio"


def target(kind: Kind, label: str = "cell", labels_control: str | None = None) -> Target:
    return Target("tag", "image", label, kind, "image", labels_control)


def region(
    kind: Kind, value: dict[str, Any], width: int = 1000, height: int = 500, **more: Any
) -> dict[str, Any]:
    return {
        "id": "r1",
        "from_name": "tag",
        "to_name": "image",
        "type": f"{kind}labels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {f"{kind}labels": ["cell"], **value},
        **more,
    }


def box(x: float, y: float, width: float, height: float, rotation: float = 0) -> dict[str, Any]:
    return {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}


def brush(alpha: list[list[int]], **more: Any) -> dict[str, Any]:
    """A brush region with any alpha, written by the SDK's encoder."""
    levels = np.array(alpha, dtype=np.uint8)
    rle = sdk.encode_rle(np.repeat(levels.reshape(-1), 4))
    return region("brush", {"format": "rle", "rle": rle}, levels.shape[1], levels.shape[0], **more)


def read(result: list[dict[str, Any]], of: Target) -> NDArray[np.bool_]:
    mask = regions.decode(result, of)
    assert mask is not None
    return mask


def covered(result: list[dict[str, Any]], of: Target) -> tuple[int, int, int, int, int]:
    """First and last column, first and last row, and pixels in all."""
    mask = read(result, of)
    rows, columns = np.nonzero(mask)
    return columns.min(), columns.max(), rows.min(), rows.max(), mask.sum()


def test_a_turned_box_on_an_oblong_image_is_right_to_the_pixel() -> None:
    """The box was wrong elsewhere wherever rotation was computed in percent: that gives y 100 to 249."""
    result = [region("rectangle", box(20, 20, 30, 20, 90))]
    assert covered(result, target("rectangle")) == (100, 199, 100, 399, 100 * 300)


def test_a_turned_ellipse_on_an_oblong_image_is_right_to_the_pixel() -> None:
    turned = {"x": 15, "y": 50, "radiusX": 15, "radiusY": 10, "rotation": 90}
    upright = {"x": 15, "y": 50, "radiusX": 5, "radiusY": 30, "rotation": 0}
    result = [region("ellipse", turned)]
    assert covered(result, target("ellipse"))[:4] == (100, 199, 100, 399)
    assert np.array_equal(
        read(result, target("ellipse")), read([region("ellipse", upright)], target("ellipse"))
    )


def test_a_polygon_covers_the_pixels_whose_centres_it_holds() -> None:
    points = [[10, 20], [30, 20], [30, 60], [10, 60]]
    assert covered([region("polygon", {"points": points})], target("polygon")) == (
        100,
        299,
        100,
        299,
        200 * 200,
    )


def test_a_region_that_leaves_the_image_is_cut_at_its_edge() -> None:
    assert covered([region("rectangle", box(-20, 90, 40, 40))], target("rectangle")) == (
        0,
        199,
        450,
        499,
        200 * 50,
    )


def test_all_regions_of_a_target_are_united() -> None:
    result = [region("rectangle", box(0, 0, 10, 10)), region("rectangle", box(5, 0, 10, 10))]
    assert covered(result, target("rectangle")) == (0, 149, 0, 49, 150 * 50)


def test_a_half_transparent_stroke_counts_above_one_threshold() -> None:
    mask = read([brush([[255, 128, 127, 60, 1, 0]])], target("brush"))
    assert mask.tolist() == [[True, True, False, False, False, False]]
    assert regions.ALPHA_THRESHOLD == 127


def test_traces_of_an_erased_stroke_are_no_mask() -> None:
    assert regions.decode([brush([[127, 60, 1, 0]])], target("brush")) is None


def test_a_recorded_drawing_is_read_for_each_of_its_labels() -> None:
    recorded = json.loads((FIXTURES / "60_browser_brush_annotation.json").read_text())
    result = recorded["annotation"]["result"]
    for label, pixels in (("cell", 729), ("debris", 675)):
        mask = read(result, target("brush", label))
        assert (mask.shape, mask.sum()) == ((240, 320), pixels)
    assert regions.original_size(result, target("brush")) == (240, 320)
    assert regions.approved_labels(result) == {"cell", "debris"}


def test_prompts_in_a_recorded_annotation_are_no_mask_of_a_brush_label() -> None:
    recorded = json.loads((FIXTURES / "59_browser_keypoint_on_submitted.json").read_text())
    task = recorded["requests"][0]["body"]["tasks"][0]
    result = task["annotations"][0]["result"]
    mask = read(result, target("brush"))
    assert mask.any()
    assert regions.decode([item for item in result if item["type"] != "brushlabels"], target("brush")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"from_name": "other"},
        {"to_name": "other"},
        {"type": "rectangle"},
        {"type": "keypointlabels"},
        {"type": None},
        {"item_index": 1},
        {"value": None},
        {"value": []},
        {"value": {}},
        {"value": {**box(0, 0, 10, 10)}},
        {"value": {**box(0, 0, 10, 10), "rectanglelabels": []}},
        {"value": {**box(0, 0, 10, 10), "rectanglelabels": None}},
        {"value": {**box(0, 0, 10, 10), "rectanglelabels": "cell"}},
        {"value": {**box(0, 0, 10, 10), "rectanglelabels": [["cell"]]}},
        {"value": {**box(0, 0, 10, 10), "rectanglelabels": ["Cell"]}},
        {"value": {"rectanglelabels": ["cell"]}},
        {"value": {"x": 1, "y": 1, "width": 5, "rectanglelabels": ["cell"]}},
        {"value": {**box(0, 0, 0, 0), "rectanglelabels": ["cell"]}},
    ],
)
def test_what_is_no_region_of_the_target_is_passed_over(change: dict[str, Any]) -> None:
    assert regions.decode([{**region("rectangle", box(0, 0, 10, 10)), **change}], target("rectangle")) is None


def test_a_region_with_several_labels_belongs_to_each() -> None:
    value = {**box(0, 0, 10, 10), "rectanglelabels": ["debris", "cell"]}
    result = [region("rectangle", value, item_index=0, unknown={"key": 1})]
    assert regions.decode(result, target("rectangle")) is not None
    assert regions.decode(result, target("rectangle", "debris")) is not None


@pytest.mark.parametrize(
    "junk", [None, 7, "region", [], {}, {"type": "relation", "from_id": "a", "to_id": "b"}]
)
def test_items_that_are_no_regions_are_passed_over(junk: Any) -> None:
    result = [junk, region("rectangle", box(0, 0, 10, 10))]
    assert covered(result, target("rectangle"))[4] == 100 * 50
    assert regions.approved_labels(result) == {"cell"}


def test_a_brush_region_in_a_draft_has_no_strokes_yet() -> None:
    """In a draft the recorded brush region has `format` and `touches`, but no `rle`."""
    recorded = json.loads((FIXTURES / "57_browser_keypoint_beside_manual_brush.json").read_text())
    drafts = [draft for request in recorded["requests"] for draft in request["body"]["tasks"][0]["drafts"]]
    results = [item for draft in drafts for item in draft["result"] if item["type"] == "brushlabels"]
    assert any("rle" not in item["value"] for item in results)
    assert regions.decode([item for item in results if "rle" not in item["value"]], target("brush")) is None


@pytest.mark.parametrize(
    "value",
    [{}, {"points": []}, {"points": None}, {"points": [[0, 0], [50, 50]]}, {"points": [[0, 0]]}],
)
def test_a_polygon_without_area_covers_nothing(value: dict[str, Any]) -> None:
    assert regions.decode([region("polygon", value)], target("polygon")) is None


def test_an_ellipse_without_radii_covers_nothing() -> None:
    assert regions.decode([region("ellipse", {"x": 50, "y": 50, "rotation": 0})], target("ellipse")) is None


def test_an_unfinished_polygon_is_passed_over() -> None:
    points = {"points": [[0, 0], [50, 0], [50, 50]]}
    assert regions.decode([region("polygon", {**points, "closed": False})], target("polygon")) is None
    assert regions.decode([region("polygon", {**points, "closed": True})], target("polygon")) is not None


@pytest.mark.parametrize("kind", ["brush", "polygon", "rectangle", "ellipse"])
def test_geometry_and_label_in_two_items_are_joined_by_their_id(kind: Kind) -> None:
    config = parse(
        f'<View><Image name="i" value="$image"/><{kind.title()} name="b" toName="i"/>'
        '<Labels name="l" toName="i"><Label value="cell"/><Label value="debris"/></Labels></View>'
    )
    cell, debris = config.targets
    mask = np.zeros((40, 50), dtype=np.bool_)
    mask[10:20, 5:30] = True
    result = regions.encode(mask, cell, score=0.5)
    geometry, named = result
    assert (geometry["id"], geometry["from_name"], geometry["type"]) == (named["id"], "b", kind)
    assert (named["from_name"], named["type"], named["value"]["labels"]) == ("l", "labels", ["cell"])
    assert np.array_equal(read(result, cell), read(result[::-1], cell))
    assert regions.decode(result, debris) is None
    assert regions.decode([geometry], cell) is None
    assert regions.decode([named], cell) is None
    assert regions.approved_labels(result) == {"cell"}
    other = copy.deepcopy(result)
    other[1]["id"] = "another"
    assert regions.decode(other, cell) is None
    for item in other:
        del item["id"]
    assert regions.decode(other, cell) is None


def test_a_label_within_the_geometry_item_counts_as_well() -> None:
    value = {**box(0, 0, 10, 10), "labels": ["cell"]}
    result = [region("rectangle", value, type="rectangle")]
    assert regions.decode(result, target("rectangle", labels_control="l")) is not None


def test_no_region_means_no_mask_and_no_size() -> None:
    assert regions.decode([], target("brush")) is None
    assert regions.original_size([], target("brush")) is None
    assert regions.approved_labels([]) == frozenset()


def test_regions_that_disagree_on_their_image_are_refused() -> None:
    result = [region("rectangle", box(0, 0, 10, 10)), region("rectangle", box(0, 0, 10, 10), width=999)]
    with pytest.raises(RegionError, match=r"\(500, 1000\) and \(500, 999\)"):
        regions.decode(result, target("rectangle"))


def test_a_float_that_is_whole_is_a_size() -> None:
    result = [region("rectangle", box(0, 0, 10, 10), original_width=1000.0)]
    assert regions.original_size(result, target("rectangle")) == (500, 1000)


def test_a_stream_of_another_size_than_its_image_is_refused() -> None:
    rle = brush_rle.encode(np.ones((4, 5), dtype=np.bool_))
    with pytest.raises(RegionError, match="its image needs"):
        regions.decode([region("brush", {"rle": rle}, width=5, height=5)], target("brush"))
