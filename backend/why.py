"""Why this mask: what each part of a prediction's context did for it, measured where somebody asked; knows no queue.

The mask is made again without the part, and by the part alone, both as predictions are made. What was found is kept as
long as the prediction is its task's newest one.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from backend import revision
from backend.errors import ImageError, LabelStudioError, NotFound, Refused
from backend.label_studio import LabelStudio
from backend.predictor import Predictor
from backend.sequences import predicted_task
from backend.store import PredictionRecord, Store
from backend.store.leases import held, leased
from backend.store.pictures import unpack_mask
from model.device import DeviceMemoryError
from model.evaluation import iou
from model.example import Context, Example, Prompt

KEPT = 50
"""Predictions of a project whose figures are kept; those asked for last stay."""

SAME = 0.9
"""IoU with the mask that was shown which the mask made again by all parts must have: with less, something else has
changed, and no part is to be blamed for it."""

LEAST = 0.005
"""A smaller difference is none: pixels at an edge, of which shares would make much."""

_LEASE = 20.0  # renewed all the time
_PATIENCE = 15.0  # seconds, longer than a process that was killed keeps the note to itself
_DIGITS = 4  # kept of a figure

Indices = frozenset[int]


@dataclass(frozen=True)
class Part:
    """What one part of a context did for a mask.

    Attributes:
        key: of the example, the prompt, or what was predicted on the frame before.
        share: of all that the parts did, 0 to 1; a mask's shares make 1.
        without: how much the mask would differ without it: 1 - IoU, 0 to 1; None where it is the only part.
        alone: IoU, 0 to 1, of the mask that it alone makes with the one shown; None where it is the only part.
    """

    key: str
    share: float
    without: float | None = None
    alone: float | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured of one target's mask.

    Attributes:
        at: Unix time when it was measured, or could not be; None: it waits for the worker.
        reason: why it could not be measured, for people; "" where it was.
        figures: for each part in its order, (without, alone), see `Part`; empty where there are none.
    """

    at: float | None = None
    reason: str = ""
    figures: tuple[tuple[float, float], ...] = ()

    def parts(self, keys: Sequence[str]) -> list[Part]:
        """What each of the parts with these keys did; empty where it was not measured."""
        if len(keys) == 1:
            return [Part(keys[0], 1.0)]
        found = zip(keys, shares([without for without, _ in self.figures]), self.figures, strict=False)
        return [Part(key, share, *figures) for key, share, figures in found]


@dataclass(frozen=True)
class Explained:
    """What was asked and found of one prediction, which its task, revision and time name.

    Attributes:
        by_target: by target id; a target that nobody asked about is missing.
    """

    task: int
    revision: str
    at: float
    by_target: dict[str, Measured] = field(default_factory=dict)

    def is_of(self, record: PredictionRecord) -> bool:
        """Whether it is about this prediction."""
        return (self.task, self.revision, self.at) == (record.task, record.revision, record.at)


class Why:
    """Measures parts of contexts where somebody asked, and remembers it."""

    def __init__(
        self, store: Store, label_studio: LabelStudio, predictor: Predictor, checkpoint: str
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._predictor = predictor
        self._checkpoint = checkpoint

    def of(self, project: str, task: int) -> tuple[PredictionRecord, dict[str, Measured]]:
        """A task's newest prediction, and what is known of its masks by target id.

        Raises:
            NotFound: if nothing was predicted for the task.
        """
        record = self._newest(project, task)
        if record is None:
            raise NotFound(f"Nothing was predicted for task {task}.")
        known = next((one for one in self._read(project) if one.is_of(record)), _of(record))
        single = {target: Measured(record.at) for target, keys in record.context.items() if len(keys) == 1}
        return record, known.by_target | single

    def ask(self, project: str, task: int, targets: Sequence[str] | None = None) -> None:
        """Ask for figures of a task's newest prediction; what is there already is not measured again.

        Args:
            project: project key.
            task: Label Studio's task id.
            targets: target ids; None for all of the prediction's.

        Raises:
            NotFound: if nothing was predicted for the task, or nothing of such a target.
            Refused: if Label Studio's address is not known, from where the picture would be had again.
        """
        record, known = self.of(project, task)
        for target in targets or ():
            if target not in record.context:
                raise NotFound(f"Nothing of '{target}' was predicted for task {task}.")
        wanted = [
            target for target in targets or record.context if target not in known or known[target].reason
        ]
        if not wanted:
            return
        if not self._label_studio.configured:
            raise Refused("The picture is read again for it: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.")
        with self._changing(project):
            there = self._read(project)
            before = next((one for one in there if one.is_of(record)), _of(record))
            asked = replace(before, by_target=before.by_target | {target: Measured() for target in wanted})
            self._write(project, [*(one for one in there if one.task != task), asked])

    def tidy(self, project: str) -> bool:
        """Forget what was found of superseded predictions; returns whether something waits to be measured."""
        there = self._read(project)
        if not there:
            return False
        if len(self._current(project, there)) < len(there):
            with self._changing(project):
                there = self._current(project, self._read(project))
                self._write(project, there)
        return any(_waiting(one) for one in there)

    def measure(self, project: str, go_on: Callable[[], None]) -> None:
        """Measure what waits, unless somebody else does.

        Args:
            project: project key.
            go_on: called between two masks; whatever it raises ends the work.
        """
        with leased(self._store, f"why:{project}", _LEASE) as mine:
            while mine and (one := self._next(project)) is not None:
                target = _waiting(one)[0]
                found = self._measured(project, one, target, go_on)
                with self._changing(project):
                    now = self._read(project)
                    self._write(project, [_with(other, one, target, found) for other in now])

    def _next(self, project: str) -> Explained | None:
        """A prediction of which something waits; None where nothing does."""
        self.tidy(project)
        return next((one for one in self._read(project) if _waiting(one)), None)

    # -- figures -------------------------------------------------------------------------------------------------
    def _measured(self, project: str, one: Explained, target: str, go_on: Callable[[], None]) -> Measured:
        record = self._newest(project, one.task)
        if record is None or not one.is_of(record):
            return Measured(time.time(), "It was predicted anew meanwhile.")
        try:
            return Measured(time.time(), figures=self._figures(record, target, go_on))
        except DeviceMemoryError as error:
            return Measured(time.time(), f"Out of memory: {error}")
        except (NotFound, ImageError, LabelStudioError) as error:
            return Measured(time.time(), str(error))

    def _figures(
        self, record: PredictionRecord, named: str, go_on: Callable[[], None]
    ) -> tuple[tuple[float, float], ...]:
        """(without, alone) of each part.

        Raises:
            NotFound: if something that the mask was made by, or on, is not there any more or has changed.
            ImageError: if the picture cannot be had.
            LabelStudioError: if Label Studio does not give the task.
            DeviceMemoryError: if there is not enough memory.
        """
        go_on()
        snapshot = revision.take(self._store, record.project, self._checkpoint)
        target = next((one for one in snapshot.config.targets if one.id == named), None)
        if target is None:
            raise NotFound("The label is not in the labeling config any more.")
        task = self._label_studio.task_of(record.project, record.task)
        if task is None:
            raise NotFound("The task is not in Label Studio any more.")
        keys = record.context[named]
        contexts = self._predictor.contexts
        context = contexts.again(snapshot, target, keys, contexts.frames.place(task))
        if context.keys != keys:
            raise NotFound(_missing([key for key in keys if key not in context.keys]))
        parts = (*((context.prompt,) if context.prompt else ()), *context.examples)
        everything = frozenset(range(len(parts)))
        singles = [frozenset({place}) for place in everything]
        wanted = list(dict.fromkeys([everything, *(everything - one for one in singles), *singles]))
        masks: dict[Indices, bytes | None] = {}
        made = self._predictor.shown(snapshot, target, task, (_context(parts, some) for some in wanted))
        for some, mask in zip(wanted, made, strict=True):
            masks[some] = mask
            go_on()
            if some == everything and _iou(mask, record.masks.get(named)) < SAME:
                raise NotFound(
                    "With the same parts the mask would be another one now: the picture, a setting or what was fitted to "
                    "scores has changed since."
                )
        return tuple(
            (
                round(1 - _iou(masks[everything], masks[everything - one]), _DIGITS),
                round(_iou(masks[one], record.masks.get(named)), _DIGITS),
            )
            for one in singles
        )

    # -- what is kept --------------------------------------------------------------------------------------------
    def _newest(self, project: str, task: int) -> PredictionRecord | None:
        return next(iter(self._store.predictions(project, task)), None)

    def _current(self, project: str, some: Sequence[Explained]) -> list[Explained]:
        """Those that are of their tasks' newest predictions."""
        newest = {one.task: self._newest(project, one.task) for one in some}
        return [one for one in some if (record := newest[one.task]) is not None and one.is_of(record)]

    def _changing(self, project: str) -> AbstractContextManager[None]:
        busy = "Somebody else asks for figures at this moment; try again."
        return held(self._store, f"changing:{_name(project)}", busy, patience=_PATIENCE)

    def _read(self, project: str) -> list[Explained]:
        """Those asked for last at the end."""
        return [_explained(kept) for kept in json.loads(self._store.note(_name(project)) or "[]")]

    def _write(self, project: str, there: Sequence[Explained]) -> None:
        kept = [asdict(one) for one in there[-KEPT:]]
        self._store.set_note(_name(project), json.dumps(kept) if kept else "")


def shares(changes: Sequence[float]) -> list[float]:
    """What each part did, of all that was done: by how much the mask differs without it; equal where none does much."""
    counted = [change if change >= LEAST else 0.0 for change in changes]
    total = sum(counted)
    return [change / total if total else 1 / len(changes) for change in counted]


def _name(project: str) -> str:
    return f"why:{project}"


def _of(record: PredictionRecord) -> Explained:
    return Explained(record.task, record.revision, record.at)


def _explained(kept: dict[str, Any]) -> Explained:
    by_target = {
        target: Measured(
            one["at"], one["reason"], tuple((without, alone) for without, alone in one["figures"])
        )
        for target, one in kept["by_target"].items()
    }
    return Explained(kept["task"], kept["revision"], kept["at"], by_target)


def _waiting(one: Explained) -> list[str]:
    return [target for target, measured in one.by_target.items() if measured.at is None]


def _with(other: Explained, one: Explained, target: str, found: Measured) -> Explained:
    """The one with what was found; any other as it is."""
    if (other.task, other.revision, other.at) != (one.task, one.revision, one.at):
        return other
    return replace(other, by_target=other.by_target | {target: found})


def _context(parts: Sequence[Example | Prompt], some: Indices) -> Context:
    chosen = [parts[place] for place in sorted(some)]
    prompt = next((part for part in chosen if isinstance(part, Prompt)), None)
    return Context(tuple(part for part in chosen if isinstance(part, Example)), prompt)


def _missing(keys: Sequence[str]) -> str:
    """What of a context is not there any more, for people."""
    prompts = [key for key in keys if "/prompt/" in key]
    if prompts:
        return f"Prompt {prompts[0].rpartition('/')[2]} cannot be used any more."
    if any(predicted_task(key) is not None for key in keys):
        return "What was predicted on the frame before is not kept any more."
    some = (
        "One of the examples behind it is" if len(keys) == 1 else f"{len(keys)} of the examples behind it are"
    )
    return f"{some} in use no more."


def _iou(first: bytes | None, second: bytes | None) -> float:
    """IoU of two masks of one picture, as they are recorded; 0 where they are not of one size."""
    some = [unpack_mask(mask) for mask in (first, second) if mask is not None]
    if not some:
        return 1.0
    one, other = some if len(some) == 2 else (some[0], np.zeros_like(some[0]))
    return iou(one, other) if one.shape == other.shape else 0.0
