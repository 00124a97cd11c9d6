"""The loop on a real Label Studio with one Redis, two servers and two workers: they are one backend."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from backend.demo.pictures import LABELS
from tests.backend.redis_server import RedisServer
from tests.label_studio.conftest import LABEL_CONFIG, MakeStage, StartBackend
from tests.label_studio.stage import ANSWER_SECONDS, RunningBackend, RunningLabelStudio, Stage, eventually
from tests.label_studio.workers import keep_worker_away, kill_worker_of

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, redis_installed: None) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def replicas(
    label_studio: RunningLabelStudio, start_backend: StartBackend, redis: RedisServer
) -> tuple[RunningBackend, RunningBackend]:
    """Two servers, each with a worker, that share nothing but Redis."""
    settings = {
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.personal_token,
        "REDIS_URL": redis.url,
        "RECONCILE_EVERY": "5",
        "DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    return start_backend(settings), start_backend(settings)


def shown_by(backend: RunningBackend, stage: Stage) -> str:
    """The version that Label Studio would learn from this server."""
    body = {"project": stage.key, "schema": LABEL_CONFIG, "hostname": "", "access_token": ""}
    answer = httpx.post(f"{backend.url}/setup", json=body, timeout=ANSWER_SECONDS, trust_env=False)
    answer.raise_for_status()
    return str(answer.json()["model_version"])


def predicted_by(backend: RunningBackend, stage: Stage, task: int) -> Any:
    body = {
        "project": stage.key,
        "label_config": LABEL_CONFIG,
        "tasks": [{"id": task, "data": stage.session.open_task(task)["data"]}],
        "params": {"context": None},
    }
    answer = httpx.post(f"{backend.url}/predict", json=body, timeout=ANSWER_SECONDS, trust_env=False)
    answer.raise_for_status()
    return answer.json()["results"][0]


def test_what_one_server_is_told_the_other_one_knows(
    make_stage: MakeStage, replicas: tuple[RunningBackend, RunningBackend]
) -> None:
    one, other = replicas
    stage = make_stage(pictures=4, backend=one)
    first, *rest = stage.pictures

    annotation = stage.approve(first)

    stage.wait_taught(*((annotation, label) for label in LABELS))
    elsewhere = other.get(f"/api/projects/{stage.key}/examples")
    assert {(row["annotation"], row["label"]) for row in elsewhere} == {
        (annotation, label) for label in LABELS
    }
    stage.wait_predicted(*rest)
    assert shown_by(one, stage) == shown_by(other, stage) == stage.version()
    answers = [predicted_by(server, stage, rest[0]) for server in replicas]
    assert answers[0]["model_version"] == answers[1]["model_version"]
    assert answers[0]["score"] == pytest.approx(answers[1]["score"], abs=1e-4)
    assert one.get(f"/api/projects/{stage.key}")["approvals"] == 1, "each event was applied once"


def test_a_worker_that_dies_leaves_its_work_to_the_other_one(
    make_stage: MakeStage, replicas: tuple[RunningBackend, RunningBackend]
) -> None:
    one, other = replicas
    stage = make_stage(pictures=10, backend=one)
    first, second, *rest = stage.pictures
    stage.approve(first)
    eventually(lambda: any(stage.session.predictions(task) for task in rest), "predicting has begun")

    kill_worker_of(one)
    annotation = stage.approve(second)

    def learned_by_the_other() -> bool:
        keep_worker_away(one)
        return annotation in {row["annotation"] for row in stage.examples()}

    eventually(learned_by_the_other, "it is learned")
    stage.wait_predicted(*rest)
    assert shown_by(one, stage) == shown_by(other, stage)
