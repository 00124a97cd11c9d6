"""Sequences: which tasks are frames of one, and which examples are near; knows no images and loads no torch.

A task says so itself, in two fields of its data (`SEQUENCE_KEY`, `FRAME_KEY`). What it says is kept with its examples,
so that nobody is asked when the next frame is predicted.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.protocol import is_text, parse_time
from backend.settings import Settings
from backend.store import ExampleInfo, Store

NEAR = 8.0
"""Times as far away as the frame before is what still counts as near."""

_PREDICTED = "predicted"  # within the key of an example that nobody has approved

_FILE = re.compile(r"\.[A-Za-z]\w{1,4}$")  # signatures may hold dots too, and are longer
_BEHIND_A_FILE = re.compile(r"(\.[A-Za-z]\w*)[?#].*", re.DOTALL)  # as a signature or a version in an address


@dataclass(frozen=True)
class Place:
    """Where a task stands.

    Attributes:
        sequence: never "".
        frame: its number, finite; None where it is unknown.
    """

    sequence: str
    frame: float | None = None

    def distance(self, frame: float | None) -> float:
        """How many frames away; infinite where either is unknown."""
        return math.inf if self.frame is None or frame is None else abs(self.frame - frame)


def place_of(task: Mapping[str, Any], settings: Settings) -> Place | None:
    """A task's place by its data; None where `SEQUENCE_KEY` is empty, or the task names no sequence.

    A sequence is a text or a number: 12, 12.0 and "12" are one. Frames: see `frame_of`.
    """
    data = task.get("data")
    if not settings.sequence_key or not isinstance(data, Mapping):
        return None
    sequence = _name(data.get(settings.sequence_key))
    return Place(sequence, frame_of(data.get(settings.frame_key))) if sequence else None


def frame_of(value: object) -> float | None:
    """A frame's number: 12, 12.0, "12", "0012", a time (ISO 8601, in seconds), or a name such as "a/frame_0012.png".

    Returns:
        Of a name the digits at the end, its extension left out, and what an address says behind it. None for anything
        else.
    """
    if isinstance(value, str):
        value = _number_in(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def nearest(place: Place, infos: Sequence[ExampleInfo], places: int) -> list[ExampleInfo]:
    """Examples of a place's own sequence, the nearest frames first; of equally near ones those approved last.

    Half of the places stay free for examples of other sequences that are pinned.

    Args:
        place: of the task that is to be predicted.
        infos: oldest first; one that does not say its frame is farther than any that does.
        places: how many a context has.
    """
    pinned = sum(info.pinned and info.sequence != place.sequence for info in infos)
    last_first = [info for info in infos if info.sequence == place.sequence][::-1]
    ordered = sorted(last_first, key=lambda info: place.distance(info.frame))
    return ordered[: places - min(pinned, places // 2)]


def near_first(
    place: Place | None, infos: Sequence[ExampleInfo], shots: int, usual: int
) -> tuple[list[ExampleInfo], list[ExampleInfo], int]:
    """What a context is chosen from: the near frames that it begins with, the others, and how many of these it takes.

    Args:
        place: of the task that is to be predicted, if it is a frame.
        infos: one a task, oldest first.
        shots: how many examples the context has at most.
        usual: how many contexts have, `SHOTS`; where frames are near, half of these are enough.
    """
    few = min(shots, places(usual))
    near = nearest(place, infos, few) if place else []
    others = [info for info in infos if info not in near]
    return near, others, (few if near else shots) - len(near)


def places(shots: int) -> int:
    """How many examples a context has that begins with near frames: a few that are near say more than many."""
    return max(1, (shots + 1) // 2)


def is_near(place: Place, infos: Iterable[ExampleInfo], before: float) -> bool:
    """Whether an approved frame of the sequence is so near that a prediction on the frame `before` is not needed.

    It is where it is at most `NEAR` times as far away as that frame: sequences have paces of their own.
    """
    reach = NEAR * place.distance(before)
    return any(place.distance(info.frame) <= reach for info in infos if info.sequence == place.sequence)


def predicted_key(project: str, task: int, digest: str) -> str:
    """The key, in a recorded context, of an example that was predicted for a task and not approved."""
    return f"{project}/{_PREDICTED}/{task}/{digest}"


def predicted_task(key: str) -> int | None:
    """The task of such a key; None for any other key."""
    parts = key.split("/")
    return int(parts[2]) if len(parts) == 4 and parts[1] == _PREDICTED else None


def place_again(store: Store, project: str, tasks: Iterable[Mapping[str, Any]], settings: Settings) -> int:
    """Give the examples of tasks the places that the tasks' data name now; returns how many were elsewhere.

    So examples that were approved before the setting was made, and tasks whose data changed, come to their places.
    """
    if not settings.sequence_key:
        return 0
    places = {task.get("id"): place_of(task, settings) for task in tasks}
    moved = {
        info.key: columns
        for info in store.pool(project)
        if info.task in places and (columns := as_columns(places[info.task])) != (info.sequence, info.frame)
    }
    if moved:
        store.place_examples(moved)
    return len(moved)


def as_columns(place: Place | None) -> tuple[str, float | None]:
    """What an example keeps of a place: sequence and frame."""
    return (place.sequence, place.frame) if place else ("", None)


def of_example(info: ExampleInfo, settings: Settings) -> Place | None:
    """Where an example's task stood when the example was last placed; None where `SEQUENCE_KEY` is empty."""
    return Place(info.sequence, info.frame) if info.sequence and settings.sequence_key else None


def in_order(tasks: Sequence[Mapping[str, Any]], settings: Settings) -> list[Mapping[str, Any]]:
    """Tasks with the frames of each sequence in their order; together they keep the positions that they had."""
    frames: dict[str, list[tuple[float, int]]] = {}
    for position, task in enumerate(tasks):
        place = place_of(task, settings)
        if place and place.frame is not None:
            frames.setdefault(place.sequence, []).append((place.frame, position))
    ordered = list(tasks)
    for found in frames.values():
        for (_, position), (_, index) in zip(found, sorted(found), strict=True):
            ordered[position] = tasks[index]
    return ordered


def signed(signs: str, settings: Settings) -> str:
    """The signs of a reconcile, with the keys that places were read by: other keys make another reconcile due."""
    return f"{signs} {settings.sequence_key}/{settings.frame_key}" if settings.sequence_key else signs


def _name(value: object) -> str:
    if isinstance(value, bool):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        return ""
    name = str(value).strip()
    return name if is_text(name) else ""


def _number_in(text: str) -> float | None:
    """A number, a time in seconds, or the digits at the end of a file's name without its extension."""
    if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if (time := parse_time(text)) is not None:
        return time
    if not _FILE.search(text):  # as "?d=clip/frame_0012.png" names one
        text = _BEHIND_A_FILE.sub(r"\1", text)
    digits = re.search(r"(?<![0-9])[0-9]+$", re.sub(r"\.[A-Za-z]\w*$", "", text))
    return float(digits[0]) if digits else None
