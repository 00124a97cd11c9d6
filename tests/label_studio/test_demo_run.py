"""`make run` from an empty folder, again, and Ctrl-C: with a real Label Studio."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from backend.demo.pictures import LABELS
from backend.demo.process import ManagedProcess, free_port, port_is_free
from backend.demo.server import REPOSITORY, Login
from tests.label_studio.stage import eventually


@pytest.fixture
def demo_dir(tmp_path: Path, label_studio_template: Path) -> Path:
    shutil.copytree(label_studio_template, tmp_path / "demo" / "label-studio")
    return tmp_path / "demo"


def test_the_demo_sets_itself_up_once_and_ctrl_c_stops_both_servers(demo_dir: Path, tmp_path: Path) -> None:
    ports = (free_port(), free_port())
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = {**kept, "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "backend.demo", "--dir", str(demo_dir)]
    command += ["--port", str(ports[0]), "--label-studio-port", str(ports[1])]

    first = ManagedProcess([*command, "--once"], env=environment, cwd=tmp_path, log=tmp_path / "first.log")
    first.start()
    eventually(lambda: not first.running, "the end of the first look", 300)
    told = first.log.read_text()
    assert first.exit_code == 0, told
    assert told.count("Approved the masks of") == 3
    assert all(label in told for label in LABELS)
    assert told.count("predicted") >= 9
    assert all(port_is_free(port) for port in ports)

    again = ManagedProcess(command, env=environment, cwd=tmp_path, log=tmp_path / "again.log")
    again.start()
    try:
        eventually(lambda: Login().password in again.log.read_text(), "the login on the last line", 300)
        told = again.log.read_text()
        assert "Approved the masks of" not in told
        assert "Uploading" not in told
        assert told.rstrip().splitlines()[-1].startswith("Login")
        again.signal(signal.SIGINT)
        eventually(lambda: not again.running, "the end after Ctrl-C")
        assert again.exit_code == 0
        assert all(port_is_free(port) for port in ports)
    finally:
        again.stop()
