"""When a tuning begins: for news only where nobody asks in person, with all that is approved, and none is forgotten."""

import time
from collections.abc import Callable

import pytest

from backend.errors import NotFound, StoreError
from backend.jobs import start_training
from backend.store import TuningRecord
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, blob, brush, reconcile

Staging = Callable[..., Stage]
FOREVER = lambda: True  # noqa: E731


def approved(stage: Stage, count: int, first: int = 0) -> None:
    for seed in range(first, first + count):
        stage.approve(seed)


def untold(stage: Stage, count: int) -> None:
    """Masks that Label Studio has and tells nobody of, as with an import."""
    for seed in range(count):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(mask), tell=False)


def press(stage: Stage) -> None:
    """Start training, and the worker until nothing is to be done."""
    stage.event("START_TRAINING")
    stage.work()
    stage.tune()
    stage.work()


def begun(stage: Stage) -> list[tuple[str, str, int]]:
    """Tunings, the first one first: who asked, what came of them, examples."""
    return [(one.asked_by, one.status, len(one.examples)) for one in reversed(stage.tunings)]


def for_news(stage: Stage) -> list[TuningRecord]:
    """What Start training asks for once the project has been compared."""
    return stage.backend.tunings.ask(stage.key, "Start training", news_only=True)


# -- for news only -------------------------------------------------------------------------------------------------
def test_start_training_with_the_examples_of_the_last_tuning_begins_none(
    staging: Staging, caplog: pytest.LogCaptureFixture
) -> None:
    """The very same tensors came into use under another version, and every task was predicted anew for them."""
    stage = staging(tune_gate=-1.0)
    approved(stage, 4)
    caplog.set_level("INFO")
    press(stage)
    version = stage.setup()
    press(stage)
    assert begun(stage) == [("Start training", "done", 4)]
    assert (stage.setup(), [prompt.number for prompt in stage.prompts]) == (version, [1])
    assert "'cell' is not tuned again: its examples are those of tuning 1" in caplog.text
    (by_a_person,) = stage.backend.tunings.ask(stage.key, "admin API")
    assert (by_a_person.id, by_a_person.status) == (2, "queued")
    stage.backend.tunings.stop(2)
    approved(stage, 1, first=10)
    assert [tuning.id for tuning in for_news(stage)] == [3]


def test_other_settings_are_news(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    approved(stage, 4)
    press(stage)
    changes: dict[str, object] = {"tune_steps": 5, "tune_gate": 0.5, "shots": 3, "ensemble": "both"}
    changes |= {"zoom": "off", "edges": "off", "sequence_key": "clip", "frame_key": "number"}
    for name, value in changes.items():
        with monkeypatch.context() as changed:
            changed.setattr(stage.settings, name, value)
            (asked,) = for_news(stage)
        stage.backend.tunings.stop(asked.id)
        assert for_news(stage) == []


def test_another_checkpoint_is_news(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    approved(stage, 4)
    press(stage)
    monkeypatch.setattr(stage.backend.segmenter, "identity", "another-0a1b2c3d")
    assert len(for_news(stage)) == 1


@pytest.mark.parametrize("ended", ["failed", "stopped"])
def test_what_came_to_nothing_is_begun_again(stage: Stage, ended: str) -> None:
    approved(stage, 4)
    (tuning,) = stage.backend.tunings.ask(stage.key, "a test")
    going_on = iter([True, True])

    def update() -> bool:
        if next(going_on, None) is None:
            if ended == "failed":
                raise ZeroDivisionError
            stage.backend.tunings.stop(tuning.id)
            return False
        return True

    stage.backend.tunings.run(tuning.id, update)
    stage.backend.tunings.run(tuning.id, FOREVER)
    assert begun(stage)[0][1:] == (ended, 4)
    assert [tuning.id for tuning in for_news(stage)] == [2]


def test_that_it_is_too_early_is_said_once_for_as_many_examples(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(2):
        approved(stage, 1)
        press(stage)
        press(stage)
    said = "It is too early to tune 'cell': {} examples, at least 4 are needed."
    assert [tuning.reason for tuning in stage.tunings] == [said.format(2), said.format(1)]
    assert f"project {stage.key}: {said.format(2)}" in caplog.text


def test_the_schedule_passes_over_a_label_without_news_and_says_so(
    staging: Staging, caplog: pytest.LogCaptureFixture
) -> None:
    stage = staging(tune_every=4)
    caplog.set_level("INFO")
    approved(stage, 4)
    stage.tune()
    for _ in range(4):
        stage.submit(stage.upload(blob(30)[0]))  # submitted empty
    stage.work()
    assert begun(stage) == [("schedule", "done", 4)]
    assert "'cell' is not tuned again" in caplog.text


# -- with all that is approved -------------------------------------------------------------------------------------
def test_start_training_learns_from_what_no_event_told(stage: Stage) -> None:
    """It was refused, as nothing had been approved yet, before the comparison that it asks for had found six masks."""
    stage.setup()
    stage.work()
    untold(stage, 6)
    press(stage)
    assert begun(stage) == [("Start training", "done", 6)]


def test_it_waits_for_a_comparison_that_another_worker_makes(stage: Stage) -> None:
    stage.setup()
    stage.work()
    untold(stage, 4)
    stage.backend.store.acquire("reconcile", "another worker", 3600)
    press(stage)
    assert stage.tunings == []
    stage.backend.store.release("reconcile", "another worker")
    stage.work(later=True)
    assert begun(stage) == [("Start training", "queued", 0)]


def test_where_it_cannot_be_compared_it_learns_from_what_is_known(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    approved(stage, 4)
    untold(stage, 2)
    stage.label_studio.failures += [Answer(403)] * 8
    stage.event("START_TRAINING")
    stage.work()
    stage.label_studio.failures.clear()
    assert begun(stage) == [("Start training", "queued", 0)]
    stage.backend.learner.reconcile(stage.key)
    stage.jobs.look()
    stage.work()
    assert len(stage.tunings) == 1, "it was asked for once"


def test_pressed_while_a_comparison_is_made_the_next_one_counts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export that is being read may be older than the button."""
    approved(stage, 1)
    compare = stage.backend.learner.reconcile

    def press_meanwhile(project: str) -> object:
        learnt = compare(project)
        monkeypatch.undo()
        untold(stage, 4)
        stage.event("START_TRAINING")
        stage.jobs.events.execute(stage.jobs.events.dequeue())  # by another thread of the worker
        return learnt

    monkeypatch.setattr(stage.backend.learner, "reconcile", press_meanwhile)
    stage.jobs.reconcile(stage.key)
    assert stage.work().count("reconcile") == 2
    assert begun(stage) == [("Start training", "queued", 0)]


def test_pressed_the_moment_that_the_one_before_is_noted_as_begun_it_is_not_forgotten(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved(stage, 4)
    start_training.pressed(stage.backend, stage.jobs, stage.key)
    first, set_note = start_training.waits(stage.backend, stage.key), stage.backend.store.set_note

    def press_meanwhile(name: str, value: str) -> None:
        if name.startswith("start-training"):
            monkeypatch.undo()
            start_training.pressed(stage.backend, stage.jobs, stage.key)
        set_note(name, value)

    monkeypatch.setattr(stage.backend.store, "set_note", press_meanwhile)
    start_training.compared(stage.backend, stage.jobs, stage.key, first)
    second = start_training.waits(stage.backend, stage.key)
    assert second not in ("", first)
    start_training.compared(stage.backend, stage.jobs, stage.key, second)
    assert start_training.waits(stage.backend, stage.key) == ""


def test_a_tuning_that_waits_has_one_job_however_often_it_is_pressed(stage: Stage) -> None:
    approved(stage, 4)
    for _ in range(3):
        stage.event("START_TRAINING")
        stage.work()
    (tuning,) = stage.tunings
    assert [job.args for job in stage.jobs.tuning.pending() if job.name == "tune"] == [(tuning.id,)]


def test_a_press_that_the_worker_died_over_is_taken_up_by_the_next_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved(stage, 4)
    reconcile(stage)
    stage.event("START_TRAINING")
    with monkeypatch.context() as killed:
        killed.setattr(stage.jobs, "reconcile", lambda *_: None)  # the job was lost with its worker
        stage.work()
    assert stage.tunings == []
    stage.jobs.look()
    stage.work()
    assert begun(stage) == [("Start training", "queued", 0)]
    stage.jobs.look()
    assert "reconcile" not in stage.work()


def test_a_press_whose_comparison_fails_unforeseen_asks_for_no_other_at_each_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project was exported every minute, for ever."""
    approved(stage, 4)
    reconcile(stage)

    def fail(_project: str) -> None:
        raise RuntimeError("What nobody has thought of.")

    monkeypatch.setattr(stage.backend.learner, "reconcile", fail)
    stage.event("START_TRAINING")
    with pytest.raises(AssertionError, match="nobody has thought of"):
        stage.work()
    stage.failed.clear()
    assert begun(stage) == [("Start training", "queued", 0)]
    stage.jobs.look()
    assert "reconcile" not in stage.work()


def test_a_press_waits_while_the_store_cannot_be_used(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    approved(stage, 4)
    reconcile(stage)

    def fail(_project: str) -> None:
        raise StoreError("The disk is full.")

    stage.event("START_TRAINING")
    with monkeypatch.context() as full:
        full.setattr(stage.backend.learner, "reconcile", fail)
        with pytest.raises(AssertionError, match="disk is full"):
            stage.work()
    stage.failed.clear()
    assert stage.tunings == []
    stage.jobs.look()
    stage.work()
    assert begun(stage) == [("Start training", "queued", 0)]


def test_a_look_does_not_ask_for_a_comparison_that_waits_or_is_made(stage: Stage) -> None:
    """Exports of a large project take longer than from look to look."""
    approved(stage, 1)
    reconcile(stage)
    stage.backend.store.acquire("reconcile", "another worker", 3600)
    stage.event("START_TRAINING")
    stage.work()  # its comparison waits
    stage.jobs.look()
    assert "reconcile" not in stage.work()
    stage.jobs.events.flush()
    stage.jobs.look()
    assert "reconcile" not in stage.work()  # one is being made
    stage.backend.store.release("reconcile", "another worker")
    stage.jobs.look()
    assert "reconcile" in stage.work()


def test_without_label_studio_it_learns_at_once_from_what_is_known(staging: Staging) -> None:
    approved(staging(), 4)
    stage = staging(connected=False)
    stage.event("START_TRAINING")
    assert "reconcile" not in stage.work()
    assert begun(stage) == [("Start training", "queued", 0)]


def test_that_start_training_found_nothing_to_learn_from_is_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stage.setup()
    press(stage)
    assert stage.tunings == []
    assert "Start training: Nothing has been approved yet: there is nothing to learn from." in caplog.text


# -- none is forgotten ---------------------------------------------------------------------------------------------
def test_approvals_during_a_tuning_count_for_the_next_one(staging: Staging) -> None:
    """The schedule's count went on, though the tuning that it found open had begun without them."""
    stage = staging(tune_every=5)
    approved(stage, 5)
    (first,) = stage.tunings
    updates = iter(range(10_000))

    def update() -> bool:
        if next(updates) == 1:
            approved(stage, 6, first=50)
        return True

    stage.backend.tunings.run(first.id, update)
    assert begun(stage) == [("schedule", "done", 5)]
    for _ in range(2):
        stage.jobs.look()
        stage.work()
    assert begun(stage)[1:] == [("schedule", "queued", 0)]


def test_the_open_tuning_is_the_one_that_is_answered(stage: Stage) -> None:
    """It was the newest one, though an older one had been gone on with."""
    approved(stage, 4)
    tunings = stage.backend.tunings
    for _ in range(2):
        (asked,) = tunings.ask(stage.key, "a test")
        tunings.stop(asked.id)
    tunings.resume(1)
    (asked,) = tunings.ask(stage.key, "a test")
    assert (asked.id, asked.status) == (1, "queued")


def test_one_that_ends_while_another_is_asked_for_is_not_answered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved(stage, 4)
    (first,) = stage.backend.tunings.ask(stage.key, "a test")
    add = stage.backend.store.prompts.add_tuning

    def add_and_end(*given: object) -> object:
        added = add(*given)  # type: ignore[arg-type]
        if added is None:
            stage.backend.tunings.stop(first.id)
        return added

    monkeypatch.setattr(stage.backend.store.prompts, "add_tuning", add_and_end)
    (asked,) = stage.backend.tunings.ask(stage.key, "a test")
    assert (asked.id, asked.status) == (2, "queued")


# -- stopped -------------------------------------------------------------------------------------------------------
def test_one_that_is_stopped_in_the_queue_has_an_end_and_says_whether_it_had_begun(stage: Stage) -> None:
    approved(stage, 4)
    tunings, before = stage.backend.tunings, time.time()
    (waits,) = tunings.ask(stage.key, "a test")
    stopped = tunings.stop(waits.id)
    assert (stopped.status, stopped.reason) == ("stopped", "Stopped before it ran.")
    assert before <= (stopped.ended or 0.0) <= time.time()
    tunings.resume(waits.id)
    updates = iter([True, True])
    assert tunings.run(waits.id, lambda: next(updates, False)).tuning.status == "queued"  # its worker ended
    stopped = tunings.stop(waits.id)
    assert (stopped.step > 0, stopped.reason) == (True, "Stopped by hand; it can go on from where it is.")
    assert before <= (stopped.ended or 0.0) <= time.time()
    assert tunings.resume(waits.id).ended is None
    with pytest.raises(NotFound):
        tunings.stop(99)
