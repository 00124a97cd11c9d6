"""Example, prompt and context: what a query is segmented by. Arrays and opaque keys; no torch, no files."""

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SPECK = 0.25
"""Of a typical object; what is smaller is none."""

TINY = 0.0002
"""Of a picture: a limit is only lowered for objects of which a `SPECK` is less; else it is somebody's wish."""


@dataclass(frozen=True, eq=False)
class Example:
    """One approved mask of one target on one image.

    Attributes:
        key: opaque and unique; equal keys mean equal content.
        image: `[H, W, 3]` uint8 RGB, 0 to 255, of any size; `model.canvas` brings it to the network's.
        mask: `[H, W]` bool, True on the target.
    """

    key: str
    image: Picture
    mask: Mask

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(
                f"example {self.key}: image must be [H, W, 3] uint8, not {self.image.shape} {self.image.dtype}"
            )
        if self.mask.dtype != np.bool_ or self.mask.shape != self.image.shape[:2]:
            raise ValueError(
                f"example {self.key}: mask must be bool {self.image.shape[:2]}, not {self.mask.dtype} {self.mask.shape}"
            )

    @cached_property
    def object_side(self) -> float:
        """Side of a square as large as a typical object, where the picture's area is 1; 0 where the mask is empty.

        Half of the mask's area belongs to objects that are no larger: specks beside them do not count.
        """
        _, _, stats, _ = cv2.connectedComponentsWithStats(self.mask.astype(np.uint8), connectivity=8)
        areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
        if not len(areas):
            return 0.0
        return math.sqrt(areas[np.searchsorted(np.cumsum(areas), areas.sum() / 2)] / self.mask.size)


@dataclass(frozen=True, eq=False)
class Prompt:
    """A tuned prompt tensor: it takes an example's place in the canvas.

    Attributes:
        key: opaque and unique.
        image: `[3, H, W]` float32, normalised, at the network's size.
        mask: `[3, H, W]` float32, normalised.
        object_side: as `Context.object_side`, of the examples that it has learned from; 0 where that is not known.
    """

    key: str
    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    object_side: float = 0.0


@dataclass(frozen=True, eq=False)
class Context:
    """What one query is segmented by: chosen examples, and a tuned prompt where one is active."""

    examples: tuple[Example, ...] = ()
    prompt: Prompt | None = None

    def __len__(self) -> int:
        return len(self.examples) + (self.prompt is not None)

    @property
    def object_side(self) -> float:
        """The median of its examples' that are not empty, else its prompt's; 0 where there is neither."""
        sides = [example.object_side for example in self.examples if example.object_side]
        if sides:
            return float(np.median(sides))
        return self.prompt.object_side if self.prompt else 0.0

    def least_area(self, share: float) -> float:
        """`share` of a picture, or `SPECK` of a typical object where these are tiny: the least object."""
        speck = SPECK * self.object_side**2
        return min(share, speck) if 0 < speck < TINY else share

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all parts, the prompt's first."""
        return (*((self.prompt.key,) if self.prompt else ()), *(example.key for example in self.examples))
