"""What Label Studio allows (NOTES: health 1 s, setup 3 s, webhook 1 s) is kept while a batch is computed."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from backend.demo.pictures import LABELS, draw
from tests.label_studio.conftest import LABEL_CONFIG, MakeStage
from tests.label_studio.stage import Stage

HEALTH_SECONDS, SETUP_SECONDS, WEBHOOK_SECONDS = 1.0, 3.0, 1.0


def test_health_setup_versions_and_webhooks_are_answered_while_a_batch_is_computed(
    make_stage: MakeStage,
) -> None:
    """The time-outs are Label Studio's own: an answer that comes later is lost to it, so here it raises."""
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
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_post, stage, "/predict", batch, 100.0)
        looks = 0
        while not answer.done():
            httpx.get(
                f"{stage.backend.url}/health", timeout=HEALTH_SECONDS, trust_env=False
            ).raise_for_status()
            setup = {"project": stage.key, "schema": LABEL_CONFIG, "hostname": "", "access_token": ""}
            _post(stage, "/setup", setup, SETUP_SECONDS)
            httpx.get(
                f"{stage.backend.url}/versions", timeout=HEALTH_SECONDS, trust_env=False
            ).raise_for_status()
            event = {"action": "PROJECT_UPDATED", "project": {"id": stage.id}}
            _post(stage, "/webhook", event, WEBHOOK_SECONDS)
            looks += 1
        assert looks > 1, "the batch must have been running meanwhile"
        assert len(answer.result()["results"]) == len(batch["tasks"])


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


def _post(stage: Stage, path: str, body: Any, seconds: float) -> Any:
    answer = httpx.post(stage.backend.url + path, json=body, timeout=seconds, trust_env=False)
    answer.raise_for_status()
    return answer.json()
