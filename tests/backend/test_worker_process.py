"""A real worker that is told to end in the middle of its jobs: it ends, says so in a sentence, and nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from backend.demo.process import free_port
from backend.jobs import Jobs
from backend.settings import Settings
from backend.store import Store
from backend.store.engines import open_engine
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import Answer, Request
from tests.backend.redis_server import RedisServer
from tests.backend.served import KEY, until
from tests.backend.stage import Stage, blob, brush, now, png
from tests.backend.worker_process import Worker


class HoldingLabelStudio(FakeLabelStudio):
    """Answers at once, but gives no picture before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def answer(self, request: Request) -> Answer:
        if request.path.startswith("/data/upload"):
            self.let_go.wait(1200)
        return super().answer(request)

    def asked_pictures(self) -> int:
        return len({request.path for request in self.requests if request.path.startswith("/data/upload")})


@pytest.fixture
def label_studio() -> Iterator[HoldingLabelStudio]:
    with HoldingLabelStudio() as server:
        yield server
        server.let_go.set()


def test_a_worker_that_is_stopped_while_it_starts_ends_too(stage: Stage) -> None:
    """It waited for threads that were not started yet, which is an error."""
    stop = threading.Event()
    stop.set()
    assert [stage.jobs.run(stop) for _ in range(3)] == [True] * 3


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_over_and_over_ends(tmp_path: Path, checkpoint_file: Path) -> None:
    """The second signal came while the first one held a lock that it wanted, and the worker waited for itself."""
    port = free_port()
    settings = Settings(data_dir=tmp_path / "data", checkpoint=str(checkpoint_file), worker_metrics_port=port)
    worker = Worker(settings, tmp_path / "log")
    try:
        until(lambda: "seggpt_job_seconds_count" in shown(port))
        for _ in range(100_000):  # until it has ended
            worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(300) == 0
    finally:
        worker.process.kill()
        worker.process.wait()
    assert worker.said == ""


def shown(port: int) -> str:
    """What a worker answers about itself; nothing while it starts."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx.TransportError:
        return ""


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_a_worker_that_is_stopped_in_the_middle_of_jobs_ends_without_a_traceback_and_they_are_done_later(
    engine: str,
    label_studio: HoldingLabelStudio,
    tmp_path: Path,
    checkpoint_file: Path,
    redis_installed: None,
) -> None:
    """The store was closed while the jobs' threads went on, and each of them printed a page."""
    with RedisServer(tmp_path / "redis") as redis:
        settings = Settings(
            data_dir=tmp_path / "data",
            checkpoint=str(checkpoint_file),
            label_studio_url=label_studio.url,
            label_studio_api_key=SecretStr(label_studio.legacy_token),
            redis_url=SecretStr(redis.url if engine == "redis" else ""),
        )
        with closing(open_engine(settings)) as store:
            _stop_in_the_middle(settings, label_studio, store, tmp_path)


def _stop_in_the_middle(
    settings: Settings, label_studio: HoldingLabelStudio, store: Store, logs: Path
) -> None:
    project = label_studio.add_project()
    store.put_label_config(KEY, label_studio.projects[project]["label_config"], "")
    first, second, third = (label_studio.add_task(project, png(blob(seed)[0])) for seed in (1, 2, 3))
    label_studio.let_go.set()
    # Before the first look: the next one comes a minute later.
    label_studio.annotate(first, [brush(blob(1)[1])], updated_at=now())
    worker = Worker(settings, logs / "first")
    until(lambda: len(store.pool(KEY)) == 1 and len(label_studio.stored_predictions) == 2)
    assert worker.stop() == 0
    assert "Traceback" not in worker.said, worker.said

    label_studio.let_go.clear()
    label_studio.requests.clear()
    fresh = label_studio.add_task(project, png(blob(4)[0]))
    worker = Worker(settings, logs / "second")
    annotation = label_studio.annotate(second, [brush(blob(2)[1])], updated_at=now())
    body = {"annotation": label_studio.annotations[annotation], "task": label_studio.tasks[second]}
    store.add_event(KEY, "ANNOTATION_CREATED", body, 1.0)
    Jobs(settings).learn(KEY)
    Jobs(settings).left_overs(KEY, [fresh])
    until(lambda: label_studio.asked_pictures() == 2)  # one job each is in the middle of it
    assert worker.stop() == 0
    assert "Traceback" not in worker.said, worker.said
    assert "Error" not in worker.said, worker.said
    assert len(store.pool(KEY)) == 1

    label_studio.let_go.set()
    worker = Worker(settings, logs / "third")
    until(lambda: len(store.pool(KEY)) == 2)
    assert worker.stop() == 0
    assert "Traceback" not in worker.said, worker.said
