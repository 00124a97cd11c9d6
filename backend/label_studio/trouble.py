"""Whether Label Studio can be worked with, as seen from this process: told once when it cannot, and when it can again."""

import logging
import threading
import time
from collections.abc import Callable

from backend.errors import LabelStudioError, Unauthorized, Unreachable

log = logging.getLogger(__name__)

_SHORTEST, _LONGEST = 2.0, 60.0  # seconds between two tries of the same work
_USUAL = 15.0  # where the trouble is another
_SLOW_AGAIN = 600.0  # one answer late and the next in time, again and again, is one trouble


def is_outage(error: BaseException | None) -> bool:
    """Whether an error is about Label Studio as a whole: no answer, or the token refused; not about one request."""
    return isinstance(error, Unreachable) or (isinstance(error, Unauthorized) and error.status == 401)


class Trouble:
    """The outage that lasts now, if any; thread-safe.

    Args:
        clock: monotonic seconds.
        tells: whether the log is told.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, tells: bool = True) -> None:
        self._clock, self._tells = clock, tells
        self._lock = threading.Lock()
        self._error: LabelStudioError | None = None
        self._since = 0.0
        self._told = False
        self._slow_told_at = float("-inf")

    @property
    def pause(self) -> float:
        """Seconds to wait before the next try: as long again as it has lasted, within limits."""
        with self._lock:
            age = self._clock() - self._since if self._error else _USUAL
        return min(max(age, _SHORTEST), _LONGEST)

    def met(self, error: LabelStudioError) -> None:
        """An answer was late, missing, or refused the token."""
        with self._lock:
            now, slow = self._clock(), isinstance(error, Unreachable) and error.slow
            lately = slow and now - self._slow_told_at <= _SLOW_AGAIN
            if self._error is not None and type(self._error) is type(error) and (self._told or lately):
                return
            self._since = now if self._error is None else self._since
            self._error = error
            self._told = not lately
            if slow and self._told:
                self._slow_told_at = now
            told = self._told
        if told and self._tells:
            log.warning("%s What needs Label Studio waits, and is tried again.", error)

    def over(self) -> None:
        """There was an answer."""
        with self._lock:
            if self._error is None:
                return
            self._error, told = None, self._told
            seconds = self._clock() - self._since
        if told and self._tells:
            log.info("Label Studio answers again, after %.0f s", seconds)
