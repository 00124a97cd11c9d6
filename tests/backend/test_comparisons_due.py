"""When a comparison with Label Studio is made again: after what failed, what changed, and what can never be read."""

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from backend import jobs as jobs_module
from backend import lost_labels, troubles
from backend.label_config import parse
from backend.learner import Learnt, due
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.loopback import Answer
from tests.backend.served import until
from tests.backend.stage import PATIENCE, Stage, blob, brush, example_of, reconcile

BEGAN = 1_800_000_000.0  # Unix time of a comparison
OTHER = LABEL_CONFIG.replace("cell", "other")


def looks(stage: Stage, number: int) -> list[str]:
    """The jobs of so many looks."""
    done = []
    for _ in range(number):
        stage.jobs.look()
        done += stage.work(later=True)
    return done


# -- one at a time -------------------------------------------------------------------------------------------------
def test_looks_while_a_comparison_waits_queue_no_other(stage: Stage) -> None:
    stage.approve(1)
    reconcile(stage)
    stage.submit(stage.upload(blob(2)[0]), brush(blob(2)[1]), tell=False)
    for _ in range(5):
        jobs_module.look(stage.backend, stage.jobs)
    assert stage.work().count("reconcile") == 1


def test_a_comparison_that_takes_long_leaves_the_threads_of_events_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease ran out after two minutes, the next look's comparison began beside it, and so on."""
    monkeypatch.setattr(jobs_module, "_LEASE", 2.0)
    running, renewed, free = threading.Event(), [], threading.Event()

    def long(_project: str) -> Learnt:
        running.set()
        free.wait(PATIENCE)
        return Learnt()

    really = stage.backend.store.acquire

    def acquire(name: str, owner: str, seconds: float) -> bool:
        taken = really(name, owner, seconds)
        if name == "reconcile" and taken:
            renewed.append(owner)
        return taken

    monkeypatch.setattr(stage.backend.learner, "reconcile", long)
    monkeypatch.setattr(stage.backend.store, "acquire", acquire)
    stop = threading.Event()
    worker = threading.Thread(target=stage.jobs.run, args=(stop,))
    worker.start()
    try:
        for _ in range(4):
            stage.jobs.reconcile(stage.key)
        until(running.is_set)
        until(
            lambda: max(map(renewed.count, renewed), default=0) > 2
        )  # it is renewed for as long as it takes
        annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]))
        until(lambda: stage.pool == [annotation])
    finally:
        free.set()
        stop.set()
        worker.join()


# -- what cannot be read -------------------------------------------------------------------------------------------
def test_what_can_never_be_read_does_not_have_the_project_exported_at_every_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.approve(2)
    image, mask = blob(1)
    damaged = brush(mask)
    damaged["value"]["rle"] = damaged["value"]["rle"][:9]
    stage.submit(stage.upload(image), damaged)
    while stage.backend.store.pending_events():
        stage.work(later=True)
    monkeypatch.setattr(due, "_EXPORTS", 0)  # however slow this machine is
    reconcile(stage)
    assert looks(stage, 1).count("reconcile") == 1
    now = time.time()  # a minute is not over before these looks are
    monkeypatch.setattr("backend.learner.due.time", SimpleNamespace(time=lambda: now))
    assert looks(stage, 10).count("reconcile") == 0
    stage.submit(stage.upload(blob(3)[0]), brush(blob(3)[1]), tell=False)
    assert looks(stage, 1).count("reconcile") == 1, "what changes is compared all the same"
    assert looks(stage, 3).count("reconcile") == 0
    assert len(stage.pool) == 2


def test_what_cannot_be_read_is_tried_again_at_growing_distances(stage: Stage) -> None:
    store, key = stage.backend.store, stage.key
    stage.setup()
    waits = []
    for _ in range(8):
        due.ended(store, key, BEGAN, "the same", 0.1, unread=True)
        waits.append(wait(stage))
    assert waits == [0, 60, 120, 240, 480, 600, 600, 600]
    due.ended(store, key, BEGAN, "the same", 0.1, unread=False)
    for _ in range(2):
        due.ended(store, key, BEGAN, "the same", 10.0, unread=True)
    assert wait(stage) == 200, "twenty times as long as it takes"


def wait(stage: Stage) -> float:
    """Seconds until what could not be read is tried again."""
    low, high = 0.0, 4000.0
    for _ in range(30):
        middle = (low + high) / 2
        record = stage.backend.store.project(stage.key)
        assert record is not None
        with pytest.MonkeyPatch.context() as later:
            later.setattr("backend.learner.due.time", SimpleNamespace(time=lambda at=BEGAN + middle: at))
            low, high = (low, middle) if due.by_time(stage.backend.store, record) else (middle, high)
    return float(round(high, -1))


# -- what was asked for and failed ---------------------------------------------------------------------------------
def test_what_is_put_back_while_label_studio_refuses_comes_with_a_later_look(stage: Stage) -> None:
    first, second = stage.approve(1), stage.approve(2)
    reconcile(stage)
    path = f"/api/projects/{stage.key}/examples/{example_of(stage, first).info.key}"
    assert stage.client.post(f"{path}/drop").status_code == 200
    stage.work()
    assert stage.client.post(f"{path}/restore").status_code == 202
    stage.label_studio.failures += [Answer(502)] * 20
    stage.work()
    stage.label_studio.failures.clear()
    assert stage.pool == [second]
    looks(stage, 1)
    assert sorted(stage.pool) == [first, second]


def queue_is_away(stage: Stage, patch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("the queue is away")

    patch.setattr(stage.jobs.events, "enqueue", broken)
    stage.setup()


def label_studio_refuses(stage: Stage, _patch: pytest.MonkeyPatch) -> None:
    stage.setup()
    stage.label_studio.failures += [Answer(500)] * 20
    stage.work()
    stage.label_studio.failures.clear()


@pytest.mark.parametrize("fails", [queue_is_away, label_studio_refuses])
def test_a_label_that_comes_while_something_fails_is_read_with_a_later_look(
    stage: Stage, fails: Callable[[Stage, pytest.MonkeyPatch], None]
) -> None:
    projects = stage.label_studio.projects
    projects[stage.project]["label_config"] = OTHER
    annotation = stage.approve(1)
    stage.setup()
    stage.work(later=True)
    reconcile(stage)
    assert stage.pool == []
    projects[stage.project]["label_config"] = LABEL_CONFIG
    with pytest.MonkeyPatch.context() as patch:
        fails(stage, patch)
    looks(stage, 1)
    assert stage.pool == [annotation]


# -- labeling configs of requests that waited ----------------------------------------------------------------------
def test_a_request_that_waited_for_its_turn_does_not_bring_an_old_labeling_config_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did, and the admin's answer about the label that was lost was gone with it."""
    stage.approve(1)
    task, project = stage.upload(blob(2)[0]), stage.label_studio.projects[stage.project]
    predict, free, running = stage.backend.predictor.predict, threading.Event(), []

    def busy(*given: Any, **named: Any) -> Any:
        running.append(1)
        free.wait(PATIENCE)
        return predict(*given, **named)

    monkeypatch.setattr(stage.backend.predictor, "predict", busy)
    asyncio.run(_renamed_meanwhile(stage, task, running, free))
    record = stage.backend.store.project(stage.key)
    assert record is not None
    assert record.label_config == project["label_config"] == OTHER
    (lost,) = lost_labels.of(stage.backend.store, stage.key, parse(OTHER))
    assert (lost.answer, lost.to) == ("move", "tag/image/other")


async def _renamed_meanwhile(stage: Stage, task: int, running: list[int], free: threading.Event) -> None:
    project = stage.label_studio.projects[stage.project]
    body = {
        "tasks": [{**stage.label_studio.tasks[task], "annotations": [], "predictions": []}], "project": stage.key,
        "label_config": project["label_config"], "params": {"context": None},
    }  # fmt: skip
    look = {
        "project": stage.key, "schema": OTHER, "hostname": stage.label_studio.url,
        "access_token": stage.label_studio.legacy_token,
    }  # fmt: skip
    transport = httpx.ASGITransport(app=stage.app, client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:9090", timeout=PATIENCE
    ) as client:
        asked = [asyncio.create_task(client.post("/predict", json=body)) for _ in range(6)]
        await asyncio.to_thread(until, lambda: running)
        await asyncio.sleep(0.3)  # the others have arrived, and wait
        project["label_config"] = OTHER
        assert (await client.post("/setup", json=look)).status_code == 200
        lost_labels.move(stage.backend.store, stage.key, stage.target, "tag/image/other")
        free.set()
        await asyncio.gather(*asked)


# -- another project under the same number -------------------------------------------------------------------------
@pytest.mark.parametrize("work", ["pre_annotate", "left_overs"])
def test_what_waits_for_a_project_is_not_pushed_into_another_that_has_its_number_now(
    stage: Stage, work: str
) -> None:
    """A Label Studio that was set up anew counts from 1 again."""
    stage.approve(1)
    stage.work(later=True)
    old, fake = stage.key, stage.label_studio
    (task,) = stage.blobs(1, first=10)
    queue = {
        "pre_annotate": lambda: stage.jobs.pre_annotate(old),
        "left_overs": lambda: stage.jobs.left_overs(old, [task]),
    }
    queue[work]()
    fake.stored_predictions.clear()
    fake.projects[stage.project]["created_at"] = "2026-06-06T00:00:00Z"
    assert stage.key != old
    stage.work()
    stage.work(later=True)
    assert fake.stored_predictions == {}
    assert troubles.is_gone(stage.backend.store, old)
