"""The real processes: `serve` with its worker, seen from outside as Label Studio sees it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import blob, brush, data_uri, now, png

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROJECT = {
    "id": 1,
    "created_at": "2026-01-01T00:00:01Z",
    "label_config": LABEL_CONFIG,
    "token": "invite-4711",
}
KEY = "1.1767225601"


def until(what: Callable[[], Any], patience: float = 120) -> Any:
    """What it finds, as soon as it finds it."""
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A `serve` process and what it said."""

    def __init__(self, folder: Path, checkpoint: Path, **environment: str) -> None:
        self.port, self.folder = free_port(), folder
        self.log = folder / "log"
        self._environment = {
            **os.environ, "CHECKPOINT": str(checkpoint), "DEVICE": "cpu", "OMP_NUM_THREADS": "1", **environment
        }  # fmt: skip
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "backend",
            "serve",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.folder / "data"),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)  # noqa: S603 - our own command line
        until(self._is_up)

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.said
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def said(self) -> str:
        return self.log.read_text()

    def workers(self) -> list[int]:
        """Process ids of the workers that it started."""
        command = ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)]
        listed = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own command line
        return [int(line.split()[0]) for line in listed.stdout.splitlines() if " worker " in line]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def approve(self, annotation: int) -> None:
        image, mask = blob(annotation)
        row = {
            "id": annotation, "task": annotation, "result": [brush(mask)], "updated_at": now(), "lead_time": 1.0,
            "was_cancelled": False, "updated_by": 1, "completed_by": 1,
        }  # fmt: skip
        task = {"id": annotation, "data": {"image": data_uri(png(image))}}
        body = {"action": "ANNOTATION_CREATED", "annotation": row, "task": task, "project": PROJECT}
        assert self.client.post("/webhook", json=body).status_code == 201

    def approvals(self) -> int:
        answer = self.client.get(f"/api/projects/{KEY}")
        return int(answer.json()["approvals"]) if answer.status_code == 200 else 0

    def predict(self, seed: int) -> Any:
        body = {
            "tasks": [{"id": 100 + seed, "data": {"image": data_uri(png(blob(seed)[0]))}}],
            "project": KEY,
        }
        return self.client.post("/predict", json=body).json()["results"][0]


@pytest.fixture
def serve(tmp_path: Path, checkpoint_file: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(**environment: str) -> Served:
        started.append(Served(tmp_path, checkpoint_file, **environment))
        return started[-1]

    yield start
    for served in started:
        served.client.close()
        served.process.terminate()
        served.process.wait(60)


def test_an_approval_is_usable_at_once_and_after_a_crash_of_the_worker_and_a_restart_too(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    (worker,) = until(served.workers)
    served.approve(1)
    until(lambda: served.approvals() == 1)
    first = served.predict(9)
    assert first["model_version"].endswith("-r1")
    assert served.client.post("/setup", json={"project": KEY, "schema": LABEL_CONFIG}).json() == {
        "model_version": first["model_version"]
    }

    os.kill(worker, signal.SIGKILL)
    served.approve(2)
    until(lambda: served.approvals() == 2)
    assert until(served.workers) != [worker]
    version = served.predict(9)["model_version"]
    assert version.endswith("-r2")

    served.stop()
    assert served.process.returncode in {0, -signal.SIGTERM}
    served.start()
    assert served.predict(9)["model_version"] == version
    assert "Traceback" not in served.said
    assert "invite-4711" not in served.said


def test_the_worker_ends_with_its_server_however_that_ends(serve: Callable[..., Served]) -> None:
    served = serve()
    (worker,) = until(served.workers)
    until(lambda: "worker" in served.said or served.workers())
    served.process.kill()
    served.process.wait(60)

    def gone() -> bool:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z"

    until(gone)


def test_with_the_worker_off_events_wait_for_one_that_runs_elsewhere(
    serve: Callable[..., Served], checkpoint_file: Path, tmp_path: Path
) -> None:
    served = serve(WORKER="off")
    served.approve(1)
    assert served.workers() == []
    environment = {**os.environ, "CHECKPOINT": str(checkpoint_file), "DEVICE": "cpu"}
    command = [sys.executable, "-m", "backend", "worker", "--data-dir", str(tmp_path / "data")]
    worker = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command line
    try:
        until(lambda: served.approvals() == 1)
    finally:
        worker.terminate()
        assert worker.wait(60) == 0


def test_a_taken_port_is_told_in_one_line(tmp_path: Path, checkpoint_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "backend", "serve", "--port", str(port), "--data-dir", str(tmp_path)]
        environment = {**os.environ, "CHECKPOINT": str(checkpoint_file)}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)  # noqa: S603 - our own command line
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert f"Cannot listen on 127.0.0.1:{port}" in line
    assert "--port" in line
