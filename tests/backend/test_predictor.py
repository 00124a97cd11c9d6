"""Tasks to predictions: which examples are used, what a bad task costs, and where the deadline falls."""

import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend import revision
from backend.errors import ImageError
from backend.predictor import Predictions
from backend.revision import Snapshot
from model.device import DeviceMemoryError
from model.segmenter import Query
from tests.backend.stage import Stage, blob, brush, by_colour, mask_of


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    for room in ("predictor", "pace"):
        monkeypatch.setattr(f"backend.predictor.{room}.time", stopped)
    return stopped


def snapshot_of(stage: Stage) -> Snapshot:
    return revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)


def predict(stage: Stage, tasks: Sequence[int], deadline: float | None = None) -> Predictions:
    rows = [stage.label_studio.tasks[task] for task in tasks]
    return stage.backend.predictor.predict(snapshot_of(stage), rows, deadline)


def contexts(stage: Stage, task: int) -> list[int]:
    """Annotations behind the newest prediction of a task, in the order of the context."""
    record = stage.backend.store.predictions(stage.key, task)[0]
    annotations = {info.key: info.annotation for info in stage.backend.store.pool(stage.key)}
    return [annotations[key] for key in record.context[stage.target]]


def slow(stage: Stage, clock: Clock, seconds: Callable[[int], float]) -> list[int]:
    """Every query takes so many seconds, by how many were asked before; returns the sizes of the batches."""
    batches: list[int] = []

    def segment(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        clock.now += sum(seconds(sum(batches) + number) for number in range(len(queries)))
        batches.append(len(queries))
        return by_colour(queries)

    stage.segment_with(segment)
    return batches


# -- what is predicted ---------------------------------------------------------------------------------------------
def test_a_prediction_is_where_the_examples_say_and_scores_what_it_expects_to_be_kept(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    image, mask = blob(2)
    task = stage.upload(image)
    prediction = predict(stage, [task]).done[task]
    (region,) = prediction.result
    assert (mask_of(region) == mask).all()
    sure = mask.sum() * 0.9 / (mask.sum() + (~mask).sum() * 0.05)
    assert prediction.score == pytest.approx(sure, rel=1e-4)
    assert prediction.revision == snapshot_of(stage).revision
    assert prediction.wire() == {
        "result": prediction.result, "score": prediction.score, "model_version": prediction.revision
    }  # fmt: skip


def test_before_the_first_approval_of_a_label_nothing_is_predicted(stage: Stage) -> None:
    stage.setup()
    tasks = stage.blobs(2)
    assert predict(stage, tasks) == Predictions(unready=tasks)


def test_the_exact_context_is_recorded_with_each_prediction(stage: Stage) -> None:
    first, second = stage.approve(1), stage.approve(2)
    (task,) = stage.blobs(1, first=3)
    predict(stage, [task])
    assert contexts(stage, task) == [first, second]
    (record,) = stage.backend.store.predictions(stage.key, task)
    assert record.revision == snapshot_of(stage).revision
    assert record.pushed is None


def test_a_task_is_predicted_from_others_and_from_itself_only_where_there_is_no_other(stage: Stage) -> None:
    own = stage.approve(1)
    task = stage.label_studio.annotations[own]["task"]
    predict(stage, [task])
    assert contexts(stage, task) == [own]
    other = stage.approve(2)
    predict(stage, [task])
    assert contexts(stage, task) == [other]


def test_two_annotations_of_a_task_give_one_example_the_newest(stage: Stage) -> None:
    first = stage.approve(1)
    task = stage.label_studio.annotations[first]["task"]
    second = stage.submit(task, brush(blob(1)[1]), completed_by=2)
    stage.work()
    assert stage.pool == [first, second]
    (other,) = stage.blobs(1, first=5)
    predict(stage, [other])
    assert contexts(stage, other) == [second]


def test_a_context_holds_at_most_the_set_number_of_examples(staging: Callable[..., Stage]) -> None:
    stage = staging(shots=2)
    approved = [stage.approve(seed) for seed in range(4)]
    (task,) = stage.blobs(1, first=7)
    predict(stage, [task])
    used = contexts(stage, task)
    assert len(used) == 2
    assert set(used) < set(approved)


def test_without_descriptors_the_newest_examples_are_used(staging: Callable[..., Stage]) -> None:
    stage = staging(shots=2)
    stage.backend.learner._describe = lambda _: np.zeros(0, np.float32)
    approved = [stage.approve(seed) for seed in range(4)]
    (task,) = stage.blobs(1, first=7)
    predict(stage, [task])
    assert contexts(stage, task) == approved[-2:]


def test_an_example_withdrawn_after_the_snapshot_is_left_out_and_with_the_last_the_task_is_not_ready(
    stage: Stage,
) -> None:
    first, second = stage.approve(1), stage.approve(2)
    (task,) = stage.blobs(1, first=3)
    snapshot = snapshot_of(stage)
    stage.backend.store.withdraw(stage.key, [first])
    rows = [stage.label_studio.tasks[task]]
    assert stage.backend.predictor.predict(snapshot, rows).done.keys() == {task}
    assert contexts(stage, task) == [second]
    stage.backend.store.withdraw(stage.key, [second])
    fresh = stage.backend.predictor.__class__(
        stage.backend.store, stage.backend.images, stage.backend.segmenter, stage.settings
    )
    assert fresh.predict(snapshot, rows) == Predictions(unready=[task])


# -- what is asked again -------------------------------------------------------------------------------------------
def test_the_same_question_is_answered_without_computing_again(stage: Stage, clock: Clock) -> None:
    batches = slow(stage, clock, lambda _: 0.1)
    stage.approve(1)
    tasks = stage.blobs(3, first=3)
    first = predict(stage, tasks)
    asked = sum(batches)
    assert predict(stage, tasks).done == first.done
    assert sum(batches) == asked


def test_an_answer_is_computed_anew_once_the_context_is_another_though_the_revision_is_not(
    stage: Stage, clock: Clock
) -> None:
    batches = slow(stage, clock, lambda _: 0.1)
    for seed in range(3):
        stage.approve(seed)
    (task,) = stage.blobs(1, first=9)
    predict(stage, [task])
    version, asked = snapshot_of(stage).revision, sum(batches)
    fourth = stage.approve(4)  # the fourth approval moves no revision
    assert snapshot_of(stage).revision == version
    predict(stage, [task])
    assert sum(batches) > asked
    assert fourth in contexts(stage, task)


def test_an_answer_is_computed_anew_once_the_task_names_another_image(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    (task,) = stage.blobs(1, first=5)
    before = predict(stage, [task]).done[task]
    image, mask = blob(6)
    stage.label_studio.tasks[task]["data"] = stage.label_studio.tasks[stage.upload(image)]["data"]
    after = predict(stage, [task]).done[task]
    assert after.result != before.result
    assert (mask_of(after.result[0]) == mask).all()


# -- what goes wrong -----------------------------------------------------------------------------------------------
def test_one_bad_image_costs_only_itself(stage: Stage) -> None:
    stage.approve(1)
    good, damaged, missing, without = (
        *stage.blobs(1, first=2), stage.label_studio.add_task(stage.project, b"no picture"),
        stage.label_studio.add_task(stage.project, image="/data/upload/gone.png"),
        stage.label_studio.add_task(stage.project, text="only text"),
    )  # fmt: skip
    no_data = {"id": 99, "data": None}
    rows = [stage.label_studio.tasks[task] for task in (damaged, missing, good, without)]
    predictions = stage.backend.predictor.predict(snapshot_of(stage), [*rows, no_data, {"id": "x"}, {}])
    assert predictions.done.keys() == {good}
    assert predictions.failed.keys() == {damaged, missing, without, 99}
    assert "no image under 'image'" in predictions.failed[without]
    assert not predictions.unreached


def test_where_memory_runs_out_the_tasks_fail_with_the_reason(stage: Stage) -> None:
    stage.approve(1)
    tasks = stage.blobs(2, first=2)

    def segment(_: object) -> Any:
        raise DeviceMemoryError("one picture needs more than there is")

    stage.segment_with(segment)
    predictions = predict(stage, tasks)
    assert predictions.failed.keys() == set(tasks)
    assert "needs more than there is" in predictions.failed[tasks[0]]


def test_masks_of_a_step_that_are_large_together_are_segmented_in_parts(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.predictor.predictor._STEP_PIXELS", 2 * 48 * 64)
    batches = slow(stage, clock, lambda _: 0.1)
    stage.approve(1)
    tasks = stage.blobs(6, first=2)
    assert list(predict(stage, tasks).done) == tasks
    assert max(batches) == 2


def test_several_image_tags_are_predicted_each_on_its_own_image(staging: Callable[..., Stage]) -> None:
    stage = staging()
    stage.segment_by_colour()
    project = stage.label_studio.projects[stage.project]
    project["label_config"] = (
        '<View><Image name="a" value="$left"/><Image name="b" value="$right"/>'
        '<BrushLabels name="ta" toName="a"><Label value="cell"/></BrushLabels>'
        '<BrushLabels name="tb" toName="b"><Label value="cell"/></BrushLabels></View>'
    )
    (left, on_left), (right, on_right) = blob(1), blob(2, 40, 80)

    def pair(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
        one, other = stage.upload(a), stage.upload(b)
        names = [stage.label_studio.tasks[task]["data"]["image"] for task in (one, other)]
        return stage.label_studio.add_task(stage.project, left=names[0], right=names[1])

    stage.submit(
        pair(left, right), brush(on_left, control="ta", image="a"), brush(on_right, control="tb", image="b")
    )
    stage.work()
    (new, on_new), (other, on_other) = blob(3), blob(4, 40, 80)
    task = pair(new, other)
    found = {region["to_name"]: region for region in predict(stage, [task]).done[task].result}
    assert (mask_of(found["a"]) == on_new).all()
    assert (mask_of(found["b"]) == on_other).all()


# -- the deadline --------------------------------------------------------------------------------------------------
def test_what_the_deadline_leaves_over_is_told_in_the_order_asked_for(stage: Stage, clock: Clock) -> None:
    slow(stage, clock, lambda _: 5.0)
    stage.approve(1)
    tasks = stage.blobs(30, first=2)
    predictions = predict(stage, tasks, deadline=clock.now + 22)
    assert list(predictions.done) == tasks[:4]
    assert list(predictions.unreached) == tasks[4:]
    assert clock.now <= 1000 + 22


def test_a_step_that_takes_far_longer_than_the_one_before_ends_the_request_and_not_the_server(
    stage: Stage, clock: Clock
) -> None:
    """The time left, counted in tasks, was below -1 then: the next step was negative, empty, and divided by zero."""
    slow(stage, clock, lambda number: 0.1 if number < 3 else 9.0)
    stage.approve(1)
    tasks = stage.blobs(20, first=2)
    predictions = predict(stage, tasks, deadline=clock.now + 10)
    assert [*predictions.done, *predictions.unreached] == tasks
    assert predictions.unreached


def test_answers_kept_from_before_do_not_make_the_next_step_longer_than_the_time_left(
    stage: Stage, clock: Clock
) -> None:
    """A step of kept answers took no time, so that the next took eight new tasks, whatever was left."""
    batches = slow(stage, clock, lambda _: 5.0)
    stage.approve(1)
    tasks = stage.blobs(30, first=2)
    known = predict(stage, tasks[:4])
    predictions = predict(stage, tasks, deadline=clock.now + 12)
    assert list(known.done) == tasks[:4]
    assert list(predictions.done) == tasks[:6]
    assert batches[-2:] == [1, 1]


def test_a_deadline_that_has_passed_reaches_nothing(stage: Stage, clock: Clock) -> None:
    stage.approve(1)
    tasks = stage.blobs(3, first=2)
    assert predict(stage, tasks, deadline=clock.now) == Predictions(unreached=tuple(tasks))


def test_an_image_that_does_not_arrive_costs_the_request_no_more_than_its_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading took as long as it took: eight images of a dead host were eight time-outs, beyond any proxy's patience."""
    stage.approve(1)
    tasks = stage.blobs(4, first=2)
    first_done: list[float] = []

    def segment(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        found = by_colour(queries)
        first_done.append(time.monotonic())
        return found

    def since_the_first_was_done() -> float:
        return time.monotonic() - first_done[0] if first_done else 0.0

    stage.segment_with(segment)
    clock = SimpleNamespace(monotonic=since_the_first_was_done, time=time.time)
    for room in ("predictor", "pace"):
        monkeypatch.setattr(f"backend.predictor.{room}.time", clock)
    stuck = stage.label_studio.tasks[tasks[1]]["data"]["image"]
    arrives, really = threading.Event(), stage.backend.images.open

    def open_when_it_arrives(url: str, task: int | None = None) -> NDArray[np.uint8]:
        if url == stuck and not arrives.wait(600):
            raise ImageError("never arrived")
        return really(url, task)

    monkeypatch.setattr(stage.backend.images, "open", open_when_it_arrives)
    try:
        predictions = predict(stage, tasks, deadline=0.5)
        assert not arrives.is_set()
    finally:
        arrives.set()
    assert list(predictions.done) == tasks[:1]
    assert list(predictions.unreached) == tasks[1:]


def test_predictions_are_told_in_the_order_asked_for_though_some_were_known(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    tasks = stage.blobs(12, first=2)
    predict(stage, tasks[6:])
    assert list(predict(stage, tasks).done) == tasks


def test_several_requests_at_once_get_the_same_answers_as_one_after_the_other(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    tasks = stage.blobs(6, first=2)
    snapshot, rows = snapshot_of(stage), [stage.label_studio.tasks[task] for task in tasks]
    found: list[Predictions] = []
    threads = [
        threading.Thread(target=lambda: found.append(stage.backend.predictor.predict(snapshot, rows)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    masks = [[mask_of(one.done[task].result[0]) for task in tasks] for one in found]
    assert all((a == b).all() for other in masks[1:] for a, b in zip(masks[0], other, strict=True))
