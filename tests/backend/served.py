"""The real processes, `serve` with its worker, seen from outside as Label Studio sees them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from backend.demo.process import free_port
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import blob, brush, data_uri, now, png

ROOT = Path(__file__).parents[2]
PROJECT = {
    "id": 1,
    "created_at": "2026-01-01T00:00:01Z",
    "label_config": LABEL_CONFIG,
    "token": "invite-4711",
}
KEY = "1.1767225601"
COMPARED = 600.0
"""Seconds for a comparison with Label Studio: the next one comes after twenty times as long as one usually takes.

Each counts as twice the usual at most, or as a second, however long the machine stood still.
"""


def until(look: Callable[[], Any], patience: float = 300, *, what: str = "it") -> Any:
    """What it finds, as soon as it finds it; patient, since a busy machine stands still for half a minute at times."""
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, f"{what} never came, in {patience:.0f} s"
        time.sleep(0.05)
    return found


def workers_of(server: int) -> list[int]:
    """Process ids of the workers that the server of this process id started."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(server)]
    listed = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own command line
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if " worker " in line]


class Served:
    """A `serve` process and what it said."""

    def __init__(self, folder: Path, checkpoint: Path, **environment: str) -> None:
        self.port, self.folder = free_port(), folder
        self.log = folder / "log"
        self._environment = {
            **os.environ, "CHECKPOINT": str(checkpoint), "DEVICE": "cpu", "OMP_NUM_THREADS": "1",
            "PREDICT_DEADLINE": "240", "IMAGE_TIMEOUT": "240", **environment
        }  # fmt: skip
        self.client = self._new_client()
        self.start()

    def _new_client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300)

    def start(self) -> None:
        if self.client.is_closed:
            self.client = self._new_client()
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
        try:
            until(self._is_up, what="the server")
        except BaseException:
            self._kill()
            raise

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
        return workers_of(self.process.pid)

    def stop(self) -> None:
        """End it as somebody does who waits; by force where it does not end, so that nothing is left behind."""
        try:
            self.process.terminate()
            self.process.wait(300)
        finally:
            self._kill()

    def _kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def approve(self, annotation: int, *size: int) -> None:
        image, mask = blob(annotation, *size)
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

    def predict_as(self, revision: str, seed: int) -> Any:
        """A prediction under a version that ends so; waited for, since it moves a little later than approvals count."""
        return until(lambda: (found := self.predict(seed))["model_version"].endswith(revision) and found)

    def predict(self, seed: int, *size: int) -> Any:
        body = {
            "tasks": [{"id": 100 + seed, "data": {"image": data_uri(png(blob(seed, *size)[0]))}}],
            "project": KEY,
        }
        return self.client.post("/predict", json=body).json()["results"][0]
