"""Boxes that ask beside boxes that are annotations: which are answered, and which of them teach."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.label_config import parse
from backend.learner import annotations
from backend.lost_labels import LostLabels
from backend.protocol import SUGGESTED
from tests.backend.stage import Stage, iou, mask_of, mask_taught
from tests.backend.test_interactive import CELLS, CONFIG, PICTURE, approve, ask, outline, told

ONLY_BOXES = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image" smart="true"><Label value="cell"/></RectangleLabels></View>"""
BOXES_AND_TOOL = ONLY_BOXES.replace(' smart="true"', "").replace(
    "</View>",
    '<RectangleLabels name="tool" toName="image" smart="true"><Label value="cell"/></RectangleLabels></View>',
)
BESIDE_MASKS = ONLY_BOXES.replace(' smart="true"', "").replace(
    "</View>", '<BrushLabels name="mask" toName="image"><Label value="cell"/></BrushLabels></View>'
)
FIRST, SECOND, THIRD = (30, 30, 110, 110), (190, 20, 270, 100), (110, 140, 190, 220)
"""Around each of the picture's cells, with room to spare."""


def drawn(number: str, corners: tuple[int, int, int, int], control: str = "box", **fields: Any) -> Any:
    """A box as a browser sends and submits it."""
    size = {"original_width": 320, "original_height": 240, "image_rotation": 0}
    return {**outline(number, *corners), **size, "from_name": control, "origin": "manual", **fields}


def configured(stage: Stage, label_config: str) -> Stage:
    stage.label_studio.projects[stage.project]["label_config"] = label_config
    stage.setup()
    stage.segment_by_colour()
    return stage


def ask_beside(stage: Stage, task: int, draft: list[Any], *regions: Any) -> list[Any]:
    """What is suggested where Label Studio has saved a draft."""
    row = {
        **stage.label_studio.tasks[task], "annotations": [], "predictions": [], "drafts": [{"id": 1, "result": draft}]
    }  # fmt: skip
    return list(ask(stage, task, *regions, tasks=[row])["result"])


def area_of(region: dict[str, Any]) -> NDArray[np.bool_]:
    """The pixels of an upright box."""
    value, area = region["value"], np.zeros(PICTURE.shape[:2], bool)
    left, top = value["x"] * 3.2, value["y"] * 2.4
    right, bottom = left + value["width"] * 3.2, top + value["height"] * 2.4
    area[round(top) : round(bottom), round(left) : round(right)] = True
    return area


# -- which are answered --------------------------------------------------------------------------------------------
def test_a_suggested_box_that_was_accepted_is_no_hint(stage: Stage) -> None:
    """It is a box of the same label, so it comes with the next request, and its object was answered a second time."""
    configured(stage, ONLY_BOXES)
    task = stage.upload(PICTURE)
    accepted, *_ = ask(stage, task, drawn("a", FIRST))["result"]
    resized = {**accepted, "origin": "prediction-changed"}
    for region in (accepted, resized):
        answers = ask_beside(stage, task, [region], region, drawn("b", SECOND))
        assert all(told(answer)["hints"] == ["b"] for answer in answers)
        assert iou(area_of(answers[0]), area_of(drawn("", (196, 26, 264, 94)))) > 0.9


@pytest.mark.parametrize("origin", ["prediction", "prediction-changed", "manual"])
def test_boxes_that_are_annotations_are_no_hints_of_a_tool_beside_them(stage: Stage, origin: str) -> None:
    """Predicted, corrected or drawn by hand: the project wants them, and nobody asked by them."""
    configured(stage, BOXES_AND_TOOL)
    there = drawn("p", FIRST, origin=origin)
    mine, *_ = ask(stage, stage.upload(PICTURE), there, drawn("b", SECOND, "tool"))["result"]
    assert told(mine)["hints"] == ["b"]
    assert iou(area_of(mine), area_of(drawn("", (196, 26, 264, 94)))) > 0.9


def test_without_a_tool_of_its_own_a_control_s_boxes_ask(stage: Stage) -> None:
    configured(stage, BOXES_AND_TOOL)
    mine, *_ = ask(stage, stage.upload(PICTURE), drawn("b", SECOND))["result"]
    assert told(mine)["hints"] == ["b"]


@pytest.fixture
def two_accepted(stage: Stage) -> tuple[Stage, int, list[Any]]:
    """Two masks accepted by the check beside them, so that their boxes stayed; and the draft of it."""
    approve(configured(stage, CONFIG))
    task = stage.upload(PICTURE)
    boxes = [drawn("a", FIRST, "tag3"), drawn("c", THIRD, "tag3")]
    masks = [ask(stage, task, each)["result"][0] for each in boxes]
    return stage, task, [*masks, *boxes]


def test_a_box_dragged_to_another_object_is_answered_there(
    two_accepted: tuple[Stage, int, list[Any]],
) -> None:
    """Its id was among the answered ones, so that another box, the newest, was answered instead."""
    stage, task, draft = two_accepted
    (got,) = ask_beside(stage, task, draft, drawn("a", SECOND, "tag3"), draft[-1])
    assert told(got)["hints"] == ["a"]
    assert iou(mask_of(got), CELLS[1]) > 0.9


def test_a_dragged_box_stays_open_until_its_new_suggestion_is_accepted(
    two_accepted: tuple[Stage, int, list[Any]],
) -> None:
    """Label Studio saves a draft every five seconds, with boxes where they are, whatever was accepted."""
    stage, task, (first, third, _, box) = two_accepted
    moved = drawn("a", SECOND, "tag3")
    (got,) = ask_beside(stage, task, [first, third, moved, box], moved, box)
    assert iou(mask_of(got), CELLS[1]) > 0.9
    (got,) = ask_beside(stage, task, [first, third, got, moved, box], moved, box, drawn("d", FIRST, "tag3"))
    assert told(got)["hints"] == ["d"]


def test_a_box_that_only_the_editor_s_arithmetic_moved_is_not_asked_again(
    two_accepted: tuple[Stage, int, list[Any]],
) -> None:
    """Recorded: a width of 18.726591760299627 is 18.72659176029963 a moment later."""
    stage, task, draft = two_accepted
    same = drawn("a", FIRST, "tag3")
    same["value"]["width"] += 1e-9
    (got,) = ask_beside(stage, task, draft, same, draft[-1], drawn("b", SECOND, "tag3"))
    assert told(got)["hints"] == ["b"]


# -- which teach ---------------------------------------------------------------------------------------------------
def submitted(stage: Stage, task: int, *regions: dict[str, Any]) -> NDArray[np.bool_]:
    """What an annotation taught."""
    annotation = stage.submit(task, *regions)
    stage.work()
    return np.asarray(mask_taught(stage, annotation))


def test_a_box_left_beside_the_better_one_that_it_asked_for_teaches_nothing(stage: Stage) -> None:
    configured(stage, ONLY_BOXES)
    task, asked = stage.upload(PICTURE), drawn("a", FIRST)
    better, *_ = ask(stage, task, asked)["result"]
    assert area_of(better).sum() < 0.7 * area_of(asked).sum()
    assert iou(submitted(stage, task, better, asked), area_of(better)) > 0.97


def test_it_does_not_lower_the_kept_iou_either(stage: Stage) -> None:
    configured(stage, ONLY_BOXES)
    submitted(stage, stage.upload(PICTURE), drawn("c", (40, 40, 100, 100)))
    asked = drawn("a", FIRST)
    for left_over in ([], [asked]):
        task = stage.upload(PICTURE)
        stage.predict(task)
        submitted(stage, task, *ask(stage, task, asked)["result"], *left_over)
    without, beside = (one.iou for one in stage.backend.store.kept(stage.key))
    assert 0 < without == beside


def test_a_box_that_is_an_annotation_teaches(stage: Stage) -> None:
    """Submitted alone, dragged to another object since, or accepted where an earlier version took it for a hint."""
    configured(stage, ONLY_BOXES)
    task, asked = stage.upload(PICTURE), drawn("a", FIRST)
    assert iou(submitted(stage, task, asked), area_of(asked)) > 0.97
    better, *_ = ask(stage, task, asked)["result"]
    moved = drawn("a", SECOND)
    assert iou(submitted(stage, task, better, moved), area_of(better) | area_of(moved)) > 0.97
    other = drawn("s", SECOND, origin="prediction", meta={SUGGESTED: {"hints": [better["id"], "b"]}})
    assert iou(submitted(stage, task, better, other), area_of(better) | area_of(other)) > 0.97


def test_where_boxes_are_wanted_beside_masks_the_box_that_asked_for_a_mask_teaches_too(stage: Stage) -> None:
    configured(stage, BESIDE_MASKS)
    task, asked = stage.upload(PICTURE), drawn("a", FIRST)
    mask, *_ = ask(stage, task, asked)["result"]
    assert mask["from_name"] == "mask"
    stage.submit(task, mask, asked)
    stage.work()
    assert {info.target for info in stage.backend.store.pool(stage.key)} == {
        "box/image/cell",
        "mask/image/cell",
    }


def digest(*regions: dict[str, Any]) -> str:
    config = parse(ONLY_BOXES)
    return annotations.digest({"id": 7, "result": list(regions)}, config, LostLabels(config, ()))


def test_a_left_over_box_does_not_change_what_an_annotation_says() -> None:
    better = drawn("s", (40, 40, 100, 100), origin="prediction", meta={SUGGESTED: {"hints": ["a"]}})
    assert digest(better, drawn("a", FIRST)) == digest(better)
    assert digest(better, drawn("b", FIRST)) != digest(better)


def test_approvals_of_earlier_versions_are_not_read_again() -> None:
    """Their digests are in users' stores: where one changes for no reason, every image is fetched anew."""
    accepted = drawn("s", (40, 40, 100, 100), origin="prediction", meta={SUGGESTED: {"hints": ["a"]}})
    answered_again = drawn(
        "t", (41, 41, 99, 99), origin="prediction", meta={SUGGESTED: {"hints": ["s", "b"]}}
    )
    assert (
        digest(drawn("c", (30, 30, 110, 110)), accepted, answered_again) == "8164566e3811fe3775fe30e7ceaa6775"
    )
