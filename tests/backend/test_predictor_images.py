"""Tasks that lack some of the images that the labeling config shows: the others are predicted."""

from typing import Any

import pytest

from backend.doctor import examine
from backend.errors import NotFound
from tests.backend.stage import Stage, blob, brush, data_uri, half, mask_of, png
from tests.backend.test_predictor import predict

PAIR = """<View><Image name="a" value="$left"/><Image name="b" value="$right"/>
  <BrushLabels name="ta" toName="a"><Label value="cell"/></BrushLabels>
  <BrushLabels name="tb" toName="b"><Label value="cell"/></BrushLabels></View>"""


@pytest.fixture
def pairs(stage: Stage) -> Stage:
    """A project whose tasks have two images, with a disc approved on each."""
    stage.segment_by_colour()
    stage.label_studio.projects[stage.project]["label_config"] = PAIR
    on_left, on_right = blob(1)[1], blob(2)[1]
    stage.submit(
        add(stage, left=picture(1), right=picture(2)),
        brush(on_left, control="ta", image="a"),
        brush(on_right, control="tb", image="b"),
    )
    stage.work()
    return stage


def picture(seed: int) -> str:
    return data_uri(png(blob(seed)[0]))


def add(stage: Stage, **data: Any) -> int:
    return stage.label_studio.add_task(stage.project, **data)


@pytest.mark.parametrize("lacking", [{}, {"right": None}, {"right": ""}], ids=["absent", "null", "empty"])
def test_a_task_that_lacks_one_of_its_images_is_predicted_on_the_others(
    pairs: Stage, lacking: dict[str, Any]
) -> None:
    """It got nothing at all, was tried again every ten minutes, and came last where people sort by score."""
    task = add(pairs, left=picture(3), **lacking)
    (result,) = pairs.predict(task)
    (region,) = result["result"]
    assert region["to_name"] == "a"
    assert (mask_of(region) == blob(3)[1]).all()
    whole = add(pairs, left=picture(3), right=picture(3))
    (both,) = pairs.predict(whole)
    assert result["score"] == pytest.approx(
        both["score"]
    )  # the mean of what was looked for, not less for the rest
    (record,) = pairs.backend.store.predictions(pairs.key, task)
    assert record.context.keys() == record.masks.keys() == {"ta/a/cell"}


def test_such_a_task_is_pushed_ahead_and_compared_on_the_image_that_it_has(pairs: Stage) -> None:
    task = add(pairs, left=None, right=picture(4))
    pairs.event("TASKS_CREATED", tasks=[{"id": task}])
    pairs.work()
    (state,) = pairs.backend.store.task_states(pairs.key, [task])
    assert (state.status, state.reason) == ("done", "pushed")
    annotation = pairs.submit(task, brush(half(blob(4)[1]), control="tb", image="b"))
    pairs.work()
    (kept,) = [one for one in pairs.backend.store.kept(pairs.key) if one.annotation == annotation]
    assert kept.target == "tb/b/cell"
    assert kept.iou == pytest.approx(0.5, abs=0.01)


def test_an_image_that_comes_later_is_looked_at_then(pairs: Stage) -> None:
    task = add(pairs, left=picture(3))
    pairs.predict(task)
    pairs.label_studio.tasks[task]["data"]["right"] = picture(5)
    (result,) = pairs.predict(task)
    assert [region["to_name"] for region in result["result"]] == ["a", "b"]


def test_a_task_with_none_of_its_images_fails_and_its_reason_names_them(pairs: Stage) -> None:
    without = add(pairs, left=None, text="only text")
    assert predict(pairs, [without]).failed == {without: "the task has no image under 'left' or 'right'."}


def test_an_image_that_is_named_and_cannot_be_read_is_waited_for(pairs: Stage) -> None:
    """A prediction of half a task would stay, though the rest can be read a minute later."""
    task = add(pairs, left=picture(3), right="/data/upload/gone.png")
    predictions = predict(pairs, [task])
    assert predictions.failed.keys() == {task}
    assert not predictions.done


def test_nobody_can_ask_why_of_an_image_that_the_task_does_not_have(pairs: Stage) -> None:
    task = add(pairs, left=picture(3))
    pairs.predict(task)
    _, known = pairs.backend.why.of(pairs.key, task)
    assert known.keys() == {"ta/a/cell"}
    with pytest.raises(NotFound, match="Nothing of 'tb/b/cell' was predicted"):
        pairs.backend.why.ask(pairs.key, task, ["tb/b/cell"])


def test_doctor_reads_the_first_image_that_a_task_has(pairs: Stage) -> None:
    add(pairs, right=picture(3))
    said = [
        finding.found for finding in examine(pairs.settings) if finding.what == f"project {pairs.project}"
    ]
    assert "image of task 2 is readable, 64 x 48" in said
