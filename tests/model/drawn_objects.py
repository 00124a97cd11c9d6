"""Drawn pictures whose objects are known to the pixel, for what is cut out of pictures."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from model.example import Mask, Picture
from model.frames import Points
from model.scene import Clicks

RED, BLUE, GROUND = (200, 70, 60), (50, 70, 190), (70, 110, 60)


def at(*places: tuple[float, float]) -> Points:
    """Points, each as x and y."""
    return np.array(places, dtype=np.float64).reshape(-1, 2)


def clicks(inside: list[tuple[float, float]], outside: list[tuple[float, float]] | None = None) -> Clicks:
    return Clicks(at(*inside), at(*(outside or [])))


def disc(x: float, y: float, radius: float, height: int = 240, width: int = 320) -> Mask:
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside: Mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return inside


def rectangle(left: int, top: int, right: int, bottom: int, height: int = 240, width: int = 320) -> Mask:
    inside = np.zeros((height, width), dtype=np.bool_)
    inside[top:bottom, left:right] = True
    return inside


def painted(objects: list[tuple[Mask, tuple[int, int, int]]], noise: float = 12, seed: int = 0) -> Picture:
    """Objects on a mottled ground, edges a little soft, as a camera sees them."""
    random = np.random.default_rng(seed)
    height, width = objects[0][0].shape
    small = random.normal(0, noise, (height // 12 + 1, width // 12 + 1)).astype(np.float32)
    mottled = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.array(GROUND, np.float32) + mottled[..., None]
    for mask, colour in objects:
        pixels[mask] = colour
    pixels = pixels + random.normal(0, noise, (height, width, 1))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)))


def guess(mask: Mask, size: tuple[int, int] = (24, 32)) -> NDArray[np.float32]:
    """A map as a small network gives it: the mask at low resolution, between 0.1 and 0.9."""
    small = Image.fromarray(mask.astype(np.float32)).resize(size[::-1], Image.Resampling.BOX)
    return (0.1 + 0.8 * np.asarray(small)).astype(np.float32)
