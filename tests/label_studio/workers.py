"""Which process is the worker of a server."""

from tests.backend.served import workers_of
from tests.label_studio.stage import RunningBackend


def worker_of(backend: RunningBackend) -> int:
    """Process id of the worker that `serve` keeps running; 0 while there is none."""
    assert backend.process.pid is not None
    return next(iter(workers_of(backend.process.pid)), 0)
