"""How many tasks a step of predictions takes; knows no tasks."""

import time

_STEP_SECONDS = 4.0


class Pace:
    """How many tasks the next step takes, so that steps stay short and the deadline is kept."""

    def __init__(self) -> None:
        self._seconds = 0.0  # for one task, as seen so far

    def step(self, deadline: float | None) -> int:
        """How many tasks the next step takes.

        Args:
            deadline: `time.monotonic()` at which to stop; None for no limit.

        Returns:
            1 to 8; 0 where not one more would be done before the deadline.
        """
        if self._seconds == 0.0:
            return 1 if deadline is None or time.monotonic() < deadline else 0
        most = max(1, min(8, int(_STEP_SECONDS / self._seconds)))
        if deadline is None:
            return most
        return max(0, min(most, int((deadline - time.monotonic()) / self._seconds)))

    def took(self, tasks: int, seconds: float) -> None:
        """So many tasks were computed in this time; answers that were kept from before tell nothing."""
        if tasks:
            self._seconds = max(seconds / tasks, 1e-3)
