"""Predicting ahead: which tasks, in what order, what is tidied away, and when it gives way."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from backend.errors import LabelStudioError
from backend.pre_annotation import PREDICTING, STEP_TASKS, Step
from tests.backend.loopback import Answer, Request
from tests.backend.stage import Stage, blob, brush


def pushed(stage: Stage) -> list[tuple[int, str]]:
    """Task and version of the predictions in Label Studio, in the order in which they came."""
    rows = sorted(stage.label_studio.stored_predictions.items())
    return [(row["task"], row["model_version"]) for _, row in rows]


def states(stage: Stage) -> dict[int, tuple[str, str]]:
    return {state.task: (state.status, state.reason) for state in stage.backend.store.task_states(stage.key)}


def step(stage: Stage, after: int = 0, seen: int = 0) -> Step:
    return stage.backend.pre_annotation.step(stage.key, after, seen)


@pytest.fixture
def ready(stage: Stage) -> Stage:
    """A project with one approved mask, of which the worker knows, and nothing else."""
    stage.segment_by_colour()
    stage.approve(1)
    return stage


def test_when_tasks_arrive_their_masks_are_waiting_under_the_current_version_in_stream_order(
    ready: Stage,
) -> None:
    tasks = ready.blobs(20, first=2)
    ready.event("TASKS_CREATED", tasks=[ready.label_studio.tasks[task] for task in tasks])
    ready.work()
    version = ready.setup()
    assert pushed(ready) == [(task, version) for task in tasks]
    assert {states(ready)[task] for task in tasks} == {("done", "pushed")}
    row = next(iter(ready.label_studio.stored_predictions.values()))
    assert row["result"]
    assert 0 < row["score"] <= 1


def test_a_labeled_or_skipped_task_is_not_predicted_ahead(ready: Stage) -> None:
    labeled, skipped, open_ = ready.blobs(3, first=2)
    ready.label_studio.annotate(labeled, [brush(blob(2)[1])])
    ready.label_studio.annotate(skipped, [], was_cancelled=True)
    step(ready)
    assert [task for task, _ in pushed(ready)] == [open_]


def test_before_anything_is_approved_nothing_is_done(stage: Stage) -> None:
    stage.blobs(2)
    stage.setup()
    assert step(stage) == Step()


@pytest.mark.parametrize(("setting", "count"), [("off", 0), ("0", 0), ("3", 3), ("12", 12), ("all", 14)])
def test_the_setting_bounds_how_many_tasks_are_predicted_ahead(
    staging: Callable[..., Stage], setting: str, count: int
) -> None:
    stage = staging(pre_annotate=setting)
    stage.segment_by_colour()
    stage.approve(1)
    tasks = stage.blobs(14, first=2)
    stage.jobs.pre_annotate(stage.key)
    stage.work()
    assert [task for task, _ in pushed(stage)] == tasks[:count]


def test_while_a_request_is_answered_background_work_gives_way(ready: Stage) -> None:
    tasks = ready.blobs(2, first=2)
    ready.backend.store.acquire(f"{PREDICTING}x", "somebody", 3600)
    assert step(ready, 3, 4) == Step(more=True, after=3, seen=4)
    assert ready.backend.pre_annotation.left_overs(ready.key, tasks) == Step(more=True, left=tuple(tasks))
    assert pushed(ready) == []
    ready.jobs.pre_annotate(ready.key)
    assert ready.work() == ["pre_annotate"]
    ready.backend.store.release(f"{PREDICTING}x", "somebody")
    ready.work(later=True)
    assert [task for task, _ in pushed(ready)] == tasks


def test_a_step_that_takes_long_ends_early_so_that_it_can_give_way(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight tasks of a large network on a small machine were minutes, and longer than the lease on the project."""
    monkeypatch.setattr("backend.pre_annotation._STEP_SECONDS", 1e-6)
    really = ready.backend.predictor.predict

    def one_only(snapshot: Any, tasks: Any, deadline: Any = None) -> Any:
        assert deadline is not None
        found = really(snapshot, tasks[:2])
        return type(found)(found.done, found.failed, found.unready, tuple(task["id"] for task in tasks[2:]))

    monkeypatch.setattr(ready.backend.predictor, "predict", one_only)
    tasks = ready.blobs(5, first=2)
    first = step(ready)
    assert first == Step(pushed=2, more=True, after=tasks[1], seen=2)
    assert states(ready)[tasks[2]] == ("queued", "comes with the next step")
    ready.jobs.pre_annotate(ready.key, first.after, first.seen)
    ready.work()
    assert [task for task, _ in pushed(ready)] == tasks


def test_when_the_revision_moves_newer_predictions_replace_ours_and_nobody_else_s(ready: Stage) -> None:
    (task,) = ready.blobs(1, first=5)
    others = [ready.predicted_by(task, "another-model"), ready.predicted_by(task, "")]
    step(ready)
    old = ready.setup()
    assert (task, old) in pushed(ready)
    ready.approve(2)
    new = ready.setup()
    assert new != old
    held = {number: row["model_version"] for number, row in ready.label_studio.stored_predictions.items()}
    assert set(others) < set(held)
    assert sorted(set(held.values())) == sorted(["another-model", "", new])
    assert ready.backend.store.pushed(ready.key, except_revision=new) == []


def test_what_somebody_has_open_is_replaced_under_its_number(ready: Stage) -> None:
    """It was deleted, and Label Studio refuses an annotation that began with what is gone: HTTP 400 on the submission."""
    (task,) = ready.blobs(1, first=5)
    step(ready)
    ((number, opened),) = [*ready.label_studio.stored_predictions.items()]
    before = dict(opened)
    ready.approve(2)
    ((same, newer),) = [*ready.label_studio.stored_predictions.items()]
    assert (same, newer["task"], newer["model_version"]) == (number, task, ready.setup())
    assert newer["model_version"] != before["model_version"]
    records = ready.backend.store.predictions(ready.key, task)
    assert [(one.revision, one.pushed) for one in records] == [
        (newer["model_version"], number),
        (before["model_version"], None),
    ]


def test_what_somebody_deletes_meanwhile_is_pushed_as_a_new_one(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = ready.blobs(1, first=5)
    step(ready)
    really = ready.backend.predictor.predict

    def predict(*arguments: Any) -> Any:
        ready.label_studio.stored_predictions.clear()
        return really(*arguments)

    monkeypatch.setattr(ready.backend.predictor, "predict", predict)
    ready.approve(2)
    assert pushed(ready) == [(task, ready.setup())]


def test_a_labeled_task_keeps_its_older_prediction(ready: Stage) -> None:
    """Deleting it would blank the `parent_prediction` of the annotation made from it."""
    (task,) = ready.blobs(1, first=5)
    step(ready)
    old = ready.setup()
    ready.submit(task, brush(blob(5)[1], origin="prediction"), parent_prediction=1)
    ready.work()
    assert ready.setup() != old
    ready.backend.pre_annotation.left_overs(ready.key, [task])
    assert (task, old) in pushed(ready)


def test_a_prediction_that_label_studio_already_holds_is_not_made_again(ready: Stage) -> None:
    (task,) = ready.blobs(1, first=5)
    ready.predicted_by(task, ready.setup())
    assert step(ready) == Step()
    assert len(pushed(ready)) == 1
    assert states(ready)[task] == ("done", "pushed")


def test_a_task_whose_image_cannot_be_read_is_told_and_keeps_nobody_waiting(ready: Stage) -> None:
    bad = ready.label_studio.add_task(ready.project, image="/data/upload/gone.png")
    (good,) = ready.blobs(1, first=2)
    step(ready)
    assert [task for task, _ in pushed(ready)] == [good]
    status, reason = states(ready)[bad]
    assert status == "failed"
    assert reason
    assert step(ready) == Step()


def test_a_task_that_is_deleted_meanwhile_is_forgotten(ready: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, stays = ready.blobs(2, first=2)
    really = ready.backend.predictor.predict

    def predict(*arguments: Any) -> Any:
        ready.label_studio.delete_task(gone)
        return really(*arguments)

    monkeypatch.setattr(ready.backend.predictor, "predict", predict)
    # Its image is still in the answer of the upload.
    step(ready)
    assert [task for task, _ in pushed(ready)] == [stays]
    assert gone not in states(ready)


def test_a_prediction_that_label_studio_refuses_is_not_made_over_and_over(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = ready.blobs(1, first=2)

    def refuse(*_: Any) -> int:
        raise LabelStudioError("Label Studio refused the prediction.", status=400)

    monkeypatch.setattr(ready.backend.label_studio, "create_prediction", refuse)
    step(ready)
    assert states(ready)[task] == ("failed", "Label Studio refused the prediction.")
    assert step(ready) == Step()


@pytest.mark.parametrize("status", [413, 500])
def test_a_prediction_that_is_refused_holds_up_no_other_task(
    ready: Stage, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """nginx takes 1 MB, and a large mask is more: each pass ended at its task, and began there again, for ever."""
    tasks = ready.blobs(3, first=2)
    answer = ready.label_studio.answer

    def behind_a_proxy(request: Request) -> Answer:
        sent = json.loads(request.body) if request.method == "POST" and request.body else {}
        if request.path == "/api/predictions/" and sent.get("task") == tasks[1]:
            return Answer(status, b"<html>Request Entity Too Large</html>")
        return answer(request)

    monkeypatch.setattr(ready.label_studio, "answer", behind_a_proxy)
    assert step(ready).pushed == 2
    assert [task for task, _ in pushed(ready)] == [tasks[0], tasks[2]]
    kind, why = states(ready)[tasks[1]]
    assert (kind, f"with {status}" in why, "client_max_body_size" in why) == ("failed", True, status == 413)
    assert step(ready) == Step()


def test_where_label_studio_breaks_on_every_prediction_the_step_ends_and_the_tasks_wait(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: all were predicted again every ten minutes, in vain, and nobody was told."""
    tasks = ready.blobs(3, first=2)
    answer = ready.label_studio.answer

    def full(request: Request) -> Answer:
        if request.method == "POST" and request.path == "/api/predictions/":
            return Answer(500, b"database or disk is full")
        return answer(request)

    monkeypatch.setattr(ready.label_studio, "answer", full)
    with pytest.raises(LabelStudioError, match="with 500"):
        step(ready)
    assert {states(ready)[task][0] for task in tasks} == {"queued"}
    monkeypatch.setattr(ready.label_studio, "answer", answer)
    assert step(ready).pushed == 3


@pytest.mark.parametrize("status", [403, 429])
def test_a_refusal_that_is_not_about_a_task_ends_the_step(
    ready: Stage, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    tasks = ready.blobs(2, first=2)
    answer = ready.label_studio.answer
    monkeypatch.setattr(
        ready.label_studio,
        "answer",
        lambda request: (
            Answer(status, b"{}")
            if request.path == "/api/predictions/" and request.method == "POST"
            else answer(request)
        ),
    )
    with pytest.raises(LabelStudioError):
        step(ready)
    assert {states(ready)[task][0] for task in tasks} == {"queued"}


def test_where_label_studio_goes_away_in_the_middle_the_rest_comes_later_and_nothing_twice(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = ready.blobs(4, first=2)
    really, asked = ready.backend.label_studio.create_prediction, []

    def create(task: int, *rest: Any) -> int:
        asked.append(task)
        if len(asked) > 2:
            raise LabelStudioError("Label Studio gives no answer.")
        return really(task, *rest)

    monkeypatch.setattr(ready.backend.label_studio, "create_prediction", create)
    with pytest.raises(LabelStudioError):
        step(ready)
    assert [states(ready)[task][0] for task in tasks] == ["done", "done", "queued", "queued"]
    assert states(ready)[tasks[3]][1] == "Label Studio gives no answer."
    monkeypatch.undo()
    ready.segment_by_colour()
    step(ready)
    assert [task for task, _ in pushed(ready)] == tasks


def test_superseded_predictions_that_cannot_be_deleted_stay_for_now(
    ready: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (task,) = ready.blobs(1, first=5)
    step(ready)
    twice = ready.predicted_by(
        task, ready.setup()
    )  # as Label Studio stores where a task is opened twice at once

    def refuse(_: Any) -> Any:
        raise LabelStudioError("no answer")

    monkeypatch.setattr(ready.backend.label_studio, "delete_predictions", refuse)
    ready.approve(2)
    assert len(pushed(ready)) == 2
    assert "stay for now" in caplog.text
    monkeypatch.undo()
    ready.segment_by_colour()
    ready.approve(3)
    assert pushed(ready) == [(task, ready.setup())]
    assert twice in ready.label_studio.stored_predictions, "the newest is what somebody may have open"


def test_left_overs_that_are_gone_or_cannot_be_predicted_do_not_hold_up_those_behind_them(
    ready: Stage,
) -> None:
    """The first eight were asked for again and again where they were gone: there was no end, and the rest never came."""
    tasks = ready.blobs(2 * STEP_TASKS + 3, first=2)
    for task in tasks[: STEP_TASKS + 1]:
        ready.label_studio.delete_task(task)
    ready.jobs.left_overs(ready.key, tasks)
    ready.work()
    assert [task for task, _ in pushed(ready)] == tasks[STEP_TASKS + 1 :]


def test_left_overs_of_which_nothing_is_known_any_more_come_to_an_end(ready: Stage) -> None:
    tasks = ready.blobs(2 * STEP_TASKS, first=2)
    ready.jobs.left_overs(ready.key, tasks)
    ready.delete(1)
    ready.work()
    assert pushed(ready) == []
    assert states(ready)[tasks[-1]] == ("queued", "nothing approved yet")


def test_a_task_that_another_worker_is_at_is_left_to_it_and_looked_at_later(ready: Stage) -> None:
    mine, taken = ready.blobs(2, first=2)
    ready.backend.store.acquire(f"task:{ready.key}:{taken}", "another worker", 3600)
    ready.jobs.left_overs(ready.key, [taken, mine])
    ready.work()
    assert [task for task, _ in pushed(ready)] == [mine]
    ready.backend.store.release(f"task:{ready.key}:{taken}", "another worker")
    ready.work(later=True)
    assert [task for task, _ in pushed(ready)] == [mine, taken]


def test_many_left_overs_are_queued_in_parts_that_workers_share(ready: Stage) -> None:
    tasks = ready.blobs(2 * STEP_TASKS + 1, first=2)
    ready.jobs.left_overs(ready.key, tasks)
    assert ready.jobs.depths()["predictions"] == 3
    ready.work()
    assert sorted(task for task, _ in pushed(ready)) == tasks


def test_left_overs_are_tried_again_where_label_studio_does_not_answer(
    ready: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    (task,) = ready.blobs(1, first=2)
    ready.label_studio.failures += [Answer(503)] * 8
    ready.jobs.left_overs(ready.key, [task])
    ready.work()
    ready.label_studio.failures.clear()
    assert "answers 503 for now" in caplog.text
    assert "predictions not pushed" in str(ready.backend.store.note(f"trouble:push:{ready.key}"))
    ready.work(later=True)
    assert [number for number, _ in pushed(ready)] == [task]
