"""Arrays to the PNG files that records hold, and back; knows nothing of what they show."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EXAMPLE_SIDE = 640
"""Longest side of a stored example, in pixels."""

PREDICTION_SIDE = 512
"""Longest side of a stored prediction's mask, in pixels."""


def _fitting(height: int, width: int, side: int) -> tuple[int, int]:
    """`(width, height)` with the same proportions whose longest side is at most `side`; never 0."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def pack_image(image: NDArray[np.uint8], side: int = EXAMPLE_SIDE) -> bytes:
    """`[H, W, 3]` uint8 RGB as PNG, shrunk so that its longest side is at most `side`."""
    picture = Image.fromarray(image)
    wanted = _fitting(image.shape[0], image.shape[1], side)
    if picture.size != wanted:
        picture = picture.resize(wanted, Image.Resampling.BOX, reducing_gap=2.0)
    return _png(picture)


def pack_mask(mask: NDArray[np.bool_], side: int = EXAMPLE_SIDE) -> bytes:
    """`[H, W]` bool as 1-bit PNG, shrunk like `pack_image`: a pixel is set where half of its area is.

    What is too small or thin for that keeps the pixels that it fills most, so a mask never vanishes.
    """
    wanted = _fitting(mask.shape[0], mask.shape[1], side)
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if picture.size != wanted:
        picture = picture.resize(wanted, Image.Resampling.BOX)
    least = max(1, min(128, int(np.asarray(picture).max())))
    return _png(picture.point(lambda level: 255 if level >= least else 0).convert("1"))


def unpack_image(png: bytes) -> NDArray[np.uint8]:
    """The `[H, W, 3]` uint8 RGB array in a PNG."""
    with Image.open(io.BytesIO(png)) as picture:
        return np.array(picture.convert("RGB"))


def unpack_mask(png: bytes) -> NDArray[np.bool_]:
    """The `[H, W]` bool array in a 1-bit PNG."""
    with Image.open(io.BytesIO(png)) as picture:
        return np.array(picture.convert("L")) > 127


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
