"""`make run` from an empty folder, again, and Ctrl-C: with a real Label Studio."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from backend.demo.pictures import LABELS
from backend.demo.process import ManagedProcess, free_port, port_is_free
from backend.demo.server import REPOSITORY, Login
from tests.label_studio.stage import RunningLabelStudio, eventually

StartDemo = Callable[..., ManagedProcess]
PATIENCE_SECONDS = 1200.0  # the demo itself has some: for both servers, and for the predictions


@pytest.fixture
def start_demo(tmp_path: Path, kept_variables: Mapping[str, str]) -> Iterator[StartDemo]:
    """`python -m backend.demo` with these arguments and settings, logging to a file of its own."""
    with ExitStack() as running:

        def start(name: str, *arguments: str, **settings: str) -> ManagedProcess:
            fixed = {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
            process = ManagedProcess(
                [sys.executable, "-m", "backend.demo", "--dir", str(tmp_path / "demo"), *arguments],
                env={**kept_variables, **fixed, **settings},
                cwd=tmp_path,
                log=tmp_path / f"{name}.log",
            )
            running.callback(process.stop, 60)  # it stops two servers first
            process.start()
            return process

        yield start


def test_the_demo_sets_itself_up_once_and_ctrl_c_stops_both_servers(
    start_demo: StartDemo, tmp_path: Path, label_studio_template: Path
) -> None:
    shutil.copytree(label_studio_template, tmp_path / "demo" / "label-studio")
    ports = (free_port(), free_port())
    options = ["--port", str(ports[0]), "--label-studio-port", str(ports[1])]

    first = start_demo("first", *options, "--once")
    eventually(lambda: not first.running, "the end of the first look", PATIENCE_SECONDS)
    told = first.log.read_text()
    assert first.exit_code == 0, told
    assert told.count("Approved the masks of") == 3
    assert all(label in told for label in LABELS)
    assert told.count("predicted") >= 9
    assert all(port_is_free(port) for port in ports)

    again = start_demo("again", *options)
    eventually(
        lambda: Login().password in again.log.read_text() or not again.running, "the login", PATIENCE_SECONDS
    )
    told = again.log.read_text()
    assert "Approved the masks of" not in told
    assert "Uploading" not in told
    assert told.count("predicted") >= 9
    assert told.rstrip().splitlines()[-1].startswith("Login"), told
    again.signal(signal.SIGINT)
    eventually(lambda: not again.running, "the end after Ctrl-C")
    assert again.exit_code == 0
    assert all(port_is_free(port) for port in ports)


def test_with_an_address_and_a_token_it_serves_that_label_studio(
    start_demo: StartDemo, tmp_path: Path, label_studio: RunningLabelStudio
) -> None:
    port = free_port()
    settings = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.personal_token}

    process = start_demo(
        "existing", "--port", str(port), "--once", DATA_DIR=str(tmp_path / "data"), **settings
    )

    eventually(lambda: not process.running, "the end", PATIENCE_SECONDS)
    told = process.log.read_text()
    assert process.exit_code == 0, told
    assert f"serves {label_studio.url}" in told
    assert f"http://127.0.0.1:{port}" in told
    assert "Starting Label Studio" not in told
    assert label_studio.personal_token not in told
    assert port_is_free(port)
