"""Supervisor: keeps one child process running beside the server; knows nothing of what the child does."""

import json
import logging
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

log = logging.getLogger(__name__)

_STABLE = 30.0  # a child that lived so long had started well
_LONGEST_PAUSE = 30.0


class Supervisor:
    """Starts a child, starts it again when it ends, and stops it with the server.

    What `tell` is given reaches the child's standard input as one line of JSON, now and after every restart; so
    secrets pass from memory to memory.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._told: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the newest child; None where there has been none yet."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the child."""
        self._thread.start()

    def tell(self, message: Mapping[str, str]) -> None:
        """Send a message to the child unless it has it already."""
        with self._lock:
            if message == self._told:
                return
            self._told = dict(message)
            self._send()

    def stop(self, patience: float = 10.0) -> None:
        """End the child, by force where it does not listen."""
        self._stopping.set()
        with self._lock:
            child = self._child
        if child is None:
            return
        child.terminate()
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._thread.join(patience)

    def _watch(self) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            started = time.monotonic()
            ended = self._run()
            if self._stopping.is_set():
                return
            pause = 1.0 if time.monotonic() - started > _STABLE else min(2 * pause, _LONGEST_PAUSE)
            log.warning("the worker %s; it is started again in %.0f s", ended, pause)
            self._stopping.wait(pause)

    def _run(self) -> str:
        """Start a child and wait until it has ended; how it did."""
        with self._lock:
            if self._stopping.is_set():
                return "was not needed"
            try:
                self._child = child = subprocess.Popen(  # noqa: S603  # our own command line
                    self._command,
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            except OSError as error:
                return f"cannot be started ({error.strerror})"
            self._send()
        code = child.wait()
        with self._lock, suppress(OSError):
            if child.stdin is not None:
                child.stdin.close()
        return f"ended with code {code}"

    def _send(self) -> None:
        child = self._child
        if child is None or child.stdin is None or child.stdin.closed or not self._told:
            return
        try:
            child.stdin.write(json.dumps(self._told) + "\n")
            child.stdin.flush()
        except OSError:
            return  # it has just ended; the next one is told
