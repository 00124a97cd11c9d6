"""Predictor: tasks to predictions within a deadline, on one snapshot; pushes nothing and stores what it gave."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import regions
from backend.calibrations import Fitted, read_fitted
from backend.errors import ImageError
from backend.images import ImageLoader
from backend.label_config import Target, image_url
from backend.label_studio import is_outage
from backend.predictor.bounded import Bounded
from backend.predictor.contexts import Contexts
from backend.protocol import is_id
from backend.revision import Snapshot
from backend.sequences import Place, predicted_task
from backend.settings import Settings
from backend.store import PredictionRecord, Store
from backend.store.pictures import PREDICTION_SIDE, pack_mask
from model import zoom
from model.device import DeviceMemoryError
from model.edges import ProbabilityMap
from model.example import Context
from model.score import Absence, Calibration, expected_iou
from model.segmenter import Query, Segmenter

log = logging.getLogger(__name__)

# Images of one step are in memory together, three bytes a pixel.
_STEP_PIXELS = 48_000_000
_STEP_SECONDS = 4.0

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
class _Images:
    """A task's images, by the image tag's value, and a hash of where they were had."""

    by_value: dict[str, NDArray[np.uint8]]
    addresses: str

    def of(self, target: Target) -> NDArray[np.uint8]:
        return self.by_value[target.value]


@dataclass(frozen=True)
class _Prepared:
    """A task whose images are read and whose contexts are chosen."""

    task: int
    images: "_Images"
    contexts: tuple[tuple[Target, Context], ...]
    started: float
    place: Place | None

    @property
    def pixels(self) -> int:
        return sum(int(np.prod(self.images.of(target).shape[:2])) for target, _ in self.contexts)

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
        pace = _Pace()
        position = 0
        readers = ThreadPoolExecutor(2, thread_name_prefix="images")
        opened: deque[Future[_Images]] = deque()  # of the tasks from `position` on
        try:
            while position < len(known) and (step := pace.step(deadline)):
                for task in known[position + len(opened) : position + 2 * step]:  # read ahead
                    opened.append(readers.submit(self._read, snapshot, task))
                began = time.monotonic()
                batch = known[position : position + step]
                until = deadline if strict else None
                reached, computed = self._predict_some(snapshot, batch, opened, found, deadline, until)
                pace.took(computed, time.monotonic() - began)
                position += reached
                if reached < len(batch):
                    break
        finally:
            readers.shutdown(wait=False, cancel_futures=True)  # what is stuck must not hold the answer up
        done = {task["id"]: found.done[task["id"]] for task in known if task["id"] in found.done}
        over = {*done, *found.failed, *found.unready}
        unreached = tuple(task["id"] for task in known if task["id"] not in over)
        return replace(found, done=done, unreached=unreached)

    # -- one step ------------------------------------------------------------------------------------------------
    def _predict_some(
        self,
        snapshot: Snapshot,
        batch: Sequence[Mapping[str, Any]],
        opened: deque[Future[_Images]],
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
            left = None if deadline is None else max(0.0, deadline - started)
            try:
                prepared = self._prepare(snapshot, task, opened.popleft().result(left), started)
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
            elif (again := self._recent.get(prepared.key(snapshot))) is not None:
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
        self, snapshot: Snapshot, task: Mapping[str, Any], images: _Images, started: float
    ) -> _Prepared:
        contexts = []
        place = self.contexts.frames.place(task)
        for target in snapshot.ready:
            context = self.contexts.choose(
                snapshot, target, task["id"], images.of(target), place, predicted=True
            )
            if len(context):
                contexts.append((target, context))
        return _Prepared(task["id"], images, tuple(contexts), started, place)

    def _read(self, snapshot: Snapshot, task: Mapping[str, Any]) -> _Images:
        """The images that something is to be predicted on.

        Raises:
            ImageError: if one of them cannot be had.
        """
        data = task.get("data")
        images: dict[str, NDArray[np.uint8]] = {}
        addresses = hashlib.sha256()
        for value in dict.fromkeys(target.value for target in snapshot.ready):
            url = image_url(value, data) if isinstance(data, Mapping) else None
            if url is None:
                raise ImageError(f"the task has no image under '{value}'.")
            images[value] = self._images.open(url, task["id"])
            addresses.update(f"{value}\n{url}\n".encode("utf-8", "surrogatepass"))
        return _Images(images, addresses.hexdigest())

    def _segment(
        self, snapshot: Snapshot, waiting: Sequence[_Prepared], found: Predictions, until: float | None
    ) -> None:
        """Predict tasks in their order; those that would take longer than `until` are left as they are."""
        if not waiting:
            return
        queries = [
            Query(prepared.images.of(target), context)
            for prepared in waiting
            for target, context in prepared.contexts
        ]
        fitted = read_fitted(self._store, snapshot.project, self._segmenter.identity) or Fitted()
        nearer = [
            self._settings.zoom == "auto" and target.id not in fitted.whole
            for prepared in waiting
            for target, _ in prepared.contexts
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
            rule = Absence() if context.prompt is not None else fitted.absences.get(target.id, Absence())
            score, is_shown = self._expected(likely, fitted.curves.get(target.id, Calibration()), rule)
            found = (
                regions.encode(
                    likely.mask(self._settings.threshold),
                    target,
                    score=score,
                    instances=self._settings.instances,
                    min_area=context.least_area(self._settings.min_area),
                    probability=likely.values,
                )
                if is_shown
                else []
            )
            shown = regions.decode(found, target)  # what the annotator will see, specks and corners left out
            if shown is not None:
                masks[target.id] = pack_mask(shown, PREDICTION_SIDE)
            scores.append(score)
            image = prepared.images.of(target)
            seen = self.contexts.frames.seen(
                snapshot.project, target.id, prepared.task, prepared.place, image, shown, score
            )
            frames.append(seen)
            notes = [PREVIOUS] if any(predicted_task(key) for key in context.keys) else []
            if not self.contexts.is_familiar(snapshot, target, prepared.task, image):
                notes.append(UNLIKE)
            result.extend({**region, "meta": {"text": notes}} if notes else region for region in found)
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

    def _expected(self, likely: ProbabilityMap, curve: Calibration, rule: Absence) -> tuple[float, bool]:
        """Expected kept IoU, and whether the mask is shown; that nothing is there is not what curves were fitted to."""
        mask = likely.values >= self._settings.threshold
        raw = expected_iou(likely.values, mask)
        if not mask.any():
            return raw, False
        if self._settings.hide_absent == "auto" and rule.hides(raw):
            return rule.score, False
        return curve(raw), True


class _Pace:
    """How many tasks the next step takes, so that steps stay short and the deadline is kept."""

    def __init__(self) -> None:
        self._seconds = 0.0  # for one task, as seen so far

    def step(self, deadline: float | None) -> int:
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
