"""Tunings from the button to a judged version: asked for, run, interrupted, gone on with, and let through or not."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backend.errors import NotFound, Refused
from backend.pre_annotation import PREDICTING
from backend.store.tensors import unpack_prompt
from tests.backend.stage import Stage, reconcile

Staging = Callable[..., Stage]
FOREVER = lambda: True  # noqa: E731


def approved(stage: Stage, count: int, first: int = 0) -> list[int]:
    return [stage.approve(first + seed) for seed in range(count)]


def ask(stage: Stage) -> int:
    (tuning,) = stage.backend.tunings.ask(stage.key, "a test")
    return int(tuning.id)


def stopping_after(calls: int) -> Callable[[], bool]:
    left = iter(range(calls))
    return lambda: next(left, None) is not None


# -- the button ----------------------------------------------------------------------------------------------------
def test_start_training_is_acknowledged_at_once_and_a_worker_tunes(stage: Stage) -> None:
    approved(stage, 4)
    response = stage.event("START_TRAINING")
    assert response.json() == {"status": "stored"}
    assert stage.tunings == []
    assert "learn" in stage.work()
    assert [(tuning.status, tuning.asked_by) for tuning in stage.tunings] == [("queued", "Start training")]
    assert "tune" in stage.tune()
    (tuning,) = stage.tunings
    assert (tuning.status, tuning.step, tuning.prompt) == ("done", tuning.steps, 1)
    (prompt,) = stage.prompts
    assert set(prompt.examples) == {info.key for info in stage.backend.store.pool(stage.key)}
    assert prompt.label == "cell"
    assert prompt.checkpoint == stage.backend.checkpoint


def test_start_training_with_too_few_examples_says_how_many_are_needed(stage: Stage) -> None:
    approved(stage, 3)
    stage.event("START_TRAINING")
    stage.work()
    (tuning,) = stage.tunings
    assert tuning.status == "failed"
    assert tuning.reason == "It is too early to tune 'cell': 3 examples, at least 4 are needed."


def test_start_training_before_anything_was_approved_does_no_harm(stage: Stage) -> None:
    stage.setup()
    stage.event("START_TRAINING")
    stage.work()
    assert stage.tunings == []


def test_pressed_twice_there_is_one_tuning_of_a_label(stage: Stage) -> None:
    approved(stage, 4)
    for _ in range(2):
        stage.event("START_TRAINING")
    stage.work()
    assert len(stage.tunings) == 1


def test_a_start_that_the_worker_died_over_is_not_lost(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    approved(stage, 4)
    reconcile(stage)
    stage.event("START_TRAINING")
    with monkeypatch.context() as broken:
        broken.setattr(stage.backend.tunings, "ask", lambda *_args, **_fields: 1 / 0)
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            stage.work()
    stage.failed.clear()
    assert stage.tunings == []
    stage.jobs.look()
    stage.work()
    assert [tuning.status for tuning in stage.tunings] == ["queued"]


# -- the schedule --------------------------------------------------------------------------------------------------
def test_every_so_many_approvals_a_project_is_tuned(staging: Staging) -> None:
    stage = staging(tune_every=5)
    approved(stage, 4)
    assert stage.tunings == []
    approved(stage, 1, first=10)
    assert [tuning.asked_by for tuning in stage.tunings] == ["schedule"]
    stage.tune()
    approved(stage, 4, first=20)
    assert len(stage.tunings) == 1
    approved(stage, 1, first=30)
    assert [tuning.status for tuning in stage.tunings] == ["queued", "done"]


def test_after_so_many_hours_a_project_is_tuned_if_something_was_approved(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staging(tune_every=0, tune_interval=2.0)
    approved(stage, 4)
    clock = stage.backend.tunings.__class__.__module__
    now = __import__("time").time()
    monkeypatch.setattr(f"{clock}.time.time", lambda: now + 1.9 * 3600)
    assert stage.backend.tunings.due(stage.key) == []
    monkeypatch.setattr(f"{clock}.time.time", lambda: now + 2.1 * 3600)
    (due,) = stage.backend.tunings.due(stage.key)
    stage.backend.tunings.stop(due.id)
    monkeypatch.setattr(f"{clock}.time.time", lambda: now + 9 * 3600)
    assert stage.backend.tunings.due(stage.key) == []


def test_the_schedule_can_be_switched_off(staging: Staging) -> None:
    stage = staging(tune_every=0)
    approved(stage, 6)
    assert stage.tunings == []


def test_what_was_tuned_with_the_same_examples_is_not_due_again(staging: Staging) -> None:
    stage = staging(tune_every=4, pool_size=64)
    annotations = approved(stage, 4)
    stage.tune()
    for annotation in annotations:  # the same mask again is no new example
        row = stage.label_studio.annotations[annotation]
        stage.correct(annotation, *row["result"])
    stage.work()
    assert len(stage.tunings) == 1


# -- asking --------------------------------------------------------------------------------------------------------
def test_what_cannot_be_asked_for_is_refused_with_the_reason(stage: Stage) -> None:
    with pytest.raises(NotFound, match="never been seen"):
        stage.backend.tunings.ask("9.1", "a test")
    stage.setup()
    with pytest.raises(Refused, match="Nothing has been approved yet"):
        stage.backend.tunings.ask(stage.key, "a test")
    approved(stage, 4)
    with pytest.raises(Refused, match=r"no target 'tag/image/dog'.*tag/image/cell"):
        stage.backend.tunings.ask(stage.key, "a test", ["tag/image/dog"])
    with pytest.raises(NotFound, match="no tuning 99"):
        stage.backend.tunings.stop(99)


# -- stop and resume -----------------------------------------------------------------------------------------------
def test_a_tuning_that_is_stopped_keeps_its_place_and_goes_on_from_there(staging: Staging) -> None:
    stage = staging(tune_steps=30)
    approved(stage, 5)
    tunings = stage.backend.tunings
    number = ask(stage)
    asked = threading.Event()

    def stop_soon() -> bool:
        if not asked.is_set() and (tunings.get(number).step or 0) > 3:
            asked.set()
            tunings.stop(number)
        return True

    stopped = tunings.run(number, stop_soon).tuning
    assert (stopped.status, stopped.prompt) == ("stopped", None)
    assert 3 < stopped.step < stopped.steps
    assert tunings.run(number, FOREVER).tuning.status == "stopped"
    assert tunings.resume(number).status == "queued"
    seen: list[int] = []

    def note() -> bool:
        seen.append(tunings.get(number).step)
        return True

    assert tunings.run(number, note).tuning.status == "done"
    assert min(step for step in seen if step) >= stopped.step
    assert [prompt.number for prompt in stage.prompts] == [1]


def test_one_that_waits_is_stopped_at_once_and_can_be_asked_for_again(stage: Stage) -> None:
    approved(stage, 4)
    number = ask(stage)
    assert stage.backend.tunings.stop(number).status == "stopped"
    with pytest.raises(Refused, match="nothing to stop"):
        stage.backend.tunings.stop(number)
    other = ask(stage)
    assert other != number
    with pytest.raises(Refused, match="waits or runs"):
        stage.backend.tunings.resume(number)
    stage.backend.tunings.stop(other)
    stage.backend.tunings.resume(number)
    with pytest.raises(Refused, match="queued, not stopped"):
        stage.backend.tunings.resume(number)


def test_the_worker_s_end_in_the_middle_changes_nothing_in_the_result(
    staging: Staging, tmp_path: Any
) -> None:
    through = staging(folder=tmp_path / "through", tune_gate=-1.0)
    approved(through, 6)
    assert through.backend.tunings.run(ask(through), FOREVER).tuning.status == "done"
    cut = staging(folder=tmp_path / "cut", tune_gate=-1.0)
    assert cut.backend.learner.reconcile(cut.key).approved == 6
    number = ask(cut)
    for calls in (3, 5, 9):
        assert cut.backend.tunings.run(number, stopping_after(calls)).tuning.status == "queued"
    assert cut.backend.tunings.run(number, FOREVER).tuning.status == "done"
    files = [stage.backend.prompts.export(stage.key, 1) for stage in (through, cut)]
    one, other = map(unpack_prompt, files)
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.mask, other.mask)


def test_a_worker_takes_up_what_another_one_left(stage: Stage) -> None:
    approved(stage, 4)
    number = ask(stage)
    stage.backend.tunings.run(number, stopping_after(3))
    stage.jobs.look()  # what a worker does first
    stage.work()
    assert "tune" in stage.tune()
    assert stage.backend.tunings.get(number).status == "done"


def test_a_tuning_that_another_worker_has_is_left_alone_and_looked_at_later(stage: Stage) -> None:
    approved(stage, 4)
    number = ask(stage)
    assert stage.backend.store.acquire(f"tuning:{number}", "another worker", 3600)
    stage.jobs.tune(number)
    assert stage.tune().count("tune") == 1
    assert stage.backend.tunings.get(number).status == "queued"
    stage.backend.store.release(f"tuning:{number}", "another worker")
    stage.work(lane=stage.jobs.tuning, later=True)
    assert stage.backend.tunings.get(number).status == "done"


def test_one_that_kills_its_worker_again_and_again_is_given_up(staging: Staging) -> None:
    stage = staging(tune_steps=50)
    approved(stage, 4)
    number = ask(stage)

    def die() -> bool:
        raise SystemExit

    for _ in range(4):
        with pytest.raises(SystemExit):
            stage.backend.tunings.run(number, die)
    ended = stage.backend.tunings.run(number, FOREVER).tuning
    assert (ended.status, ended.reason) == ("failed", "The worker ended 4 times without getting further.")


def test_what_goes_wrong_inside_is_in_the_record_and_not_tried_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved(stage, 4)
    number = ask(stage)
    monkeypatch.setattr("backend.prompts.tunings.GatedTuning.run", lambda *_args, **_fields: 1 / 0)
    ended = stage.backend.tunings.run(number, FOREVER).tuning
    assert ended.status == "failed"
    assert ended.reason == "ZeroDivisionError: division by zero"


def test_it_gives_way_while_a_request_is_answered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    approved(stage, 4)
    ask(stage)
    stage.backend.store.acquire(f"{PREDICTING}x", "app", 3600)
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 5:
            stage.backend.store.release(f"{PREDICTING}x", "app")
        return False

    monkeypatch.setattr(stage.jobs.stopping, "wait", wait)
    stage.jobs.look()
    stage.work()
    stage.tune()
    assert len(waited) == 5
    assert [tuning.status for tuning in stage.tunings] == ["done"]


# -- what changes meanwhile ----------------------------------------------------------------------------------------
def test_an_example_withdrawn_meanwhile_is_named_and_keeps_the_prompt_from_use(staging: Staging) -> None:
    stage = staging(tune_gate=-1.0)
    annotations = approved(stage, 6)
    (gone,) = [info.key for info in stage.backend.store.pool(stage.key) if info.annotation == annotations[2]]
    number = ask(stage)
    calls = iter(range(10_000))

    def withdraw() -> bool:
        if next(calls) == 4:
            stage.delete(annotations[2])
            stage.work()
        return True

    ended = stage.backend.tunings.run(number, withdraw)
    (prompt,) = stage.prompts
    assert prompt.withdrawn == (gone,)
    assert (prompt.status, ended.moved) == ("candidate", False)
    assert "1 of its examples were withdrawn meanwhile" in prompt.reason


def test_one_that_was_interrupted_starts_anew_without_what_was_withdrawn(staging: Staging) -> None:
    stage = staging(tune_gate=-1.0)
    annotations = approved(stage, 6)
    number = ask(stage)
    stage.backend.tunings.run(number, stopping_after(3))
    stage.delete(annotations[0])
    stage.work()
    assert stage.backend.tunings.run(number, FOREVER).tuning.status == "done"
    (prompt,) = stage.prompts
    assert len(prompt.examples) == 5
    assert prompt.withdrawn == ()


def test_examples_that_only_made_room_in_a_full_pool_do_no_harm(staging: Staging) -> None:
    stage = staging(tune_gate=-1.0, pool_size=5)
    approved(stage, 5)
    number = ask(stage)
    calls = iter(range(10_000))

    def approve_another() -> bool:
        if next(calls) == 2:
            stage.approve(77)
        return True

    assert stage.backend.tunings.run(number, approve_another).moved is True
    assert stage.prompts[0].withdrawn == ()


def test_a_label_that_was_taken_out_meanwhile_ends_the_tuning_with_the_reason(stage: Stage) -> None:
    approved(stage, 4)
    number = ask(stage)
    config = stage.label_studio.projects[stage.project]["label_config"]
    stage.label_studio.projects[stage.project]["label_config"] = config.replace("cell", "nucleus")
    stage.setup()
    ended = stage.backend.tunings.run(number, FOREVER).tuning
    assert ended.status == "failed"
    assert "no longer in the labeling config" in ended.reason
