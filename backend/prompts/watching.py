"""What a running tuning leaves in the store from update to update, and how it hears that it should stop."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from backend.store import Store, TuningRecord
from backend.store.records import TuningStatus
from model.tuning import TuningProgress

STOPPED = "Stopped by hand; it can go on from where it is."
"""Reason of a tuning that somebody stopped after it had begun."""

NOTE_EVERY = 1.0
"""Seconds between two records of progress, and so the longest that a stop goes unheard."""

SAVE_EVERY = 10.0
"""Seconds of work that a killed worker loses at most."""


class Watch:
    """Called by a tuning after every update.

    Attributes:
        ended: status ("stopped" by somebody, "queued" where only its worker ends) and reason, once it has said stop.
    """

    def __init__(
        self, store: Store, tuning: TuningRecord, save: Callable[[], bytes], keep_going: Callable[[], bool]
    ) -> None:
        """Watch one run.

        Args:
            store: where progress is kept.
            tuning: the record as the run began.
            save: gives what the tuning needs to go on.
            keep_going: may wait; False where the worker ends.
        """
        self._store = store
        self._tuning = tuning
        self._save = save
        self._keep_going = keep_going
        self._noted = -math.inf
        self._saved = time.monotonic()
        self.ended: tuple[TuningStatus, str] = ("queued", "")

    def __call__(self, progress: TuningProgress) -> bool:
        """Note progress now and then; whether to go on. Where not, all that is needed to go on is in the store."""
        if time.monotonic() - self._noted >= NOTE_EVERY:
            now = self._store.prompts.tuning(self._tuning.id)
            if now is None or now.stop:
                self._keep(progress, saved=True)
                self.ended = ("stopped", STOPPED)
                return False
            self._keep(progress, saved=time.monotonic() - self._saved >= SAVE_EVERY)
        if not self._keep_going():
            self._keep(progress, saved=True)
            return False
        return True

    def _keep(self, progress: TuningProgress, *, saved: bool) -> None:
        now = time.monotonic()
        record = replace(
            self._tuning,
            updated=time.time(),
            step=progress.step,
            steps=progress.steps,
            loss=_known(progress.loss),
            validation_iou=_known(progress.validation_iou),
            seconds_left=_known(progress.seconds_left),
        )
        self._store.prompts.put_tuning(record, self._save() if saved else None)
        self._noted = now
        if saved:
            self._saved = now
            self._store.set_note(f"tuning-starts:{record.id}", "0")


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
