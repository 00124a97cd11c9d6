"""Pushing where Label Studio does not say whether it has stored a prediction: one for each task all the same."""

from typing import Any

import pytest

from backend import pushing as room
from backend import revision
from backend.errors import Unreachable
from backend.pushing import Pushing
from backend.revision import Snapshot
from tests.backend.stage import PATIENCE, Stage


class LateLabelStudio:
    """Stores what it was sent first only after it has said nothing for too long, and been sent it again."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._really = stage.backend.label_studio.create_prediction
        self._late: list[tuple[Any, ...]] = []
        self.at_once = True
        monkeypatch.setattr(stage.backend.label_studio, "create_prediction", self.create)

    def create(self, *given: Any) -> int:
        if not self._late:
            self._late.append(given)
            raise Unreachable("Label Studio did not answer in time.", slow=True)
        number = self._really(*given)
        if self.at_once and given[0] == self._late[0][0]:
            self.catch_up()
        return number

    def catch_up(self) -> None:
        self._really(*self._late[0])


@pytest.fixture
def ready(stage: Stage) -> Stage:
    """A project with one approved mask, of which the worker knows, and nothing else."""
    stage.segment_by_colour()
    stage.approve(1)
    return stage


@pytest.fixture
def late(ready: Stage, monkeypatch: pytest.MonkeyPatch) -> LateLabelStudio:
    return LateLabelStudio(ready, monkeypatch)


def rows(stage: Stage) -> list[tuple[int, str]]:
    """Task and version of the predictions in Label Studio."""
    return [(row["task"], row["model_version"]) for row in stage.label_studio.stored_predictions.values()]


def numbers(stage: Stage, task: int) -> list[int]:
    """Of the task's predictions in Label Studio."""
    return [number for number, row in stage.label_studio.stored_predictions.items() if row["task"] == task]


def give_up_once(stage: Stage) -> list[int]:
    """Tasks of which the first is sent, and no answer comes."""
    tasks = stage.blobs(3, first=2)
    with pytest.raises(Unreachable):
        stage.backend.pre_annotation.step(stage.key)
    reasons = {state.task: state.reason for state in stage.backend.store.task_states(stage.key)}
    assert "did not say" in reasons[tasks[0]]
    assert "did not say" not in reasons[tasks[1]]
    return tasks


def test_what_was_stored_late_is_not_there_twice(ready: Stage, late: LateLabelStudio) -> None:
    tasks = give_up_once(ready)

    ready.backend.pre_annotation.step(ready.key)

    assert sorted(rows(ready)) == [(task, ready.setup()) for task in tasks]
    (kept,) = numbers(ready, tasks[0])
    assert kept in {one.pushed for one in ready.backend.store.predictions(ready.key, tasks[0])}


def test_what_is_stored_later_still_goes_with_the_next_pass(
    ready: Stage, late: LateLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    late.at_once = False
    tasks = give_up_once(ready)
    ready.backend.pre_annotation.step(ready.key)
    late.catch_up()
    assert len(rows(ready)) == 4
    ready.backend.pre_annotation.step(ready.key)
    assert len(rows(ready)) == 4, "it is not looked at over and over"

    monkeypatch.setattr(room, "_DOUBT_SECONDS", 0.0)
    ready.backend.pre_annotation.step(ready.key)

    assert sorted(rows(ready)) == [(task, ready.setup()) for task in tasks]


def test_a_worker_that_ends_meanwhile_leaves_the_doubt(
    ready: Stage, late: LateLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = give_up_once(ready)

    def end(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as ending:
        ending.setattr(ready.backend.predictor, "predict", end)
        with pytest.raises(KeyboardInterrupt):
            ready.backend.pre_annotation.step(ready.key)
    ready.backend.pre_annotation.step(ready.key)

    assert sorted(rows(ready)) == [(task, ready.setup()) for task in tasks]


def test_of_twins_that_annotations_name_none_goes(ready: Stage, late: LateLabelStudio) -> None:
    """Label Studio shows a task again that needs more annotations."""
    late.at_once = False
    tasks = give_up_once(ready)
    ready.backend.pre_annotation.step(ready.key)
    late.catch_up()
    snapshot = revision.take(ready.backend.store, ready.key, ready.backend.segmenter.identity)
    pushing = Pushing(ready.backend.store, ready.backend.label_studio)

    stays = frozenset({snapshot.revision})
    held = pushing.held(snapshot, tasks[0], stays, labeled=True)

    assert (len(held.current), held.removable) == (2, ())
    assert len(pushing.held(snapshot, tasks[0], stays, labeled=False).removable) == 1


def test_what_label_studio_is_about_to_store_is_not_pushed_beside_it(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stores what it was answered a moment after the answer, in which a pass may look: there were two of it."""
    monkeypatch.setattr(room, "_STORING_SECONDS", PATIENCE)
    answered, other = ready.blobs(2, first=2)
    (prediction,) = ready.predict(answered)
    first = ready.backend.pre_annotation.step(ready.key)
    assert (first.pushed, first.more, [task for task, _ in rows(ready)]) == (1, True, [other])

    given = prediction["result"], prediction["score"], prediction["model_version"]
    ready.backend.label_studio.create_prediction(answered, *given)
    assert not ready.backend.pre_annotation.step(ready.key, first.after, first.seen).more
    assert sorted(task for task, _ in rows(ready)) == [answered, other]


def test_what_label_studio_did_not_store_in_time_is_pushed(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = ready.blobs(1, first=2)
    ready.predict(task)
    monkeypatch.setattr(room, "_STORING_SECONDS", PATIENCE)
    assert ready.backend.pre_annotation.step(ready.key).more
    monkeypatch.setattr(room, "_STORING_SECONDS", 0.0)
    assert not ready.backend.pre_annotation.step(ready.key).more
    assert [task for task, _ in rows(ready)] == [task]


def test_what_somebody_opens_while_it_is_predicted_ahead_is_not_pushed_beside_it(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, other = ready.blobs(2, first=2)
    really = ready.backend.predictor.predict

    def predict(snapshot: Snapshot, *given: Any) -> Any:
        found = really(snapshot, *given)
        ready.backend.pre_annotation.answered(snapshot, [opened])
        return found

    monkeypatch.setattr(ready.backend.predictor, "predict", predict)
    step = ready.backend.pre_annotation.step(ready.key)

    assert (step.pushed, step.more, [task for task, _ in rows(ready)]) == (1, True, [other])


def test_an_answer_that_is_stored_later_than_usual_is_there_once_in_the_end(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label Studio stores a batch of many tasks as one."""
    (task,) = ready.blobs(1, first=2)
    (prediction,) = ready.predict(task)
    monkeypatch.setattr(room, "_STORING_SECONDS", 0.0)
    ready.backend.pre_annotation.step(ready.key)
    (pushed,) = numbers(ready, task)
    given = prediction["result"], prediction["score"], prediction["model_version"]
    ready.backend.label_studio.create_prediction(task, *given)
    assert len(numbers(ready, task)) == 2

    monkeypatch.setattr(room, "_DOUBT_SECONDS", 0.0)
    ready.backend.pre_annotation.step(ready.key)

    assert numbers(ready, task) == [pushed], "the one that has been there to be opened for longer"


def test_what_a_worker_had_sent_when_it_ended_is_there_once_in_the_end(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = ready.blobs(1, first=2)
    sent: list[tuple[Any, ...]] = []

    def end(*given: Any) -> int:
        sent.append(given)
        raise KeyboardInterrupt

    really = ready.backend.label_studio.create_prediction
    with monkeypatch.context() as ending:
        ending.setattr(ready.backend.label_studio, "create_prediction", end)
        with pytest.raises(KeyboardInterrupt):
            ready.backend.pre_annotation.step(ready.key)
    ready.backend.pre_annotation.step(ready.key)
    really(*sent[0])
    assert len(numbers(ready, task)) == 2

    monkeypatch.setattr(room, "_DOUBT_SECONDS", 0.0)
    ready.backend.pre_annotation.step(ready.key)

    assert len(numbers(ready, task)) == 1
