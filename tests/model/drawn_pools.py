"""Pools of a handful of drawn pictures, for the tests of what is made from them; no package is fetched."""

import json
from pathlib import Path

import numpy as np

from model.pretraining import pools

PACKAGES = ("openclipart-png", "tuxpaint-stamps-default")  # one free, one copyleft
EACH = 40  # pictures a package; three of them are for validation


def cutout(rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = rng.integers(0, 256, (pools.CUTOUT, pools.CUTOUT, 4), dtype=np.uint8)
    y, x = np.mgrid[: pools.CUTOUT, : pools.CUTOUT] / pools.CUTOUT - 0.5
    pixels[..., 3] = (np.hypot(x, y) < 0.4) * 255
    return pixels


def photo(rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Four flat quarters with grain, so that it has segments."""
    quarters = rng.integers(20, 236, (2, 2, 3))
    pixels = np.kron(quarters, np.ones((pools.PHOTO // 2, pools.PHOTO // 2, 1))) + rng.normal(
        0, 4, (pools.PHOTO, pools.PHOTO, 3)
    )
    return pixels.clip(0, 255).astype(np.uint8)


def write_pools(path: Path) -> Path:
    """Write pools as `pools.build` leaves them, into an existing folder; returns the folder."""
    rng = np.random.default_rng(0)
    names = [f"{package}/stamps/animals/{number}.png" for package in PACKAGES for number in range(EACH)]
    photos = np.stack([photo(rng) for _ in names])
    textures = rng.integers(0, 256, (len(names), pools.TEXTURE, pools.TEXTURE, 3), dtype=np.uint8)
    np.save(path / "photo.npy", photos)
    np.save(path / "cutout.npy", np.stack([cutout(rng) for _ in names]))
    np.save(path / "texture.npy", textures)
    np.save(path / "segments.npy", np.stack([pools.segment_maps(pixels) for pixels in photos]))
    for kind in ("photo", "cutout", "texture"):
        (path / f"{kind}.json").write_text(json.dumps(names))
    return path
