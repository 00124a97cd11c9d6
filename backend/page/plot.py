"""Kept IoUs to the geometry of a plot and to the rows of a table: pure arithmetic; the template draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from backend.admin.figures import Kept
from backend.revision import prompts_in

WIDTH, HEIGHT = 720.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 26.0, 34.0
"""Margins, in the plot's own units."""

_WINDOW = 10  # submissions of the running mean
_LABEL_ROOM = 64.0  # between two written marks


@dataclass(frozen=True)
class Mark:
    """Where the revision moved.

    Attributes:
        x: where, in the plot's units.
        text: what is written there; "" where there is no room.
        title: the whole, for whoever points at it.
        prompt: whether another prompt came into use, or one went.
    """

    x: float
    text: str
    title: str
    prompt: bool


@dataclass(frozen=True)
class Period:
    """Submissions in a row whose predictions had the same revision.

    Attributes:
        first: number of the first of them, from 1.
        last: number of the last.
        mean: of their kept IoU, 0 to 1.
        begun: Unix seconds of the first.
        prompts: numbers of the prompts that were in use.
    """

    revision: str
    first: int
    last: int
    mean: float
    begun: float
    prompts: tuple[int, ...]


@dataclass(frozen=True)
class Plot:
    """All that the template draws.

    Attributes:
        points: x, y and what each says.
        line: the running mean, `points` of an SVG polyline.
        ticks: y and IoU of the horizontal lines.
        days: x and Unix seconds of some times.
        marks: where the revision moved.
        periods: the same in rows.
    """

    points: list[tuple[float, float, Kept]]
    line: str
    ticks: list[tuple[float, float]]
    days: list[tuple[float, float]]
    marks: list[Mark]
    periods: list[Period]


def draw(kept: Sequence[Kept], before: int) -> Plot | None:
    """The plot of kept IoUs, oldest first; None of none.

    Submissions stand side by side in their order, since they come in bursts; times are written below.

    Args:
        kept: what is drawn.
        before: how many there were earlier.
    """
    if not kept:
        return None
    step = (WIDTH - LEFT - RIGHT) / len(kept)

    def across(index: int) -> float:
        return round(LEFT + (index + 0.5) * step, 1)

    def down(iou: float) -> float:
        return round(TOP + (1 - iou) * (HEIGHT - TOP - BOTTOM), 1)

    ious = [row.iou for row in kept]
    running = [fmean(ious[max(0, index + 1 - _WINDOW) : index + 1]) for index in range(len(ious))]
    periods = _periods(kept, before)
    some = sorted({0, len(kept) // 2, len(kept) - 1}) if len(kept) > 2 else [0]
    return Plot(
        points=[(across(index), down(row.iou), row) for index, row in enumerate(kept)],
        line=" ".join(f"{across(index)},{down(mean)}" for index, mean in enumerate(running)),
        ticks=[(down(iou), iou) for iou in (0.0, 0.25, 0.5, 0.75, 1.0)],
        days=[(across(index), kept[index].at) for index in some],
        marks=_marks(periods, [across(period.first - before - 1) - step / 2 for period in periods]),
        periods=periods,
    )


def _periods(kept: Sequence[Kept], before: int) -> list[Period]:
    periods, number = [], before
    for revision, rows in groupby(kept, lambda row: row.revision):
        own = list(rows)
        mean, prompts = fmean(row.iou for row in own), tuple(sorted(prompts_in(revision)))
        periods.append(Period(revision, number + 1, number + len(own), mean, own[0].at, prompts))
        number += len(own)
    return periods


def _marks(periods: Sequence[Period], places: Sequence[float]) -> list[Mark]:
    """A line for each change of revision; written where there is room, prompts before plain revisions."""
    changes = [
        (place, later, later.prompts != earlier.prompts)
        for earlier, later, place in zip(periods, periods[1:], places[1:], strict=False)
    ]
    written: list[float] = []
    for place, _, _ in sorted(changes, key=lambda change: not change[2]):
        if all(abs(place - other) >= _LABEL_ROOM for other in written):
            written.append(place)
    return [
        Mark(round(place, 1), _text(period, prompt) if place in written else "", period.revision, prompt)
        for place, period, prompt in changes
    ]


def _text(period: Period, prompt: bool) -> str:
    if prompt:
        return "prompt " + ", ".join(map(str, period.prompts)) if period.prompts else "no prompt"
    return "r" + period.revision.rpartition("-r")[2].partition("-")[0]
