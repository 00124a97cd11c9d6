"""The supervisor: one child process, started again when it ends, stopped with the server, told what it must know."""

import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.supervisor import Supervisor
from tests.backend.served import until

LISTENS = "import sys; out = open(sys.argv[1], 'a')\nfor line in sys.stdin: out.write(line); out.flush()"
STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'a').close(); time.sleep(600)"
WORD = {"hostname": "http://studio", "access_token": "word"}
LINE = '{"hostname": "http://studio", "access_token": "word"}\n'


@pytest.fixture
def supervised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], tuple[Supervisor, Path]]]:
    monkeypatch.setattr("backend.supervisor._STABLE", math.inf)  # however long this machine stood still
    made: list[Supervisor] = []

    def make(code: str) -> tuple[Supervisor, Path]:
        heard = tmp_path / "heard"
        made.append(Supervisor([sys.executable, "-c", code, str(heard)], os.environ))
        return made[-1], heard

    yield make
    for supervisor in made:
        supervisor.stop(patience=0.1)


def child(supervisor: Supervisor) -> int:
    until(lambda: supervisor.pid is not None)
    assert supervisor.pid is not None
    return supervisor.pid


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_what_is_told_reaches_the_child_now_and_after_every_restart_and_only_once_each(
    supervised: Callable[[str], tuple[Supervisor, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor, heard = supervised(LISTENS)
    supervisor.tell(WORD)  # before there is a child
    supervisor.start()
    until(lambda: read(heard) == LINE)
    supervisor.tell(WORD)
    supervisor.tell({**WORD, "access_token": "other"})
    until(lambda: read(heard).count("\n") == 2)
    first = child(supervisor)
    os.kill(first, signal.SIGKILL)
    until(lambda: read(heard).count("\n") == 3)
    assert read(heard).splitlines()[2] == LINE.strip().replace("word", "other")
    assert child(supervisor) != first
    assert "the worker ended with code -9; it is started again in 2 s" in caplog.text
    assert "other" not in caplog.text


def test_stopping_ends_the_child_and_no_other_is_started(
    supervised: Callable[[str], tuple[Supervisor, Path]],
) -> None:
    supervisor, heard = supervised(LISTENS)
    supervisor.start()
    supervisor.tell(WORD)
    until(lambda: read(heard) == LINE)
    ended = child(supervisor)
    supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(ended, 0)
    supervisor.tell({**WORD, "access_token": "late"})  # nobody listens: nothing happens
    assert read(heard) == LINE


def test_a_child_that_does_not_listen_is_ended_by_force(
    supervised: Callable[[str], tuple[Supervisor, Path]],
) -> None:
    supervisor, ready = supervised(STUBBORN)
    supervisor.start()
    until(ready.exists)
    ended = child(supervisor)
    supervisor.stop(patience=0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(ended, 0)


def test_stopping_what_was_never_started_does_nothing(
    supervised: Callable[[str], tuple[Supervisor, Path]],
) -> None:
    supervised(LISTENS)[0].stop()


def test_a_child_that_ends_at_once_is_started_again_at_growing_distances(
    supervised: Callable[[str], tuple[Supervisor, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    supervisor, _ = supervised("import sys; sys.exit(3)")
    supervisor.start()
    until(lambda: "again in 4 s" in caplog.text)
    assert "ended with code 3; it is started again in 2 s" in caplog.text


def test_a_command_that_cannot_be_started_is_told(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The supervisor's thread ended with an error that nobody saw, and nothing was learned ever after."""
    supervisor = Supervisor([str(tmp_path / "missing")], {})
    supervisor.start()
    until(lambda: "cannot be started" in caplog.text)
    supervisor.stop()
