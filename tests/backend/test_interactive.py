"""Clicks and boxes to suggested masks, through the app: with approved examples and without, and what goes wrong."""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend.protocol import SUGGESTED
from model.device import DeviceMemoryError
from model.segmenter import Query
from tests.backend.served import until
from tests.backend.stage import Stage, brush, by_colour, data_uri, encoded, iou, mask_of
from tests.backend.test_interactive_hints import FIXTURES, box, point, suggestion
from tests.model.drawn_objects import BLUE, RED, disc, painted

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="tag" toName="image"><Label value="cell"/><Label value="debris"/></BrushLabels>
<KeyPointLabels name="tag2" toName="image" smart="true"><Label value="cell"/><Label value="debris"/></KeyPointLabels>
<RectangleLabels name="tag3" toName="image" smart="true"><Label value="cell"/></RectangleLabels></View>"""

CELLS = [disc(70, 70, 30), disc(230, 60, 34), disc(150, 180, 36)]
DIRT = disc(270, 190, 25)
PICTURE = painted([(np.any(CELLS, axis=0), RED), (DIRT, BLUE)])


@pytest.fixture
def smart(stage: Stage) -> Stage:
    """A project with smart tools; what stands in for the network goes by colour."""
    stage.label_studio.projects[stage.project]["label_config"] = CONFIG
    stage.setup()
    stage.segment_by_colour()
    return stage


def percent(x: float, y: float) -> tuple[float, float]:
    """Pixels of the drawn picture as Label Studio writes them."""
    return x / 3.2, y / 2.4


def click(number: str, x: float, y: float, **fields: Any) -> dict[str, Any]:
    return point(number, *percent(x, y), **fields)


def outline(number: str, left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    return box(number, *percent(left, top), *percent(right - left, bottom - top))


def ask(stage: Stage, task: int, *regions: Any, **fields: Any) -> Any:
    """The first result of an interactive request."""
    context = {"login": None, "password": None, "context": {"result": list(regions)}}
    response = stage.ask(task, params=context, **fields)
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    return result


def approve(stage: Stage, seed: int = 3) -> int:
    """Somebody has marked the cells of another picture; returns the task."""
    cells = disc(100, 100, 35) | disc(220, 150, 30)
    task = stage.upload(painted([(cells, RED), (disc(60, 190, 25), BLUE)], seed=seed))
    stage.submit(task, brush(cells))
    stage.work()
    return task


def told(region: dict[str, Any]) -> Any:
    return region["meta"][SUGGESTED]


# -- with examples -------------------------------------------------------------------------------------------------
def test_a_click_gives_the_object_under_it_and_not_its_likes(smart: Stage) -> None:
    taught = approve(smart)
    result = ask(smart, smart.upload(PICTURE), click("a", 65, 65))
    (region,) = result["result"]
    assert iou(mask_of(region), CELLS[0]) > 0.95
    assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "image", "brushlabels")
    assert region["value"]["brushlabels"] == ["cell"]
    assert region["origin"] == "prediction"
    assert 0 < region["score"] <= 1
    assert 0 < result["score"] <= 1
    assert result["model_version"] == smart.setup()
    assert told(region) == {"by": "context", "hints": ["a"], "at": [[20.312, 27.083]], "tasks": [taught]}
    assert region["meta"]["text"] == ["Smart tool: by 1 approved mask"]


def test_more_clicks_add_and_one_outside_takes_away(smart: Stage) -> None:
    approve(smart)
    pair = disc(110, 120, 40) | disc(188, 120, 40)
    task = smart.upload(painted([(pair, RED)]))
    first, second = click("a", 100, 120), click("b", 200, 120)
    (both,) = ask(smart, task, first, second)["result"]
    assert iou(mask_of(both), pair) > 0.95
    (one,) = ask(smart, task, first, click("c", 215, 120, is_positive=False))["result"]
    assert iou(mask_of(one), disc(110, 120, 40)) > 0.85
    assert not mask_of(one)[120, 215]


def test_a_box_gives_what_the_examples_mean_in_it(smart: Stage) -> None:
    approve(smart)
    (region,) = ask(smart, smart.upload(PICTURE), outline("a", 110, 140, 300, 220))["result"]
    assert iou(mask_of(region), CELLS[2]) > 0.95, "the blue thing in the box is none of them"
    assert told(region)["by"] == "context"


def test_several_boxes_are_answered_together(smart: Stage) -> None:
    approve(smart)
    boxes = outline("a", 35, 35, 105, 105), outline("b", 190, 20, 270, 100)
    (region,) = ask(smart, smart.upload(PICTURE), *boxes)["result"]
    assert iou(mask_of(region), CELLS[0] | CELLS[1]) > 0.95
    assert told(region)["hints"] == ["a", "b"]


def test_where_every_object_is_a_region_of_its_own_it_is_one_here_too(staging: Callable[..., Stage]) -> None:
    stage = staging(instances=True)
    stage.label_studio.projects[stage.project]["label_config"] = CONFIG
    stage.segment_by_colour()
    approve(stage)
    found = ask(stage, stage.upload(PICTURE), click("a", 65, 65), click("b", 230, 60))["result"]
    assert len(found) == 2


def test_the_network_looks_once_at_an_image_however_many_clicks_follow(smart: Stage) -> None:
    approve(smart)
    asked: list[int] = []

    def counting(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        asked.append(len(queries))
        return by_colour(queries)

    smart.segment_with(counting)
    task = smart.upload(PICTURE)
    clicks = [click("a", 65, 65), click("b", 230, 60), click("c", 150, 180)]
    for number in range(1, 4):
        assert ask(smart, task, *clicks[:number])["result"]
    assert asked == [1]
    approve(smart, seed=4)
    asked.clear()  # what was predicted ahead meanwhile
    assert ask(smart, task, *clicks)["result"]
    assert asked == [1], "an approval is used by the very next click"


def test_a_click_where_the_examples_find_nothing_gives_what_stands_out(smart: Stage) -> None:
    approve(smart)
    (region,) = ask(smart, smart.upload(PICTURE), click("a", 270, 190))["result"]
    assert iou(mask_of(region), DIRT) > 0.93


# -- without -------------------------------------------------------------------------------------------------------
def test_outlining_one_object_finds_its_likes_marked_as_such(smart: Stage) -> None:
    mine, likes = ask(smart, smart.upload(PICTURE), outline("a", 35, 35, 105, 105))["result"]
    assert iou(mask_of(mine), CELLS[0]) > 0.95
    at = [[10.938, 14.583, 21.875, 29.167, 0.0]]
    assert told(mine) == {"by": "edges", "hints": ["a"], "at": at, "tasks": []}
    assert iou(mask_of(likes), CELLS[1] | CELLS[2]) > 0.93
    assert told(likes)["by"] == "outlined"
    assert likes["meta"]["text"] == ["Smart tool: like what was outlined on this image"]


def test_an_object_without_likes_comes_alone(smart: Stage) -> None:
    (region,) = ask(smart, smart.upload(painted([(DIRT, BLUE)])), outline("a", 240, 160, 300, 220))["result"]
    assert iou(mask_of(region), DIRT) > 0.9


def test_a_click_gives_what_stands_out_there_and_no_likes(smart: Stage) -> None:
    (region,) = ask(smart, smart.upload(PICTURE), click("a", 65, 65))["result"]
    assert iou(mask_of(region), CELLS[0]) > 0.93
    assert told(region)["by"] == "edges"


def test_without_examples_a_click_outside_takes_away_too(smart: Stage) -> None:
    pair = disc(90, 120, 42) | disc(172, 120, 42)
    task = smart.upload(painted([(pair, RED)]))
    (both,) = ask(smart, task, click("a", 80, 120))["result"]
    (one,) = ask(smart, task, click("a", 80, 120), click("b", 190, 120, is_positive=False))["result"]
    assert iou(mask_of(both), pair) > 0.93
    assert iou(mask_of(one), disc(90, 120, 42)) > 0.85


def test_examples_of_one_label_say_nothing_of_another(smart: Stage) -> None:
    approve(smart)
    (region,) = ask(smart, smart.upload(PICTURE), click("a", 270, 190, label="debris"))["result"]
    assert region["value"]["brushlabels"] == ["debris"]
    assert told(region)["by"] == "edges"
    assert iou(mask_of(region), DIRT) > 0.93


# -- kinds of regions, kinds of images -----------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["Polygon", "Ellipse", "Rectangle"])
def test_a_suggestion_is_of_the_kind_that_the_target_s_control_takes(smart: Stage, kind: str) -> None:
    drawn = CONFIG.replace("BrushLabels", f"{kind}Labels")
    smart.label_studio.projects[smart.project]["label_config"] = drawn.replace('name="tag3"', 'name="tag4"')
    (region,) = ask(smart, smart.upload(PICTURE), click("a", 65, 65))["result"]
    assert region["type"] == f"{kind.lower()}labels"
    assert region["from_name"] == "tag"
    assert region["value"][f"{kind.lower()}labels"] == ["cell"]


def test_on_a_photo_that_is_turned_by_its_exif_the_mask_is_where_the_editor_shows_it(smart: Stage) -> None:
    turned = Image.fromarray(PICTURE).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    task = smart.upload(PICTURE)
    content = encoded(turned, "JPEG", quality=95, exif=exif)
    smart.label_studio.tasks[task]["data"]["image"] = data_uri(content, "image/jpeg")
    (region,) = ask(smart, task, click("a", 65, 65))["result"]
    assert (region["original_width"], region["original_height"]) == (320, 240)
    assert iou(mask_of(region), CELLS[0]) > 0.9


def test_a_turned_box_is_a_turned_box(smart: Stage) -> None:
    corner = percent(70, 10)
    turned = box("a", *corner, 85 / 3.2, 85 / 2.4, 45)
    found = ask(smart, smart.upload(PICTURE), turned)["result"]
    assert iou(mask_of(found[0]), CELLS[0]) > 0.93


def test_an_object_of_few_pixels_is_given_though_ordinary_predictions_drop_specks(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(min_area=0.05)
    stage.label_studio.projects[stage.project]["label_config"] = CONFIG
    task = stage.upload(painted([(disc(100, 100, 9), RED)]))
    (region,) = ask(stage, task, click("a", 100, 100))["result"]
    assert iou(mask_of(region), disc(100, 100, 9)) > 0.7


# -- recorded, and wrong -------------------------------------------------------------------------------------------
RECORDED = sorted(
    path.stem
    for path in FIXTURES.glob("[35]?_*.json")
    if "interactive" in path.stem or "browser" in path.stem
)


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_request_is_answered(stage: Stage, name: str) -> None:
    body = json.loads((FIXTURES / f"{name}.json").read_text())["requests"][-1]["body"]
    body["tasks"][0]["data"]["image"] = stage.label_studio.tasks[stage.upload(PICTURE)]["data"]["image"]
    response = stage.client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert result == [] or result["result"]


def test_what_a_browser_sent_after_an_accepted_suggestion_asks_for_the_new_click_only(smart: Stage) -> None:
    approve(smart)
    task = smart.upload(PICTURE)
    smart.label_studio.tasks[task]["drafts"] = [{"id": 1, "result": [suggestion("a")]}]
    (region,) = ask(smart, task, click("a", 65, 65), click("b", 230, 60))["result"]
    assert iou(mask_of(region), CELLS[1]) > 0.95


WRONG: dict[str, tuple[Any, str]] = {
    "a label that nothing draws": (click("a", 65, 65, label="stain"), "no brush, polygon"),
    "a brush": (
        {"type": "brushlabels", "from_name": "tag", "to_name": "image", "value": {}},
        "keypoint or a rectangle",
    ),
    "no numbers": (point("a", value={"x": None, "y": 1, "labels": ["cell"]}), "as numbers"),
    "only what is not wanted": (click("a", 65, 65, is_positive=False), "nothing stands out"),
    "a box beside the image": (outline("a", 400, 300, 500, 400), "nothing stands out"),
    "a box without size": (outline("a", 65, 65, 65, 65), "nothing stands out"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_answered_is_i_do_not_know_and_a_line_in_the_log(
    smart: Stage, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    region, reason = WRONG[name]
    approve(smart)
    task = smart.upload(PICTURE)
    with caplog.at_level(logging.WARNING):
        assert ask(smart, task, region) == []
    (said,) = [record.getMessage() for record in caplog.records if "nothing suggested" in record.getMessage()]
    assert said.lower().startswith(f"project {smart.key} task {task}: nothing suggested:")
    assert reason in said.lower()


def test_an_image_that_cannot_be_had_costs_only_the_answer(
    smart: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    task = smart.upload(PICTURE)
    for data in ({"image": "data:image/png;base64,AAAA"}, {}, None):
        smart.label_studio.tasks[task]["data"] = data
        assert ask(smart, task, click("a", 65, 65)) == []
    assert "the task has no image under 'image'" in caplog.text


def test_without_memory_there_is_no_answer_and_the_log_says_so(
    smart: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    approve(smart)

    def exhausted(_: Sequence[Query]) -> list[NDArray[np.float32]]:
        raise DeviceMemoryError("the device is full")

    smart.segment_with(exhausted)
    assert ask(smart, smart.upload(PICTURE), click("a", 65, 65)) == []
    assert "out of memory: the device is full" in caplog.text


def test_an_answer_that_comes_too_late_is_given_up_and_kept_for_the_next_click(
    staging: Callable[..., Stage], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staging(predict_deadline=0.5)
    stage.label_studio.projects[stage.project]["label_config"] = CONFIG
    stage.segment_by_colour()
    approve(stage)
    go_on, done, begun, asked = threading.Event(), threading.Event(), threading.Event(), []

    class UnderWay(ThreadPoolExecutor):
        """What is given to it is under way before anybody's time runs out."""

        def submit(self, *given: Any, **options: Any) -> "Future[Any]":
            future = super().submit(*given, **options)
            assert begun.wait(300)
            return future

    monkeypatch.setattr("backend.interactive.interactive.ThreadPoolExecutor", UnderWay)

    def held_up(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        asked.append(len(queries))
        begun.set()
        assert go_on.wait(300)
        done.set()
        return by_colour(queries)

    stage.segment_with(held_up)
    task = stage.upload(PICTURE)
    assert ask(stage, task, click("a", 65, 65)) == []
    assert "not answered before the deadline" in caplog.text
    go_on.set()
    assert done.wait(300)
    assert until(lambda: ask(stage, task, click("a", 65, 65)))
    assert asked == [1]


def test_several_tasks_of_a_request_get_one_answer_each(smart: Stage) -> None:
    tasks = [smart.upload(PICTURE), smart.upload(PICTURE)]
    context = {"context": {"result": [click("a", 65, 65)]}}
    first, second = smart.ask(*tasks, params=context).json()["results"]
    assert first["result"]
    assert second == []


def test_a_request_about_nothing_is_answered_with_nothing(smart: Stage) -> None:
    body = {"tasks": [], "project": smart.key, "params": {"context": {"result": [click("a", 1, 1)]}}}
    assert smart.client.post("/predict", json=body).json()["results"] == []


def test_nothing_of_it_is_stored(smart: Stage) -> None:
    """A kept IoU compares an annotation with what was shown before it; a suggestion is part of annotating."""
    approve(smart)
    task = smart.upload(PICTURE)
    assert ask(smart, task, click("a", 65, 65))["result"]
    assert smart.backend.store.predictions(smart.key, task) == []


# -- what is left of it in annotations -----------------------------------------------------------------------------
def test_left_over_clicks_and_boxes_teach_nothing(smart: Stage) -> None:
    task = smart.upload(PICTURE)
    left_over = click("a", 65, 65), outline("b", 190, 20, 270, 100)
    only_these = smart.submit(task, *left_over)
    smart.work()
    assert smart.pool == []
    with_mask = smart.submit(smart.upload(PICTURE), *left_over, brush(CELLS[0]))
    smart.work()
    assert smart.pool == [with_mask]
    assert {info.target for info in smart.backend.store.pool(smart.key)} == {"tag/image/cell"}
    assert only_these in {approval.annotation for approval in smart.backend.store.approvals(smart.key)}


def test_a_click_more_or_less_beside_the_same_masks_changes_nothing(smart: Stage) -> None:
    annotation = smart.submit(smart.upload(PICTURE), brush(CELLS[0]))
    smart.work()
    before = smart.setup()
    smart.correct(annotation, brush(CELLS[0]), click("a", 65, 65))
    smart.work()
    assert smart.setup() == before


def test_an_accepted_suggestion_counts_as_corrected_its_clicks_left_over_or_not(smart: Stage) -> None:
    asked = click("a", 65, 65)
    for left_over in ([], [asked]):
        task = smart.upload(PICTURE)
        (region,) = ask(smart, task, asked)["result"]
        smart.submit(task, region, *left_over)
        smart.work()
    kinds = [info.kind for info in smart.backend.store.pool(smart.key)]
    assert kinds == ["corrected", "corrected"]
