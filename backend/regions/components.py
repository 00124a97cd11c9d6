"""A mask as runs of pixels, and runs as connected components; knows no labels, no regions and no outlines."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.brush_rle import Ints


@dataclass(frozen=True, eq=False)
class Runs:
    """The pixels of a mask, as stretches within its rows.

    Attributes:
        starts: int64 [N], the first pixel of each run, counted along the rows; ascending.
        ends: int64 [N], the pixel after each run's last one; a run never leaves its row.
        height: rows of the mask.
        width: columns of the mask.
    """

    starts: Ints
    ends: Ints
    height: int
    width: int

    @property
    def rows(self) -> Ints:
        """int64 [N], the row of each run."""
        return self.starts // self.width

    @property
    def firsts(self) -> Ints:
        """int64 [N], the first column of each run."""
        return self.starts % self.width

    @property
    def lasts(self) -> Ints:
        """int64 [N], the column after each run's last one."""
        return (self.ends - 1) % self.width + 1

    @property
    def area(self) -> int:
        """Pixels in all."""
        return int((self.ends - self.starts).sum())

    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of at least one run, in pixels; bottom and right are exclusive."""
        rows = self.rows
        return int(rows[0]), int(self.firsts.min()), int(rows[-1]) + 1, int(self.lasts.max())

    def mask(self, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        """Paint the runs.

        Args:
            box: top, left, bottom and right in pixels, around all runs.

        Returns:
            bool [bottom - top, right - left].
        """
        top, left, bottom, right = box
        stride = right - left + 1
        origins = (self.rows - top) * stride - left
        flips = np.zeros((bottom - top) * stride, dtype=np.bool_)
        flips[origins + self.firsts] = True
        flips[origins + self.lasts] = True
        inside = np.logical_xor.accumulate(flips)
        return inside.reshape(bottom - top, stride)[:, :-1]

    def mean(self, values: NDArray[np.floating]) -> float:
        """The mean of `values` over the pixels of at least one run.

        Args:
            values: float [h, w], of any size; they cover the mask's whole height and width.
        """
        high, wide = values.shape
        until = np.zeros((high, wide + 1))
        np.cumsum(values, axis=1, out=until[:, 1:])
        rows = (2 * self.rows + 1) * high // (2 * self.height)

        def left_of(columns: Ints) -> NDArray[np.float64]:
            whole, rest = np.divmod(columns * wide, self.width)
            inside = np.minimum(whole, wide - 1)
            return np.where(
                whole < wide, until[rows, inside] + rest / self.width * values[rows, inside], until[rows, -1]
            )

        total = float((left_of(self.lasts) - left_of(self.firsts)).sum())
        return total * self.width / wide / self.area


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    """The runs of a mask, bool [H, W]."""
    height, width = mask.shape
    fenced = np.zeros((height, width + 1), dtype=np.bool_)
    fenced[:, :width] = mask
    flat = fenced.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        edges = np.concatenate(([0], edges))
    edges -= edges // (width + 1)
    starts, ends = edges[::2], edges[1::2]
    return Runs(starts, ends, height, width)


def without_specks(runs: Runs, smallest: float) -> Runs:
    """The runs of those components that have at least `smallest` pixels."""
    if smallest <= 1 or not len(runs.starts):
        return runs
    labels = _labels(runs)
    areas = np.bincount(labels, weights=runs.ends - runs.starts)
    keep = areas[labels] >= smallest
    return Runs(runs.starts[keep], runs.ends[keep], runs.height, runs.width)


def components(runs: Runs, most: int) -> list[Runs]:
    """The `most` largest connected components, largest first; pixels that touch by a corner are connected."""
    if not len(runs.starts):
        return []
    labels = _labels(runs)
    order = np.argsort(labels, kind="stable")
    borders = np.flatnonzero(np.diff(labels[order], prepend=-1, append=-1))
    areas = np.add.reduceat((runs.ends - runs.starts)[order], borders[:-1])
    found = []
    for number in np.argsort(-areas, kind="stable")[:most]:
        part = order[borders[number] : borders[number + 1]]
        found.append(Runs(runs.starts[part], runs.ends[part], runs.height, runs.width))
    return found


def numbered(labels: NDArray[np.integer], most: int) -> list[Runs]:
    """The `most` largest objects, largest first.

    Args:
        labels: int [H, W], 0 outside and each object's number inside.
        most: objects at most.
    """
    height, width = labels.shape
    fenced = np.zeros((height, width + 2), dtype=labels.dtype)
    fenced[:, 1:-1] = labels
    flat = fenced.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    names = flat[edges[:-1]]
    starts, ends, names = edges[:-1][names > 0], edges[1:][names > 0], names[names > 0]
    before = 2 * (starts // (width + 2)) + 1
    starts, ends = starts - before, ends - before
    areas = np.bincount(names, weights=ends - starts)
    order = np.argsort(names, kind="stable")
    borders = np.searchsorted(names[order], np.arange(len(areas) + 1))
    found = []
    for number in np.argsort(-areas, kind="stable")[:most]:
        part = order[borders[number] : borders[number + 1]]
        if len(part):
            found.append(Runs(starts[part], ends[part], height, width))
    return found


def _labels(runs: Runs) -> Ints:
    """int64 [N]: equal numbers where runs belong together; each is the number of one of these runs."""
    upper, lower = _touching(runs)
    parents: Ints = np.arange(len(runs.starts))
    while True:
        roots, others = parents[upper], parents[lower]
        apart = roots != others
        if not apart.any():
            return parents
        upper, lower, roots, others = upper[apart], lower[apart], roots[apart], others[apart]
        np.minimum.at(parents, np.maximum(roots, others), np.minimum(roots, others))
        parents = _flat(parents)


def _flat(parents: Ints) -> Ints:
    while True:
        grandparents = parents[parents]
        if np.array_equal(grandparents, parents):
            return parents
        parents = grandparents


def _touching(runs: Runs) -> tuple[Ints, Ints]:
    """All pairs of runs in neighbouring rows that touch, also by a corner."""
    stride = runs.width + 2
    origins = runs.rows * stride
    firsts, lasts = origins + runs.firsts, origins + runs.lasts
    low = np.searchsorted(lasts, firsts + stride, side="left")
    high = np.searchsorted(firsts, lasts + stride, side="right")
    counts = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(counts)), counts)
    lower = np.arange(len(upper)) + np.repeat(low - (np.cumsum(counts) - counts), counts)
    return upper, lower
