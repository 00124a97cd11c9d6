"""Shapes painted into masks, exact to the pixel; knows pixels only, no labels and no percent.

One rule for all: a pixel is inside where its centre is. A polygon's edge through a centre gives that pixel to the
shape on its right or below it, so that neighbours neither overlap nor leave a gap; an ellipse keeps its edge.
"""

from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray

from backend.brush_rle import Ints

_CROSSINGS_AT_ONCE = 1 << 20
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
    """
    height, width = mask.shape
    down = np.roll(points[:, 1], -1) > points[:, 1]
    # Edges are walked from their upper end, so that a seam there and back crosses a row at one place.
    (x0, y0), (x1, y1) = _ends(points, down)
    first = _first_centre(y0, height)
    counts = _first_centre(y1, height) - first
    crossing = np.flatnonzero(counts)
    if not len(crossing):
        return
    top, bottom = int(first[crossing].min()), int((first + counts)[crossing].max())
    left, right = (int(_first_centre(edge, width)) for edge in (points[:, 0].min(), points[:, 0].max()))
    winding = np.zeros((bottom - top, right - left + 1), dtype=np.int32)
    cuts = np.searchsorted(np.cumsum(counts[crossing]), np.arange(1, _parts(counts)) * _CROSSINGS_AT_ONCE)
    for edges in np.split(crossing, cuts):
        times = counts[edges]
        edge = np.repeat(edges, times)
        rows = np.arange(len(edge)) + np.repeat(first[edges] - (np.cumsum(times) - times), times)
        slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        columns = _first_centre(x0[edge] + (rows + 0.5 - y0[edge]) * slope, width).clip(left, right)
        np.add.at(winding, (rows - top, columns - left), np.where(down[edge], 1, -1))
    np.cumsum(winding, axis=1, out=winding)
    mask[top:bottom, left:right] |= winding[:, :-1] != 0


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


def _ends(
    points: NDArray[np.float64], down: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The upper and the lower end of each edge, each float64 [2, N]: x and y."""
    starts, ends = points.T, np.roll(points, -1, axis=0).T
    return np.where(down, starts, ends), np.where(down, ends, starts)


def _first_centre(edge: NDArray[np.float64] | float, size: int) -> Ints:
    """The first pixel of `size` whose centre is at or behind an edge, or `size`."""
    return np.ceil(np.clip(edge, 0, size) - 0.5).astype(np.int64)


def _behind(edge: NDArray[np.float64] | float, size: int) -> Ints:
    """The first pixel of `size` whose centre is behind an edge, or `size`."""
    return np.floor(np.clip(edge, 0, size) + 0.5).astype(np.int64).clip(0, size)


def _parts(counts: Ints) -> int:
    return -(-int(counts.sum()) // _CROSSINGS_AT_ONCE)
