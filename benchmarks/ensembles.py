"""Ways to use several examples, and to look more than once: IoU and time of each, on folders of `evaluate`'s form.

    PYTHONPATH=. .venv/bin/python benchmarks/ensembles.py FOLDER... [--checkpoint S] [--shots 1,4,8] [--queries 12] [--seeds 2]

- `feature`, `spatial` and `both` are what the setting `ENSEMBLE` offers.
- "each alone": the mean of the maps that each example makes by itself.
- "left-right", "upside down", "both flips": the mean of the map and those of the flipped picture by flipped examples,
  flipped back; with both flips there are four maps.
- "mirrored examples": the examples and their left-right mirror images are one feature ensemble.
- "parts": every picture is looked at again in parts, two along a side, as `model.zoom` does where objects are small.

Where two are the same by construction (one example, or one mosaic) only the first is there. Queries are a share of
`evaluate`'s, as many of each class; the first seed has its examples, others draw others, and have other queries where
there are more. IoU is total intersection over total union of a class, mean over classes and seeds, looked at once, with
guided edges. "better / worse": sets whose IoU is .01 or more above or below that of `feature`. "gain": of a query's
own IoU over `feature`'s, mean over all queries with its standard error. Time is that of this process on the processor,
a query, and as a ratio to `feature`'s with as many examples; all ways take turns on each picture. The second table is
the rank correlation of scores, before calibration, with the true IoU of a set's queries, mean over sets.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.context_choice import miou, options, rank
from benchmarks.tables import Console
from model import checkpoint, score, zoom
from model.edges import ProbabilityMap
from model.evaluation import IGNORED, THRESHOLD, Episode, Folder
from model.example import Context, Example
from model.segmenter import MOSAIC_EXAMPLES, Ensemble, Query, Segmenter

FIRST = "feature"  # what the others are compared with
ACROSS, DOWN = 1, 0  # axes that a flip turns round: left becomes right, top becomes bottom
CLEAR = 0.01  # of IoU
WIDE = 180  # characters

Axes = tuple[int, ...]
Made = TypeVar("Made")
Pixel = TypeVar("Pixel", bound=np.generic)
Floats = NDArray[np.float32]
Segmenters = dict[Ensemble, Segmenter]


@dataclass(frozen=True)
class Found:
    """One query, segmented in one way.

    Attributes:
        query: its file's stem.
        way: such as "feature".
        intersection: pixels; `union` likewise.
        raw: its score before calibration, 0 to 1.
        seconds: of this process on the processor.
    """

    folder: str
    label: int
    seed: int
    shots: int
    query: str
    way: str
    intersection: int
    union: int
    raw: float
    seconds: float

    @property
    def iou(self) -> float:
        """0 to 1."""
        return self.intersection / self.union if self.union else 1.0


def flipped(values: NDArray[Pixel], axes: Axes) -> NDArray[Pixel]:
    """A copy of a picture, mask or map `[H, W, ...]`, turned round along `axes`."""
    return np.ascontiguousarray(np.flip(values, axes))


def flip_query(query: Query, axes: Axes) -> Query:
    """The picture and its examples, all flipped alike; a tuned prompt, which has no such thing, is left out."""
    examples = (
        Example(f"{example.key} flipped {axes}", flipped(example.image, axes), flipped(example.mask, axes))
        for example in query.context.examples
    )
    return Query(flipped(query.image, axes), Context(tuple(examples)), query.kind)


def mean_of(first: ProbabilityMap, others: Sequence[Floats]) -> ProbabilityMap:
    """The mean of a map and of others `[h, w]` of the same picture; the guide is the first one's."""
    return replace(first, values=np.mean([first.values, *others], axis=0, dtype=np.float32))


def looks(segmenters: Segmenters, query: Query) -> dict[str, tuple[ProbabilityMap, float]]:
    """A query's map and seconds of the processor in each way that differs from the ways before it."""
    feature, examples = segmenters["feature"], query.context.examples
    made: dict[str, tuple[ProbabilityMap, float]] = {}

    def look(queries: Sequence[Query], by: Segmenter = feature) -> tuple[list[ProbabilityMap], float]:
        return timed(lambda: by.maps(queries))

    (plain,), once = look([query])
    made[FIRST] = plain, once
    if len(examples) > 1:
        (mosaic,), seconds = look([query], segmenters["spatial"])
        made["spatial"] = mosaic, seconds
    if len(examples) > MOSAIC_EXAMPLES:
        (mosaics,), seconds = look([query], segmenters["both"])
        made["both"] = mosaics, seconds
    if len(examples) > 1:
        singles, seconds = look([replace(query, context=Context((example,))) for example in examples])
        made["each alone"] = mean_of(singles[0], [single.values for single in singles[1:]]), seconds
    back: dict[Axes, Floats] = {}
    cost: dict[Axes, float] = {}
    for axes in ((ACROSS,), (DOWN,), (DOWN, ACROSS)):
        (turned,), cost[axes] = look([flip_query(query, axes)])
        back[axes] = flipped(turned.values, axes)
    for way, used in (("left-right", [(ACROSS,)]), ("upside down", [(DOWN,)]), ("both flips", list(back))):
        made[way] = mean_of(plain, [back[axes] for axes in used]), once + sum(cost[axes] for axes in used)
    mirrored = flip_query(query, (ACROSS,)).context.examples
    (doubled,), seconds = look([replace(query, context=Context((*examples, *mirrored)))])
    made["mirrored examples"] = doubled, seconds
    parts, seconds = timed(lambda: in_parts(feature, query, plain))
    made["parts"] = parts, once + seconds
    return made


def in_parts(segmenter: Segmenter, query: Query, plain: ProbabilityMap) -> ProbabilityMap:
    """Look at a picture again in parts, two along each side, by close-ups of the examples."""
    scale = zoom.reached(2)
    near = Context(tuple(zoom.close_up(example, scale) for example in query.context.examples))
    tiles = tuple(zoom.cover(query.image.shape, scale))
    queries = tuple(Query(query.image[tile.slices], near, query.kind) for tile in tiles)
    return zoom.joined(zoom.Look(query.image, tiles, queries), segmenter.maps(queries), plain)


def timed(work: Callable[[], Made]) -> tuple[Made, float]:
    """What work makes, and seconds of the processor."""
    began = time.process_time()
    made = work()
    return made, time.process_time() - began


def draw(folder: Folder, shots: int, queries: int, seed: int) -> list[Episode]:
    """About so many of a folder's episodes, as many of each class, at least one."""
    stems = folder.classes()
    every: dict[int, list[Episode]] = {}
    for episode in folder.episodes(shots):
        every.setdefault(episode.label, []).append(episode)
    drawn = []
    for label, episodes in every.items():
        count = min(len(episodes), max(1, queries // len(stems)))
        for place in range(count):
            episode = episodes[(place * len(episodes) // count + seed) % len(episodes)]
            if seed:
                mixed = random.Random(f"{folder.name}/{label}/{episode.query}/{shots}/{seed}")  # noqa: S311
                others = [stem for stem in stems[label] if stem != episode.query]
                episode = replace(episode, examples=tuple(mixed.sample(others, shots)))
            drawn.append(episode)
    return drawn


def measure(folder: Folder, episode: Episode, seed: int, segmenters: Segmenters) -> list[Found]:
    """All ways for one query."""
    picture, indices = folder.pair(episode.query)
    wanted, known = indices == episode.label, indices != IGNORED
    context = Context(tuple(folder.example(stem, episode.label) for stem in episode.examples))
    results = []
    for way, (likely, seconds) in looks(segmenters, Query(picture, context)).items():
        mask = likely.mask(THRESHOLD)
        results.append(
            Found(
                folder=folder.name,
                label=episode.label,
                seed=seed,
                shots=len(episode.examples),
                query=episode.query,
                way=way,
                intersection=int(np.count_nonzero(mask & wanted & known)),
                union=int(np.count_nonzero((mask | wanted) & known)),
                raw=score.expected_iou(likely.values, likely.values >= THRESHOLD),
                seconds=seconds,
            )
        )
    return results


def ious(found: Sequence[Found], folders: Sequence[str]) -> Table:
    """The first table."""
    table = Table(title=f"IoU; seeds: {len({one.seed for one in found})}")
    for heading in (
        "ensemble",
        "examples",
        *folders,
        "mean",
        "better / worse",
        "gain",
        "CPU s",
        "time, ratio",
    ):
        table.add_column(heading, justify="right")
    for shots in sorted({one.shots for one in found}):
        these = [one for one in found if one.shots == shots]
        compared = [one for one in these if one.way == FIRST]
        first, base = by_folder(compared), sum(one.seconds for one in compared)
        for way in dict.fromkeys(one.way for one in these):
            rows = [one for one in these if one.way == way]
            values = by_folder(rows)
            gains = [round(values[name] - first[name], 3) for name in values]
            table.add_row(
                way,
                str(shots),
                *(f"{values[name]:.3f}" if name in values else "-" for name in folders),
                f"{fmean(values.values()):.3f}",
                f"{sum(gain >= CLEAR for gain in gains)} / {sum(gain <= -CLEAR for gain in gains)}",
                gain_of(rows, compared),
                f"{fmean(one.seconds for one in rows):.2f}",
                f"{sum(one.seconds for one in rows) / base:.2f}",
            )
    return table


def gain_of(found: Sequence[Found], compared: Sequence[Found]) -> str:
    """By how much a query's IoU is above that of the same query in `compared`, with the mean's standard error."""
    known = {(one.folder, one.label, one.seed, one.query): one.iou for one in compared}
    gains = [one.iou - known[one.folder, one.label, one.seed, one.query] for one in found]
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    return f"{fmean(gains):+.3f} ± {error:.3f}"


def by_folder(found: Sequence[Found]) -> dict[str, float]:
    """IoU of each folder."""
    names = dict.fromkeys(one.folder for one in found)
    return {name: miou([one for one in found if one.folder == name]) for name in names}


def ranks(found: Sequence[Found]) -> Table:
    """The second table."""
    counts = sorted({one.shots for one in found})
    table = Table(title="rank correlation of scores with IoU")
    for heading in ("ensemble", *(f"examples: {shots}" for shots in counts)):
        table.add_column(heading, justify="right")
    for way in dict.fromkeys(one.way for one in found):
        cells = []
        for shots in counts:
            these = [one for one in found if (one.way, one.shots) == (way, shots)]
            sets = [[one for one in these if one.folder == name] for name in {one.folder for one in these}]
            values = [rank([one.raw for one in rows], [one.iou for one in rows]) for rows in sets]
            cells.append(f"{fmean(values):.2f}" if values else "-")
        table.add_row(way, *cells)
    return table


def main() -> None:
    """Measure and print."""
    arguments = options(__doc__)
    arguments.add_argument("--queries", type=int, default=12, help="of a folder and seed, about")
    given = arguments.parse_args()
    torch.set_num_threads(1)  # several threads that wait for each other count as time of the processor
    network = checkpoint.load(given.checkpoint)
    modes: tuple[Ensemble, ...] = ("feature", "spatial", "both")
    segmenters = {mode: Segmenter(network, ensemble=mode, guided=True) for mode in modes}
    console = Console(width=WIDE)
    began = time.process_time()
    found: list[Found] = []
    for seed in range(given.seeds):
        for path in given.folders:
            folder = Folder(path)
            for shots in given.shots:
                for episode in draw(folder, shots, given.queries, seed):
                    found += measure(folder, episode, seed, segmenters)
            spent = time.process_time() - began
            console.print(f"{folder.name}, seed {seed}: {spent:.0f} s of the processor", highlight=False)
            if given.json:
                given.json.write_text(json.dumps([asdict(one) for one in found]))
    console.print(ious(found, [path.name for path in given.folders]), ranks(found), sep="\n")


if __name__ == "__main__":
    main()
