"""Interactive requests to suggested masks, within a deadline; stores nothing and teaches nothing.

What the pool's examples say of an image is computed once for it; a further click costs only the cut.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import regions
from backend.errors import BadRequest, ImageError
from backend.images import ImageLoader
from backend.interactive import hints
from backend.interactive.hints import Hints
from backend.label_config import Target, image_url
from backend.predictor.bounded import Bounded
from backend.predictor.contexts import Contexts
from backend.protocol import SUGGESTED, is_id
from backend.revision import Snapshot
from backend.settings import Settings
from model import cutting
from model.cutting import Cutout
from model.device import DeviceMemoryError
from model.example import Context, Example, Mask, Picture
from model.frames import Patch, shown, whole
from model.scene import Clicks
from model.segmenter import Query, Segmenter

log = logging.getLogger(__name__)

SEEN_SIDE = 1024
"""Longest side in pixels of the picture that the network is shown; no checkpoint looks closer."""

_BYTES = 128 * 2**20  # shrunk pictures and probability maps kept
_SPECK = 0.02  # of a suggestion; smaller components are left out


@dataclass(frozen=True, eq=False)
class _Suggested:
    """One mask of a reply and how it came about."""

    cutout: Cutout
    by: str
    text: str


class Interactive:
    """Answers clicks and boxes; safe to share between threads."""

    def __init__(
        self, contexts: Contexts, images: ImageLoader, segmenter: Segmenter, settings: Settings
    ) -> None:
        self._contexts = contexts
        self._images = images
        self._segmenter = segmenter
        self._settings = settings
        self._kept = Bounded(_BYTES)
        self._computing = threading.Lock()  # two clicks in quick succession want the same map

    def answer(
        self,
        snapshot: Snapshot,
        tasks: Sequence[Mapping[str, Any]],
        interaction: Sequence[Mapping[str, Any]],
        deadline: float,
    ) -> list[Any]:
        """Suggest what the first task's hints point at.

        Args:
            snapshot: targets, pool and prompts.
            tasks: of the request; Label Studio sends one.
            interaction: the regions of its context.
            deadline: `time.monotonic()` at which to give up; what is under way then is kept for the next request.

        Returns:
            As many results as tasks, ready to send; `[]` where nothing is suggested, and the log says why.
        """
        answers: list[Any] = [[] for _ in tasks]
        if not tasks:
            return answers
        worker = ThreadPoolExecutor(1, thread_name_prefix="interactive")
        try:
            left = max(0.0, deadline - time.monotonic())
            answers[0] = worker.submit(self._answer, snapshot, tasks[0], interaction).result(left)
        except TimeoutError:
            self._say(snapshot, tasks[0], "not answered before the deadline")
        except (BadRequest, ImageError) as error:
            self._say(snapshot, tasks[0], str(error))
        except DeviceMemoryError as error:
            self._say(snapshot, tasks[0], f"out of memory: {error}")
        finally:
            worker.shutdown(wait=False, cancel_futures=True)
        return answers

    def _say(self, snapshot: Snapshot, task: Mapping[str, Any], reason: str) -> None:
        number = task.get("id")
        log.warning(
            "project %s task %s: nothing suggested: %s",
            snapshot.project,
            number if is_id(number) else "?",
            reason,
        )

    def _answer(
        self, snapshot: Snapshot, task: Mapping[str, Any], interaction: Sequence[Mapping[str, Any]]
    ) -> Any:
        asked = hints.read(interaction, task, snapshot.config, snapshot.ready)
        scene = self._look(snapshot, task, asked.target)
        suggested = self._by_context(scene, asked) if len(scene.context) else self._by_itself(scene, asked)
        result = [
            region
            for suggestion in suggested
            for region in self._regions(suggestion, asked, scene.tasks(snapshot))
        ]
        if not result:
            self._say(snapshot, task, "nothing stands out where it was pointed at")
            return []
        score = float(np.mean([suggestion.cutout.score for suggestion in suggested]))
        return {"result": result, "score": score, "model_version": snapshot.revision}

    def _look(self, snapshot: Snapshot, task: Mapping[str, Any], target: Target) -> "_Look":
        """The task's image, a shrunk copy for the network, and the target's context.

        Raises:
            ImageError: it cannot be had.
        """
        number, data = task.get("id"), task.get("data")
        url = image_url(target, data) if isinstance(data, Mapping) else None
        if url is None:
            raise ImageError(f"the task has no image under '{target.value}'.")
        known = number if isinstance(number, int) and is_id(number) else None
        image = self._images.open(url, known)
        name = _name(known, url, image)
        seen: Picture | None = self._kept.get(name)
        if seen is None:
            everything = whole(image.shape)
            seen = shown(image, everything, everything.fitted(SEEN_SIDE))
            self._kept.put(name, seen, seen.nbytes)
        context = Context()
        if target.id in {ready.id for ready in snapshot.ready}:
            place = self._contexts.frames.place(task)
            context = self._contexts.choose(snapshot, target, -1 if known is None else known, seen, place)
        return _Look(name, image, seen, target, context)

    # -- what is suggested ---------------------------------------------------------------------------------------
    def _by_context(self, look: "_Look", asked: Hints) -> list[_Suggested]:
        """What the context says of the places pointed at, cut along the picture's edges."""
        prior = self._map(look, look.context)
        cutout = cutting.united(look.image, self._pointed_at(look, asked, prior))
        return [_Suggested(cutout, "context", f"Smart tool: by {look.said}")] if cutout else []

    def _by_itself(self, look: "_Look", asked: Hints) -> list[_Suggested]:
        """What stands out where it was pointed at; what was outlined is an example for the rest of the image."""
        examples: list[Example] = []

        def noted() -> Iterator[Cutout]:
            for each in self._pointed_at(look, asked, None):
                if asked.boxes:
                    examples.append(_outlined(look, each.mask))
                yield each

        cutout = cutting.united(look.image, noted())
        if cutout is None:
            return []
        found = [_Suggested(cutout, "edges", "Smart tool: by the picture's edges; no examples yet")]
        likes = self._likes(look, examples, cutout.mask) if asked.boxes else None
        if likes is not None:
            found.append(_Suggested(likes, "outlined", "Smart tool: like what was outlined on this image"))
        return found

    def _pointed_at(self, look: "_Look", asked: Hints, prior: Patch | None) -> Iterator[Cutout]:
        """The objects in boxes, one at a time; without boxes, those under clicks."""
        clicks = Clicks(asked.points(look.shape, wanted=True), asked.points(look.shape, wanted=False))
        threshold = self._settings.threshold
        if not asked.boxes:
            clicked = cutting.cut_clicked(look.image, clicks, prior, threshold)
            if clicked is not None:
                yield clicked
            return
        for area in asked.areas(look.shape):
            cutout = cutting.cut_area(look.image, area, clicks, prior, threshold)
            if cutout is not None:
                yield cutout

    def _likes(self, look: "_Look", examples: Sequence[Example], there: Mask) -> Cutout | None:
        """What on the image looks like the outlined objects, without these."""
        prior = self._map(look, Context(tuple(examples)))
        found = cutting.cut_found(look.image, prior, self._settings.threshold)
        if found is None:
            return None
        return cutting.without(found, there)

    def _map(self, look: "_Look", context: Context) -> Patch:
        """The probability of a context's target on the whole image, computed once.

        Raises:
            DeviceMemoryError: as the segmenter does.
        """
        key = (look.name, context.keys)
        with self._computing:
            kept: Patch | None = self._kept.get(key)
            if kept is None:
                (probability,) = self._segmenter.segment([Query(look.seen, context)])
                kept = Patch(probability, whole(look.image.shape))
                self._kept.put(key, kept, probability.nbytes)
        return kept

    def _regions(self, suggestion: _Suggested, asked: Hints, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """A suggestion as regions of its target, marked with what it came of."""
        mask = suggestion.cutout.mask
        found = regions.encode(
            mask,
            asked.target,
            score=suggestion.cutout.score,
            instances=self._settings.instances,
            min_area=max(1.0, _SPECK * float(mask.sum())),
        )
        mark = {"by": suggestion.by, "hints": asked.ids, "at": asked.places, "tasks": list(tasks)}
        for region in found:
            region["meta"] = {"text": [suggestion.text], SUGGESTED: mark}
        return found


@dataclass(frozen=True, eq=False)
class _Look:
    """An image and what is known of a target.

    Attributes:
        name: of the image; equal names mean equal pictures.
        image: `[H, W, 3]` uint8 RGB as the editor shows it.
        seen: the same, its longest side at most `SEEN_SIDE`.
        target: whose mask is wanted.
        context: what it is segmented by; empty where nothing was approved.
    """

    name: str
    image: NDArray[np.uint8]
    seen: Picture
    target: Target
    context: Context

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def said(self) -> str:
        """What the context is made of, for people."""
        count = len(self.context.examples)
        examples = [f"{count} approved mask{'s' if count > 1 else ''}"] if count else []
        return " and ".join([*(["a tuned prompt"] if self.context.prompt else []), *examples])

    def tasks(self, snapshot: Snapshot) -> list[int]:
        """The tasks whose approved masks are in the context."""
        return snapshot.tasks(self.target.id, self.context.keys)


def _name(task: int | None, url: str, image: NDArray[np.uint8]) -> str:
    """A name for an image; another one where the file was replaced under its address."""
    step = -(-max(image.shape[:2]) // SEEN_SIDE)  # as many pixels as the network is shown
    name = hashlib.blake2b(f"{task}\n{url}\n{image.shape}".encode("utf-8", "surrogatepass"), digest_size=32)
    name.update(np.ascontiguousarray(image[::step, ::step]).data)
    return name.hexdigest()


def _outlined(look: _Look, mask: Mask) -> Example:
    """An object that was outlined, as an example for the rest of its image."""
    picture, alone = cutting.alone(look.image, mask)
    content = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    return Example(f"outlined/{look.name}/{content}", picture, alone)
