"""Shapes painted into masks, exact to the pixel; knows pixels only, no labels and no percent.

One rule for all: a pixel is inside where its centre is. A polygon's edge through a centre gives that pixel to the
shape on its right or below it, so that neighbours neither overlap nor leave a gap; an ellipse keeps its edge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, radians, sin
from typing import Self

import numpy as np
from numpy.typing import NDArray

from backend.brush_rle import Ints
from backend.errors import RegionError

MAX_CROSSINGS = 1 << 25
"""Rows that a polygon's edges cross, one edge after the other: thousands of strokes over a large image's full height."""

_CROSSINGS_AT_ONCE = 1 << 20
_CELLS_AT_ONCE = 1 << 22
_THINNEST = 1e-6
_QUARTERS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


def direction(degrees: float) -> tuple[float, float]:
    """Cosine and sine of an angle, clockwise as seen; exact for right angles."""
    quarters, rest = divmod(degrees % 360, 90)
    return _QUARTERS[int(quarters) % 4] if rest == 0 else (cos(radians(degrees)), sin(radians(degrees)))


def fill_polygon(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> None:
    """Paint a closed ring by the non-zero rule, as a browser's canvas does.

    Args:
        mask: bool [H, W]; pixels inside become True, others stay.
        points: float64 [N, 2], x and y in pixels from the top left corner; may lie outside.

    Raises:
        RegionError: its edges go up and down over more than `MAX_CROSSINGS` rows in all.
    """
    height, width = mask.shape
    edges = _Edges.of(points, height)
    if not len(edges.first):
        return
    if int((edges.last - edges.first).sum()) > MAX_CROSSINGS:
        raise RegionError(f"A polygon's edges go over more than {MAX_CROSSINGS} rows of pixels in all.")
    top, bottom = int(edges.first.min()), int(edges.last.max())
    left, right = (int(_first_centre(edge, width)) for edge in (points[:, 0].min(), points[:, 0].max()))
    step = max(1, _CELLS_AT_ONCE // (right - left + 1))
    for begin in range(top, bottom, step):
        end = min(begin + step, bottom)
        winding = np.zeros((end - begin, right - left + 1), dtype=np.int32)
        for rows, x, turns in edges.crossings(begin, end):
            np.add.at(winding, (rows - begin, _first_centre(x, width).clip(left, right) - left), turns)
        np.cumsum(winding, axis=1, out=winding)
        mask[begin:end, left:right] |= winding[:, :-1] != 0


def fill_rectangle(
    mask: NDArray[np.bool_], left: float, top: float, width: float, height: float, degrees: float
) -> None:
    """Paint a rectangle that was turned clockwise round its top left corner; all in pixels, see `fill_polygon`."""
    c, s = direction(degrees)
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    fill_polygon(mask, corners @ np.array([[c, s], [-s, c]]) + (left, top))


def fill_ellipse(
    mask: NDArray[np.bool_], x: float, y: float, radius_x: float, radius_y: float, degrees: float
) -> None:
    """Paint an ellipse that was turned clockwise round its centre; all in pixels, see `fill_polygon`."""
    if min(radius_x, radius_y) < _THINNEST:
        return
    c, s = direction(degrees)
    reach = ((radius_x * s) ** 2 + (radius_y * c) ** 2) ** 0.5
    top, bottom = int(_first_centre(y - reach, mask.shape[0])), int(_behind(y + reach, mask.shape[0]))
    dy = np.arange(top, bottom) + 0.5 - y
    squares = (c / radius_x) ** 2 + (s / radius_y) ** 2
    middle = -dy * c * s * (1 / radius_x**2 - 1 / radius_y**2) / squares
    rest = 1 - dy**2 * ((s / radius_x) ** 2 + (c / radius_y) ** 2)
    half = np.sqrt(np.maximum(rest / squares + middle**2, 0))
    firsts = _first_centre(x + middle - half, mask.shape[1])
    ends = _behind(x + middle + half, mask.shape[1])
    for row, first, end in zip(range(top, bottom), firsts, ends, strict=True):
        mask[row, first:end] = True


@dataclass(frozen=True, eq=False)
class _Edges:
    """The edges of a ring that cross the middle of a row, each from its upper end to its lower one.

    So walked, a seam there and back crosses a row at one place.

    Attributes:
        upper: float64 [2, N], x and y of the upper ends.
        lower: float64 [2, N], those of the lower ends.
        turns: int64 [N], 1 where the ring goes down along the edge, -1 where it goes up.
        first: int64 [N], the first row that is crossed.
        last: int64 [N], the row after the last one.
    """

    upper: NDArray[np.float64]
    lower: NDArray[np.float64]
    turns: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, points: NDArray[np.float64], height: int) -> Self:
        starts, ends = points.T, np.roll(points, -1, axis=0).T
        down = ends[1] > starts[1]
        upper, lower = np.where(down, starts, ends), np.where(down, ends, starts)
        first, last = _first_centre(upper[1], height), _first_centre(lower[1], height)
        across = np.flatnonzero(last > first)
        turns = np.where(down[across], 1, -1)
        return cls(upper[:, across], lower[:, across], turns, first[across], last[across])

    def crossings(self, begin: int, end: int) -> Iterator[tuple[Ints, NDArray[np.float64], Ints]]:
        """Rows, x and turns of the crossings in the rows from `begin` to before `end`, some at a time."""
        first = np.maximum(self.first, begin)
        counts = np.maximum(np.minimum(self.last, end) - first, 0)
        here = np.flatnonzero(counts)
        parts = -(-int(counts.sum()) // _CROSSINGS_AT_ONCE)
        cuts = np.searchsorted(np.cumsum(counts[here]), np.arange(1, parts) * _CROSSINGS_AT_ONCE)
        for edges in np.split(here, cuts):
            times = counts[edges]
            edge = np.repeat(edges, times)
            rows = np.arange(len(edge)) + np.repeat(first[edges] - (np.cumsum(times) - times), times)
            (x0, y0), (x1, y1) = self.upper[:, edge], self.lower[:, edge]
            yield rows, x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0)), self.turns[edge]


def _first_centre(edge: NDArray[np.float64] | float, size: int) -> Ints:
    """The first pixel of `size` whose centre is at or behind an edge, or `size`."""
    return np.ceil(np.clip(edge, 0, size) - 0.5).astype(np.int64)


def _behind(edge: NDArray[np.float64] | float, size: int) -> Ints:
    """The first pixel of `size` whose centre is behind an edge, or `size`."""
    return np.floor(np.clip(edge, 0, size) + 0.5).astype(np.int64).clip(0, size)
