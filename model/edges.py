"""A probability map at its picture's own size, with edges that follow the picture's; knows no network and no files.

The network sees a picture at 96 or 448 px, so the edge of an enlarged map is off by a pixel or two of those, which are
ten to eighty of a photograph's. Within a window around each point the mask is therefore voted on by colour: a linear
function of the colours is fitted to it, and read again at every pixel. This is the guided filter (He, Sun, Tang: Guided
Image Filtering, 2010), here on a reduced picture: what it says is smooth enough to be enlarged between pixels, and a
photograph's noise is gone there, which would fray the edge where colours say little. Where windows are large, the
functions are fitted to means of blocks, and only read at every pixel (He, Sun: Fast Guided Filter, 2015).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.example import Mask, Picture

RADIUS = 2
"""Half a window's side, in pixels of the map: about what the network's edges are off by."""

NOISE = 0.01
"""Colours, each channel 0 to 1, that differ by less count as the same: a photograph's noise."""

BLOCKS = 4
"""Half a window's side in blocks, where it has more pixels: what windows are said to hold is smooth at that."""

ROUNDS = 2
"""How often the mask is voted on; the second time moves what the first brought within a window's reach."""

MAJORITY = 0.5
"""Of the votes, from which on a pixel is the target's."""

WORKING_SIDE = 1024
"""Longest side in pixels, at most, of the picture on which masks are voted on."""

STRIP_PIXELS = 1 << 20
"""A map is enlarged in strips of about so many pixels, four bytes each."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ProbabilityMap:
    """Where a target is on a picture.

    Attributes:
        values: `[h, w]` float32, 0 to 1, of any size; it covers the whole picture.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        guide: the picture; None where edges are not to follow it.
    """

    values: Floats
    height: int
    width: int
    guide: "Guide | None" = None

    def whole(self) -> Floats:
        """The map at the picture's size, bilinear, whatever the guide: `[height, width]` float32, 0 to 1."""
        enlarged = np.empty((self.height, self.width), dtype=np.float32)
        for place, strip in _strips(self.values, self.height, self.width, (0, 0, self.height, self.width)):
            enlarged[place] = strip
        return enlarged

    def mask(self, threshold: float) -> Mask:
        """The pixels that are the target's, by the guide's edges where there is a guide; one byte a pixel.

        Args:
            threshold: the probability, above 0 and below 1, from which on a pixel is the target's.

        Returns:
            `[height, width]` bool.
        """
        values = self.values
        if self.guide is not None and self.guide.is_finer(values):
            values, threshold = self.guide.vote(values, threshold), MAJORITY
        mask = np.zeros((self.height, self.width), dtype=np.bool_)
        area = _area(values >= threshold, self.height, self.width)
        for place, strip in _strips(values, self.height, self.width, area):
            mask[place] = strip >= threshold
        return mask


def _strips(
    values: Floats, height: int, width: int, area: tuple[int, int, int, int]
) -> Iterator[tuple[tuple[slice, slice], Floats]]:
    """Enlarge the part of a map that covers an area (top, left, bottom, right) of its picture, from top to bottom."""
    source = Image.fromarray(values)
    down, across = source.height / height, source.width / width
    first, left, last, right = area
    rows = max(1, STRIP_PIXELS // max(1, right - left))
    for top in range(first, last, rows):
        bottom = min(top + rows, last)
        box = left * across, top * down, min(right * across, source.width), min(bottom * down, source.height)
        strip = source.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box)
        yield (slice(top, bottom), slice(left, right)), np.clip(np.asarray(strip), 0, 1)


def _area(above: Mask, height: int, width: int) -> tuple[int, int, int, int]:
    """Where an enlarged map can be above a threshold: around its pixels that are. Empty where none is."""
    bounds = []
    for axis, side in ((1, height), (0, width)):
        places = np.flatnonzero(above.any(axis=axis))
        if not len(places):
            return 0, 0, 0, 0
        scale = side / above.shape[1 - axis]
        reach = max(1.0, scale)
        bounds.append(
            (
                max(0, math.floor(places[0] * scale - reach)),
                min(side, math.ceil((places[-1] + 1) * scale + reach)),
            )
        )
    (top, bottom), (left, right) = bounds
    return top, left, bottom, right


class Guide:
    """A picture by whose edges masks are drawn; what all masks need of it is worked out once. For one thread."""

    def __init__(self, picture: Picture) -> None:
        """Take a picture.

        Args:
            picture: `[H, W, 3]` uint8; it must not change.
        """
        self._picture = picture
        scale = min(1.0, WORKING_SIDE / max(picture.shape[:2]))
        self._high, self._wide = (max(1, round(side * scale)) for side in picture.shape[:2])
        self._colours: dict[tuple[int, int], _Colours] = {}

    def is_finer(self, values: Floats) -> bool:
        """Whether the picture shows more than a map `[h, w]` of it."""
        return self._high > values.shape[0] or self._wide > values.shape[1]

    def vote(self, values: Floats, threshold: float) -> Floats:
        """Let the picture's colours decide on the edges of what is at or above a threshold.

        Args:
            values: `[h, w]`, a map of the picture.
            threshold: above 0 and below 1.

        Returns:
            `[high, wide]` float32, 0 to 1, at most `WORKING_SIDE` on either side: at or above `MAJORITY` on the target.
        """
        enlarged = Image.fromarray(values).resize((self._wide, self._high), Image.Resampling.BILINEAR)
        votes = (np.asarray(enlarged) >= threshold).astype(np.float32)
        if votes.min() == votes.max():
            return votes
        colours = self._fitting(RADIUS * self._high / values.shape[0], RADIUS * self._wide / values.shape[1])
        for _ in range(ROUNDS):
            votes = colours.vote(votes >= MAJORITY)
        return np.clip(cv2.blur(votes, (3, 3)), 0, 1)

    def _fitting(self, down: float, across: float) -> "_Colours":
        """The picture's colours, for windows that reach so far; the maps of one picture are mostly of one size."""
        radii = max(1, round(down)), max(1, round(across))
        if radii not in self._colours:
            picture = self._picture
            if picture.shape[:2] != (self._high, self._wide):
                reduced = cv2.resize(picture, (self._wide, self._high), interpolation=cv2.INTER_AREA)
                picture = np.asarray(reduced, dtype=np.uint8)
            self._colours = {radii: _Colours(picture, radii)}
        return self._colours[radii]


class _Colours:
    """Linear functions of a picture's colours, fitted to masks within windows around every block of pixels."""

    def __init__(self, picture: Picture, radii: tuple[int, int]) -> None:
        self._height, self._width = picture.shape[:2]
        self._down, self._across = (max(1, radius // BLOCKS) for radius in radii)
        self._reach = round(radii[0] / self._down), round(radii[1] / self._across)
        channels = cv2.split(self._padded(picture))
        self._channels = [np.float32(1 / 255) * channel for channel in channels]
        self._means = [self._mean(channel) for channel in self._channels]
        self._inverse = self._inverted()

    def vote(self, mask: Mask) -> Floats:
        """What the functions say at each pixel, each the mean of those of all windows that it is in: about 0 to 1."""
        wanted = self._padded(mask.astype(np.float32))
        said = np.zeros_like(wanted)
        if not mask.any():
            return said[: self._height, : self._width]
        blocks, pixels = self._around(mask)
        wanted = wanted[pixels]
        share = self._mean(wanted)
        channels = [channel[pixels] for channel in self._channels]
        means = [mean[blocks] for mean in self._means]
        red, green, blue = (
            self._mean(channel * wanted) - mean * share for channel, mean in zip(channels, means, strict=True)
        )
        slopes = [
            row[0][blocks] * red + row[1][blocks] * green + row[2][blocks] * blue for row in self._inverse
        ]
        for slope, mean in zip(slopes, means, strict=True):
            share -= slope * mean
        found = self._read(share)
        for slope, channel in zip(slopes, channels, strict=True):
            found += self._read(slope) * channel
        said[pixels] = found
        return said[: self._height, : self._width]

    def _around(self, mask: Mask) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The blocks that a mask can be seen from, by windows of windows, and their pixels: all others say 0."""
        blocks, pixels = [], []
        for axis, side, reach in ((1, self._down, self._reach[0]), (0, self._across, self._reach[1])):
            places = np.flatnonzero(mask.any(axis=axis)) // side
            first, last = max(0, places[0] - 2 * reach - 1), places[-1] + 2 * reach + 2
            blocks.append(slice(first, last))
            pixels.append(slice(first * side, last * side))
        return (blocks[0], blocks[1]), (pixels[0], pixels[1])

    def _padded(self, values: NDArray[Any]) -> NDArray[Any]:
        """Whole blocks, by repeating the last row and column: sides that blocks do not divide cost many times more."""
        below, beside = -self._height % self._down, -self._width % self._across
        if not below and not beside:
            return values
        return cv2.copyMakeBorder(values, 0, below, 0, beside, cv2.BORDER_REPLICATE)

    def _mean(self, values: Floats) -> Floats:
        """Of the window around each block, mirrored at the border: whole blocks of pixels to one for each block."""
        height, width = values.shape
        size = width // self._across, height // self._down
        return self._blurred(_resized(values, size, cv2.INTER_AREA))

    def _read(self, values: Floats) -> Floats:
        """One number for each block, averaged over windows, at every pixel: bilinear."""
        height, width = values.shape
        size = width * self._across, height * self._down
        return _resized(self._blurred(values), size, cv2.INTER_LINEAR)

    def _blurred(self, values: Floats) -> Floats:
        window = 2 * self._reach[1] + 1, 2 * self._reach[0] + 1
        return np.asarray(cv2.blur(values, window, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    def _covariance(self, first: int, second: int) -> Floats:
        noise = np.float32(NOISE**2 if first == second else 0)
        means = self._means[first] * self._means[second]
        return self._mean(self._channels[first] * self._channels[second]) - means + noise

    def _inverted(self) -> list[list[Floats]]:
        """The inverse of the covariance of the colours, noise added, in each window: 3 x 3 of `[h, w]`."""
        rr, rg, rb = (self._covariance(0, second) for second in range(3))
        gg, gb, bb = self._covariance(1, 1), self._covariance(1, 2), self._covariance(2, 2)
        first = [gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg]
        second = [rr * bb - rb * rb, rg * rb - rr * gb]
        third = rr * gg - rg * rg
        share = 1 / (rr * first[0] + rg * first[1] + rb * first[2])
        for part in (*first, *second, third):
            part *= share
        return [first, [first[1], *second], [first[2], second[1], third]]


def _resized(values: Floats, size: tuple[int, int], how: int) -> Floats:
    """Brought to a width and height; the same array where it has them."""
    if values.shape == (size[1], size[0]):
        return values
    return np.asarray(cv2.resize(values, size, interpolation=how), dtype=np.float32)
