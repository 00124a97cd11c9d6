import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.demo.process import LOOPBACK, ManagedProcess, free_port, port_is_free, require_free_port
from backend.demo.run import main
from backend.demo.server import LabelStudioServer, Login, default_venv
from backend.errors import Refused
from tests.backend.served import until

STUBBORN_FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
ANSWERS = "import sys; from http.server import *; HTTPServer(('127.0.0.1', int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        yield int(other.getsockname()[1])


@pytest.fixture
def signals() -> Iterator[None]:
    """`main` takes over the signals of its process; put them back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def run(code: str, tmp_path: Path, *arguments: str) -> ManagedProcess:
    process = ManagedProcess(
        [sys.executable, "-c", code, *arguments], env={}, cwd=tmp_path, log=tmp_path / "log" / "it.log"
    )
    process.start()
    return process


def is_over(stat: Path) -> bool:
    """Whether a process of this file in /proc has ended, reaped or not."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_taken_port_is_named_with_the_option_that_chooses_another(taken_port: int) -> None:
    assert not port_is_free(taken_port)
    with pytest.raises(Refused, match=rf"Port {taken_port}.*Label Studio.*--label-studio-port"):
        require_free_port(taken_port, "Label Studio", "--label-studio-port")


def test_a_free_port_passes() -> None:
    require_free_port(free_port(), "the backend", "--port")


def test_stopping_ends_the_whole_family_even_where_it_will_not(tmp_path: Path) -> None:
    process = run(STUBBORN_FAMILY, tmp_path)
    until(process.tail)
    child = Path("/proc") / process.tail().strip() / "stat"

    process.stop(grace=0.3)

    assert not process.running
    assert process.exit_code == -signal.SIGKILL
    until(lambda: is_over(child))  # it was killed with the others, and goes as soon as it has its turn


def test_a_healthy_process_is_waited_for_and_stopped(tmp_path: Path) -> None:
    port = free_port()
    process = run(ANSWERS, tmp_path, str(port))

    process.wait_until_healthy(f"http://{LOOPBACK}:{port}/", "It", 300)
    process.stop(grace=300)

    assert process.exit_code == -signal.SIGTERM
    assert port_is_free(port)


def test_a_process_that_ends_while_starting_tells_its_last_words(tmp_path: Path) -> None:
    process = run("raise SystemExit('no such database')", tmp_path)

    with pytest.raises(Refused, match=r"It ended while starting.\nno such database"):
        process.wait_until_healthy(f"http://{LOOPBACK}:{free_port()}/", "It", 300)


def test_a_process_that_never_answers_is_given_up(tmp_path: Path) -> None:
    process = run("import time; time.sleep(600)", tmp_path)

    with pytest.raises(Refused, match="did not answer"):
        process.wait_until_healthy(f"http://{LOOPBACK}:{free_port()}/", "It", 0.1)
    process.stop()


def test_label_studio_gets_its_settings_and_none_of_our_variables(tmp_path: Path) -> None:
    """A stray HOST, PORT, USERNAME or PASSWORD changes what Label Studio does."""
    server = LabelStudioServer(tmp_path, 1, settings={"SENTRY_DSN": "x", "DEBUG": "true"})
    stray = {
        "HOST": "h",
        "PORT": "1",
        "USERNAME": "u",
        "PASSWORD": "p",
        "LABEL_STUDIO_HOST": "h",
        "HOME": "/",
    }

    given = server.environment({**stray, "PATH": "/bin"})

    assert not (stray.keys() - {"HOME"}) & given.keys()
    assert given["PATH"] == "/bin"
    assert given["HOME"] == str(tmp_path)
    assert given["SSRF_PROTECTION_ENABLED"] == given["ML_BLOCK_LOCAL_IP"] == "false"
    assert (given["SENTRY_DSN"], given["DEBUG"]) == ("x", "true")


def test_a_missing_label_studio_is_named_with_the_remedy(tmp_path: Path) -> None:
    server = LabelStudioServer(tmp_path / "data", free_port(), venv=tmp_path, login=Login("a@b.c", "d"))

    with pytest.raises(Refused, match=r"no Label Studio in .*make run.*LABEL_STUDIO_VENV"):
        server.start()
    assert not (tmp_path / "data").exists()


def test_the_environment_names_another_place_for_label_studio(tmp_path: Path) -> None:
    assert default_venv({"LABEL_STUDIO_VENV": str(tmp_path)}) == tmp_path
    assert default_venv({}).name == ".venv-label-studio"


@pytest.mark.usefixtures("signals")
def test_an_address_without_a_token_is_refused_with_where_to_find_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://labels.example.com")
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)

    assert main(["--dir", str(tmp_path)]) == 1
    assert "Personal Access Token" in capsys.readouterr().out


@pytest.mark.usefixtures("signals")
def test_a_setting_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", "labels.example.com")

    assert main(["--dir", str(tmp_path)]) == 2
    assert "LABEL_STUDIO_URL" in capsys.readouterr().out


@pytest.mark.usefixtures("signals")
def test_a_taken_backend_port_is_told_before_anything_starts(
    taken_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "label-studio").touch()
    monkeypatch.setenv("LABEL_STUDIO_VENV", str(tmp_path / "venv"))
    options = [
        "--dir",
        str(tmp_path / "demo"),
        "--port",
        str(taken_port),
        "--label-studio-port",
        str(free_port()),
    ]

    assert main(options) == 1
    assert f"Port {taken_port}" in capsys.readouterr().out
    assert not (tmp_path / "demo").exists()
