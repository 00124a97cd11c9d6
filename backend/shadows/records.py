"""A project's shadows as they are kept in the store: one note, changed by one at a time."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.shadows.comparing import Comparison, Pair, compare
from backend.store import Store
from backend.store.leases import held
from backend.store.pictures import PREDICTION_SIDE, pack_mask, unpack_mask

_REMEMBERED = 20  # shadows of a project; of those that ended, the oldest are forgotten first
_PATIENCE = 15.0  # seconds, longer than a process that was killed keeps the note to itself


@dataclass(frozen=True)
class Waiting:
    """A submission that a shadow has not predicted yet.

    Attributes:
        task: Label Studio's number of the task.
        annotation: its number of the annotation.
        shown: kept IoU, 0 to 1, of the mask that was shown.
        at: when that was predicted, Unix time.
        mask: what was submitted, as `packed` gives it.
    """

    task: int
    annotation: int
    shown: float
    at: float
    mask: str

    @property
    def submitted(self) -> NDArray[np.bool_] | None:
        """`[H, W]` bool, what was submitted, at the size of a stored prediction; None where it was empty."""
        return unpack_mask(base64.b64decode(self.mask)) if self.mask else None


@dataclass(frozen=True)
class Shadow:
    """One shadow, running or ended.

    Attributes:
        id: names it.
        target: target id.
        prompt: number of the version; None where it is examples alone.
        against: number of the prompt that was in use when it was started; None where that was examples.
        wanted: submissions that it was started for.
        started: Unix time, like `ended`.
        since: Unix time when its prompt was made, 0 of examples alone: what was shown from before it is not counted.
        learned_from: tasks that its prompt has learned from, as far as is known; they are not counted.
        pairs: what was compared, in the order of submission.
        waiting: what is to be predicted.
        missed: submissions that could not be compared after all.
        ended: None while it runs.
        reason: why it ended, a sentence; "" while it runs.
    """

    id: str
    target: str
    prompt: int | None
    against: int | None
    wanted: int
    started: float
    since: float = 0.0
    learned_from: tuple[int, ...] = ()
    pairs: tuple[Pair, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    missed: int = 0
    ended: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """What it is, for people."""
        return called(self.prompt)

    @property
    def comparison(self) -> Comparison:
        """What its pairs come to."""
        return compare(self.pairs)


def called(prompt: int | None) -> str:
    """What predicts, for people: a prompt by its number, or examples alone."""
    return "examples alone" if prompt is None else f"prompt {prompt}"


def packed(mask: NDArray[np.bool_] | None) -> str:
    """A mask, `[H, W]` bool, as a 1-bit PNG in Base64, shrunk as stored predictions are; "" of an empty one.

    So a note stays small, and `left_of` gives what it gives of the mask itself.
    """
    if mask is None or not mask.any():
        return ""
    return base64.b64encode(pack_mask(mask, PREDICTION_SIDE)).decode()


def read(store: Store, project: str) -> list[Shadow]:
    """The project's shadows, the last that was started first."""
    return [_shadow(one) for one in reversed(json.loads(store.note(_name(project)) or "[]"))]


@contextmanager
def changing(store: Store, project: str) -> Iterator[dict[str, Shadow]]:
    """The project's shadows by id, the oldest first, to be changed while a block runs; nobody else changes them then.

    Raises:
        Refused: on entry, if somebody else does not come to an end with changing them.
    """
    busy = "Somebody else changes the project's shadows at this moment; try again."
    with held(store, f"changing:{_name(project)}", busy, patience=_PATIENCE):
        shadows = {one.id: one for one in reversed(read(store, project))}
        before = dict(shadows)
        yield shadows
        ended = [one.id for one in shadows.values() if one.ended is not None]
        for oldest in ended[: max(0, len(shadows) - _REMEMBERED)]:
            del shadows[oldest]
        if shadows != before:
            store.set_note(_name(project), json.dumps([asdict(one) for one in shadows.values()]))


def running(shadows: Mapping[str, Shadow], target: str | None = None) -> list[Shadow]:
    """Those that have not ended; of one target where given."""
    return [one for one in shadows.values() if one.ended is None and target in (None, one.target)]


def over(shadow: Shadow, reason: str) -> Shadow:
    """A shadow, ended now; what waits for it is given up."""
    return replace(shadow, waiting=(), ended=time.time(), reason=reason)


def _shadow(kept: Mapping[str, Any]) -> Shadow:
    parts = {
        "learned_from": tuple(kept["learned_from"]),
        "pairs": tuple(Pair(**pair) for pair in kept["pairs"]),
        "waiting": tuple(Waiting(**one) for one in kept["waiting"]),
    }
    return Shadow(**{**kept, **parts})


def _name(project: str) -> str:
    return f"shadows:{project}"
