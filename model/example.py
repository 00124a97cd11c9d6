"""Example, prompt and context: what a query is segmented by. Arrays and opaque keys; no torch, no files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


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


@dataclass(frozen=True, eq=False)
class Prompt:
    """A tuned prompt tensor: it takes an example's place in the canvas.

    Attributes:
        key: opaque and unique.
        image: `[3, H, W]` float32, normalised, at the network's size.
        mask: `[3, H, W]` float32, normalised.
    """

    key: str
    image: NDArray[np.float32]
    mask: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Context:
    """What one query is segmented by: chosen examples, and a tuned prompt where one is active."""

    examples: tuple[Example, ...] = ()
    prompt: Prompt | None = None

    def __len__(self) -> int:
        return len(self.examples) + (self.prompt is not None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all parts, the prompt's first."""
        return (*((self.prompt.key,) if self.prompt else ()), *(example.key for example in self.examples))
