"""Which process is the worker of a server, and how it dies."""

import os
import signal
from contextlib import suppress

from tests.backend.served import workers_of
from tests.label_studio.stage import RunningBackend, eventually


def worker_of(backend: RunningBackend) -> int:
    """Process id of the worker that `serve` keeps running; 0 while there is none."""
    assert backend.process.pid is not None
    return next(iter(workers_of(backend.process.pid)), 0)


def kill_worker_of(backend: RunningBackend) -> int:
    """Let the worker die at once; returns its process id."""
    worker = eventually(lambda: worker_of(backend), "a worker")
    os.kill(worker, signal.SIGKILL)
    return worker


def keep_worker_away(backend: RunningBackend) -> None:
    """Let the worker die if there is one: where this is called all the time, no other takes its place."""
    if worker := worker_of(backend):
        with suppress(ProcessLookupError):  # it has just died
            os.kill(worker, signal.SIGKILL)
