"""An example to a small picture with its mask drawn over it."""

import io

import numpy as np
from PIL import Image, ImageFilter

from backend.store import StoredExample

SIDE = 320
"""Longest side of a thumbnail, in pixels."""

_FILL, _EDGE = np.array([255, 214, 0], np.float32), np.array([214, 0, 96], np.uint8)
_STRENGTH = 0.35


def thumbnail(example: StoredExample) -> bytes:
    """A PNG of at most `SIDE` pixels a side: the masked part tinted, its edge drawn in full colour."""
    with Image.open(io.BytesIO(example.image)) as stored:
        picture = stored.convert("RGB")
    with Image.open(io.BytesIO(example.mask)) as stored:
        mask = stored.convert("L")
    picture.thumbnail((SIDE, SIDE))
    mask = mask.resize(picture.size, Image.Resampling.BOX).point(lambda level: 255 if level > 127 else 0)
    inside = np.array(mask) > 0
    edge = inside & (np.array(mask.filter(ImageFilter.MinFilter(3))) == 0)
    pixels = np.array(picture)
    pixels[inside] = (pixels[inside] * (1 - _STRENGTH) + _FILL * _STRENGTH).astype(np.uint8)
    pixels[edge] = _EDGE
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
