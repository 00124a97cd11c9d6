"""Parts of a picture and what lies in them at another scale; knows neither networks nor what is looked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.example import Mask, Picture

Points = NDArray[np.float64]
"""`[N, 2]`: x and y in pixels from the picture's top left corner."""

_WIDEST = 32_000  # pixels; OpenCV warps sources of less than 32767 on a side


@dataclass(frozen=True)
class Frame:
    """A rectangle of whole pixels of a picture; `bottom` and `right` are exclusive, and it is never empty."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index a picture with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, share: float, least: int, within: "Frame") -> "Frame":
        """With a border of `share` of its sides, and of at least `least` pixels, as far as `within` reaches."""
        down, across = (max(least, round(share * side)) for side in (self.height, self.width))
        return Frame(
            max(within.top, self.top - down),
            max(within.left, self.left - across),
            min(within.bottom, self.bottom + down),
            min(within.right, self.right + across),
        )

    def joined(self, other: "Frame") -> "Frame":
        """The least frame around both."""
        return Frame(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def overlaps(self, other: "Frame") -> bool:
        """Whether they have a pixel in common."""
        return (
            self.top < other.bottom
            and other.top < self.bottom
            and self.left < other.right
            and other.left < self.right
        )

    def holds(self, points: Points) -> NDArray[np.bool_]:
        """`[N]`: which points lie in it."""
        x, y = points[:, 0], points[:, 1]
        return (x >= self.left) & (x < self.right) & (y >= self.top) & (y < self.bottom)

    def fitted(self, most: int) -> tuple[int, int]:
        """Height and width of its picture when the longest side is at most `most`; it is never enlarged."""
        scale = min(1.0, most / max(self.height, self.width))
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    def places(self, points: Points, size: tuple[int, int]) -> NDArray[np.int64]:
        """`[N, 2]`: row and column of points at a size of the frame, those outside brought to its edge."""
        share = (points - (self.left, self.top)) / (self.width, self.height)
        columns = np.clip(share[:, 0] * size[1], 0, size[1] - 1)
        rows = np.clip(share[:, 1] * size[0], 0, size[0] - 1)
        return np.stack([rows, columns], axis=1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Patch:
    """Values for a part of a picture, at any scale.

    Attributes:
        values: `[h, w]` float32.
        frame: the part of the picture that they cover.
    """

    values: NDArray[np.float32]
    frame: Frame

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the values."""
        return self.values.shape[0], self.values.shape[1]

    def seen(self, frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
        """The values of another part at another size (height, width), bilinearly; 0 where they do not reach."""
        if frame == self.frame and size == self.size:
            return self.values
        values = self.values
        if max(values.shape) > _WIDEST:
            reduced = tuple(min(side, _WIDEST) for side in values.shape[::-1])
            values = np.asarray(cv2.resize(values, reduced, interpolation=cv2.INTER_AREA), dtype=np.float32)
        rows, columns = values.shape
        across, down = columns / self.frame.width, rows / self.frame.height
        step_x, step_y = frame.width / size[1] * across, frame.height / size[0] * down
        left, top = (frame.left - self.frame.left) * across, (frame.top - self.frame.top) * down
        turn = np.array([[step_x, 0, left + (step_x - 1) / 2], [0, step_y, top + (step_y - 1) / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(values, turn, size[::-1], flags=flags), dtype=np.float32)


def whole(shape: Sequence[int]) -> Frame:
    """The frame of a picture of this shape, `(height, width, ...)`."""
    return Frame(0, 0, shape[0], shape[1])


def around(mask: Mask) -> Frame:
    """The least frame around the True pixels, of which there is at least one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Frame(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def shown(picture: Picture, frame: Frame, size: tuple[int, int]) -> Picture:
    """A part of a picture at a size (height, width) that is not larger, averaged."""
    part = picture[frame.slices]
    if part.shape[:2] == size:
        return np.ascontiguousarray(part)
    return np.asarray(cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
