"""What tests of the backend share: Label Studio's part of the network, faked on loopback."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backend.cli import main
from backend.label_studio.connection import Connection
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import FakeBucket
from tests.backend.redis_server import RedisServer
from tests.backend.served import Served
from tests.backend.stage import PATIENCE, Run, Stage, staged, write_random_checkpoint


@pytest.fixture(scope="module", autouse=True)
def _time_enough() -> Iterator[None]:
    """A machine that stands still for half a minute is no outage; tests of being late say how late themselves.

    For a module, since what a test patches itself has to be undone before this is; a package would need `__init__.py`.
    """
    with pytest.MonkeyPatch.context() as patient:
        defaults = Connection.__init__.__kwdefaults__ or {}
        patient.setattr(Connection.__init__, "__kwdefaults__", {**defaults, "timeout": PATIENCE})
        patient.setattr("backend.store.redis_address.ANSWER_SECONDS", PATIENCE)
        patient.setattr("backend.store.redis_address.CONNECT_SECONDS", PATIENCE)
        patient.setattr("backend.pre_annotation._STEP_SECONDS", PATIENCE)
        patient.setattr("backend.learner.room.SECONDS", PATIENCE)
        yield


@pytest.fixture
def fake_label_studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def bucket() -> Iterator[FakeBucket]:
    with FakeBucket() as server:
        yield server


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "random.safetensors")


@pytest.fixture
def stage(fake_label_studio: FakeLabelStudio, tmp_path: Path, checkpoint_file: Path) -> Iterator[Stage]:
    """A backend connected to one project of the fake Label Studio."""
    with staged(fake_label_studio, tmp_path / "data", checkpoint_file) as made:
        yield made


@pytest.fixture
def staging(
    fake_label_studio: FakeLabelStudio, tmp_path: Path, checkpoint_file: Path
) -> Iterator[Callable[..., Stage]]:
    """Makes stages with settings of one's own; they share Label Studio and the data folder."""
    with ExitStack() as opened:

        def make(**fields: Any) -> Stage:
            fields = {"folder": tmp_path / "data", "checkpoint": checkpoint_file, **fields}
            return opened.enter_context(staged(fake_label_studio, **fields))

        yield make


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def either(request: pytest.FixtureRequest, staging: Callable[..., Stage], tmp_path: Path) -> Iterator[Stage]:
    """A stage on each engine."""
    if request.param == "sqlite":
        yield staging()
        return
    request.getfixturevalue("redis_installed")
    with RedisServer(tmp_path / "redis") as server:
        yield staging(redis_url=server.url)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint_file: Path) -> Run:
    """Run a command; returns exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("CHECKPOINT", str(checkpoint_file))
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("IMAGE_TIMEOUT", str(PATIENCE))

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["backend", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out, said.err

    return command


@pytest.fixture
def serve(tmp_path: Path, checkpoint_file: Path) -> Iterator[Callable[..., Served]]:
    """Starts real `serve` processes, with settings by their variables' names."""
    with ExitStack() as started:

        def start(**environment: str) -> Served:
            served = Served(tmp_path, checkpoint_file, **environment)
            started.callback(served.stop)
            return served

        yield start
