"""False masks of labels that are not there, before and after a label's figure decides, on folders of `evaluate`'s form.

    PYTHONPATH=. .venv/bin/python benchmarks/absent.py FOLDER... [--checkpoint S] [--pools 8,16] [--seeds 3]

For every class, seed and size of pool a pool is drawn from the pictures that hold the class, and pictures that lack it
stand for approved ones without it. By both `model.score.absence` makes its rule, as the backend's worker does. Then it
is tried on other pictures, those that hold the class and those that do not. "own" pictures without it are of the same
folder, "others" are of the other folders given.

"wrong" is the share of pictures without the class on which a mask is shown; "IoU" the mean over pictures that hold it;
"lost" the share of their masks worth keeping (`model.score.WORTH_KEEPING`) that are no longer shown; "on" the share of
draws whose rule hides anything. Each is the mean over draws, before and after.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
from rich.table import Table

from benchmarks.context_choice import Remembering
from benchmarks.tables import Console
from model import poison, retrieval, score, zoom
from model.edges import ProbabilityMap
from model.evaluation import THRESHOLD, Folder, iou
from model.example import Context, Example, Picture
from model.segmenter import Query, Segmenter

LEAST_POOL = 4
WIDE = 110
Source = Literal["own", "others"]


@dataclass(frozen=True)
class Drawn:
    """One class, seed, size of pool and source of pictures without the class.

    Attributes:
        seen: (raw figure, true IoU) of the pool's examples, each found by the others.
        absent: raw figures of pictures without the class.
        looked: how many of these were looked at.
        present: (raw figure, true IoU) of queries that hold the class; no figure where nothing was found.
        lacking: raw figures of queries that do not, likewise.
    """

    folder: str
    label: int
    seed: int
    size: int
    source: Source
    seen: list[tuple[float, float]]
    absent: list[float]
    looked: int
    present: list[tuple[float | None, float]]
    lacking: list[float | None]

    @property
    def rule(self) -> score.Absence:
        """What the evidence says."""
        return score.absence(self.seen, self.absent, len(self.absent) / self.size)

    def figures(self) -> dict[str, float]:
        """What the table has, by heading."""
        rule = self.rule
        shown = [raw for raw in self.lacking if raw is not None]
        kept = [(raw, true) for raw, true in self.present if raw is not None]
        worth = [raw for raw, true in kept if true >= score.WORTH_KEEPING]
        return {
            "on": float(rule != score.Absence()),
            "wrong": len(shown) / len(self.lacking),
            "after": sum(not rule.hides(raw) for raw in shown) / len(self.lacking),
            "IoU": sum(true for _, true in kept) / len(self.present),
            "IoU after": sum(true for raw, true in kept if not rule.hides(raw)) / len(self.present),
            "lost": sum(map(rule.hides, worth)) / max(len(worth), 1),
        }


class Pool:
    """Examples, and how pictures are segmented by them as the backend would."""

    def __init__(self, examples: Sequence[Example], segmenter: Segmenter, given: argparse.Namespace) -> None:
        self.examples = examples
        self._segmenter = segmenter
        self._given = given
        self._described = np.stack([segmenter.describe(example.image) for example in examples])
        self._worth: list[float | None] = [None for _ in examples]
        if len(examples) > given.shots:  # else all of them are used, whatever they are worth
            measured = poison.examine(examples, segmenter, given.at_most)
            self._worth = [influence.finds for influence in measured]

    def seen(self) -> list[tuple[float, float]]:
        """Of the examples themselves."""
        return score.rehearse(
            self.examples, self._segmenter, self._given.shots, self._worth, THRESHOLD, nearer=self._given.zoom
        )

    def absent(self, pictures: Sequence[Picture]) -> list[float]:
        """Of pictures without the class."""
        return score.rehearse_absent(
            pictures,
            self.examples,
            self._segmenter,
            self._given.shots,
            self._worth,
            THRESHOLD,
            nearer=self._given.zoom,
        )

    def figures(self, pictures: Sequence[Picture]) -> Iterator[tuple[float | None, ProbabilityMap]]:
        """Raw figure and map of each picture; no figure where nothing is found."""
        for picture in pictures:
            described = self._segmenter.describe(picture)
            picked = retrieval.choose(described, self._described, self._worth, self._given.shots)
            query = Query(picture, Context(tuple(self.examples[place] for place in picked)))
            segment = zoom.maps if self._given.zoom else Segmenter.maps
            (likely,) = segment(self._segmenter, [query])
            inside = likely.values >= THRESHOLD
            yield score.expected_iou(likely.values, inside) if inside.any() else None, likely


def held(folder: Folder) -> dict[str, set[int]]:
    """Which indices each picture's mask has, by stem."""
    stems = sorted({stem for stems in folder.classes().values() for stem in stems})
    return {stem: set(np.unique(folder.pair(stem)[1]).tolist()) for stem in stems}


def measure(
    folder: Folder,
    label: int,
    seed: int,
    holding: Mapping[str, Mapping[str, set[int]]],
    folders: Mapping[str, Folder],
    segmenter: Segmenter,
    given: argparse.Namespace,
) -> Iterator[Drawn]:
    """All draws of one class and seed."""
    stems = folder.classes()[label]
    rng = random.Random(f"{folder.name}{label}{seed}")  # noqa: S311 - to come again
    mixed = rng.sample(stems, len(stems))
    asked, rest = np.split(np.array(mixed), [min(given.queries, max(2, len(mixed) // 3))])
    own = [(folder, stem) for stem, held in holding[folder.name].items() if label not in held]
    own = rng.sample(own, len(own))
    others = [
        (other, stem)
        for name, other in folders.items()
        if name != folder.name
        for stem in rng.sample(sorted(holding[name]), min(3, len(holding[name])))
    ]
    rng.shuffle(others)
    lacking: dict[Source, list[tuple[Folder, str]]] = {"own": own, "others": others}
    for size in dict.fromkeys(min(size, len(rest)) for size in given.pools):
        if size < LEAST_POOL:
            continue
        pool = Pool([folder.example(str(stem), label) for stem in rest[:size]], segmenter, given)
        seen = pool.seen()
        truths = [folder.example(str(stem), label) for stem in asked]
        found = pool.figures([truth.image for truth in truths])
        present = [
            (raw, iou(likely.mask(THRESHOLD), truth.mask))
            for truth, (raw, likely) in zip(truths, found, strict=True)
        ]
        for source, places in lacking.items():
            half = min(given.queries, len(places) // 2)
            if half < 2:
                continue
            pictures = [where.pair(stem)[0] for where, stem in places]
            looked = pictures[half:][: given.absent]
            tried = [raw for raw, _ in pool.figures(pictures[:half])]
            yield Drawn(
                folder.name, label, seed, size, source, seen, pool.absent(looked), len(looked), present, tried
            )


def told(drawn: Sequence[Drawn]) -> Table:
    """The table."""
    headings = ("folder", "without", "pool", "draws", "on", "wrong", "after", "IoU", "IoU after", "lost")
    table = Table(title="false masks of labels that are not there")
    for heading in headings:
        table.add_column(heading, justify="right")
    rows: dict[tuple[str, Source, int], list[dict[str, float]]] = {}
    for one in drawn:
        rows.setdefault((one.folder, one.source, one.size), []).append(one.figures())
    for (folder, source, size), figures in sorted(rows.items(), key=lambda row: (row[0][1], row[0])):
        means = [fmean(figure[heading] for figure in figures) for heading in headings[4:]]
        table.add_row(folder, source, str(size), str(len(figures)), *(f"{mean:.3f}" for mean in means))
    for source in dict.fromkeys(one.source for one in drawn):
        every = [one.figures() for one in drawn if one.source == source]
        means = [fmean(figure[heading] for figure in every) for heading in headings[4:]]
        table.add_row("all", source, "", str(len(every)), *(f"{mean:.3f}" for mean in means))
    return table


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("folders", type=Path, nargs="+")
    arguments.add_argument("--checkpoint", default="embedded")
    arguments.add_argument("--shots", type=int, default=8, help="examples of a context")
    arguments.add_argument(
        "--pools", type=lambda text: [int(part) for part in text.split(",")], default=[8, 16]
    )
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--queries", type=int, default=8, help="with a class, and without it, at most")
    arguments.add_argument("--absent", type=int, default=16, help="pictures without, that a rule is made by")
    arguments.add_argument("--at-most", type=int, default=6, help="others that measure an example")
    arguments.add_argument("--zoom", action="store_true", help="small objects get a nearer look")
    arguments.add_argument("--json", type=Path, help="every draw, too")
    given = arguments.parse_args()
    segmenter = Remembering.load(given.checkpoint, "cpu", guided=True)
    console = Console(width=WIDE)
    began = time.monotonic()
    folders = {path.name: Folder(path) for path in given.folders}
    holding = {name: held(folder) for name, folder in folders.items()}
    drawn: list[Drawn] = []
    for seed in range(given.seeds):
        for name, folder in folders.items():
            for label in folder.classes():
                drawn += measure(folder, label, seed, holding, folders, segmenter, given)
            console.print(f"{name}, seed {seed}: {time.monotonic() - began:.0f} s", highlight=False)
            if given.json:
                given.json.write_text(json.dumps([asdict(one) for one in drawn]))
    console.print(told(drawn))


if __name__ == "__main__":
    main()
