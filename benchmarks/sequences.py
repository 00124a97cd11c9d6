"""Frames of sequences, segmented with and without knowing that they are frames.

    PYTHONPATH=. .venv/bin/python benchmarks/sequences.py [--data FOLDER] [--seeds 4] [--shots 8] [--checkpoint S]

What chooses the contexts is the backend's own code, on a store in a temporary folder. Sequences are drawn (objects that
move, turn and change their form, others like them, light that changes; a look of its own for each sequence), or are
those of a folder of `evaluate`'s form whose file names end in a frame's number.

- "approved": the pool holds some frames of every sequence, and frames between them are segmented: by the ordinary
  choice, and by the nearest frames of the own sequence, which take half as many places.
- "none approved": the pool holds other sequences only, and frames of one are segmented in their order (of a folder
  those that lie closest together): by the ordinary choice, and with what was predicted on the frame before.

IoU is total intersection over total union of a class (of a seed, where drawn), mean over classes (seeds).
"""

import argparse
import random
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table
from scipy.ndimage import gaussian_filter

from backend.label_config import Target, parse
from backend.predictor.contexts import Contexts
from backend.revision import Snapshot
from backend.sequences import Place, frame_of, predicted_task
from backend.settings import Settings
from backend.store import Approval, ExampleInfo, StoredExample
from backend.store.pictures import pack_image, pack_mask
from backend.store.sqlite import SqliteStore
from benchmarks.tables import Console
from model.evaluation import IGNORED, THRESHOLD, Folder
from model.example import Mask, Picture
from model.score import expected_iou
from model.segmenter import Query, Segmenter

PROJECT = "1.1700000000"
CONFIG = parse(
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="tag" toName="image"><Label value="thing"/></BrushLabels></View>'
)
AWAY = 1_000_000  # task ids of queries begin here
SIDE = 128  # of drawn frames, in pixels
WIDE = 110


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a sequence.

    Attributes:
        place: sequence and number.
        picture: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` bool.
        known: `[H, W]` bool, where the mask says anything.
    """

    place: Place
    picture: Picture
    mask: Mask
    known: Mask

    @property
    def number(self) -> float:
        """Its place in the sequence."""
        return self.place.frame or 0.0


@dataclass
class Tally:
    """Areas of one class or seed, in pixels, and how often the frame before helped."""

    intersection: int = 0
    union: int = 0
    helped: int = 0
    frames: int = 0

    @property
    def iou(self) -> float:
        """0 to 1."""
        return self.intersection / max(self.union, 1)


# -- sequences that are drawn --------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Thing:
    """How one thing looks and moves; lengths are shares of the side, what changes does so by the frame."""

    tone: NDArray[np.float64]
    start: NDArray[np.float64]
    speed: NDArray[np.float64]
    radius: float
    bumps: NDArray[np.float64]
    phases: NDArray[np.float64]
    drift: NDArray[np.float64]
    turn: float

    def shape(self, time_: float) -> Mask:
        """Where it is, `[SIDE, SIDE]` bool."""
        y, x = 0.12 + 0.76 * np.abs((self.start + self.speed * time_) % 2 - 1)  # turns round at the edges
        rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
        angle = np.arctan2(rows - y, columns - x) + self.turn * time_
        waves = [
            bump * np.cos(order * angle + phase)
            for order, (bump, phase) in enumerate(
                zip(self.bumps, self.phases + self.drift * time_, strict=True), 2
            )
        ]
        inside: Mask = np.hypot(rows - y, columns - x) < self.radius * (1 + np.sum(waves, axis=0))
        return inside


def thing(rng: np.random.Generator, tone: NDArray[np.float64]) -> Thing:
    """A thing of a tone, anywhere."""
    return Thing(
        tone,
        rng.uniform(0, 2, 2),
        rng.normal(0, 0.02, 2),
        rng.uniform(0.1, 0.17),
        rng.normal(0, 0.12, 3),
        rng.uniform(0, 6.3, 3),
        rng.normal(0, 0.06, 3),
        rng.normal(0, 0.04),
    )


def drawn(name: str, seed: int, numbers: Sequence[int], kind: NDArray[np.float64]) -> list[Frame]:
    """Frames of a sequence.

    Args:
        name: of the sequence.
        seed: of its look.
        numbers: frames that are wanted.
        kind: RGB that the things looked for have something of in every sequence.
    """
    rng = np.random.default_rng(seed)
    ground = rng.uniform(40, 215, 3)
    grid = rng.standard_normal((int(rng.integers(5, 14)),) * 2).astype(np.float32)
    field = Image.fromarray(grid).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)
    surface = np.asarray(field)[..., None] * rng.uniform(8, 30, 3)
    apart = ground + rng.choice([-1, 1], 3) * rng.uniform(25, 90, 3)
    others = [thing(rng, 0.5 * ground + 0.5 * rng.uniform(0, 255, 3)) for _ in range(int(rng.integers(2, 5)))]
    wanted = [thing(rng, 0.65 * apart + 0.35 * kind) for _ in range(int(rng.integers(1, 3)))]
    scroll, swing, pace = rng.uniform(-2, 2, 2), rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.25)
    frames = []
    for number in numbers:
        down, right = (SIDE // 2 + scroll * number).astype(int)
        local = np.roll(surface, (-down, -right), (0, 1))[:SIDE, :SIDE]
        picture = ground + local
        mask: Mask = np.zeros((SIDE, SIDE), np.bool_)
        for one in (*others, *wanted):
            shape = one.shape(number)
            picture = np.where(shape[..., None], one.tone + 0.5 * local[:, ::-1], picture)
            mask = mask | shape if one in wanted else mask & ~shape
        light = 0.95 + swing * np.sin(pace * number)
        picture = gaussian_filter(picture * light + rng.normal(0, 6, picture.shape), (0.6, 0.6, 0))
        frames.append(
            Frame(Place(name, number), picture.clip(0, 255).astype(np.uint8), mask, np.ones_like(mask))
        )
    return frames


# -- sequences of a folder -----------------------------------------------------------------------------------------
def in_folder(folder: Folder, label: int, stems: Sequence[str]) -> list[Frame]:
    """A class's pictures as frames, those whose name ends in a number; the rest of the name is the sequence."""
    frames = []
    for stem in stems:
        number = frame_of(stem)
        if number is not None:
            picture, indices = folder.pair(stem)
            place = Place(re.sub(r"[0-9]+$", "", stem) or "frames", number)
            frames.append(Frame(place, picture, indices == label, indices != IGNORED))
    return frames


def densest(frames: Sequence[Frame], at_most: int) -> list[Frame]:
    """So many frames of a sequence that follow each other, where they lie closest together; in their order."""
    ordered = sorted(frames, key=lambda one: one.number)
    size = min(at_most, len(ordered))
    starts = range(len(ordered) - size + 1)
    start = min(starts, key=lambda first: ordered[first + size - 1].number - ordered[first].number)
    return ordered[start : start + size]


# -- what is measured ----------------------------------------------------------------------------------------------
class Project:
    """A pool of approved frames in a store, and the backend's choice of contexts."""

    def __init__(self, folder: Path, segmenter: Segmenter, shots: int, approved: Sequence[Frame]) -> None:
        self._segmenter = segmenter
        self._target: Target = CONFIG.targets[0]
        self.store = SqliteStore(folder / "store.sqlite3")
        for number, frame in enumerate(approved, 1):
            self._approve(number, frame)
        settings = Settings(sequence_key="sequence", shots=shots)
        self._contexts = Contexts(self.store, segmenter, settings)
        pool = {self._target.id: tuple(self.store.pool(PROJECT))}
        self._snapshot = Snapshot(PROJECT, "benchmark", CONFIG, pool)

    def _approve(self, number: int, frame: Frame) -> None:
        at = f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}Z"
        info = ExampleInfo(
            key=str(number),
            project=PROJECT,
            target=self._target.id,
            task=number,
            annotation=number,
            kind="drawn",
            annotator=None,
            at=at,
            area=float(frame.mask.mean()),
            descriptor=self._segmenter.describe(frame.picture).tobytes(),
            sequence=frame.place.sequence,
            frame=frame.place.frame,
        )
        example = StoredExample(info, pack_image(frame.picture), pack_mask(frame.mask))
        self.store.put_approval(Approval(PROJECT, number, number, "drawn", None, at, str(number)), [example])

    def predict(self, task: int, frame: Frame, tally: Tally, *, known: bool, predicted: bool = False) -> None:
        """Segment one frame and count.

        Args:
            task: its number.
            frame: what is segmented.
            tally: where it is counted.
            known: whether it is known to be a frame.
            predicted: whether what was predicted on the frame before may help.
        """
        place = frame.place if known else None
        context = self._contexts.choose(
            self._snapshot, self._target, AWAY + task, frame.picture, place, predicted=predicted
        )
        (likely,) = self._segmenter.maps([Query(frame.picture, context)])
        mask, inside = likely.mask(THRESHOLD), likely.values >= THRESHOLD
        if predicted:
            frames, score = self._contexts.frames, expected_iou(likely.values, inside)
            seen = frames.seen(PROJECT, self._target.id, AWAY + task, place, frame.picture, mask, score)
            frames.remember(PROJECT, AWAY + task, [seen])
        tally.intersection += int(np.count_nonzero(mask & frame.mask & frame.known))
        tally.union += int(np.count_nonzero((mask | frame.mask) & frame.known))
        tally.helped += any(predicted_task(key) is not None for key in context.keys)
        tally.frames += 1


def between(
    approved: Sequence[Frame], asked: Sequence[Frame], segmenter: Segmenter, shots: int
) -> tuple[Tally, Tally]:
    """Frames of sequences that are in the pool, without and with knowing it."""
    without, with_it = Tally(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), segmenter, shots, approved)
        with closing(project.store):
            for task, frame in enumerate(asked):
                project.predict(task, frame, without, known=False)
                project.predict(task, frame, with_it, known=True)
    return without, with_it


def in_order(
    approved: Sequence[Frame], asked: Sequence[Frame], segmenter: Segmenter, shots: int
) -> tuple[Tally, Tally]:
    """Frames of a sequence of which none is in the pool, without and with what was predicted on the one before."""
    without, with_it = Tally(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), segmenter, shots, approved)
        with closing(project.store):
            for task, frame in enumerate(sorted(asked, key=lambda one: one.number)):
                project.predict(task, frame, without, known=True)
                project.predict(task, frame, with_it, known=True, predicted=True)
    return without, with_it


@dataclass(frozen=True)
class Row:
    """One line of a table: without, with."""

    name: str
    situation: str
    without: float
    with_it: float
    frames: int
    helped: str


def added(tallies: Sequence[Tally]) -> Tally:
    """Several as one."""
    return Tally(*(sum(getattr(one, name) for one in tallies) for name in Tally.__dataclass_fields__))


def row(name: str, situation: str, found: Sequence[tuple[Tally, Tally]]) -> Row:
    """Means over classes or seeds."""
    whole = added([with_it for _, with_it in found])
    return Row(
        name,
        situation,
        fmean(without.iou for without, _ in found),
        fmean(with_it.iou for _, with_it in found),
        whole.frames,
        f"{whole.helped} of {whole.frames}" if whole.helped else "-",
    )


def measure_drawn(seeds: int, segmenter: Segmenter, shots: int) -> Iterator[Row]:
    """Both situations on drawn sequences."""
    kind = np.random.default_rng(7).uniform(0, 255, 3)
    near, none = [], []
    for seed in range(seeds):
        approved, asked = (0, 6, 12, 18), (3, 9, 21)
        clips = [drawn(f"{clip}", 100 * seed + clip, sorted(approved + asked), kind) for clip in range(4)]
        frames = [frame for clip in clips for frame in clip]
        pool = [frame for frame in frames if frame.number in approved]
        near.append(between(pool, [frame for frame in frames if frame.number in asked], segmenter, shots))
        new = drawn("new", 100 * seed + 50, range(0, 24, 4), kind)
        none.append(in_order(pool, new, segmenter, shots))
    yield row("drawn", "approved", near)
    yield row("drawn", "none approved", none)


def measure_folder(
    folder: Folder, segmenter: Segmenter, shots: int, classes: int, at_most: int
) -> Iterator[Row]:
    """Both situations on a folder: half of a class's frames are approved; each sequence in turn is the new one."""
    near, none = [], []
    for label, stems in list(folder.classes().items())[:classes]:
        frames = in_folder(folder, label, stems)
        mixed = random.Random(f"{folder.name}/{label}").sample(frames, len(frames))  # noqa: S311 - to come again
        pool, asked = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :][:at_most]
        if len(pool) > shots:
            near.append(between(pool, asked, segmenter, shots))
        tallies = []
        for sequence in sorted({frame.place.sequence for frame in frames}):
            others = [frame for frame in pool if frame.place.sequence != sequence]
            own = densest([frame for frame in frames if frame.place.sequence == sequence], at_most)
            if others and len(own) > 1:
                tallies.append(in_order(others, own, segmenter, shots))
        if tallies:
            none.append((added([one for one, _ in tallies]), added([other for _, other in tallies])))
    if near:
        yield row(folder.name, "approved", near)
    if none:
        yield row(folder.name, "none approved", none)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--data", type=Path, help="folder with images/ and masks/*.png")
    arguments.add_argument("--checkpoint", default="embedded")
    arguments.add_argument("--shots", type=int, default=8)
    arguments.add_argument("--seeds", type=int, default=4, help="drawn pools")
    arguments.add_argument("--classes", type=int, default=99, help="of a folder, at most")
    arguments.add_argument(
        "--at-most", type=int, default=8, help="frames asked for, of a class or a sequence"
    )
    given = arguments.parse_args()
    segmenter = Segmenter.load(given.checkpoint, "cpu")
    began = time.monotonic()
    rows = list(measure_drawn(given.seeds, segmenter, given.shots)) if given.seeds else []
    if given.data:
        rows += measure_folder(Folder(given.data), segmenter, given.shots, given.classes, given.at_most)
    table = Table(title=f"IoU, {given.shots} shots", caption=f"{time.monotonic() - began:.0f} s")
    for heading in (
        "pictures",
        "frames of the sequence",
        "frames",
        "without",
        "with",
        "gain",
        "one before helped",
    ):
        table.add_column(heading, justify="right")
    for one in rows:
        gain = f"{one.with_it - one.without:+.3f}"
        figures = f"{one.without:.3f}", f"{one.with_it:.3f}", gain
        table.add_row(one.name, one.situation, str(one.frames), *figures, one.helped)
    Console(width=WIDE).print(table)


if __name__ == "__main__":
    main()
