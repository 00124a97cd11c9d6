"""Child processes of the demo: started in a group of their own, logged to a file; knows not what they serve."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from backend.errors import Refused

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.2
AFTER_FORCE_SECONDS = 2.0  # an orphan that nobody reaps stays in its group as a zombie


def port_is_free(port: int) -> bool:
    """Whether nobody listens on `port` of this machine and we may."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((LOOPBACK, port)) == 0:
            return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free_port(port: int, purpose: str, option: str) -> None:
    """Raise Refused, with the way out, where `port` is taken.

    Args:
        port: the port wanted.
        purpose: who wants it, e.g. "Label Studio".
        option: the command-line option that chooses another.
    """
    if not port_is_free(port):
        raise Refused(
            f"Port {port}, which {purpose} should listen on, is taken by another program.",
            remedy=f"Stop that program (perhaps an earlier `make run`?) or choose another port with {option}.",
        )


def free_port() -> int:
    """A port of the loopback address that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class ManagedProcess:
    """A command that runs in a process group of its own, so that Ctrl-C reaches us first and all of it ends."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.command = list(command)
        self.log = log
        self._env = dict(env)
        self._cwd = cwd
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None while it runs or was never started. Negative: the signal that ended it."""
        return None if self._child is None else self._child.poll()

    @property
    def pid(self) -> int | None:
        """Its process id; None where it was never started."""
        return None if self._child is None else self._child.pid

    def signal(self, number: int) -> None:
        """Send a signal to the command itself, not to its group."""
        if self._child is not None:
            self._child.send_signal(number)

    def start(self) -> None:
        """Start the command; its output is added to the log file."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(  # noqa: S603 - the demo's own two commands, no shell
                self.command,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_healthy(self, url: str, name: str, seconds: float) -> None:
        """Wait until `url` answers 2xx.

        Raises:
            Refused: the process ended or the time ran out; the message quotes the end of the log.
        """
        deadline = time.monotonic() + seconds
        while True:
            if not self.running:
                raise Refused(
                    f"{name} ended while starting.\n{self.tail()}", remedy=f"Its log is {self.log}."
                )
            with suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2, trust_env=False).is_success:
                    return
            if time.monotonic() > deadline:
                raise Refused(
                    f"{name} did not answer at {url} within {seconds:.0f} s.\n{self.tail()}",
                    remedy=f"Its log is {self.log}.",
                )
            time.sleep(POLL_SECONDS)

    def stop(self, grace: float = 10.0) -> None:
        """End the whole group: politely first, after `grace` seconds by force. Does nothing the second time."""
        child = self._child
        if child is None or self._stopped:
            return
        self._stopped = True
        _signal_group(child.pid, signal.SIGTERM)
        if not self._gone(child, grace):
            _signal_group(child.pid, signal.SIGKILL)
            self._gone(child, AFTER_FORCE_SECONDS)
        child.wait()

    def _gone(self, child: "subprocess.Popen[bytes]", seconds: float) -> bool:
        """Whether the group is empty within `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            child.poll()  # reaps the leader, so that an empty group is seen as gone
            if not _signal_group(child.pid, 0):
                return True
            time.sleep(0.05)
        return False

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; returns whether the group exists."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
