"""How good a checkpoint is on masks that are known: IoU, episodes, worth of examples; knows no service and no command line.

The protocol is fixed, so that figures of different days and people can be compared:

- A folder holds `images/` and `masks/*.png`; a mask is a palette image, 0 background, `IGNORED` ignored; or grey with the
  same meaning; or black and white, where white is class 1.
- Every class is a task of its own. Its images are those that hold it on more than `LEAST_SHARE` of the mask's pixels,
  the mask brought to `SELECTION_SIZE` squared by nearest neighbour; sorted by name; the first `QUERIES` are queries.
- A query's examples are drawn from the class's other images by a seed made of folder, class, stem and shots.
- A class's IoU is its total intersection over its total union at mask resolution; mIoU is the mean over classes.
- Where it is asked for, boundary F (`model.measures`) is the mean over a class's queries, then over classes; object F1
  is that of all queries of all classes, an object being what `model.instances` makes of a mask,
  of the known one too.
"""

import hashlib
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model import canvas, instances, measures, zoom
from model.example import Context, Example, Mask, Picture
from model.segmenter import Query, Segmenter

IGNORED = 255
LEAST_SHARE = 0.002
SELECTION_SIZE = 224
QUERIES = 20
THRESHOLD = 0.5  # of a probability; from it on a pixel is the target's
LEAST_OBJECT = 0.0002  # of the picture; smaller objects are left out, as the service's MIN_AREA does
AT_ONCE = 4  # queries handed to the segmenter together, between two calls of `progress`
PAIRS_KEPT = 64  # pictures with masks held in memory
ARRAY_MODES = (
    "1",
    "L",
    "LA",
    "RGB",
    "RGBA",
    "I",
    "I;16",
    "F",
)  # Pillow's, whose arrays `canvas.to_rgb` reads

Progress = Callable[[int, int], None]
Extra = Literal["boundary_f", "object_f1"]


class EvaluationError(ValueError):
    """A folder cannot be evaluated; the message says why."""


@dataclass(frozen=True)
class Row:
    """One number of shots and one method.

    Attributes:
        shots: examples a query.
        method: "context" or "tuned".
        miou: 0 to 1, mean over classes.
        seconds_per_image: of segmentation, files not counted.
        queries: over all classes.
        classes: IoU, 0 to 1, by class index; not in the JSON form.
        extras: further figures by name, each 0 to 1; in the JSON form beside the others.
    """

    shots: int
    method: str
    miou: float
    seconds_per_image: float
    queries: int
    classes: dict[int, float] = field(default_factory=dict)
    extras: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fixed form."""
        return {
            "shots": self.shots,
            "method": self.method,
            "miou": self.miou,
            "seconds_per_image": self.seconds_per_image,
            "queries": self.queries,
            **self.extras,
        }


@dataclass(frozen=True)
class Report:
    """What `evaluate_folder` found; a number of shots for which no class has enough images has no row."""

    dataset: str
    checkpoint: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The fixed form."""
        return {
            "dataset": self.dataset,
            "checkpoint": self.checkpoint,
            "rows": [row.to_json() for row in self.rows],
        }


@dataclass(frozen=True)
class Episode:
    """One query and the examples it is to be segmented by: stems of a folder's files."""

    label: int
    query: str
    examples: tuple[str, ...]


class Pairs(Protocol):
    """Whatever has pictures with the class indices `[H, W]` uint8 of their pixels, by name."""

    def pair(self, name: str, /) -> tuple[Picture, NDArray[np.uint8]]:
        """A picture and its indices; `IGNORED` counts neither for nor against."""


class Folder:
    """A folder of the protocol; reads pictures and masks when asked."""

    def __init__(self, path: Path) -> None:
        """Look at a folder's names.

        Args:
            path: holds `images/` and `masks/`.

        Raises:
            EvaluationError: if it has no masks, or a mask has no image.
        """
        self.path = path.resolve()
        images = {file.stem: file for file in sorted((self.path / "images").glob("*")) if file.is_file()}
        self._masks = {file.stem: file for file in sorted((self.path / "masks").glob("*.png"))}
        if not self._masks:
            raise EvaluationError(
                f"{self.path}: no masks/*.png; a folder to evaluate has images/ and masks/*.png"
            )
        if orphans := sorted(set(self._masks) - set(images)):
            raise EvaluationError(f"{self.path}: masks without an image: {', '.join(orphans[:5])}")
        self._images = images
        self.pair = lru_cache(maxsize=PAIRS_KEPT)(self._read_pair)

    @property
    def name(self) -> str:
        """The folder's own name, which enters the seeds."""
        return self.path.name

    def classes(self) -> dict[int, list[str]]:
        """Stems of the images that hold each class, sorted by name, by class index."""
        holding: dict[int, list[str]] = {}
        for stem in sorted(self._masks):
            small = self._indices(stem, SELECTION_SIZE)
            for label, count in zip(*np.unique(small, return_counts=True), strict=True):
                if label not in (0, IGNORED) and count > LEAST_SHARE * small.size:
                    holding.setdefault(int(label), []).append(stem)
        return dict(sorted(holding.items()))

    def episodes(self, shots: int) -> list[Episode]:
        """All episodes of all classes that have more than `shots` images."""
        found = []
        for label, stems in self.classes().items():
            if len(stems) <= shots:
                continue
            for stem in stems[:QUERIES]:
                seed = hashlib.sha256(f"{self.name}/{label}/{stem}/{shots}".encode()).hexdigest()[:8]
                others = [other for other in stems if other != stem]
                drawn = random.Random(int(seed, 16)).sample(others, shots)  # noqa: S311 - reproducible on purpose
                found.append(Episode(label, stem, tuple(drawn)))
        return found

    def example(self, stem: str, label: int) -> Example:
        """A picture with the mask of one class."""
        picture, indices = self.pair(stem)
        return Example(f"{self.path}/{label}/{stem}", picture, indices == label)

    def _read_pair(self, stem: str) -> tuple[Picture, NDArray[np.uint8]]:
        with Image.open(self._images[stem]) as opened:
            upright = ImageOps.exif_transpose(opened)
            plain = upright if upright.mode in ARRAY_MODES else upright.convert("RGB")
            picture = canvas.to_rgb(np.asarray(plain))
        indices = self._indices(stem)
        if indices.shape != picture.shape[:2]:
            sizes = f"image {picture.shape[:2]}, mask {indices.shape}"
            raise EvaluationError(f"{self._images[stem]}: image and mask differ in size: {sizes}")
        return picture, indices

    def _indices(self, stem: str, size: int | None = None) -> NDArray[np.uint8]:
        """Class indices `[H, W]` of a mask, as stored, brought to a square where a size is given."""
        path = self._masks[stem]
        with Image.open(path) as opened:
            if opened.mode not in ("P", "L", "1"):
                raise EvaluationError(f"{path}: a mask is a palette or grey image, not of mode {opened.mode}")
            resized = opened.resize((size, size), Image.Resampling.NEAREST) if size else opened
            stored = np.array(resized, dtype=np.uint8)  # of one bit: 0 and 1
            if opened.mode == "L" and self._grey_is_black_and_white:
                return (stored > 0).astype(np.uint8)
            return stored

    @cached_property
    def _grey_is_black_and_white(self) -> bool:
        """Whether no grey mask has a value between 0 and 255: 255 was painted then, and is not `IGNORED`.

        All masks are asked, because one that holds indices may well have nothing but background and ignored pixels.
        """
        for path in self._masks.values():
            with Image.open(path) as opened:
                if opened.mode == "L" and any(opened.histogram()[1:IGNORED]):
                    return False
        return True


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union of two masks `[H, W]` bool; 1 where both are empty.

    Raises:
        ValueError: if their shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of different shape: {first.shape} and {second.shape}")
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def evaluate_folder(
    folder: str | Path,
    segmenter: Segmenter,
    shots: Sequence[int] = (1, 4, 8),
    progress: Progress | None = None,
    extras: Collection[Extra] = (),
    *,
    nearer: bool = False,
) -> Report:
    """Evaluate a segmenter on a folder by the protocol above.

    Args:
        folder: holds `images/` and `masks/*.png`.
        segmenter: what to evaluate.
        shots: numbers of examples, each at least 1.
        progress: called with (queries done, queries in all), first with 0 done.
        extras: further figures to measure.
        nearer: whether small objects get a nearer look (`model.zoom`).

    Raises:
        EvaluationError: if the folder is not of the protocol's form, or has too few images for all of `shots`.
    """
    if not shots or min(shots) < 1:
        raise EvaluationError(f"shots must be numbers from 1 on, not {list(shots)}")
    opened = Folder(Path(folder))
    planned = {count: opened.episodes(count) for count in shots}
    total = sum(map(len, planned.values()))
    if not total:
        raise EvaluationError(f"{opened.path}: no class has more than {min(shots)} images")
    report = progress or (lambda done, total: None)
    report(0, total)
    rows, done = [], 0
    for count, episodes in planned.items():
        if not episodes:
            continue
        tally = Tally(count, "context", extras, nearer=nearer)
        for start in range(0, len(episodes), AT_ONCE):
            part = episodes[start : start + AT_ONCE]
            contexts = [
                Context(tuple(opened.example(stem, episode.label) for stem in episode.examples))
                for episode in part
            ]
            tally.segment(opened, segmenter, part, contexts)
            done += len(part)
            report(done, total)
        rows.append(tally.row())
    return Report(opened.name, segmenter.identity, tuple(rows))


class Tally:
    """Adds up a row."""

    def __init__(
        self, shots: int, method: str, extras: Collection[Extra] = (), *, nearer: bool = False
    ) -> None:
        self._shots, self._method, self._extras, self._nearer = shots, method, extras, nearer
        self._areas: dict[int, NDArray[np.int64]] = {}
        self._seconds = 0.0
        self._queries = 0
        self._boundaries: dict[int, list[float]] = {}
        self._objects = measures.ObjectCounts()

    def segment(
        self, folder: Pairs, segmenter: Segmenter, episodes: Sequence[Episode], contexts: Sequence[Context]
    ) -> None:
        """Segment the episodes' queries, each by its context, and add what was found."""
        queries = [
            Query(folder.pair(episode.query)[0], context)
            for episode, context in zip(episodes, contexts, strict=True)
        ]
        started = time.perf_counter()
        maps = zoom.maps(segmenter, queries, self._nearer)
        masks = [found.mask(THRESHOLD) for found in maps]
        self._seconds += time.perf_counter() - started
        self._queries += len(queries)
        for episode, found in zip(episodes, masks, strict=True):
            indices = folder.pair(episode.query)[1]
            wanted, known = indices == episode.label, indices != IGNORED
            areas = _areas(found, wanted, known)
            self._areas[episode.label] = self._areas.get(episode.label, 0) + areas
            if "boundary_f" in self._extras:
                measured = measures.boundary_f(found & known, wanted)
                self._boundaries.setdefault(episode.label, []).append(measured)
            if "object_f1" in self._extras:
                least = LEAST_OBJECT * found.size
                objects = (instances.split(mask, least) for mask in (found & known, wanted))
                self._objects += measures.count_objects(*objects)

    def row(self) -> Row:
        """Everything so far; at least one query."""
        classes = {label: float(intersection / union) for label, (intersection, union) in self._areas.items()}
        seconds = self._seconds / self._queries
        extras: dict[str, float] = {}
        if "boundary_f" in self._extras:
            extras["boundary_f"] = fmean(fmean(values) for values in self._boundaries.values())
        if "object_f1" in self._extras:
            extras["object_f1"] = self._objects.f1
        return Row(
            self._shots, self._method, fmean(classes.values()), seconds, self._queries, classes, extras
        )


def _areas(found: Mask, wanted: Mask, known: Mask) -> NDArray[np.int64]:
    return np.array([np.count_nonzero(found & wanted & known), np.count_nonzero((found | wanted) & known)])


def worth(
    examples: Sequence[Example], segmenter: Segmenter, at_most: int = 8, progress: Progress | None = None
) -> list[float]:
    """How well each example alone finds the others: the measured score by which `model.retrieval` ranks.

    Args:
        examples: at least two, of one target.
        segmenter: what to segment with.
        at_most: of the others, this many are tried, evenly spread over the sequence.
        progress: called with (examples done, examples in all).

    Returns:
        Mean IoU, 0 to 1, one an example.

    Raises:
        EvaluationError: if there are fewer than two examples.
    """
    if len(examples) < 2:
        raise EvaluationError(f"measuring examples needs at least two of them, not {len(examples)}")
    scores = []
    for index, example in enumerate(examples):
        others = [other for other in examples if other is not example]
        tried = [
            others[len(others) * place // min(at_most, len(others))]
            for place in range(min(at_most, len(others)))
        ]
        maps = segmenter.segment([Query(other.image, Context((example,))) for other in tried])
        found = [
            iou(probability > THRESHOLD, other.mask) for probability, other in zip(maps, tried, strict=True)
        ]
        scores.append(sum(found) / len(found))
        if progress:
            progress(index + 1, len(examples))
    return scores
