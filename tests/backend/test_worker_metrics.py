"""Figures of who does the jobs: counted where they are done, and shown by `serve` and, where asked, by a worker."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.demo.process import free_port
from backend.settings import Settings
from tests.backend.served import until
from tests.backend.stage import Stage
from tests.backend.test_metrics import figures
from tests.backend.worker_process import Worker


def test_jobs_pushes_and_failures_are_counted_where_they_are_done(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    stage.blobs(3, first=2)
    stage.jobs.pre_annotate(stage.key)
    stage.work()

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(stage.backend.learner, "reconcile", broken)
    stage.jobs.reconcile(stage.key)
    stage.jobs.events.execute(stage.jobs.events.dequeue())
    seen = figures(stage.client.get("/metrics").text)
    assert seen["seggpt_pushed_predictions_total", stage.key] == 3
    assert seen["seggpt_job_seconds_count", "learn"] == 1
    assert seen["seggpt_job_seconds_count", "pre_annotate"] >= 1
    assert seen["seggpt_job_failures_total", "reconcile"] == 1
    assert seen["seggpt_job_failures_total", "learn"] == 0
    assert seen["process_resident_memory_bytes",] > 2**20


@contextmanager
def working(folder: Path, checkpoint: Path, port: int) -> Iterator[Worker]:
    settings = Settings(data_dir=folder / "data", checkpoint=str(checkpoint), worker_metrics_port=port)
    worker = Worker(settings, folder / "log")
    try:
        yield worker
        assert worker.stop() == 0
    finally:
        worker.process.kill()
        worker.process.wait()


@pytest.mark.slow
def test_a_worker_shows_its_own_figures_on_the_port_that_is_set(
    tmp_path: Path, checkpoint_file: Path
) -> None:
    port = free_port()

    def looked() -> dict[tuple[str, ...], float] | None:
        try:
            seen = figures(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        except httpx.TransportError:
            return None
        return seen if ("seggpt_job_seconds_count", "look") in seen else None

    with working(tmp_path, checkpoint_file, port):
        seen = until(looked)
    assert seen["process_resident_memory_bytes",] > 2**20
    assert ("seggpt_pending_events",) not in seen, "it does not know what only `serve` looks up"


@pytest.mark.slow
def test_a_worker_whose_port_is_taken_says_so_and_works_all_the_same(
    tmp_path: Path, checkpoint_file: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with working(tmp_path, checkpoint_file, port) as worker:
            until(lambda: f"WORKER_METRICS_PORT {port}" in worker.said)
            assert worker.process.poll() is None
