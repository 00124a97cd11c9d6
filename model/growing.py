"""Which region a click means: of a probability map, or, where there is none, of the picture's colours; knows no network.

All regions are proposals of a first glance; `model.cutting` cuts them along the picture's edges.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from model.example import Mask, Picture
from model.frames import Frame, Patch, Points, shown, whole

GROWN_SIDE = 160
"""Longest side in pixels at which colours are grown."""

_WINDOWS = (1.0, 0.5, 0.25, 0.125)  # of the picture's longest side, tried around a click
_TOLERANCES = tuple(range(6, 90, 4))  # of colour, in units of CIELAB
_LARGEST = 0.6  # of a window; more is its background
_FOR_SIZE = 0.1  # how much a region's size counts beside its contrast
_LOWEST = 0.3  # of the deepest point; a lower hill is no body
_MOST_BODIES = 100
_NECK = 0.7  # two bodies are one where their joint is at least so wide, as a share of the narrower


def under(probability: NDArray[np.float32], place: tuple[int, int], threshold: float) -> Mask | None:
    """The body under a place: the connected part of a map above the threshold, without others that merely touch it.

    Args:
        probability: `[h, w]`, 0 to 1.
        place: row and column.
        threshold: from which a pixel is taken.

    Returns:
        `[h, w]` bool; None where the place itself is below the threshold.
    """
    taken = probability >= threshold
    if not taken[place]:
        return None
    _, parts = cv2.connectedComponents(taken.astype(np.uint8), connectivity=4)
    return _body(np.asarray(parts == parts[place]), place)


def grown(picture: Picture, point: Points) -> Patch | None:
    """The region of like colour around a click whose edge stands out most, looked for in windows of several sizes.

    Args:
        picture: `[H, W, 3]` uint8 RGB.
        point: `[1, 2]`, the click.

    Returns:
        A patch of 0 and 1; None where the surroundings of the click are all of one kind.
    """
    best: tuple[float, Patch] | None = None
    for share in _WINDOWS:
        frame = _window(picture, point, share)
        if min(frame.height, frame.width) < 12:
            break
        found = _grown_within(picture, frame, point)
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return best[1] if best else None


def _window(picture: Picture, point: Points, share: float) -> Frame:
    everything = whole(picture.shape)
    side = round(share * max(everything.height, everything.width) / 2)
    x, y = (int(value) for value in point[0])
    return Frame(y, x, y + 1, x + 1).grown(0, side, everything)


def _grown_within(picture: Picture, frame: Frame, point: Points) -> tuple[float, Patch] | None:
    """The best region of a window, and by how much it stands out."""
    size = frame.fitted(GROWN_SIDE)
    (place,) = frame.places(point, size)
    row, column = int(place[0]), int(place[1])
    away = _colour_distance(shown(picture, frame, size), row, column)
    everything = whole(picture.shape)
    best: tuple[float, Mask] | None = None
    before = 0
    for tolerance in _TOLERANCES:
        region = _connected(away <= tolerance, row, column)
        area = int(region.sum())
        if area > _LARGEST * region.size:
            break
        if area == before or area < 12 or _leaves(region, frame, everything):
            continue
        before = area
        clear = _contrast(region, away) * (area / region.size * frame.height * frame.width) ** _FOR_SIZE
        if best is None or clear > best[0]:
            best = clear, region
    return (best[0], Patch(best[1].astype(np.float32), frame)) if best else None


def _colour_distance(pixels: Picture, row: int, column: int) -> NDArray[np.float32]:
    """`[h, w]`: how far each pixel's colour is from that around a place, noise smoothed away."""
    smooth = cv2.GaussianBlur(cv2.medianBlur(pixels, 5), (0, 0), 1.0)
    lab: NDArray[np.float32] = np.asarray(
        cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), dtype=np.float32
    )
    near = lab[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].reshape(-1, 3)
    return np.asarray(np.linalg.norm(lab - np.median(near, axis=0), axis=2), dtype=np.float32)


def _connected(taken: Mask, row: int, column: int) -> Mask:
    _, parts = cv2.connectedComponents(taken.astype(np.uint8), connectivity=4)
    return np.asarray((parts == parts[row, column]) & taken)


def _leaves(region: Mask, frame: Frame, everything: Frame) -> bool:
    """Whether a region runs out of its window, into a part of the picture that is not seen."""
    edges = (
        (frame.top > everything.top, region[0]),
        (frame.left > everything.left, region[:, 0]),
        (frame.bottom < everything.bottom, region[-1]),
        (frame.right < everything.right, region[:, -1]),
    )
    return any(inner and bool(line.any()) for inner, line in edges)


def _contrast(region: Mask, away: NDArray[np.float32]) -> float:
    """How much farther in colour the pixels just outside a region are than those just inside."""
    solid = region.astype(np.uint8)
    near = np.ones((3, 3), np.uint8)
    inside = region & ~cv2.erode(solid, near, iterations=2).astype(np.bool_)
    outside = cv2.dilate(solid, near, iterations=3).astype(np.bool_) & ~cv2.dilate(solid, near).astype(
        np.bool_
    )
    if not outside.any():
        return 0.0
    return float(np.percentile(away[outside], 25) - np.percentile(away[inside], 75))


# -- bodies that touch ---------------------------------------------------------------------------------------------
def _body(region: Mask, place: tuple[int, int]) -> Mask:
    """Of a connected region, the body under a place, cut off from others at narrow necks."""
    depth = _depth(region)
    bodies = _bodies(region, depth)
    if bodies.max() < 2:
        return region
    own = int(bodies[place])
    kept = {own}
    waiting = [own]
    while waiting:
        body = waiting.pop()
        for other, width in _necks(bodies, depth, body).items():
            narrower = min(depth[bodies == body].max(), depth[bodies == other].max())
            if other not in kept and width >= _NECK * narrower:
                kept.add(other)
                waiting.append(other)
    return np.asarray(np.isin(bodies, list(kept)) & region)


def _depth(region: Mask) -> NDArray[np.float32]:
    """`[h, w]`: how far each pixel is from the region's edge; where the picture ends, the region is taken to go on."""
    wide = max(2, min(region.shape) // 3)
    beyond = cv2.copyMakeBorder(region.astype(np.uint8), wide, wide, wide, wide, cv2.BORDER_REFLECT)
    beyond = np.pad(beyond, 1)
    depth = cv2.distanceTransform(beyond, cv2.DIST_L2, 5)
    return np.asarray(depth[wide + 1 : -wide - 1, wide + 1 : -wide - 1], dtype=np.float32)


def _bodies(region: Mask, depth: NDArray[np.float32]) -> NDArray[np.int32]:
    """`[h, w]`: 0 outside, else the number of the hill of `depth` that a pixel belongs to.

    A hill reaches as far from its top as it is deep, so that between two, who reaches farther beyond has the pixel.
    """
    reach = max(3, int(depth.max()) | 1)
    hills = cv2.dilate(depth, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    tops = region & (depth >= hills) & (depth > _LOWEST * depth.max())
    _, _, _, centres = cv2.connectedComponentsWithStats(tops.astype(np.uint8), connectivity=8)
    rows, columns = np.nonzero(region)
    best = np.full(len(rows), -np.inf)
    owner = np.zeros(len(rows), dtype=np.int32)
    for number, (x, y) in enumerate(centres[1 : _MOST_BODIES + 1].tolist(), 1):
        beyond = depth[round(y), round(x)] - np.hypot(columns - x, rows - y)
        owner[beyond > best] = number
        np.maximum(best, beyond, out=best)
    bodies = np.zeros(region.shape, dtype=np.int32)
    bodies[rows, columns] = owner
    return bodies


def _necks(bodies: NDArray[np.int32], depth: NDArray[np.float32], body: int) -> dict[int, float]:
    """The bodies that touch one, and how deep the joint is."""
    own = np.asarray(bodies == body)
    rim = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_) & ~own & (bodies > 0)
    return {int(other): float(depth[rim & (bodies == other)].max()) for other in np.unique(bodies[rim])}
