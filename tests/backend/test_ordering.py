"""Order of work: which version a project shows, and that it is never one whose predictions are missing."""

from collections.abc import Callable
from typing import Any

import pytest

from backend.errors import LabelStudioError, NotFound
from backend.label_studio.records import ProjectInfo
from backend.ordering import may_move
from backend.settings import Settings
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, blob, brush

Staging = Callable[..., Stage]
TITLE = "SegGPT of the department"


def connected(stage: Stage) -> Stage:
    """As connecting leaves a project; and, as a look of Label Studio does, its row knows our version."""
    project = stage.label_studio.projects[stage.project]
    project["model_version"] = project["model_version"] or TITLE
    stage.label_studio.backends[:] = [
        {"id": 1, "project": stage.project, "title": TITLE, "model_version": stage.setup()}
    ]
    stage.segment_by_colour()
    return stage


@pytest.fixture
def stage(staging: Staging) -> Stage:
    """A connected project with ORDER_BY_SCORE=on, and nothing approved yet."""
    return connected(staging(order_by_score=True))


def shown(stage: Stage) -> str:
    return str(stage.label_studio.projects[stage.project]["model_version"])


def choose(stage: Stage, version: str, **fields: Any) -> None:
    stage.label_studio.projects[stage.project].update(model_version=version, **fields)


def held(stage: Stage, task: int) -> set[str]:
    """Versions of the predictions that Label Studio holds for a task."""
    rows = stage.label_studio.stored_predictions.values()
    return {row["model_version"] for row in rows if row["task"] == task}


def a_pass(stage: Stage) -> None:
    """What the worker does now and then."""
    stage.jobs.pre_annotate(stage.key)
    stage.work()


# -- the way it goes -----------------------------------------------------------------------------------------------
def test_once_every_task_ahead_is_predicted_their_version_is_shown(stage: Stage) -> None:
    tasks = stage.blobs(3, first=10)
    stage.approve(1)
    assert shown(stage) == stage.setup()
    assert [held(stage, task) for task in tasks] == [{stage.setup()}] * 3


def test_it_moves_with_the_revision_and_never_to_what_is_not_all_there(stage: Stage) -> None:
    tasks = stage.blobs(20, first=10)  # more than two steps
    stage.approve(1)
    watched: list[tuple[str, bool]] = []

    def watch(request: Any) -> None:
        version = shown(stage)
        watched.append((version, all(version in held(stage, task) for task in tasks)))

    really = stage.label_studio.answer

    def answer(request: Any) -> Answer:
        given = really(request)
        watch(request)
        return given

    stage.label_studio.answer = answer  # type: ignore[method-assign]
    first = shown(stage)
    stage.approve(2)
    second = shown(stage)
    assert first != second == stage.setup()
    assert {version for version, _ in watched} == {first, second}
    assert all(complete for _, complete in watched)


def test_what_was_shown_is_replaced_when_it_no_longer_is(stage: Stage) -> None:
    (task,) = stage.blobs(1, first=10)
    versions = []
    for seed in (1, 2, 3):
        stage.approve(seed)
        versions.append(shown(stage))
    assert len(set(versions)) == 3
    assert held(stage, task) == set(versions[1:])
    assert len(stage.label_studio.stored_predictions) == 2


def test_a_revision_that_moves_during_a_pass_is_caught_up_with(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = stage.blobs(10, first=10)
    stage.approve(1)
    first = shown(stage)
    moved: list[int] = []
    really = stage.backend.predictor.predict

    def predict(*arguments: Any) -> Any:
        if not moved:  # in the middle of the first pass
            moved.append(stage.backend.store.move_generation(stage.key))
        assert shown(stage) == first
        return really(*arguments)

    monkeypatch.setattr(stage.backend.predictor, "predict", predict)
    stage.backend.store.move_generation(stage.key)
    a_pass(stage)
    assert shown(stage) == stage.setup() != first
    assert all(stage.setup() in held(stage, task) for task in tasks)


def test_tasks_that_come_later_are_pushed_under_the_version_that_is_shown(stage: Stage) -> None:
    stage.blobs(1, first=10)
    stage.approve(1)
    late = stage.blobs(2, first=20)
    stage.event("TASKS_CREATED", tasks=[stage.label_studio.tasks[task] for task in late])
    stage.work()
    assert [held(stage, task) for task in late] == [{shown(stage)}] * 2


def test_with_a_limit_each_approval_lets_the_next_task_follow(staging: Staging) -> None:
    """Nobody would ask for it: the stream would come to tasks without a prediction."""
    stage = connected(staging(order_by_score=True, pre_annotate="2"))
    tasks = stage.blobs(8, first=10)
    for seed in (1, 2, 3, 4, 5, 6):
        image_task = tasks[seed - 1]
        stage.submit(image_task, brush(blob(9 + seed)[1]))
        stage.work()
        ahead = [task for task in tasks[seed:] if shown(stage) in held(stage, task)]
        assert ahead[:2] == tasks[seed : seed + 2]


def test_what_people_have_begun_or_skipped_and_the_stream_still_shows_is_predicted_too(
    stage: Stage,
) -> None:
    stage.label_studio.projects[stage.project]["maximum_annotations"] = 2
    begun, skipped = stage.blobs(2, first=10)
    stage.label_studio.annotate(skipped, [], was_cancelled=True)
    stage.submit(begun, brush(blob(10)[1]))
    stage.work()
    assert held(stage, begun) == held(stage, skipped) == {shown(stage)} == {stage.setup()}


def test_predictions_that_somebody_deletes_come_back(stage: Stage) -> None:
    """What is shown and not there would be asked for by nobody."""
    (task,) = stage.blobs(1, first=10)
    stage.approve(1)
    stage.label_studio.stored_predictions.clear()
    a_pass(stage)
    assert held(stage, task) == {shown(stage)}


# -- what is not there ---------------------------------------------------------------------------------------------
def test_before_anything_is_approved_label_studio_asks(stage: Stage) -> None:
    stage.blobs(2, first=10)
    a_pass(stage)
    assert shown(stage) == TITLE


def test_where_nothing_can_be_predicted_any_more_label_studio_asks_again(stage: Stage) -> None:
    stage.blobs(1, first=10)
    annotation = stage.approve(1)
    assert shown(stage) == stage.setup()
    stage.delete(annotation)
    stage.work()
    assert shown(stage) == TITLE


def test_without_our_backend_nothing_is_shown_rather_than_what_is_not_there(stage: Stage) -> None:
    stage.blobs(1, first=10)
    annotation = stage.approve(1)
    stage.label_studio.backends.clear()
    stage.delete(annotation)
    stage.work()
    assert shown(stage) == ""


def test_when_the_labels_change_what_has_the_old_ones_is_not_shown_any_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.blobs(2, first=10)
    stage.approve(1)
    really = stage.backend.predictor.predict
    meanwhile: list[str] = []

    def predict(*arguments: Any) -> Any:
        meanwhile.append(shown(stage))
        return really(*arguments)

    monkeypatch.setattr(stage.backend.predictor, "predict", predict)
    project = stage.label_studio.projects[stage.project]
    project["label_config"] = project["label_config"].replace("<Label", '<Label value="debris"/><Label', 1)
    stage.event("PROJECT_UPDATED")
    stage.work()
    assert (meanwhile, shown(stage)) == ([TITLE], stage.setup())


# -- other people's choice -----------------------------------------------------------------------------------------
def info(**fields: Any) -> ProjectInfo:
    return ProjectInfo(id=1, created_at="2026-01-01T00:00:00Z", **fields)


@pytest.mark.parametrize(
    ("version", "ours_set", "may"),
    [
        (TITLE, "", True),  # as connecting leaves it
        ("", "", True),
        ("", "seggpt-x-r3", True),  # Label Studio empties it where the version's predictions are deleted
        ("seggpt-x-r3", "seggpt-x-r3", True),
        ("seggpt-x-r2", "seggpt-x-r3", True),  # ours, whichever
        ("seggpt-x-r2", "", True),  # ours, though the store has been thrown away
        (TITLE, "seggpt-x-r3", False),  # somebody has put it back
        ("another-model", "", False),
        ("another-model", "seggpt-x-r3", False),
    ],
)
def test_what_somebody_else_has_chosen_is_left_alone(version: str, ours_set: str, may: bool) -> None:
    assert may_move(info(model_version=version), ours_set, {TITLE}) is may
    hidden = info(model_version=version, show_collab_predictions=False)
    assert not may_move(hidden, ours_set, {TITLE})


def test_a_choice_by_hand_stays_until_a_version_of_ours_is_chosen(stage: Stage) -> None:
    (task,) = stage.blobs(1, first=10)
    stage.approve(1)
    old = shown(stage)
    stage.predicted_by(task, "another-model")
    for choice in ("another-model", TITLE):
        choose(stage, choice)
        stage.approve(2)
        a_pass(stage)
        assert shown(stage) == choice
    choose(stage, old)
    a_pass(stage)
    assert shown(stage) == stage.setup() != old


def test_a_version_that_a_lost_store_had_set_is_kept_until_ours_can_take_over(
    staging: Staging, tmp_path: Any
) -> None:
    stage = connected(staging(order_by_score=True))
    (task,) = stage.blobs(1, first=10)
    for seed in (1, 2):
        stage.approve(seed)
    old = shown(stage)
    again = connected(staging(order_by_score=True, folder=tmp_path / "anew"))
    again.jobs.reconcile(again.key)
    watched = again.label_studio.stored_predictions
    again.work()
    assert shown(again) == again.setup() != old
    assert {row["model_version"] for row in watched.values() if row["task"] == task} == {old, shown(again)}


def test_another_project_under_the_same_number_is_left_alone(stage: Stage) -> None:
    stage.blobs(1, first=10)
    stage.approve(1)
    key, version = stage.key, shown(stage)
    stage.label_studio.projects[stage.project]["created_at"] = "2026-02-01T00:00:00Z"
    with pytest.raises(NotFound, match="no longer"):
        stage.backend.pre_annotation.step(key)
    assert shown(stage) == version


# -- on, off, and away ---------------------------------------------------------------------------------------------
def test_off_nothing_is_set(staging: Staging) -> None:
    stage = connected(staging())
    stage.blobs(1, first=10)
    stage.approve(1)
    stage.work()
    assert shown(stage) == TITLE
    asked = stage.label_studio.asked(f"/api/projects/{stage.project}/")
    assert {request.method for request in asked} == {"GET"}


def test_switched_off_again_label_studio_asks_as_before(stage: Stage, staging: Staging) -> None:
    (task,) = stage.blobs(1, first=10)
    stage.approve(1)
    stage.approve(2)
    off = connected(staging())
    off.jobs.look()
    off.work()
    assert shown(off) == TITLE
    off.approve(3)
    assert (shown(off), held(off, task)) == (TITLE, {off.setup()})


def test_switched_off_a_choice_by_hand_stays(stage: Stage, staging: Staging) -> None:
    stage.blobs(1, first=10)
    stage.approve(1)
    choose(stage, "another-model")
    off = connected(staging())
    off.jobs.look()
    off.work()
    assert shown(off) == "another-model"
    choose(off, "seggpt-x-r7")  # pinned by hand later
    a_pass(off)
    assert shown(off) == "seggpt-x-r7"


def test_switched_on_the_next_look_begins_a_pass(staging: Staging) -> None:
    stage = connected(staging())
    stage.blobs(1, first=10)
    stage.approve(1)
    on = connected(staging(order_by_score=True))
    on.jobs.look()
    on.work()
    assert shown(on) == on.setup()
    on.jobs.look()
    assert "pre_annotate" not in on.work()


def test_where_label_studio_goes_away_at_any_request_the_next_try_brings_it_about(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = stage.blobs(2, first=10)
    stage.approve(1)
    really, left = stage.backend.label_studio.ask, [0]

    def ask(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise LabelStudioError("Label Studio gives no answer.")
        return really(*arguments, **named)

    monkeypatch.setattr(stage.backend.label_studio, "ask", ask)
    for answered in range(12):
        before = shown(stage)
        stage.backend.store.move_generation(stage.key)
        left[0] = answered
        stage.jobs.pre_annotate(stage.key)
        stage.work()
        assert all(shown(stage) in held(stage, task) for task in tasks), answered
        left[0] = 1000
        stage.work(later=True)
        assert shown(stage) == stage.setup() != before, answered


def test_it_needs_tasks_that_are_predicted_ahead() -> None:
    for off in ("off", "0"):
        with pytest.raises(ValueError, match="PRE_ANNOTATE"):
            Settings(order_by_score=True, pre_annotate=off)
    assert Settings(order_by_score=True, pre_annotate="10").order_by_score


# -- what annotators left of what they saw -------------------------------------------------------------------------
def test_kept_iou_is_of_the_prediction_that_was_shown_not_of_a_newer_one(stage: Stage) -> None:
    (task,) = stage.blobs(1, first=10)
    stage.approve(1)
    ((number, seen),) = [(n, row) for n, row in stage.label_studio.stored_predictions.items()]
    old = str(seen["model_version"])
    stage.backend.store.move_generation(stage.key)
    stage.backend.pre_annotation.left_overs(stage.key, [task])  # pushed, and not shown yet
    assert len(held(stage, task)) == 2
    stage.submit(task, brush(blob(10)[1], origin="prediction"), parent_prediction=number)
    drawn = stage.submit(task, brush(blob(10)[1]), prediction={"id": number, "model_version": old})
    stage.work()
    rows = {row.annotation: row.revision for row in stage.backend.store.kept(stage.key) if row.task == task}
    assert rows == {drawn - 1: old, drawn: old}
