"""What Label Studio allows (NOTES: health 1 s, setup 3 s, webhook 1 s) is kept while a batch is computed."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from backend.demo.pictures import LABELS, draw
from tests.label_studio.conftest import LABEL_CONFIG, MakeStage
from tests.label_studio.stage import ANSWER_SECONDS, Stage

HEALTH_SECONDS, SETUP_SECONDS, WEBHOOK_SECONDS = 1.0, 3.0, 1.0
BEAT_SECONDS, GAP_SECONDS = 0.02, 0.1

Within = Callable[[float, Callable[[], httpx.Response]], None]


@contextmanager
def timed() -> Iterator[Within]:
    """Ask within so many seconds, in which the machine may stand still: nobody could have answered then.

    It stands still while not even a thread that wants to run for a moment every 20 ms comes to its turn.
    """
    ended, lock, still, last = threading.Event(), threading.Lock(), 0.0, time.monotonic()

    def gap() -> float:
        passed = time.monotonic() - last
        return passed - BEAT_SECONDS if passed > GAP_SECONDS else 0.0

    def beat() -> None:
        nonlocal still, last
        while not ended.wait(BEAT_SECONDS):
            with lock:
                still, last = still + gap(), time.monotonic()

    def stood_still() -> float:
        with lock:
            return still + gap()

    def within(seconds: float, ask: Callable[[], httpx.Response]) -> None:
        began, still_before = time.monotonic(), stood_still()
        ask().raise_for_status()
        took = time.monotonic() - began - (stood_still() - still_before)
        assert took < seconds, f"{took:.2f} s, of which {seconds:.0f} are allowed"

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield within
    finally:
        ended.set()
        thread.join()


def test_health_setup_versions_and_webhooks_are_answered_while_a_batch_is_computed(
    make_stage: MakeStage,
) -> None:
    """The times are Label Studio's own: an answer that comes later is lost to it."""
    stage = make_stage(pictures=2)
    first, second = stage.pictures
    stage.approve(first)
    stage.wait_predicted(second)
    image = stage.session.open_task(second)["data"]["image"]
    batch = {
        "project": stage.key,
        "label_config": LABEL_CONFIG,
        "tasks": [{"id": 10_000_000 + n, "data": {"image": image}} for n in range(24)],
        "params": {"context": None},
    }
    setup = {"project": stage.key, "schema": LABEL_CONFIG, "hostname": "", "access_token": ""}
    event = {"action": "PROJECT_UPDATED", "project": {"id": stage.id}}
    with ThreadPoolExecutor(1) as pool, timed() as within:
        answer = pool.submit(_post, stage, "/predict", batch)
        looks = 0
        while not answer.done():
            within(HEALTH_SECONDS, lambda: _get(stage, "/health"))
            within(SETUP_SECONDS, lambda: _post(stage, "/setup", setup))
            within(HEALTH_SECONDS, lambda: _get(stage, "/versions"))
            within(WEBHOOK_SECONDS, lambda: _post(stage, "/webhook", event))
            looks += 1
        assert looks > 1, "the batch must have been running meanwhile"
        assert len(answer.result().json()["results"]) == len(batch["tasks"])


def test_an_annotation_submitted_while_a_batch_is_computed_is_learned(make_stage: MakeStage) -> None:
    stage = make_stage(pictures=0)
    tasks = stage.upload([draw(number, width=240, height=180) for number in range(1, 9)])
    first, second, *others = tasks
    annotation = stage.approve(first)
    stage.wait_taught(*((annotation, label) for label in LABELS))

    with ThreadPoolExecutor(1) as pool:
        retrieved = pool.submit(stage.session.retrieve_predictions, stage.id, others)
        later = stage.approve(second)
        retrieved.result()

    stage.wait_taught(*((each, label) for each in (annotation, later) for label in LABELS))
    stage.wait_predicted(*others)


def _get(stage: Stage, path: str) -> httpx.Response:
    return httpx.get(stage.backend.url + path, timeout=ANSWER_SECONDS, trust_env=False)


def _post(stage: Stage, path: str, body: Any) -> httpx.Response:
    return httpx.post(stage.backend.url + path, json=body, timeout=ANSWER_SECONDS, trust_env=False)
