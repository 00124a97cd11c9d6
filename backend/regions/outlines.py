"""A component's mask as one polygon of few points; knows pixels only, no labels and no percent.

The outline runs along the pixels' edges, so that an outline which was not simplified covers exactly the mask. A hole is
cut out by a seam without width from the outline to the hole and back (a keyhole), because Label Studio's polygon is a
single ring; small holes are filled.
"""

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from backend.brush_rle import Ints

MAX_POINTS = 200
MAX_HOLES = 12

_TOLERANCE_SHARE = 0.01
_MAX_TOLERANCE = 2.0
_DIAGONAL_DOWN = 0b1001
_DIAGONAL_UP = 0b0110


def outline(mask: NDArray[np.bool_], *, smallest_hole: float) -> NDArray[np.float64]:
    """One ring around a connected mask.

    Args:
        mask: bool [H, W], one component whose pixels touch at least by a corner.
        smallest_hole: pixels; smaller holes, and all but the `MAX_HOLES` largest, are filled.

    Returns:
        float64 [N, 2], x and y in pixels from the top left corner, 3 <= N <= `MAX_POINTS`, clockwise as seen. It
        deviates from the mask's edge by at most a hundredth of the root of its area and 2 pixels, unless `MAX_POINTS`
        do not suffice.
    """
    rings = sorted(_rings(mask), key=_area, reverse=True)
    outer = rings[0]
    holes = [ring for ring in reversed(rings[1:]) if -_area(ring) >= smallest_hole][:MAX_HOLES]
    tolerance = min(_TOLERANCE_SHARE * _area(outer) ** 0.5, _MAX_TOLERANCE)
    budget = MAX_POINTS - 2 * len(holes)
    simple, *simple_holes = _simplified([outer, *holes], tolerance, budget)
    for hole in simple_holes:
        simple = _cut_out(simple, hole)
    return simple


def _area(ring: NDArray[np.float64]) -> float:
    """The enclosed area; negative where the ring runs round a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _rings(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """All rings along pixel edges, by their corners, with the mask on their right-hand side.

    Along a row of corners each two neighbours are joined by a horizontal edge, along a column by a vertical one. Where
    two pixels touch by a corner, two corners lie on one point; they are joined so that both pixels share a ring.
    """
    xs, ys, below, swapped = _corners(mask)
    second_of_column: Ints = np.argsort(2 * (xs * (mask.shape[0] + 1) + ys) + swapped, kind="stable")
    vertical = np.empty_like(xs)
    vertical[second_of_column[::2]] = second_of_column[1::2]
    vertical[second_of_column[1::2]] = second_of_column[::2]
    right = np.arange(len(xs)) ^ 1
    starts = np.flatnonzero(below == (np.arange(len(xs)) % 2 == 0))
    following = np.full(len(xs), -1)
    following[starts] = vertical[right[starts]]
    points = np.stack([xs, ys], axis=1).astype(np.float64)
    return [
        points[np.stack([ring, np.array(ring) ^ 1], axis=1).reshape(-1)]
        for ring in _cycles(starts, following)
    ]


def _corners(mask: NDArray[np.bool_]) -> tuple[Ints, Ints, NDArray[np.bool_], Ints]:
    """The corners of the mask's edge in reading order.

    Returns:
        x and y of each; whether the mask is below the horizontal edge that ends here; and 1 where, of two corners on
        one point, this one comes second down its column.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1
    around |= padded[1:, :-1] << 2
    around |= padded[1:, 1:] << 3
    count = np.zeros(16, dtype=np.uint8)
    count[[1, 2, 4, 8, 7, 11, 13, 14]] = 1
    count[[_DIAGONAL_DOWN, _DIAGONAL_UP]] = 2
    flat = around.reshape(-1)
    places = np.flatnonzero(count[flat])
    codes = flat[places]
    times = count[codes]
    ys, xs = np.divmod(np.repeat(places, times), around.shape[1])
    codes = np.repeat(codes, times)
    second = np.zeros(len(codes), dtype=np.bool_)
    second[1:] = (xs[1:] == xs[:-1]) & (ys[1:] == ys[:-1])
    double = (codes == _DIAGONAL_DOWN) | (codes == _DIAGONAL_UP)
    swapped = double & (second == (codes == _DIAGONAL_UP))
    to_the_right = np.arange(len(codes)) % 2 == 0
    below = np.where(to_the_right, codes >> 3 & 1, codes >> 2 & 1).astype(np.bool_)
    return xs, ys, below, swapped.astype(np.int64)


def _cycles(starts: Ints, following: Ints) -> list[list[int]]:
    after = following.tolist()
    cycles = []
    for start in starts.tolist():
        if after[start] < 0:
            continue
        ring, here = [], start
        while after[here] >= 0:
            ring.append(here)
            after[here], here = -1, after[here]
        cycles.append(ring)
    return cycles


def _simplified(rings: list[NDArray[np.float64]], tolerance: float, budget: int) -> list[NDArray[np.float64]]:
    """Keep the points that matter most, over all rings, until none is off by more than `tolerance` or `budget` is spent.

    Each ring keeps at least three.
    """
    kept: list[set[int]] = []
    waiting: list[tuple[float, int, int, int, int]] = []
    for number, ring in enumerate(rings):
        opposite = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
        halves = [_worst(ring, number, 0, opposite), _worst(ring, number, opposite, len(ring))]
        halves.sort()
        _, _, first, worst, last = halves.pop(0)
        kept.append({0, opposite, worst})
        waiting += [*halves, _worst(ring, number, first, worst), _worst(ring, number, worst, last)]
    heapify(waiting)
    spent = 3 * len(rings)
    while spent < budget and -waiting[0][0] > tolerance:
        _, number, first, worst, last = heappop(waiting)
        kept[number].add(worst)
        spent += 1
        heappush(waiting, _worst(rings[number], number, first, worst))
        heappush(waiting, _worst(rings[number], number, worst, last))
    return [ring[sorted(points)] for ring, points in zip(rings, kept, strict=True)]


def _worst(ring: NDArray[np.float64], number: int, first: int, last: int) -> tuple[float, int, int, int, int]:
    """Of the points between two, the one farthest off their connection: minus its distance, ring, first, it, last."""
    if last - first < 2:
        return 0.0, number, first, first, last
    start, end = ring[first], ring[last % len(ring)]
    between, along = ring[first + 1 : last] - start, end - start
    share = (between @ along / max(float(along @ along), 1.0)).clip(0, 1)
    distances = ((between - share[:, None] * along) ** 2).sum(axis=1)
    worst = int(distances.argmax())
    return -(float(distances[worst]) ** 0.5), number, first, first + 1 + worst, last


def _cut_out(ring: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    distances = ((ring[:, None] - hole[None]) ** 2).sum(axis=2)
    at, entry = np.unravel_index(int(distances.argmin()), distances.shape)
    return np.concatenate([ring[: at + 1], hole[entry:], hole[: entry + 1], ring[at:]])
