"""What was predicted on frames of sequences, kept for the frames after them; knows no network."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import sequences
from backend.revision import Snapshot
from backend.sequences import Place
from backend.settings import Settings
from backend.store import ExampleInfo, PredictedFrame, Store
from backend.store.pictures import pack_image, pack_mask, unpack_image, unpack_mask
from model.example import Example

KEPT = 128
"""Frames of a project that are kept, those of each target counted by themselves; the newest stay."""

LEAST_SCORE = 0.7
"""Of a prediction that may be an example of the next frame's."""


class Frames:
    """Remembers predicted frames; safe to share between threads.

    Args:
        store: where they are.
        settings: say which tasks are frames.
        side: longest side in pixels that a frame is kept at, that of the network.
    """

    def __init__(self, store: Store, settings: Settings, side: int) -> None:
        self._store = store
        self._settings = settings
        self._side = side

    def place(self, task: Mapping[str, Any]) -> Place | None:
        """Where a task stands; None where it is no frame of a sequence."""
        return sequences.place_of(task, self._settings)

    def in_order(self, tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Tasks with the frames of each sequence in their order."""
        return sequences.in_order(tasks, self._settings)

    def follows(self, task: Mapping[str, Any], others: Iterable[Place | None], snapshot: Snapshot) -> bool:
        """Whether a task should wait until others have been predicted: a frame before it that may help is among them."""
        place = self.place(task)
        if place is None or place.frame is None:
            return False
        before = [
            other.frame
            for other in others
            if other
            and other.sequence == place.sequence
            and other.frame is not None
            and other.frame < place.frame
        ]
        pools = [snapshot.pool.get(target.id, ()) for target in snapshot.ready]
        return bool(before) and not all(sequences.is_near(place, pool, max(before)) for pool in pools)

    def before(
        self, project: str, target: str, place: Place | None, pool: Iterable[ExampleInfo]
    ) -> Example | None:
        """What was predicted on the frame before, as an example that nobody has approved.

        Args:
            project: project key.
            target: target id.
            place: of the frame that is to be predicted.
            pool: the target's approved examples.

        Returns:
            None where an approved frame is near, or where the frame before was not predicted, shows nothing, is not sure
            enough, or has been annotated since: then its annotation has said what is on it.
        """
        if place is None or place.frame is None:
            return None
        found = self._store.frame_before(project, target, place.sequence, place.frame)
        if found is None or found.score < LEAST_SCORE or sequences.is_near(place, pool, found.frame):
            return None
        if self._store.approvals(project, tasks=[found.task]):
            return None
        example = _example(found)
        return example if example.mask.any() else None

    def again(self, project: str, target: str, place: Place | None, key: str) -> Example | None:
        """What `before` gave with this key; None where it is not kept any more, or another frame is the one before."""
        if place is None or place.frame is None:
            return None
        found = self._store.frame_before(project, target, place.sequence, place.frame)
        example = found and _example(found)
        return example if example and example.key == key else None

    def seen(
        self,
        project: str,
        target: str,
        task: int,
        place: Place | None,
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_] | None,
        score: float,
    ) -> PredictedFrame | None:
        """What is to be remembered of one target on one task; None where that is no frame of a sequence.

        Args:
            project: project key.
            target: target id.
            task: Label Studio's task id.
            place: of the task.
            image: `[H, W, 3]` uint8 RGB.
            mask: `[H, W]` bool, None for an empty one.
            score: expected kept IoU, 0 to 1.
        """
        if not project or place is None or place.frame is None:
            return None
        shown = np.zeros(image.shape[:2], np.bool_) if mask is None else mask
        return PredictedFrame(
            project=project,
            target=target,
            task=task,
            sequence=place.sequence,
            frame=place.frame,
            score=score,
            at=time.time(),
            image=pack_image(image, self._side),
            mask=pack_mask(shown, self._side),
        )

    def remember(self, project: str, task: int, frames: Iterable[PredictedFrame | None]) -> None:
        """Keep what was seen on a task, in place of what was seen on it before."""
        if project and self._settings.sequence_key:
            self._store.put_frames(project, task, [frame for frame in frames if frame is not None], KEPT)


def _example(frame: PredictedFrame) -> Example:
    """A predicted frame as an example; its key says that nobody has approved it, and what it holds."""
    digest = hashlib.sha256(frame.image + frame.mask).hexdigest()[:16]
    key = sequences.predicted_key(frame.project, frame.task, digest)
    return Example(key, unpack_image(frame.image), unpack_mask(frame.mask))
