"""Predictor: tasks to predictions within a deadline, on one snapshot; pushes nothing and stores what it gave."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.calibrations import Fitted, read_fitted
from backend.errors import ImageError
from backend.images import ImageLoader
from backend.label_config import Target
from backend.label_studio import is_outage
from backend.predictor.bounded import Bounded
from backend.predictor.contexts import Contexts
from backend.predictor.drawing import draw
from backend.predictor.pace import Pace
from backend.predictor.reading_ahead import ReadingAhead, TaskImages, address, open_all
from backend.protocol import BEHIND, is_id
from backend.revision import Snapshot
from backend.sequences import Place, predicted_task
from backend.settings import Settings
from backend.store import PredictionRecord, Store
from model import zoom
from model.device import DeviceMemoryError
from model.edges import ProbabilityMap
from model.example import Context
from model.segmenter import Query, Segmenter

log = logging.getLogger(__name__)

# Images of one step are in memory together, and about as many that are read ahead: three bytes a pixel.
_STEP_PIXELS = 48_000_000

UNLIKE = "Nothing like this picture has been approved yet."
"""What a region's `meta` tells annotators; a score does not, as it is no lower for that."""

PREVIOUS = "What was predicted on the frame before helped here; nobody has approved that."
"""The same, of masks whose context holds it."""

_RECENT_NUMBERS = 4_000_000  # eight bytes each, of the answers kept
_ANSWER, _REGION, _POINT = 200, 150, 16  # what else takes room, in such numbers


@dataclass(frozen=True)
class TaskPrediction:
    """What was predicted for one task.

    Attributes:
        task: Label Studio's task id.
        result: regions, ready to send; empty where no mask was found.
        score: expected kept IoU, 0 to 1.
        revision: `model_version`.
    """

    task: int
    result: list[dict[str, Any]]
    score: float
    revision: str

    @property
    def numbers(self) -> int:
        """About how much memory it takes, in run-length numbers."""
        values = [region.get("value", {}) for region in self.result]
        drawn = sum(len(value.get("rle", ())) + _POINT * len(value.get("points", ())) for value in values)
        return _ANSWER + _REGION * len(values) + drawn

    def wire(self) -> dict[str, Any]:
        """As `/predict` answers it."""
        return {"result": self.result, "score": self.score, "model_version": self.revision}


@dataclass(frozen=True)
class Predictions:
    """What came of a request.

    Attributes:
        done: predictions by task id.
        failed: reasons by task id, for people.
        unready: tasks for which nothing has been approved yet.
        unreached: tasks that the deadline left over, in the order asked for.
        away: those of the failed tasks for whose images Label Studio gave no answer, or refused the token.
    """

    done: dict[int, TaskPrediction] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    unready: list[int] = field(default_factory=list)
    unreached: tuple[int, ...] = ()
    away: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Prepared:
    """A task whose images are read and whose contexts are chosen."""

    task: int
    images: TaskImages
    contexts: tuple[tuple[Target, Context], ...]
    started: float
    place: Place | None

    @property
    def pixels(self) -> int:
        return sum(int(np.prod(self.image(target).shape[:2])) for target, _ in self.contexts)

    def image(self, target: Target) -> NDArray[np.uint8]:
        return self.images.by_value[target.value]

    def key(self, snapshot: Snapshot) -> tuple[Any, ...]:
        chosen = tuple((target.id, context.keys) for target, context in self.contexts)
        return (snapshot.project, self.task, self.images.addresses, snapshot.revision, chosen)


class Predictor:
    """Segments tasks of one project after another; safe to share between threads.

    Attributes:
        contexts: chooses what each target is segmented by.
    """

    def __init__(self, store: Store, images: ImageLoader, segmenter: Segmenter, settings: Settings) -> None:
        self._store = store
        self._images = images
        self._segmenter = segmenter
        self._settings = settings
        self.contexts = Contexts(store, segmenter, settings)
        self._recent = Bounded(_RECENT_NUMBERS)

    def predict(
        self,
        snapshot: Snapshot,
        tasks: Sequence[Mapping[str, Any]],
        deadline: float | None = None,
        *,
        strict: bool = False,
    ) -> Predictions:
        """Predict tasks in their order until the deadline.

        Args:
            snapshot: revision, targets and pool that all of them are predicted with.
            tasks: Label Studio's tasks, with `id` and `data`.
            deadline: `time.monotonic()` at which to stop; None for no limit. What was begun is finished,
            strict: except for nearer looks at small objects, which are not begun if they would end too late.

        Returns:
            What was done, what failed and why, and what was not reached. One bad task costs only itself.
        """
        known = self.contexts.frames.in_order([task for task in tasks if is_id(task.get("id"))])
        if not snapshot.ready:
            return Predictions(unready=[task["id"] for task in known])
        found = Predictions()
        pace = Pace()
        position = 0
        values = list(dict.fromkeys(target.value for target in snapshot.ready))
        ahead = ReadingAhead(known, lambda task: open_all(self._images, values, task), _STEP_PIXELS)
        try:
            while position < len(known) and (step := pace.step(deadline)):
                ahead.allow(position + 2 * step)
                began = time.monotonic()
                batch = known[position : position + step]
                until = deadline if strict else None
                reached, computed = self._predict_some(snapshot, batch, ahead, found, deadline, until)
                pace.took(computed, time.monotonic() - began)
                position += reached
                if reached < len(batch):
                    break
        finally:
            ahead.close()
        done = {task["id"]: found.done[task["id"]] for task in known if task["id"] in found.done}
        over = {*done, *found.failed, *found.unready}
        unreached = tuple(task["id"] for task in known if task["id"] not in over)
        return replace(found, done=done, unreached=unreached)

    def shown(
        self, snapshot: Snapshot, target: Target, task: Mapping[str, Any], contexts: Iterable[Context]
    ) -> Iterator[bytes | None]:
        """What `predict` would show of a target on a task by each of some contexts; nothing is stored.

        Args:
            snapshot: of the project.
            target: what is looked for.
            task: Label Studio's task, with `id` and `data`.
            contexts: none empty; each is taken when its mask is asked for.

        Yields:
            As in a record's `masks`; None where nothing would be shown.

        Raises:
            ImageError: if the task's image cannot be had.
            DeviceMemoryError: as `Segmenter.maps`.
        """
        image = self.picture(target, task)
        fitted = self._fitted(snapshot)
        for context in contexts:
            (likely,) = zoom.maps(
                self._segmenter, [Query(image, context)], self._looks_nearer(target, fitted)
            )
            yield draw(likely, target, context, fitted, self._settings).packed

    def shown_again(self, snapshot: Snapshot, task: int) -> bool:
        """Let what was predicted for a task under the snapshot's revision be the newest that annotators can have seen.

        It may lie behind a prediction of a version that was rolled back since. Returns whether it is still recorded;
        without a project nothing is.
        """
        if not snapshot.project:
            return True
        records = self._store.predictions(snapshot.project, task)
        record = next((one for one in records if one.revision == snapshot.revision), None)
        if record is not None and record is not records[0]:
            self._store.put_prediction(replace(record, at=time.time()))
        return record is not None

    def picture(self, target: Target, task: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The picture that a target is looked for on, `[H, W, 3]` uint8 RGB.

        Raises:
            ImageError: if it cannot be had.
        """
        return self._images.open(address(target.value, task), task["id"])

    def _fitted(self, snapshot: Snapshot) -> Fitted:
        return read_fitted(self._store, snapshot.project, self._segmenter.identity) or Fitted()

    def _looks_nearer(self, target: Target, fitted: Fitted) -> bool:
        return self._settings.zoom == "auto" and target.id not in fitted.whole

    # -- one step ------------------------------------------------------------------------------------------------
    def _predict_some(
        self,
        snapshot: Snapshot,
        batch: Sequence[Mapping[str, Any]],
        ahead: ReadingAhead,
        found: Predictions,
        deadline: float | None,
        until: float | None,
    ) -> tuple[int, int]:
        """Predict tasks whose images are being opened; how many were reached, and how many of them took time."""
        waiting: list[_Prepared] = []
        reached = computed = 0
        for task in batch:
            started = time.monotonic()
            if self.contexts.frames.follows(task, [p.place for p in waiting], snapshot):
                self._segment(snapshot, waiting, found, until)
                waiting = []
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                prepared = self._prepare(snapshot, task, ahead.take(left), started)
            except TimeoutError:
                break
            except ImageError as error:
                found.failed[task["id"]] = str(error)
                if is_outage(error.__cause__):
                    found.away.add(task["id"])
                prepared = None
            reached += 1
            if prepared is None:
                computed += 1
            elif not prepared.contexts:
                found.unready.append(task["id"])
            elif (again := self._recent.get(prepared.key(snapshot))) is not None and self.shown_again(
                snapshot, prepared.task
            ):
                found.done[prepared.task] = again
            else:
                computed += 1
                if waiting and sum(p.pixels for p in waiting) + prepared.pixels > _STEP_PIXELS:
                    self._segment(snapshot, waiting, found, until)
                    waiting = []
                waiting.append(prepared)
        self._segment(snapshot, waiting, found, until)
        return reached, computed

    def _prepare(
        self, snapshot: Snapshot, task: Mapping[str, Any], images: TaskImages, started: float
    ) -> _Prepared:
        contexts = []
        place = self.contexts.frames.place(task)
        for target in snapshot.ready:
            image = images.by_value.get(target.value)
            if image is None:
                continue
            context = self.contexts.choose(snapshot, target, task["id"], image, place, predicted=True)
            if len(context):
                contexts.append((target, context))
        return _Prepared(task["id"], images, tuple(contexts), started, place)

    def _segment(
        self, snapshot: Snapshot, waiting: Sequence[_Prepared], found: Predictions, until: float | None
    ) -> None:
        """Predict tasks in their order; those that would take longer than `until` are left as they are."""
        if not waiting:
            return
        queries = [
            Query(prepared.image(target), context)
            for prepared in waiting
            for target, context in prepared.contexts
        ]
        fitted = self._fitted(snapshot)
        nearer = [
            self._looks_nearer(target, fitted) for prepared in waiting for target, _ in prepared.contexts
        ]
        try:
            maps = zoom.maps(self._segmenter, queries, nearer, until)
        except DeviceMemoryError as error:
            log.exception("out of memory while segmenting")
            found.failed.update({prepared.task: f"out of memory: {error}" for prepared in waiting})
            return
        maps.reverse()  # to be taken off the end
        for prepared in waiting:
            if len(maps) < len(prepared.contexts):
                break
            prediction = self._assemble(snapshot, prepared, maps, fitted)
            found.done[prepared.task] = prediction
            self._recent.put(prepared.key(snapshot), prediction, prediction.numbers)

    def _assemble(
        self,
        snapshot: Snapshot,
        prepared: _Prepared,
        maps: list[ProbabilityMap],
        fitted: Fitted,
    ) -> TaskPrediction:
        """Regions, score and record of one task; takes its maps off the end of `maps`."""
        result: list[dict[str, Any]] = []
        scores = []
        masks = {}
        frames = []
        for target, context in prepared.contexts:
            likely = maps.pop()
            drawn = draw(likely, target, context, fitted, self._settings)
            if (packed := drawn.packed) is not None:
                masks[target.id] = packed
            scores.append(drawn.score)
            image = prepared.image(target)
            seen = self.contexts.frames.seen(
                snapshot.project, target.id, prepared.task, prepared.place, image, drawn.mask, drawn.score
            )
            frames.append(seen)
            meta = _meta(snapshot, target, context)
            if not self.contexts.is_familiar(snapshot, target, prepared.task, image):
                meta.setdefault("text", []).append(UNLIKE)
            result.extend({**region, "meta": meta} for region in drawn.regions)
        self.contexts.frames.remember(snapshot.project, prepared.task, frames)
        prediction = TaskPrediction(prepared.task, result, float(np.mean(scores)), snapshot.revision)
        if snapshot.project:
            self._store.put_prediction(
                PredictionRecord(
                    project=snapshot.project,
                    task=prepared.task,
                    revision=snapshot.revision,
                    at=time.time(),
                    score=prediction.score,
                    context={target.id: context.keys for target, context in prepared.contexts},
                    masks=masks,
                    seconds=time.monotonic() - prepared.started,
                )
            )
        return prediction


def _meta(snapshot: Snapshot, target: Target, context: Context) -> dict[str, Any]:
    """What a region says of the context behind it: tasks, prompt, and what nobody has approved."""
    behind: dict[str, Any] = {"tasks": snapshot.tasks(target.id, context.keys)}
    if context.prompt is not None:
        behind["prompt"] = snapshot.prompts[target.id].number
    predicted = [task for key in context.keys if (task := predicted_task(key)) is not None]
    if not predicted:
        return {BEHIND: behind}
    return {BEHIND: {**behind, "predicted": predicted}, "text": [PREVIOUS]}
