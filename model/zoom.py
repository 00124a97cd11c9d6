"""Small objects: a picture looked at again in parts, by examples shown as near; knows no service and no files.

The network sees a picture at 96 or 448 px, in which a small object is less than one of its patches. How near to look
is read off the examples' masks: so near that an object spans `PATCHES` patches. The picture is then covered by
overlapping tiles, and each example is shown by the part that holds most of its mask, at the same scale: a tile is never
compared with a whole picture.

A network that was trained on pictures that hold what is looked for finds something in every tile. So the first look, at
the whole picture, says where there may be something, and the tiles say where exactly: `CEILING`. Tiles in which it
sees nothing at all are not looked at.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model import canvas
from model.edges import ProbabilityMap
from model.example import Context, Example, Mask, Picture
from model.frames import Frame, around, whole
from model.segmenter import Query, Segmenter

PATCHES = 2
"""Patches of the network that an object should span to be seen."""

WORTH = 1.25
"""Magnification below which nothing is gained."""

OVERLAP = 0.25
"""Of a tile's side, that its neighbour shows too: an object at a tile's edge is whole in the next one."""

MOST_ACROSS = 6
"""Tiles along each side of a square picture, at most."""

MOST_TILES = MOST_ACROSS**2
"""Of one picture, of any shape."""

CEILING = 3
"""A tile's probability is believed up to this root of the first look's; so half needs an eighth there."""

HINT = 0.5**CEILING
"""Probability at the first look, somewhere in a tile, from which on the tile is looked at."""

LEAST_EXAMPLES = 2
"""In a context, for a nearer look: one close-up is a small part of one picture, and says little of others."""

PAYS = 0.01
"""Mean IoU that nearer looks must bring a target, measured by leave-one-out, as they cost many times the first."""

SHARP = 0.5
"""Pixels that a close-up has at least for each of the network's; with less there is nothing more to be seen."""

_FAINT = 0.05  # weight of a tile at its edge
_TRACE = 1e-4  # weight of the first look: all of it where no tile was looked at
_PLANNED_SIDE = 160  # pixels at which the place of a close-up is looked for


@dataclass(frozen=True, eq=False)
class Look:
    """One picture to be looked at again.

    Attributes:
        picture: `[H, W, 3]` uint8 RGB.
        tiles: the parts to look at.
        queries: one a tile, to be segmented.
    """

    picture: Picture
    tiles: tuple[Frame, ...]
    queries: tuple[Query, ...]


def maps(
    segmenter: Segmenter,
    queries: Sequence[Query],
    nearer: bool | Sequence[bool] = True,
    until: float | None = None,
) -> list[ProbabilityMap]:
    """As `Segmenter.maps`, with a nearer look where the examples' objects are small.

    Args:
        segmenter: what looks.
        queries: in the order in which they are looked at.
        nearer: whether there may be a nearer look: for all of them, or for each.
        until: `time.monotonic()` after which no nearer look may end, by how long the first one took; None for no limit.

    Returns:
        One map a query; none of the query whose nearer look would end too late, nor of those after it.

    Raises:
        DeviceMemoryError: as `Segmenter.maps`.
    """
    began = time.monotonic()
    found = segmenter.maps(queries)
    each = (time.monotonic() - began) / max(len(queries), 1)
    allowed = [nearer] * len(queries) if isinstance(nearer, bool) else nearer
    for place, query in enumerate(queries):
        look = plan(segmenter, query, found[place]) if allowed[place] else None
        if look is None:
            continue
        if until is not None and time.monotonic() + each * len(look.tiles) > until:
            return found[:place]
        found[place] = joined(look, segmenter.maps(look.queries), found[place])
    return found


def plan(segmenter: Segmenter, query: Query, first: ProbabilityMap) -> Look | None:
    """How a query is to be looked at again; None where that brings nothing.

    So it is where the objects of its examples are seen well enough on the whole, where the first look sees nothing,
    with fewer than `LEAST_EXAMPLES`, and with a tuned prompt, which was learned on whole pictures.

    Args:
        segmenter: what looks.
        query: one picture and its context.
        first: what was found on the whole picture.
    """
    wanted = wanted_by(segmenter, query.context)
    if wanted < WORTH:
        return None
    picture = canvas.to_rgb(query.image)
    least = SHARP * segmenter.image_size
    for number in range(min(MOST_ACROSS, across(wanted)), 1, -1):
        tiles = cover(picture.shape, reached(number))
        context = _near(query.context, reached(number), least)
        if len(tiles) > MOST_TILES or _side(tiles[0]) < least or not len(context):
            continue
        hinted = tuple(tile for tile in tiles if _most(first, tile) >= HINT)
        asked = tuple(Query(picture[tile.slices], context, query.kind) for tile in hinted)
        return Look(picture, hinted, asked) if hinted else None
    return None


def wanted_by(segmenter: Segmenter, context: Context) -> float:
    """The magnification at which a context's objects are seen well; 0 where that cannot be used, see `plan`."""
    side = context.object_side
    if context.prompt is not None or len(context.examples) < LEAST_EXAMPLES or not side:
        return 0.0
    config = segmenter.model.config
    return PATCHES * config.patch_size / (config.image_size * side)


def pays(whole: Sequence[float], nearer: Sequence[float], count: int) -> bool:
    """Whether nearer looks found `count` pictures' masks so much better; what is not among the IoUs was not found."""
    return sum(nearer) - sum(whole) >= PAYS * count


def joined(look: Look, found: Sequence[ProbabilityMap], first: ProbabilityMap) -> ProbabilityMap:
    """What was found in the tiles, as one map: each tile counts most in its middle.

    Args:
        look: what was looked at.
        found: one map a tile.
        first: of the whole picture; what tiles are believed by, and all that there is where none was looked at.

    Returns:
        A map with as many pixels a tile as a tile's map has, and the first one's guide.
    """
    frame, tile = whole(look.picture.shape), look.tiles[0]
    height, width = (
        round(full / part * side)
        for full, part, side in zip(
            (frame.height, frame.width), (tile.height, tile.width), found[0].values.shape, strict=True
        )
    )
    seen = cv2.resize(first.values, (width, height))
    ceiling = np.power(np.clip(seen, 0, 1), np.float32(1 / CEILING))
    total = np.float32(_TRACE) * seen
    weights = np.full((height, width), _TRACE, dtype=np.float32)
    for tile, one in zip(look.tiles, found, strict=True):
        top, bottom = (round(row / frame.height * height) for row in (tile.top, tile.bottom))
        left, right = (round(column / frame.width * width) for column in (tile.left, tile.right))
        place = slice(top, bottom), slice(left, right)
        weight = _weights(bottom - top, right - left)
        total[place] += weight * np.minimum(
            cv2.resize(one.values, (right - left, bottom - top)), ceiling[place]
        )
        weights[place] += weight
    return ProbabilityMap(total / weights, first.height, first.width, first.guide)


# -- geometry -------------------------------------------------------------------------------------------------------
def across(scale: float) -> int:
    """Tiles along a side of a square picture for a magnification of at least `scale`, 1 or more."""
    return math.ceil((scale - 1) / (1 - OVERLAP)) + 1


def reached(number: int) -> float:
    """The magnification of so many tiles along a side."""
    return 1 + (number - 1) * (1 - OVERLAP)


def cover(shape: Sequence[int], scale: float) -> list[Frame]:
    """Equal tiles that cover a picture of `shape`, row by row; neighbours overlap by `OVERLAP` or more."""
    height, width = _tile(shape, scale)
    return [
        Frame(top, left, top + height, left + width)
        for top in _starts(shape[0], height)
        for left in _starts(shape[1], width)
    ]


def close_up(example: Example, scale: float) -> Example:
    """The part of an example, as large as a tile, that holds most of its mask, which is not empty."""
    height, width = _tile(example.mask.shape, scale)
    everything, box = whole(example.mask.shape), around(example.mask)
    if box.height <= height and box.width <= width:
        row, column = (box.top + box.bottom) / 2, (box.left + box.right) / 2
    else:
        row, column = _fullest(example.mask, height, width)
    top = round(min(max(0, row - height / 2), everything.height - height))
    left = round(min(max(0, column - width / 2), everything.width - width))
    frame = Frame(top, left, top + height, left + width)
    key = f"{example.key}@{top},{left},{frame.bottom},{frame.right}"
    return Example(key, example.image[frame.slices], example.mask[frame.slices])


def _fullest(mask: Mask, height: int, width: int) -> tuple[float, float]:
    """Row and column of the middle of the frame of a size that holds most of a mask."""
    rows, columns = whole(mask.shape).fitted(_PLANNED_SIDE)
    down, over = rows / mask.shape[0], columns / mask.shape[1]
    share = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    window = max(1, round(width * over)), max(1, round(height * down))
    held = cv2.boxFilter(share, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(int(held.argmax()), held.shape)
    return (float(row) + 0.5) / down, (float(column) + 0.5) / over


def _tile(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Height and width of a tile: square, where the picture is not narrower."""
    side = math.ceil(math.sqrt(shape[0] * shape[1]) / scale)
    return min(shape[0], side), min(shape[1], side)


def _starts(length: int, part: int) -> list[int]:
    if part >= length:
        return [0]
    count = math.ceil((length - part) / max(1, part * (1 - OVERLAP)) - 1e-6) + 1
    return [round(place * (length - part) / (count - 1)) for place in range(count)]


def _side(frame: Frame) -> float:
    return math.sqrt(frame.height * frame.width)


def _near(context: Context, scale: float, least: float) -> Context:
    """The examples' close-ups; without those that have fewer than `least` pixels a side, or show nothing."""
    near = (close_up(example, scale) for example in context.examples if example.object_side)
    return Context(tuple(example for example in near if _side(whole(example.mask.shape)) >= least))


def _most(first: ProbabilityMap, tile: Frame) -> float:
    """The greatest value of a map of the whole picture in a tile."""
    down, over = first.values.shape[0] / first.height, first.values.shape[1] / first.width
    rows = slice(int(tile.top * down), math.ceil(tile.bottom * down))
    columns = slice(int(tile.left * over), math.ceil(tile.right * over))
    return float(first.values[rows, columns].max())


def _weights(height: int, width: int) -> NDArray[np.float32]:
    """`[height, width]`: 1 in the middle, falling to `_FAINT` at the edges."""
    rows, columns = (1 - np.abs((np.arange(side) + 0.5) / side * 2 - 1) for side in (height, width))
    return np.asarray(np.maximum(np.minimum.outer(rows, columns), _FAINT), dtype=np.float32)
