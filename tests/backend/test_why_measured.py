"""Why this mask, measured: what each part behind a prediction did for it, by the API and the page, in either store."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend import revision, why
from backend.store.pictures import unpack_mask
from model.device import DeviceMemoryError
from model.segmenter import Query
from tests.backend.stage import Stage, blob, brush, by_colour, half, iou, write_random_checkpoint
from tests.backend.test_page import said, show
from tests.backend.test_prompts import add
from tests.backend.test_sequences import approve as approve_frame
from tests.backend.test_sequences import surely
from tests.backend.test_sequences import upload as upload_frame

Staging = Callable[..., Stage]


def average(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    """As the network: the mean of what each part alone would paint; a prompt paints everything, and is surer of it."""
    return [np.mean(_each(query), axis=0, dtype=np.float32) for query in queries]


def _each(query: Query) -> list[NDArray[np.float32]]:
    context = query.context
    found = [
        by_colour([Query(query.image, replace(context, examples=(one,)))])[0] for one in context.examples
    ]
    return [*found, *([np.full(query.image.shape[:2], 0.97, np.float32)] if context.prompt else [])]


class Counted:
    """Lets the network be watched: how many examples each mask was made by."""

    def __init__(self, stage: Stage, segment: Any = average) -> None:
        self.made: list[int] = []
        self._segment = segment
        stage.segment_with(self)

    def __call__(self, queries: Sequence[Query]) -> Any:
        self.made += [len(query.context) for query in queries]
        return self._segment(queries)


def api(stage: Stage, task: int, method: str = "GET", status: int = 200, **wish: Any) -> Any:
    address = f"/api/projects/{stage.key}/tasks/{task}/why"
    answer = stage.client.request(method, address, json=wish or None)
    assert answer.status_code == status, answer.text
    return answer.json()


def measured(stage: Stage, task: int) -> Any:
    """What is said of a task's one mask after it was asked for and the worker did it."""
    api(stage, task, "POST", 202)
    stage.tune()
    (mask,) = api(stage, task)["masks"]
    return mask


def behind(stage: Stage, task: int) -> tuple[str, ...]:
    return stage.backend.store.predictions(stage.key, task)[0].context[stage.target]


def taught(stage: Stage, wrong: Sequence[int] = (), count: int = 3) -> int:
    """Approve discs, and outline the wrong ones' ground instead; returns a task that was predicted by all of them."""
    for seed in range(count):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(~mask if seed in wrong else mask))
        stage.work()
    stage.jobs.tuning.flush()
    stage.backend.alarm.measure(stage.key)  # else the worker would
    task = stage.upload(blob(9)[0])
    stage.predict(task)
    assert len(behind(stage, task)) == count
    return task


# -- figures -------------------------------------------------------------------------------------------------------
def test_an_example_with_another_mask_has_other_figures_than_its_likes(stage: Stage) -> None:
    """Two discs outvote one ground; without one of them nothing has a majority, and nothing is shown."""
    counted = Counted(stage)
    task = taught(stage, wrong=[2])
    (mask,) = api(stage, task)["masks"]
    assert (mask["status"], mask["parts"]) == ("not_asked", [])
    counted.made.clear()
    mask = measured(stage, task)
    assert mask["status"] == "measured"
    assert [part["key"] for part in mask["parts"]] == list(behind(stage, task))
    pool = {info.key: info.annotation for info in stage.backend.store.pool(stage.key)}
    figures = {pool[part["key"]]: (part["without"], part["alone"]) for part in mask["parts"]}
    assert figures == {1: (1.0, 1.0), 2: (1.0, 1.0), 3: (0.0, 0.0)}, (
        "the third changed nothing, and says the opposite"
    )
    assert {pool[part["key"]]: part["share"] for part in mask["parts"]} == {1: 0.5, 2: 0.5, 3: 0.0}
    assert sorted(counted.made) == [1, 1, 1, 2, 2, 2, 3]


def test_figures_are_those_of_predictions_without_it_and_by_it_alone(staging: Staging) -> None:
    """By the network itself: random weights, so masks differ in everything; the threshold lets them have some size."""
    stage = staging(threshold=0.45)
    task = taught(stage)
    parts = measured(stage, task)["parts"]
    store = stage.backend.store
    snapshot = revision.take(store, stage.key, stage.backend.checkpoint)
    record = store.predictions(stage.key, task)[0]

    def predicted(*keys: str) -> Any:
        pool = tuple(info for info in snapshot.pool[stage.target] if info.key in keys)
        other = replace(snapshot, revision="without", pool={stage.target: pool})
        stage.backend.predictor.predict(other, [stage.label_studio.tasks[task]])
        return unpack_mask(
            next(one for one in store.predictions(stage.key, task) if one.revision == "without").masks[
                stage.target
            ]
        )

    shown = unpack_mask(record.masks[stage.target])
    assert 0 < shown.sum() < shown.size
    for part in parts:
        others = [key for key in record.context[stage.target] if key != part["key"]]
        assert part["without"] == pytest.approx(1 - iou(shown, predicted(*others)), abs=1e-4)
        assert part["alone"] == pytest.approx(iou(shown, predicted(part["key"])), abs=1e-4)
    assert len({(part["without"], part["alone"]) for part in parts}) > 1, "else the figures could be anyone's"
    assert sum(part["share"] for part in parts) == pytest.approx(1)


def test_shares_are_equal_where_nothing_changes_anything(stage: Stage) -> None:
    stage.segment_with(average)
    parts = measured(stage, taught(stage))["parts"]
    assert [(part["without"], part["alone"]) for part in parts] == [(0.0, 1.0)] * 3
    assert [part["share"] for part in parts] == [pytest.approx(1 / 3)] * 3
    assert why.shares([0.1, 0.3]) == pytest.approx([0.25, 0.75])
    assert why.shares([0.0001, 0.0049]) == [0.5, 0.5], "a pixel at an edge is nothing"
    assert why.shares([0.0049, 0.005]) == [0.0, 1.0]


def test_of_two_each_alone_is_the_other_left_out(stage: Stage) -> None:
    counted = Counted(stage)
    task = taught(stage, count=2)
    counted.made.clear()
    assert measured(stage, task)["status"] == "measured"
    assert counted.made == [2, 1, 1]


def test_the_only_one_has_all_of_it_without_any_computing(stage: Stage) -> None:
    counted = Counted(stage)
    task = taught(stage, count=1)
    counted.made.clear()
    (mask,) = api(stage, task, "POST", 202)["masks"]
    (key,) = behind(stage, task)
    only = {"key": key, "share": 1.0, "without": None, "alone": None}
    assert (mask["status"], mask["parts"]) == ("measured", [only])
    assert stage.jobs.tuning.pending_count() == 0
    assert counted.made == []
    shown = show(stage, f"/tasks/{task}")
    assert "Measure what each did" not in shown
    assert "Without it" not in shown


@pytest.mark.parametrize("uses", ["prompt", "both"])
def test_a_prompt_alone_has_all_of_it_and_beside_examples_they_share(stage: Stage, uses: str) -> None:
    stage.segment_with(average)
    for seed in range(2):
        stage.approve(seed)
    number = add(stage, activate=True, uses=uses)
    stage.jobs.tuning.flush()
    task = stage.upload(blob(9)[0])
    stage.predict(task)
    prompt, *examples = measured(stage, task)["parts"]
    assert prompt["key"] == f"{stage.key}/prompt/{number}"
    if uses == "prompt":
        assert (prompt["share"], prompt["without"], examples) == (1.0, None, [])
        return
    assert (prompt["share"], prompt["without"]) == (0.0, 0.0), "two examples outvote it"
    assert prompt["alone"] < 0.2
    assert [part["share"] for part in examples] == [0.5, 0.5]
    assert [part["alone"] for part in examples] == [1.0, 1.0]
    assert "Prompt 1</a></p> <p" in " ".join(show(stage, f"/tasks/{task}").split()), (
        "its figures stand below it"
    )


def test_what_was_predicted_on_the_frame_before_is_measured_as_an_example(staging: Staging) -> None:
    stage = staging(sequence_key="clip", shots=4)
    stage.segment_with(surely)
    stage.setup()
    approve_frame(stage, 1, "b", 1)
    tasks = [upload_frame(stage, 10 + frame, "a", frame) for frame in (1, 2)]
    stage.predict(*tasks)
    stage.jobs.tuning.flush()
    parts = measured(stage, tasks[1])["parts"]
    assert [f"/predicted/{tasks[0]}/" in part["key"] for part in parts] == [False, True]
    assert sum(part["share"] for part in parts) == pytest.approx(1)
    between = upload_frame(stage, 15, "a", 1.5)
    stage.predict(between)
    stage.backend.store.set_note(f"why:{stage.key}", "")
    assert "on the frame before is not kept any more" in measured(stage, tasks[1])["reason"]


# -- once, and for as long as the prediction is the newest ---------------------------------------------------------
def test_it_is_measured_once(stage: Stage) -> None:
    counted = Counted(stage)
    task = taught(stage)
    first = measured(stage, task)
    counted.made.clear()
    assert api(stage, task, "POST", 202)["masks"] == [first]
    assert stage.tune() == []
    stage.predict(task)
    assert api(stage, task)["masks"] == [first], "it was not predicted anew: what is known is answered"
    assert counted.made == []


def test_only_the_labels_that_are_named_are_measured(staging: Staging, fake_label_studio: Any) -> None:
    number = fake_label_studio.add_project(
        '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">'
        '<Label value="cell"/><Label value="debris"/></BrushLabels></View>'
    )
    stage = staging()
    assert stage.project == number
    stage.segment_with(average)
    for seed in range(2):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(mask), brush(~mask, "debris"))
    stage.work()
    stage.jobs.tuning.flush()
    task = stage.upload(blob(9)[0])
    stage.predict(task)
    api(stage, task, "POST", 202, targets=["tag/image/debris"])
    stage.tune()
    states = {mask["target"]: mask["status"] for mask in api(stage, task)["masks"]}
    assert states == {"tag/image/cell": "not_asked", "tag/image/debris": "measured"}
    assert "Measure what each did" in show(stage, f"/tasks/{task}"), "for the rest"
    api(stage, task, "POST", 202)
    stage.tune()
    assert {mask["status"] for mask in api(stage, task)["masks"]} == {"measured"}


def test_a_superseded_prediction_loses_it(either: Stage) -> None:
    either.segment_with(average)
    task = taught(either)
    for approved in (
        4,
        5,
    ):  # the fifth moves the revision; after the fourth the prediction replaces that before it
        assert measured(either, task)["parts"]
        either.approve(20 + approved)
        either.jobs.tuning.flush()
        either.predict(task)
        (mask,) = api(either, task)["masks"]
        assert (mask["status"], mask["parts"]) == ("not_asked", [])
    shown = show(either, f"/tasks/{task}")
    assert "Without it" not in shown
    assert "Earlier: predicted on" in shown
    either.jobs.look()
    either.work()
    assert not either.backend.store.note(f"why:{either.key}")


def test_what_was_superseded_while_it_waited_is_not_measured(stage: Stage) -> None:
    counted = Counted(stage)
    task = taught(stage)
    api(stage, task, "POST", 202)
    stage.approve(20)
    stage.predict(task)
    counted.made.clear()
    stage.backend.why.measure(stage.key, lambda: None)
    assert counted.made == []


def test_what_is_superseded_while_it_is_measured_leaves_no_figures(stage: Stage) -> None:
    stage.segment_with(average)
    task = taught(stage)
    api(stage, task, "POST", 202)
    seeds = [20]

    def predict_anew() -> None:
        if seeds:
            stage.approve(seeds.pop())
            stage.predict(task)

    stage.backend.why.measure(stage.key, predict_anew)
    assert api(stage, task)["masks"][0]["status"] == "not_asked"
    assert not stage.backend.store.note(f"why:{stage.key}")


def test_of_a_project_those_asked_for_last_are_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why, "KEPT", 2)
    stage.segment_with(average)
    tasks = [taught(stage, count=2), *stage.blobs(2, first=40)]
    stage.predict(*tasks)
    for task in tasks:
        assert measured(stage, task)["status"] == "measured"
    assert [api(stage, task)["masks"][0]["status"] for task in tasks] == ["not_asked", "measured", "measured"]


# -- what is gone --------------------------------------------------------------------------------------------------
def test_an_example_that_is_gone_is_named_and_asking_again_helps_once_it_is_back(stage: Stage) -> None:
    stage.segment_with(average)
    task = taught(stage)
    key = behind(stage, task)[0]
    stage.client.post(f"/api/projects/{stage.key}/examples/{key}/drop")
    mask = measured(stage, task)
    assert (mask["status"], mask["parts"]) == ("impossible", [])
    assert mask["reason"] == "One of the examples behind it is in use no more."
    shown = show(stage, f"/tasks/{task}")
    assert "What each did could not be measured. One of the examples" in said(shown)
    assert "Measure what each did" in shown
    stage.client.post(f"/api/projects/{stage.key}/examples/{key}/restore")
    stage.work(lane=stage.jobs.events)
    assert measured(stage, task)["status"] == "measured"


def test_two_examples_that_are_gone_are_counted(stage: Stage) -> None:
    stage.segment_with(average)
    task = taught(stage)
    stage.backend.store.drop_examples(behind(stage, task)[:2])
    assert measured(stage, task)["reason"] == "2 of the examples behind it are in use no more."


def test_a_picture_that_is_gone_a_task_or_a_label_is_told(staging: Staging) -> None:
    stage = staging(image_cache_bytes=0)
    stage.segment_with(average)
    task = taught(stage)
    data = stage.label_studio.tasks[task]["data"]
    kept = stage.label_studio.uploads.pop(data["image"])
    assert "404" in measured(stage, task)["reason"]
    stage.label_studio.tasks[task]["data"] = {}
    assert "no image under 'image'" in measured(stage, task)["reason"]
    stage.label_studio.tasks[task]["data"], stage.label_studio.uploads[data["image"]] = data, kept
    config = stage.label_studio.projects[stage.project]["label_config"]
    stage.backend.store.put_label_config(stage.key, config.replace("cell", "nucleus"), "f")
    assert "not in the labeling config any more" in measured(stage, task)["reason"]
    stage.backend.store.put_label_config(stage.key, config, "g")
    assert measured(stage, task)["status"] == "measured"
    stage.backend.store.set_note(f"why:{stage.key}", "")
    stage.label_studio.delete_task(task)
    assert "not in Label Studio any more" in measured(stage, task)["reason"]


def test_a_prompt_that_cannot_be_used_any_more_is_told(staging: Staging, tmp_path: Path) -> None:
    stage = staging()
    stage.segment_with(average)
    stage.approve(1)
    number = add(stage, activate=True, uses="both")
    task = stage.upload(blob(9)[0])
    stage.predict(task)
    another = staging(checkpoint=write_random_checkpoint(tmp_path / "another.safetensors", image_size=32))
    another.segment_with(average)
    another.jobs.tuning.flush()
    assert measured(another, task)["reason"] == f"Prompt {number} cannot be used any more."


def test_where_something_else_has_changed_no_part_is_blamed(staging: Staging) -> None:
    """Else it would look as if each example agreed with half of the mask only."""
    stage = staging()
    stage.segment_with(average)
    task = taught(stage)
    image, mask = blob(9)
    image[half(mask)] = 30
    stage.label_studio.tasks[task]["data"]["image"] = stage.label_studio.tasks[stage.upload(image)]["data"][
        "image"
    ]
    found = measured(stage, task)
    assert (found["status"], found["parts"]) == ("impossible", [])
    assert "With the same parts the mask would be another one now" in found["reason"]


def test_what_there_is_no_memory_for_is_told(stage: Stage) -> None:
    stage.segment_with(average)
    task = taught(stage)

    def full(_queries: Any) -> Any:
        raise DeviceMemoryError("cpu has not enough memory")

    stage.segment_with(full)
    assert measured(stage, task)["reason"] == "Out of memory: cpu has not enough memory"
