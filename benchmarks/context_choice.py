"""Chosen contexts against drawn ones, and scores against true IoU, on folders of `evaluate`'s form.

    PYTHONPATH=. .venv/bin/python benchmarks/context_choice.py FOLDER... [--checkpoint S] [--shots 1,4,8] [--seeds 2]

For every class and seed queries are drawn from the images that hold the class, at most a third of them, and a pool
from the others. Examples are measured by each other as the backend's worker does, and each query is segmented

- by examples drawn from the pool ("drawn"),
- by examples chosen without their measured worth ("alike"),
- by examples chosen with it ("chosen"), which is what the backend does.

IoU is total intersection over total union of a class, mean over classes and seeds. The second table is about the
scores of the chosen contexts of one number of shots: Spearman's rank correlation with the true IoU over all queries
of a folder, before and after the calibration that leave-one-out in the pool gives, and within a class; how far scores
are from the true IoU; and how many queries are told to be unlike the pool.
"""

import argparse
import json
import random
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.tables import Console
from model import poison, retrieval, score
from model.edges import ProbabilityMap
from model.evaluation import IGNORED, THRESHOLD, Folder
from model.example import Context, Example
from model.segmenter import Query, Segmenter

METHODS = ("drawn", "alike", "chosen")
WIDE = 110


@dataclass(frozen=True)
class Found:
    """One query, segmented in one way.

    Attributes:
        intersection: pixels; `union` likewise.
        raw: figure before the calibration.
        calibrated: figure after it; as `raw` where `shots` are not those that scores are looked at with.
        familiar: whether the query is like the pool.
    """

    folder: str
    label: int
    seed: int
    shots: int
    method: str
    query: str
    intersection: int
    union: int
    raw: float
    calibrated: float
    familiar: bool

    @property
    def iou(self) -> float:
        """0 to 1."""
        return self.intersection / self.union if self.union else 1.0


class Remembering(Segmenter):
    """Segments nothing twice: pools of one class share most of their examples.

    Attributes:
        known: maps, by picture and context.
    """

    known: dict[tuple[int, frozenset[str]], ProbabilityMap]

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        """As a segmenter does."""
        if not hasattr(self, "known"):
            self.known = {}
        places = [(zlib.crc32(query.image.tobytes()), frozenset(query.context.keys)) for query in queries]
        new = {place: query for place, query in zip(places, queries, strict=True) if place not in self.known}
        for place, made in zip(new, super().maps(list(new.values())), strict=True):
            self.known[place] = made
        return [self.known[place] for place in places]


class Pool:
    """Examples that were measured by each other."""

    def __init__(self, examples: Sequence[Example], segmenter: Segmenter, shots: int, at_most: int) -> None:
        self.examples = examples
        self.described = np.stack([segmenter.describe(example.image) for example in examples])
        self.worth = [found.finds for found in poison.examine(examples, segmenter, at_most)]
        seen = score.rehearse(examples, segmenter, shots, self.worth, THRESHOLD)
        self.calibration = score.calibrate([raw for raw, _ in seen], [true for _, true in seen])

    def context(self, method: str, described: NDArray[np.float32], shots: int, seed: str) -> Context:
        """`shots` of the examples."""
        places = range(len(self.examples))
        if method == "drawn":
            picked = random.Random(seed).sample(places, min(shots, len(places)))  # noqa: S311 - to come again
        else:
            worth = self.worth if method == "chosen" else [None for _ in places]
            picked = retrieval.choose(described, self.described, worth, shots)
        return Context(tuple(self.examples[place] for place in picked))


def draw(stems: Sequence[str], pool: int, queries: int, seed: str) -> tuple[list[str], list[str]]:
    """Different queries and pool: of a few images a third are queries, so that all of these have one pool."""
    mixed = random.Random(seed).sample(stems, len(stems))  # noqa: S311 - to come again
    asked = min(queries, max(1, len(mixed) // 3))
    return mixed[:asked], mixed[asked : asked + pool]


def measure(
    folder: Folder,
    label: int,
    stems: Sequence[str],
    seed: int,
    segmenter: Segmenter,
    given: argparse.Namespace,
) -> list[Found]:
    """All ways for one class and seed."""
    results = []
    name = f"{folder.name}/{label}/{seed}"
    queries, members = draw(stems, given.pool, given.queries, name)
    pool = Pool([folder.example(stem, label) for stem in members], segmenter, given.scored, given.at_most)
    for query in queries:
        picture, indices = folder.pair(query)
        described = segmenter.describe(picture)
        familiar = retrieval.is_familiar(described, pool.described)
        ways = [(shots, method) for shots in given.shots if shots < len(members) for method in METHODS]
        contexts = [pool.context(way, described, shots, f"{name}/{query}/{shots}") for shots, way in ways]
        maps = segmenter.maps([Query(picture, context) for context in contexts])
        for (shots, method), likely in zip(ways, maps, strict=True):
            mask, wanted, known = likely.mask(THRESHOLD), indices == label, indices != IGNORED
            inside = likely.values >= THRESHOLD
            raw = score.expected_iou(likely.values, inside)
            calibrated = pool.calibration(raw) if inside.any() and shots == given.scored else raw
            shared, either = mask & wanted & known, (mask | wanted) & known
            areas = int(np.count_nonzero(shared)), int(np.count_nonzero(either))
            results.append(
                Found(folder.name, label, seed, shots, method, query, *areas, raw, calibrated, familiar)
            )
    return results


class Areas(Protocol):
    """What is counted of one query."""

    @property
    def label(self) -> int:
        """Its class."""

    @property
    def seed(self) -> int:
        """Of the draw that it belongs to."""

    @property
    def intersection(self) -> int:
        """Pixels."""

    @property
    def union(self) -> int:
        """Pixels."""


def miou(found: Sequence[Areas]) -> float:
    """Total intersection over total union of each class and seed, then the mean."""
    totals: dict[tuple[int, int], NDArray[np.int64]] = {}
    for one in found:
        place = (one.label, one.seed)
        totals[place] = totals.get(place, 0) + np.array([one.intersection, one.union])
    return fmean(float(part / max(whole, 1)) for part, whole in totals.values())


def choices(found: Sequence[Found], shots: Sequence[int]) -> Table:
    """The first table."""
    table = Table(title="IoU by context")
    for heading in ("folder", *(f"{count} {method}" for count in shots for method in METHODS)):
        table.add_column(heading, justify="right")
    means = defaultdict(list)
    for folder in dict.fromkeys(one.folder for one in found):
        cells = []
        for count in shots:
            for method in METHODS:
                place = (folder, count, method)
                these = [one for one in found if (one.folder, one.shots, one.method) == place]
                value = miou(these) if these else float("nan")
                means[count, method].append(value)
                cells.append(f"{value:.3f}" if these else "-")
        table.add_row(folder, *cells)
    table.add_row(
        "mean", *(f"{np.nanmean(means[count, method]):.3f}" for count in shots for method in METHODS)
    )
    return table


def scores(found: Sequence[Found], shots: int) -> Table:
    """The second table."""
    table = Table(title=f"scores of chosen contexts of {shots}")
    headings = (
        "folder",
        "IoU",
        "raw",
        "rank",
        "rank in a class",
        "off by",
        "score",
        "rank",
        "off by",
        "unfamiliar",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    columns = []
    for folder in dict.fromkeys(one.folder for one in found):
        rows = [one for one in found if (one.folder, one.shots, one.method) == (folder, shots, "chosen")]
        true = np.array([one.iou for one in rows])
        raw, made = np.array([one.raw for one in rows]), np.array([one.calibrated for one in rows])
        within = [
            rank(
                [one.raw for one in rows if one.label == label],
                [one.iou for one in rows if one.label == label],
            )
            for label in {one.label for one in rows}
        ]
        columns.append(
            (
                true.mean(),
                raw.mean(),
                rank(raw, true),
                fmean(within),
                np.abs(raw - true).mean(),
                made.mean(),
                rank(made, true),
                np.abs(made - true).mean(),
                fmean(not one.familiar for one in rows),
            )
        )
        table.add_row(folder, *(f"{value:.2f}" for value in columns[-1]))
    table.add_row("mean", *(f"{value:.2f}" for value in np.mean(columns, axis=0)))
    return table


def rank(
    first: Sequence[float] | NDArray[np.float64], second: Sequence[float] | NDArray[np.float64]
) -> float:
    """Spearman's rank correlation; 0 where one of the two is always the same."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return float(spearmanr(first, second).statistic)


def options(description: str | None) -> argparse.ArgumentParser:
    """What benchmarks on folders of known masks are asked for by."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("folders", type=Path, nargs="+")
    arguments.add_argument("--checkpoint", default="embedded")
    arguments.add_argument(
        "--shots", type=lambda text: [int(part) for part in text.split(",")], default=[1, 4, 8]
    )
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--json", type=Path, help="every query, too")
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = options(__doc__)
    arguments.add_argument("--scored", type=int, default=4, help="shots whose scores are looked at")
    arguments.add_argument("--pool", type=int, default=16, help="examples")
    arguments.add_argument("--queries", type=int, default=8, help="of a class and seed, at most")
    arguments.add_argument("--classes", type=int, default=99, help="of a folder, at most")
    arguments.add_argument(
        "--at-most", type=int, default=poison.AT_MOST, help="others that measure an example"
    )
    given = arguments.parse_args()
    segmenter = Remembering.load(given.checkpoint, "cpu")
    console = Console(width=WIDE)
    began = time.monotonic()
    found: list[Found] = []
    for seed in range(given.seeds):
        for path in given.folders:
            folder = Folder(path)
            for label, stems in list(folder.classes().items())[: given.classes]:
                if len(stems) > 4:
                    found += measure(folder, label, stems, seed, segmenter, given)
            console.print(f"{folder.name}, seed {seed}: {time.monotonic() - began:.0f} s", highlight=False)
            if given.json:
                given.json.write_text(json.dumps([asdict(one) for one in found]))
        console.print(choices(found, given.shots), scores(found, given.scored), sep="\n")


if __name__ == "__main__":
    main()
