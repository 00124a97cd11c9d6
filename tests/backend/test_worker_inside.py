"""`WORKER=inside`: one process answers, learns, predicts ahead and tunes, so that the weights are in memory once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backend.cli.serving import _Lanes, _where_to_work
from backend.settings import Settings
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.redis_server import RedisServer
from tests.backend.served import COMPARED, Served, until
from tests.backend.stage import blob, brush, now, png

pytestmark = pytest.mark.slow


class Studio:
    """People who work in Label Studio beside a server that works inside."""

    def __init__(self, served: Served, label_studio: FakeLabelStudio) -> None:
        self.served, self.label_studio = served, label_studio
        self.project = label_studio.add_project()
        self.key = f"{self.project}.1767225601"

    def upload(self, seed: int) -> int:
        return self.label_studio.add_task(self.project, png(blob(seed)[0]))

    def approve(self, seed: int) -> int:
        """Submit a picture's disc and let Label Studio tell; returns the annotation."""
        task = self.upload(seed)
        annotation = self.label_studio.annotate(task, [brush(blob(seed)[1])], updated_at=now())
        self.tell("ANNOTATION_CREATED", annotation)
        return annotation

    def tell(self, action: str, annotation: int | None = None) -> None:
        row = self.label_studio.annotations.get(annotation or 0)
        body: dict[str, Any] = {"action": action, "project": self.label_studio.projects[self.project]}
        if row is not None:
            body |= {"annotation": row, "task": self.label_studio.tasks[row["task"]]}
        assert self.served.client.post("/webhook", json=body).status_code == 201

    def about(self, path: str = "") -> Any:
        answer = self.served.client.get(f"/api/projects/{self.key}{path}")
        return answer.json() if answer.status_code == 200 else {}

    def tuning_status(self) -> str:
        """Of the newest tuning."""
        return str(self.about("/tunings")[0]["status"])

    def taught(self) -> set[int]:
        return {int(row["annotation"]) for row in self.about("/examples") or []}

    def predicted(self, tasks: list[int]) -> bool:
        version = self.about()["revision"]
        rows = self.label_studio.stored_predictions.copy().values()
        return {row["task"] for row in rows if row["model_version"] == version} >= set(tasks)


@pytest.fixture(params=["sqlite", "redis"])
def studio(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    checkpoint_file: Path,
    fake_label_studio: FakeLabelStudio,
    redis_installed: None,
) -> Iterator[Studio]:
    settings = {
        "WORKER": "inside", "LABEL_STUDIO_URL": fake_label_studio.url, "TUNE_STEPS": "40", "RECONCILE_EVERY": "5",
        "LABEL_STUDIO_API_KEY": fake_label_studio.legacy_token,
    }  # fmt: skip
    with ExitStack() as running:
        if request.param == "redis":
            settings["REDIS_URL"] = running.enter_context(RedisServer(tmp_path / "redis")).url
        served = Served(tmp_path, checkpoint_file, **settings)
        running.callback(served.stop)
        yield Studio(served, fake_label_studio)
    assert "Traceback" not in served.said


def children(process: int) -> list[str]:
    """Process ids of all that any of its threads started."""
    threads = Path(f"/proc/{process}/task").glob("*/children")
    return [child for thread in threads for child in thread.read_text().split()]


@pytest.mark.redis
def test_one_process_does_it_all_with_the_weights_in_memory_once(studio: Studio) -> None:
    first = studio.approve(1)
    until(lambda: studio.taught() == {first})
    ahead = [studio.upload(seed) for seed in range(50, 54)]
    studio.tell("TASKS_CREATED")
    until(lambda: studio.predicted(ahead))

    more = [studio.approve(seed) for seed in range(2, 5)]
    until(lambda: studio.taught() == {first, *more})
    studio.tell("START_TRAINING")
    until(lambda: studio.about("/tunings"))
    answered = 0
    while (status := studio.tuning_status()) not in {"done", "failed"}:
        assert studio.served.client.get("/health").status_code == 200
        task = studio.label_studio.tasks[ahead[0]]
        body = {"tasks": [task], "project": studio.key}
        assert studio.served.client.post("/predict", json=body).json()["results"] != [[]]
        answered += status == studio.tuning_status() == "running"
    assert status == "done"
    assert answered, "nobody is kept waiting until a tuning has ended"
    assert studio.about("/prompts")

    studio.label_studio.withdraw(more[0])  # which nothing tells
    until(lambda: studio.taught() == {first, *more[1:]}, COMPARED)
    assert children(studio.served.process.pid) == []
    figures = studio.served.client.get("/metrics").text
    assert 'seggpt_job_seconds_count{job="learn"}' in figures, "what the worker does is among the figures"


def test_what_a_killed_server_was_told_is_learned_by_the_next_one(
    tmp_path: Path, checkpoint_file: Path, fake_label_studio: FakeLabelStudio
) -> None:
    served = Served(tmp_path, checkpoint_file, WORKER="inside")
    try:
        for annotation in (1, 2, 3):
            served.approve(annotation)
        served.client.close()
        served.process.kill()
        served.process.wait(300)
        served.start()
        until(lambda: served.approvals() == 3)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(300) in {0, 130, -signal.SIGINT, 1}
        assert "Traceback" not in served.said
    finally:
        served.stop()


@pytest.mark.parametrize(
    ("worker", "device", "where"),
    [
        ("auto", "cuda", "inside"),
        ("auto", "cpu", "on"),
        ("auto", "mps", "on"),
        ("on", "cuda", "on"),
        ("inside", "cpu", "inside"),
        ("off", "cuda", "off"),
    ],
)
def test_on_a_gpu_one_process_owns_the_weights_unless_told_otherwise(
    worker: str, device: str, where: str
) -> None:
    settings = Settings.model_validate({"worker": worker})
    assert _where_to_work(settings, device) == where


def test_a_server_whose_lanes_fail_ends_so_that_it_is_started_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_stop: object) -> bool:
        raise RuntimeError("no room for another thread")

    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *told: sent.append(told))
    lanes = _Lanes(fail)
    lanes.start()
    until(lambda: sent)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert "the worker's lanes have failed" in caplog.text
    assert lanes.stop() is False


def test_lanes_that_were_never_begun_have_ended() -> None:
    run: Callable[[Any], bool] = lambda _stop: False  # noqa: E731
    assert _Lanes(run).stop() is True
