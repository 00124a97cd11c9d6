"""The real processes: `serve` with its worker, seen from outside as Label Studio sees it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.served import KEY, ROOT, Served, until

pytestmark = pytest.mark.slow


def test_an_approval_is_usable_at_once_and_after_a_crash_of_the_worker_and_a_restart_too(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    (worker,) = until(served.workers)
    served.approve(1)
    until(lambda: served.approvals() == 1)
    first = served.predict_as("-r1", 9)
    assert served.client.post("/setup", json={"project": KEY, "schema": LABEL_CONFIG}).json() == {
        "model_version": first["model_version"]
    }

    os.kill(worker, signal.SIGKILL)
    served.approve(2)
    until(lambda: served.approvals() == 2)
    assert until(served.workers) != [worker]
    version = served.predict_as("-r2", 9)["model_version"]

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
    served.process.wait(300)

    def gone() -> bool:
        try:
            return Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

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
        assert worker.wait(300) == 0


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
