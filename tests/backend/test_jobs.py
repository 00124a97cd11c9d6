"""Background work: what is queued, in what order it is done, and what survives a crash."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend import jobs as jobs_module
from backend import revision
from backend.errors import ImageError, StoreError
from backend.jobs import Jobs
from backend.settings import Settings
from backend.store import ProjectRecord
from tests.backend.loopback import Answer
from tests.backend.served import until
from tests.backend.stage import PATIENCE, Stage, blob, brush


def queued(stage: Stage) -> list[dict[str, Any]]:
    """The messages in the queue's file, in the order in which they are taken."""
    with sqlite3.connect(stage.settings.data_dir / "queue.sqlite3") as connection:
        rows = connection.execute("SELECT data FROM task ORDER BY priority DESC, id").fetchall()
    connection.close()
    return [json.loads(row[0]) for row in rows]


def test_the_names_under_which_jobs_are_queued_never_change(stage: Stage) -> None:
    """What is queued when the backend is updated is still found by its name."""
    names = ["learn", "reconcile", "left_overs", "pre_annotate", "look", "tune", "measure"]
    stage.jobs.tune(1)
    stage.jobs.measure("1.2")
    stage.jobs.learn("1.2")
    stage.jobs.reconcile("1.2")
    stage.jobs.left_overs("1.2", (4, 5))
    stage.jobs.pre_annotate("1.2")
    stage.jobs.look()
    assert {message["name"] for message in queued(stage)} == {f"backend.jobs.{name}" for name in names}
    assert all(callable(getattr(jobs_module, name)) for name in names)


def test_messages_are_json_with_ids_only(stage: Stage) -> None:
    stage.jobs.left_overs("1.2", (4, 5), delay=5)
    (message,) = queued(stage)
    assert message["args"] == ["1.2", [4, 5], 0]
    assert message["eta"].startswith("20")


def test_learning_goes_before_all_else_and_predicting_ahead_after_it(stage: Stage) -> None:
    stage.jobs.pre_annotate(stage.key)
    stage.jobs.reconcile(stage.key)
    stage.jobs.learn(stage.key)
    assert stage.work()[:3] == ["learn", "reconcile", "pre_annotate"]


def test_a_job_for_later_waits_for_its_time(stage: Stage) -> None:
    stage.jobs.learn("1.2", delay=100)
    assert stage.work() == []
    assert stage.jobs.depths() == {"events": 1, "predictions": 0, "tuning": 0}
    assert stage.work(later=True) == ["learn"]
    assert stage.jobs.depths() == {"events": 0, "predictions": 0, "tuning": 0}


def test_without_a_backend_jobs_are_queued_and_never_done(stage: Stage) -> None:
    outside = Jobs(stage.settings)
    outside.learn(stage.key)
    assert stage.jobs.depths()["events"] == 1
    errors: list[BaseException] = []
    outside.events.signal("error")(lambda _signal, _task, error: errors.append(error))
    outside.events.execute(outside.events.dequeue())
    assert [str(error) for error in errors] == ["jobs run in a worker only"]


def test_an_event_is_not_lost_where_the_queue_is_broken(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(stage.jobs.events.storage, "enqueue", broken)
    annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]))
    assert "the queue cannot be used; what is to be done waits: disk I/O error" in caplog.text
    monkeypatch.undo()
    stage.jobs.look()
    stage.work()
    assert stage.pool == [annotation]


def test_events_are_applied_in_their_order(stage: Stage) -> None:
    annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]))
    stage.correct(annotation, was_cancelled=True)
    stage.correct(annotation, brush(blob(1)[1]), was_cancelled=False)
    stage.work()
    assert stage.pool == [annotation]
    stage.correct(annotation, brush(blob(1)[1]))
    stage.delete(annotation)
    stage.work()
    assert stage.pool == []


def test_who_finds_a_project_taken_looks_again_in_case_the_holder_died(stage: Stage) -> None:
    """After a crash its events waited for the lease of two minutes, and then for the next look."""
    stage.setup()
    stage.work()
    stage.backend.store.acquire(f"learn:{stage.key}", "a worker that died", 3600)
    annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]))
    stage.work()
    assert stage.pool == []
    stage.backend.store.release(f"learn:{stage.key}", "a worker that died")
    stage.work(later=True)
    assert stage.pool == [annotation]


def test_one_comparison_at_a_time_is_made(stage: Stage) -> None:
    stage.backend.store.acquire("reconcile", "another", 3600)
    annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]), tell=False)
    stage.jobs.reconcile(stage.key)
    assert stage.work() == ["reconcile"]
    assert stage.pool == []
    stage.backend.store.release("reconcile", "another")
    stage.work(later=True)
    assert stage.pool == [annotation]


def test_a_lasting_trouble_is_logged_when_it_begins_and_when_it_begins_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> int:
        stage.label_studio.failures += [Answer(403)] * 8
        stage.jobs.reconcile(stage.key)
        stage.work()
        stage.label_studio.failures.clear()
        return caplog.text.count("not compared with Label Studio")

    assert refused() == 1
    assert refused() == 1
    stage.jobs.reconcile(stage.key)
    stage.work()
    assert refused() == 2


def test_a_look_finds_silent_changes_and_a_project_that_cannot_be_looked_at_keeps_no_other_from_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.backend.store.put_label_config("99.1700000000", "<View/>", "f")  # gone from Label Studio
    stage.backend.store.mark_reconciled("99.1700000000", time.time(), "")
    stage.setup()
    annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]), tell=False)
    stage.jobs.look()
    stage.work()
    assert stage.pool == [annotation]
    assert "project 99.1700000000 is no longer in Label Studio" in caplog.text


def test_a_look_that_takes_longer_than_until_the_next_takes_one_worker_only(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of them held up all events."""
    begun, going_on = threading.Event(), threading.Event()
    looked: list[int] = []

    def projects() -> list[ProjectRecord]:
        looked.append(1)
        begun.set()
        assert going_on.wait(PATIENCE)
        return []

    with monkeypatch.context() as slow:
        slow.setattr(stage.backend.store, "projects", projects)
        first = threading.Thread(target=jobs_module.look, args=(stage.backend, stage.jobs))
        first.start()
        try:
            assert begun.wait(PATIENCE)
            jobs_module.look(stage.backend, stage.jobs)
            assert looked == [1]
        finally:
            going_on.set()
            first.join(PATIENCE)
    stage.approve(1)
    stage.jobs.look()
    assert "look" in stage.work()
    assert stage.backend.learner.is_due(stage.key) is False, "the next look looks again"


def test_a_look_predicts_ahead_what_was_not_announced(stage: Stage) -> None:
    stage.approve(1)
    tasks = stage.blobs(2, first=2)
    stage.backend.learner.reconcile(stage.key)
    stage.backend.store.set_note(f"reconcile-seconds:{stage.key}", "1000")  # no other so soon
    stage.backend.store.set_note(f"ahead:{stage.key}", "0")  # the last pass was long ago
    stage.jobs.look()
    assert "pre_annotate" in stage.work()
    assert [row["task"] for row in stage.label_studio.stored_predictions.values()] == tasks
    stage.jobs.look()
    assert "pre_annotate" not in stage.work()  # not again so soon


def test_without_label_studio_a_look_only_applies_events(staging: Callable[..., Stage]) -> None:
    stage = staging(connected=False)
    stage.event("TASKS_CREATED")
    stage.jobs.look()
    assert set(stage.work()) == {"learn", "look"}


def test_a_look_gives_webhooks_the_password_that_label_studio_leaves_out_of_events(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(basic_auth_user="label", basic_auth_pass="studio")  # noqa: S106
    stage.client.headers["Authorization"] = stage.settings.basic_authorizations[0]
    fake = stage.label_studio
    fake.backends.append(
        {"id": 1, "project": stage.project, "url": "http://seggpt:9090", "basic_auth_user": "label"}
    )
    for number, url in ((1, "http://seggpt:9090/webhook"), (2, "http://elsewhere/webhook")):
        fake.webhooks[number] = {
            "id": number,
            "project": stage.project,
            "url": url,
            "headers": {},
            "is_active": True,
        }
    stage.setup()
    stage.jobs.look()
    stage.work()
    assert fake.webhooks[1]["headers"] == {"Authorization": stage.settings.basic_authorizations[0]}
    assert fake.webhooks[2]["headers"] == {}


def test_one_pass_ahead_at_a_time_is_made_and_goes_round_again_where_asked(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    store, key = stage.backend.store, stage.key
    store.acquire(f"pre-annotate:{key}", "another", 3600)
    (task,) = stage.blobs(1, first=2)
    stage.jobs.pre_annotate(key)
    stage.work()
    assert stage.label_studio.stored_predictions == {}
    assert store.note(f"again:{key}") == "yes"
    store.release(f"pre-annotate:{key}", "another")
    stage.jobs.pre_annotate(key, task, 1)  # the last step of the pass that runs
    assert stage.work() == ["pre_annotate", "pre_annotate"]
    assert [row["task"] for row in stage.label_studio.stored_predictions.values()] == [task]


def test_a_pass_ahead_goes_on_later_where_label_studio_or_the_store_did_not_let_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    (task,) = stage.blobs(1, first=2)

    def broken(*_: Any) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(stage.backend.pre_annotation, "step", broken)
    stage.jobs.pre_annotate(stage.key)
    stage.work()
    assert "step failed: The disk is full." in caplog.text
    assert "Traceback" not in caplog.text
    monkeypatch.undo()
    stage.work(later=True)
    assert [row["task"] for row in stage.label_studio.stored_predictions.values()] == [task]


def test_left_overs_are_given_up_at_last_where_nothing_can_be_pushed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(stage.backend.pre_annotation, "left_overs", broken)
    stage.jobs.left_overs(stage.key, [1])
    stage.work()
    rounds = 0
    while stage.work(later=True):
        rounds += 1
        assert rounds < 100


def test_a_worker_does_what_is_queued_until_it_is_stopped(stage: Stage) -> None:
    stage.segment_by_colour()
    stop = threading.Event()
    worker = threading.Thread(target=stage.jobs.run, args=(stop,))
    worker.start()
    try:
        image, mask = blob(1)
        annotation = stage.submit(stage.upload(image), brush(mask))
        until(lambda: stage.pool == [annotation])
        tasks = stage.blobs(3, first=2)
        stage.event("TASKS_CREATED")
        until(lambda: len(stage.label_studio.stored_predictions) == len(tasks))
    finally:
        stop.set()
        worker.join(300)
    assert not worker.is_alive()
    assert [row["task"] for row in stage.label_studio.stored_predictions.values()] == tasks


# -- a worker that died -------------------------------------------------------------------------------------------
def at(moment: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody think that it is this moment."""
    monkeypatch.setattr("time.time", lambda: moment)


def pushed(stage: Stage, task: int) -> int:
    """How many predictions Label Studio holds for a task."""
    return sum(row["task"] == task for row in stage.label_studio.stored_predictions.values())


def test_a_pass_ahead_that_died_with_its_worker_is_begun_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = stage.blobs(3, first=20)
    stage.approve(1)
    assert stage.backend.store.note(f"pass:{stage.key}") == ""
    for task in tasks:
        assert pushed(stage, task) == 1
    stage.backend.store.set_note(
        f"pass:{stage.key}", str(time.time())
    )  # a step was begun, and then nothing came
    assert not stage.backend.pre_annotation.is_due(stage.key)
    later = stage.blobs(1, first=30)
    at(time.time() + 61, monkeypatch)
    assert stage.backend.pre_annotation.is_due(stage.key)
    stage.jobs.look()
    assert "pre_annotate" in stage.work()
    assert pushed(stage, later[0]) == 1
    assert stage.backend.store.note(f"pass:{stage.key}") == ""


def test_left_overs_of_a_worker_that_died_are_taken_up(
    staging: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staging(pre_annotate="off")
    stage.approve(1)
    (task,) = stage.blobs(1, first=40)
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    stage.backend.pre_annotation.queue(snapshot, [task], "not reached before the deadline")
    stage.jobs.look()
    assert "left_overs" not in stage.work()
    at(time.time() + 61, monkeypatch)
    stage.jobs.look()
    assert "left_overs" in stage.work()
    assert pushed(stage, task) == 1
    stage.jobs.look()
    assert "left_overs" not in stage.work()


def test_a_queue_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite3").write_bytes(b"no database " * 500)
    with pytest.raises(StoreError, match=r"queue\.sqlite3 cannot be used .*move it away"):
        Jobs(Settings(data_dir=tmp_path), None)


def test_a_new_approval_does_not_wait_behind_those_whose_images_cannot_be_had(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came while they were tried again waited for all of them: fifty such images took a quarter of an hour."""
    stage.setup()
    opened, order, new = stage.backend.images.open, list[int](), list[int]()

    def approve(seed: int) -> int:
        return stage.submit(stage.upload(blob(seed)[0]), brush(blob(seed)[1]))

    def open_image(url: str, task: int) -> Any:
        order.append(task)
        if task > 2:
            return opened(url, task)
        if order == [3, 1]:
            new.append(approve(4))
        raise ImageError("its host does not answer.")

    monkeypatch.setattr(stage.backend.images, "open", open_image)
    approve(1), approve(2)
    jobs_module.learn(stage.backend, stage.jobs, stage.key)
    new.append(approve(3))
    order.clear()
    jobs_module.learn(stage.backend, stage.jobs, stage.key)
    assert (order, stage.pool) == ([3, 1, 4, 2], new)
