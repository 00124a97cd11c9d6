"""Interactive requests to clicks and boxes: as browsers sent them, and with something wrong in them."""

import json
import tracemalloc
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.errors import RegionError
from backend.interactive import hints
from backend.interactive.hints import Hints
from backend.label_config import LabelConfig, Target, parse
from backend.protocol import SUGGESTED, PredictRequest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "label_studio"
BRUSH = Target("tag", "image", "cell", "brush", "image")
POLYGON = Target("outline", "image", "cell", "polygon", "image")
BOX = Target("box", "image", "cell", "rectangle", "image")
CONFIG = LabelConfig((BRUSH, Target("tag", "image", "debris", "brush", "image")))
TASK: dict[str, Any] = {"id": 1, "annotations": [], "drafts": []}


def recorded(name: str) -> tuple[PredictRequest, LabelConfig]:
    content = json.loads((FIXTURES / f"{name}.json").read_text())
    request = PredictRequest.model_validate(content["requests"][-1]["body"])
    return request, parse(request.label_config or "")


def read_recorded(name: str) -> Hints:
    request, config = recorded(name)
    return hints.read(request.interaction, request.tasks[0], config, ())


def point(
    number: str, x: float = 50.0, y: float = 50.0, label: str = "cell", **fields: Any
) -> dict[str, Any]:
    return {
        "original_width": 320, "original_height": 240, "image_rotation": 0, "id": number, "from_name": "tag2",
        "to_name": "image", "type": "keypointlabels", "origin": "manual", "is_positive": True,
        "value": {"x": x, "y": y, "width": 0.3, "labels": [label], "keypointlabels": [label]}, **fields,
    }  # fmt: skip


def box(number: str, x: float, y: float, width: float, height: float, rotation: float = 0) -> dict[str, Any]:
    value = {
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "rotation": rotation,
        "rectanglelabels": ["cell"],
    }
    return {"id": number, "from_name": "tag3", "to_name": "image", "type": "rectanglelabels", "value": value}


def suggestion(*answered: str, **mark: Any) -> dict[str, Any]:
    """A region that we suggested and somebody accepted."""
    return {
        "id": "sug",
        "type": "brushlabels",
        "origin": "prediction",
        "meta": {SUGGESTED: {"hints": [*answered], **mark}},
    }


def read(*regions: Any, config: LabelConfig = CONFIG, ready: tuple[Target, ...] = (), **task: Any) -> Hints:
    return hints.read(regions, {**TASK, **task}, config, ready)


# -- as browsers sent them -----------------------------------------------------------------------------------------
def test_recorded_clicks_come_one_after_the_other() -> None:
    first = read_recorded("50_browser_keypoint_first")
    assert first.target == BRUSH
    assert first.ids == ["opgb8wrIfW"]
    assert first.points((240, 320), wanted=True) == pytest.approx(np.array([[69.91, 59.88]]), abs=0.01)
    assert len(read_recorded("51_browser_keypoint_second").points((240, 320), wanted=True)) == 2
    third = read_recorded("52_browser_keypoint_negative")
    assert len(third.points((240, 320), wanted=True)) == 2
    assert third.points((240, 320), wanted=False) == pytest.approx(np.array([[69.91, 120.2]]), abs=0.01)


def test_a_recorded_click_with_another_label_is_that_label_s() -> None:
    assert read_recorded("53_browser_keypoint_other_label").target.label == "debris"


def test_recorded_boxes_are_areas_and_a_moved_one_is_where_it_is_now() -> None:
    first = read_recorded("54_browser_rectangle")
    (area,) = first.areas((240, 320))
    rows, columns = np.nonzero(area)
    assert (columns.min(), columns.max() + 1) == (40, 100)
    assert (rows.min(), rows.max() + 1) == (30, 92)
    assert first.target == BRUSH, "the box's own control is a tool"
    moved = read_recorded("55_browser_rectangle_moved")
    assert len(list(moved.areas((240, 320)))) == 2
    assert moved.boxes


def test_beside_a_brush_region_without_its_pixels_a_click_is_a_click() -> None:
    assert read_recorded("57_browser_keypoint_beside_manual_brush").ids == ["k9Fhwzakur"]


def test_a_point_that_lies_in_a_submitted_annotation_is_not_asked_again() -> None:
    """It comes without `is_positive`; the new click is the second of the two."""
    assert read_recorded("59_browser_keypoint_on_submitted").ids == ["AJDk_CxAvc"]


@pytest.mark.parametrize("name", ["30_interactive_keypoint", "31_interactive_rectangle"])
def test_regions_written_by_hand_are_read_too(name: str) -> None:
    assert len(read_recorded(name).all) == 1


def test_a_recorded_brush_is_no_hint() -> None:
    with pytest.raises(RegionError, match="needs a keypoint or a rectangle"):
        read_recorded("32_interactive_brush")


# -- what is answered already --------------------------------------------------------------------------------------
def test_clicks_whose_suggestion_was_accepted_are_not_answered_again() -> None:
    """They stay in the editor where the check beside the region was used, and come with every later click."""
    points = [point("a"), point("b", is_positive=False), point("c", 20.0)]
    for where in ("annotations", "drafts"):
        rows: dict[str, Any] = {where: [{"id": 5, "result": [suggestion("a", "b")]}]}
        assert read(*points, **rows).ids == ["c"]


def test_a_click_that_was_answered_elsewhere_is_asked_again() -> None:
    points = [point("a"), point("b", 20.0), point("c", 70.0)]
    answer = suggestion("a", "b", at=[[50.0, 50.0], [10.0, 50.0]])
    assert read(*points, drafts=[{"id": 5, "result": [answer]}]).ids == ["b", "c"]
    answered_there_too = suggestion("b", at=[[20.0, 50.0]])
    assert read(*points, drafts=[{"id": 5, "result": [answer, answered_there_too]}]).ids == ["c"]


@pytest.mark.parametrize("places", [None, 5, [], [None], [5], [[]], [[50.0]], [[50.0, 50.0], [{}], 7]])
def test_a_click_is_answered_wherever_it_is_where_its_answer_does_not_say(places: Any) -> None:
    rows = [{"id": 5, "result": [suggestion("a", at=places)]}]
    assert read(point("a"), point("b", 20.0), drafts=rows).ids == ["b"]


@pytest.mark.parametrize(
    "places", [[["50", "50"]], [[None]], [[True, True]], [[10**400, 50]], [[float("nan")]], [[50, 50, 9]]]
)
def test_a_place_that_is_none_is_another_one(places: Any) -> None:
    rows = [{"id": 5, "result": [suggestion("a", at=places)]}]
    assert read(point("a"), point("b", 20.0), drafts=rows).ids == ["a", "b"]


def test_what_we_predicted_or_suggested_is_no_hint() -> None:
    ours = [
        {**box("p", 10, 10, 20, 20), "origin": "prediction"},
        {**box("q", 10, 10, 20, 20), "origin": "prediction-changed"},
        {**box("r", 10, 10, 20, 20), "meta": {SUGGESTED: {"hints": []}}},
    ]
    assert read(*ours, box("b", 50, 50, 20, 20)).ids == ["b"]
    with pytest.raises(RegionError, match="needs a keypoint or a rectangle"):
        read(*ours)


def test_a_box_of_a_control_that_holds_boxes_is_passed_over_beside_a_tool_s() -> None:
    config = LabelConfig((BOX, BRUSH))
    annotation, tool = {**box("a", 10, 10, 20, 20), "from_name": "box"}, box("b", 50, 50, 20, 20)
    assert read(tool, annotation, config=config).ids == ["b"]
    assert read(annotation, config=config).ids == ["a"]
    assert read(annotation, point("c"), config=config).ids == ["a", "c"], "only a box shows which boxes ask"


def test_where_everything_is_answered_the_newest_is_asked_once_more() -> None:
    rows = [{"id": 5, "result": [suggestion("a", "b")]}]
    assert read(point("a"), point("b"), drafts=rows).ids == ["b"]


def test_a_box_of_a_submitted_annotation_asks_only_where_it_was_moved() -> None:
    old, new = box("a", 10, 10, 20, 20), box("b", 50, 50, 20, 20)
    rows = [{"id": 5, "result": [deepcopy(old)]}]
    assert read(old, new, annotations=rows).ids == ["b"]
    moved = box("a", 12, 10, 20, 20)
    assert read(moved, new, annotations=rows).ids == ["a", "b"]


def test_points_that_do_not_say_are_on_what_is_wanted_where_none_says() -> None:
    old = [point("a"), point("b", 20.0)]
    for region in old:
        del region["is_positive"]
    assert len(read(*old).points((240, 320), wanted=True)) == 2
    assert read(*old, point("c", 70.0)).ids == ["c"]


def test_of_very_many_the_newest_are_answered() -> None:
    points = [point(f"p{number}", number % 100) for number in range(hints.MOST + 10)]
    assert read(*points).ids == [f"p{number}" for number in range(10, hints.MOST + 10)]


@pytest.mark.parametrize(
    "rows",
    [None, 5, [None], [{"result": None}], [{"result": [None, 7]}], [{"result": [{"id": "a", "value": 3, "meta": 4}]}],
     [{"result": [{"meta": {SUGGESTED: 1}}, {"meta": {SUGGESTED: {"hints": 5}}}, {"meta": {SUGGESTED: {"hints": [{}]}}}]}]],
)  # fmt: skip
def test_annotations_and_drafts_may_be_anything(rows: Any) -> None:
    assert read(point("a"), annotations=rows, drafts=rows).ids == ["a"]


# -- for which target ----------------------------------------------------------------------------------------------
def test_pixels_are_asked_for_rather_than_an_outline_and_what_is_known_before_what_is_not() -> None:
    config = LabelConfig((BOX, BRUSH, POLYGON))
    assert read(point("a"), config=config).target == BRUSH
    assert read(point("a"), config=config, ready=(POLYGON, BOX)).target == POLYGON
    assert read(point("a"), config=LabelConfig((BOX,))).target == BOX


def test_hints_on_another_image_or_of_another_label_are_another_matter() -> None:
    right = Target("tag", "right", "cell", "brush", "right")
    config = LabelConfig((*CONFIG.targets, right))
    found = read(point("a"), point("b", label="debris"), point("c", to_name="right"), config=config)
    assert (found.target, found.ids) == (right, ["c"])


def test_a_label_may_stand_under_any_key_or_beside_the_point() -> None:
    value = {"x": 1, "y": 2, "labels": ["debris"]}
    assert read(point("a", value=value)).target.label == "debris"
    bare = point("a", type="keypoint", value={"x": 1, "y": 2})
    named = {"id": "a", "type": "labels", "value": {"x": 1, "y": 2, "labels": ["debris"]}}
    assert read(bare, named).target.label == "debris"


def test_without_a_label_there_must_be_one_only() -> None:
    nameless = point("a", value={"x": 1, "y": 2})
    assert read(nameless, config=LabelConfig((BRUSH,))).target == BRUSH
    with pytest.raises(RegionError, match="names no label"):
        read(nameless)


def test_a_label_that_nothing_draws_is_refused_with_its_remedy() -> None:
    with pytest.raises(RegionError, match=r"has the label 'stain'.*Give the smart tool"):
        read(point("a", label="stain"))
    with pytest.raises(RegionError, match="on 'elsewhere'"):
        read(point("a", to_name="elsewhere"))


# -- geometry ------------------------------------------------------------------------------------------------------
def test_clicks_at_the_edge_are_within_the_image_and_those_beside_it_are_left_out() -> None:
    found = read(point("a", 100.0, 100.4), point("b", -0.5, 50.0), point("c", 140.0, -3.0))
    points = found.points((240, 320), wanted=True)
    assert points.tolist() == [[319.5, 239.5], [0, 120]]


def test_a_box_may_be_turned_drawn_backwards_or_lie_outside() -> None:
    (turned,) = read(box("a", 50, 10, 25, 33.3333, 90)).areas((240, 320))
    rows, columns = np.nonzero(turned)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (80, 160, 24, 104)
    (backwards,) = read(box("a", 50, 50, -25, -25)).areas((240, 320))
    assert np.argwhere(backwards).min(axis=0).tolist() == [60, 80]
    assert list(read(box("a", 150, 150, 20, 20)).areas((240, 320))) == []


def test_of_many_boxes_one_area_is_held_at_a_time() -> None:
    many = read(*(box(str(number), number, number, 20, 20) for number in range(hints.MOST)))
    tracemalloc.start()
    try:
        count = sum(1 for _ in many.areas((1000, 1000)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == hints.MOST
    assert most < 8 * 1000 * 1000


def test_an_id_that_no_answer_can_hold_is_none() -> None:
    assert read(point("\ud800"), point("good")).ids == ["good"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": None},
        {"value": {"x": "1", "y": 2}},
        {"value": {"x": True, "y": 2}},
        {"value": {"x": float("nan"), "y": 2}},
        {"value": {"x": 1e9, "y": 2}},
        {"value": {"x": 1}},
        {"item_index": 1},
        {"type": "rectanglelabels"},
        {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": "up"}},
        {"type": ["keypointlabels"]},
        {"type": None},
    ],
)
def test_a_region_that_cannot_be_read_is_refused_alone_and_passed_over_among_others(wrong: Any) -> None:
    bad = point("bad", **wrong)
    with pytest.raises(RegionError):
        read(bad)
    assert read(bad, point("good")).ids == ["good"]


@pytest.mark.parametrize("label", [None, [], [7], "cell", {"cell": 1}, [["cell"]]])
def test_labels_of_any_shape_are_no_label_or_one(label: Any) -> None:
    region = point("a", value={"x": 1, "y": 2, "labels": label, "keypointlabels": label})
    assert read(region, config=LabelConfig((BRUSH,))).target == BRUSH
