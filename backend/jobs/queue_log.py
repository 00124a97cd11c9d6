"""What Huey's threads write while the queue is away, in one line; knows no job."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from backend.errors import StoreError
from backend.jobs.lanes import QUEUE_TROUBLES

log = logging.getLogger(__name__)

_HUEY_S = ("huey", "huey.consumer.Worker", "huey.consumer.Scheduler")  # loggers; a filter holds for one only


class QueueLog(logging.Filter):
    """Says in one line that the queue, or a job's store, is away; Huey has a page for each try of each thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._is_away = False

    def met(self, error: BaseException) -> None:
        """The queue did not answer."""
        with self._lock:
            begins, self._is_away = not self._is_away, True
        if begins:
            # Where Sentinel knows no master, the error goes on with a page about the clients that were asked.
            reason = str(error).partition(" : <")[0]
            log.warning("the queue cannot be used; what is to be done waits: %s", reason)

    def over(self) -> None:
        """The queue has answered."""
        with self._lock:
            ends, self._is_away = self._is_away, False
        if ends:
            log.info("the queue can be used again")

    def filter(self, record: logging.LogRecord) -> bool:
        """What Huey would write, see `logging.Filter`."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, StoreError):
            record.msg, record.args, record.exc_info = "a job ended before its time: %s", (error,), None
        elif isinstance(error, QUEUE_TROUBLES) and record.name != "huey":
            self.met(error)
            return False
        return True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Read what Huey writes, for as long as the block runs."""
        loggers = [logging.getLogger(name) for name in _HUEY_S]
        for each in loggers:
            each.addFilter(self)
        try:
            yield
        finally:
            for each in loggers:
                each.removeFilter(self)
