"""Shadowing: predicts what was submitted by the project's shadows, as if they were in use; shows nobody, knows no queue.

`shadows` says which submissions these are and keeps what comes of them.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from backend import revision, shadows
from backend.errors import ImageError, LabelStudioError, NotFound, StoreError
from backend.label_studio import LabelStudio, is_outage
from backend.learner.kept import CLOCK_SKEW, left_of
from backend.predictor import Predictor
from backend.protocol import parse_time
from backend.revision import Snapshot
from backend.shadows import Shadow, Waiting
from backend.store import ExampleInfo, PromptRecord, Store
from model.device import DeviceMemoryError

log = logging.getLogger(__name__)


class Shadowing:
    """Compares shadows with what was shown, one submission after the other."""

    def __init__(
        self, store: Store, label_studio: LabelStudio, predictor: Predictor, checkpoint: str
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._predictor = predictor
        self._checkpoint = checkpoint

    def settle(self, project: str) -> bool:
        """End the project's shadows that must end; whether a submission waits for another one."""
        running = [one for one in shadows.read(self._store, project) if one.ended is None]
        if not running:
            return False
        snapshot = revision.take(self._store, project, self._checkpoint)
        for one in running:
            if (why := shadows.why_over(self._store, snapshot, self._checkpoint, one)) is not None:
                shadows.end(self._store, project, one.id, why)
        return self._next(project) is not None

    def step(self, project: str, go_on: Callable[[], bool]) -> bool:
        """Predict the submission that waits for the longest time, if any does.

        Args:
            project: project key.
            go_on: may wait; False where the worker ends.

        Returns:
            Whether to go on with what waits still; else it is to be done later.
        """
        if not self.settle(project) or (found := self._next(project)) is None:
            return True
        if not go_on():
            return False
        shadow, waits = found
        if (why := self._why_not(project, shadow)) is not None:
            shadows.end(self._store, project, shadow.id, why)
            return True
        try:
            kept = self._kept(project, shadow, waits)
        except (LabelStudioError, NotFound, ImageError, DeviceMemoryError) as error:
            cause = error if isinstance(error, LabelStudioError) else error.__cause__
            if is_outage(cause) and self._label_studio.is_away():
                return False  # else it is this one alone, and others wait behind it
            log.warning("project %s task %d: not predicted by a shadow: %s", project, waits.task, error)
            kept = None
        except StoreError:
            raise  # nothing can be noted; it waits
        except Exception:  # it must not be tried for ever: those behind it have their turn
            log.exception("project %s task %d: not predicted by a shadow", project, waits.task)
            shadows.predicted(self._store, project, shadow.id, waits, None)
            return False  # at the next look: where the device is broken, not all that wait are lost at once
        shadows.predicted(self._store, project, shadow.id, waits, kept)
        return True

    def _next(self, project: str) -> tuple[Shadow, Waiting] | None:
        """What waits for the longest time."""
        running = [one for one in reversed(shadows.read(self._store, project)) if one.ended is None]
        return next(((one, waits) for one in running for waits in one.waiting), None)

    def _kept(self, project: str, shadow: Shadow, waits: Waiting) -> float | None:
        """What would have been kept of the shadow's mask, IoU; None where it is not known what that mask is.

        Raises:
            LabelStudioError: if Label Studio does not give the task.
            NotFound: if the project is gone, or another one has its number.
            ImageError: if the task's picture cannot be had.
            DeviceMemoryError: if it is too large for the device.
        """
        approved = self._store.approvals(project, tasks=[waits.task])
        if all(one.annotation != waits.annotation for one in approved):
            return None  # it was withdrawn meanwhile
        snapshot = self._before(shadow, waits, revision.take(self._store, project, self._checkpoint))
        target = next((one for one in snapshot.config.targets if one.id == shadow.target), None)
        task = self._label_studio.task_of(project, waits.task)
        if target is None or task is None:
            return None
        contexts = self._predictor.contexts
        picture, place = self._predictor.picture(target, task), contexts.frames.place(task)
        context = contexts.choose(snapshot, target, waits.task, picture, place)
        if not len(context):
            return None
        (mask,) = self._predictor.shown(snapshot, target, task, [context])
        return left_of(mask, waits.submitted)

    def _why_not(self, project: str, shadow: Shadow) -> str | None:
        """Why nothing can be predicted by a shadow, a sentence; None where it can."""
        if not self._label_studio.configured:
            return "Tasks are read again for it: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
        if not all(map(self._predictor.contexts.can_read, self._prompts(project, shadow).values())):
            return "The prompt's tensors cannot be read."
        return None

    def _before(self, shadow: Shadow, waits: Waiting, now: Snapshot) -> Snapshot:
        """The snapshot that the shown prediction was made on, had the shadow been in use: as far as it is there still."""
        pool = tuple(
            info
            for info in now.pool.get(shadow.target, ())
            if info.task != waits.task and _approved_by(info, waits.at)
        )
        return replace(now, pool={shadow.target: pool}, prompts=self._prompts(now.project, shadow))

    def _prompts(self, project: str, shadow: Shadow) -> dict[str, PromptRecord]:
        return {
            one.target: one
            for one in self._store.prompts.prompts(project, shadow.target)
            if one.number == shadow.prompt
        }


def _approved_by(info: ExampleInfo, at: float) -> bool:
    approved = parse_time(info.at)
    return approved is None or approved <= at + CLOCK_SKEW
