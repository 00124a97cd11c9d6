"""What a target is segmented by on one image: its active prompt, examples, or both; knows no requests."""

import logging
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backend import choosing, memory, pins, sequences, unpacking
from backend.errors import BadRequest
from backend.label_config import Target
from backend.predictor.bounded import Bounded
from backend.predictor.frames import Frames
from backend.revision import Snapshot, unfit
from backend.sequences import Place
from backend.settings import Settings
from backend.store import ExampleInfo, PromptRecord, Store
from model.example import Context, Example, Prompt
from model.gate import COMPANIONS
from model.retrieval import LEAST_KNOWN, is_familiar
from model.segmenter import Segmenter

log = logging.getLogger(__name__)

_BYTES = 128 * 2**20  # decoded examples and prompts kept
_RENEWED = 8 * 2**20  # of them, after which what is free is given back
_DESCRIBED = 64  # descriptors of query images kept, so that several targets share one


class Contexts:
    """Chooses contexts; safe to share between threads.

    Attributes:
        frames: what was predicted on frames of sequences.
    """

    def __init__(self, store: Store, segmenter: Segmenter, settings: Settings) -> None:
        self._store = store
        self._segmenter = segmenter
        self._settings = settings
        self.frames = Frames(store, settings, segmenter.image_size)
        self._kept = Bounded(_BYTES)
        self._renewed = 0
        self._described = Bounded(_DESCRIBED)

    def choose(
        self,
        snapshot: Snapshot,
        target: Target,
        task: int,
        image: NDArray[np.uint8],
        place: Place | None = None,
        *,
        predicted: bool = False,
    ) -> Context:
        """The context of a target for one image; empty where there is nothing to segment by.

        Args:
            snapshot: pool and active prompts.
            target: what is looked for.
            task: Label Studio's task id, whose own example is the last resort.
            image: `[H, W, 3]` uint8 RGB.
            place: of the task, if it is a frame of a sequence: then its nearest approved frames come first.
            predicted: whether what was predicted on the frame before may join them, where no approved frame is near.
        """
        active = snapshot.prompts.get(target.id)
        prompt = self._prompt(active) if active else None
        if prompt is None:
            shots = self._settings.shots
        else:
            shots = COMPANIONS if active and active.uses == "both" else 0
        pool = snapshot.pool.get(target.id, ())
        if not shots:
            return Context(prompt=prompt)
        examples = self._stored([info.key for info in self._choose(pool, task, image, shots, place)])
        before = self.frames.before(snapshot.project, target.id, place, pool) if predicted else None
        return Context((*examples, *([before] if before else [])), prompt)

    def again(self, snapshot: Snapshot, target: Target, keys: Sequence[str], place: Place | None) -> Context:
        """The context that a prediction was made by; what of it is not there any more is left out.

        Args:
            snapshot: pool.
            target: what was looked for.
            keys: as they were recorded with the prediction.
            place: of its task, if that is a frame of a sequence.
        """
        there = {info.key for info in snapshot.pool.get(target.id, ())}
        examples = self._stored([key for key in keys if key in there])
        frames = [
            frame
            for key in keys
            if sequences.predicted_task(key) is not None
            and (frame := self.frames.again(snapshot.project, target.id, place, key)) is not None
        ]
        versions = self._store.prompts.prompts(snapshot.project, target.id)
        used = next((one for one in versions if unpacking.prompt_key(one) in keys), None)
        fits = used is not None and unfit(used, snapshot.config, self._segmenter.identity) is None
        return Context((*examples, *frames), self._prompt(used) if used is not None and fits else None)

    def can_read(self, prompt: PromptRecord) -> bool:
        """Whether a version's tensors can be read; where not, `choose` does without them."""
        return self._prompt(prompt) is not None

    def is_familiar(self, snapshot: Snapshot, target: Target, task: int, image: NDArray[np.uint8]) -> bool:
        """Whether an image is like those on which the target has been approved; True where they are too few to say.

        Args:
            snapshot: pool.
            target: what is looked for.
            task: Label Studio's task id, whose own example says nothing about it.
            image: `[H, W, 3]` uint8 RGB.
        """
        others = {info.task: info for info in snapshot.pool.get(target.id, ()) if info.task != task}
        if len(others) < LEAST_KNOWN:
            return True
        query = self._describe(image)
        descriptors = choosing.comparable(list(others.values()), query)
        return descriptors is None or is_familiar(query, descriptors)

    def _choose(
        self,
        pool: Sequence[ExampleInfo],
        task: int,
        image: NDArray[np.uint8],
        shots: int,
        place: Place | None,
    ) -> tuple[ExampleInfo, ...]:
        """At most `shots` examples, one a task (a pinned one, or its newest); the task's own only where no other is."""
        best = pins.best_of_tasks(pool)
        others = [info for info in best if info.task != task] or best
        return choosing.choose(others, shots, self._settings.shots, place, lambda: self._describe(image))

    def _describe(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The image's descriptor; worked out once while the image is in memory."""
        described, known = self._described.get(id(image)) or (None, None)
        if known is not None and known() is image:  # not another that came to lie in the same place
            return np.asarray(described)
        described = self._segmenter.describe(image)
        self._described.put(id(image), (described, weakref.ref(image)), 1)
        return described

    def _stored(self, keys: Sequence[str]) -> tuple[Example, ...]:
        """The examples of these keys; those withdrawn since the snapshot was taken are left out."""
        found = {key: example for key in keys if (example := self._kept.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        for key, stored in self._store.examples(missing).items() if missing else ():
            found[key] = unpacking.example(stored)
            self._keep(key, found[key], found[key].image.nbytes + found[key].mask.nbytes)
        return tuple(found[key] for key in keys if key in found)

    def _prompt(self, record: PromptRecord) -> Prompt | None:
        """The tensors of a version; None where they cannot be read, and examples must do."""
        key = unpacking.prompt_key(record)
        kept: Prompt | None = self._kept.get(key)
        if kept is not None:
            return kept
        content = self._store.prompts.prompt_content(record.project, record.number)
        try:
            prompt = unpacking.prompt(record, content or b"")
        except BadRequest as error:
            log.error("project %s: prompt %d cannot be used: %s", record.project, record.number, error)
            return None
        self._keep(key, prompt, prompt.image.nbytes + prompt.mask.nbytes)
        return prompt

    def _keep(self, key: str, decoded: Example | Prompt, weight: int) -> None:
        """Keep what was decoded; others may leave for it."""
        self._kept.put(key, decoded, weight)
        self._renewed += weight  # roughly, as threads may count at once
        if self._renewed >= _RENEWED:
            self._renewed = 0
            memory.give_back()
