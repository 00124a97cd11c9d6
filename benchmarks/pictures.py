"""Pictures with masks for the benchmarks: drawn ones, and real ones from a folder."""

from pathlib import Path

import numpy as np

from model.evaluation import Folder
from model.example import Example


def drawn(number: int, side: int = 480) -> Example:
    """A picture with grain, light from one side and a few things of one kind, of which the mask tells."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:side, :side] / side
    ground = 90 + 60 * rows + 40 * np.sin(9 * columns + random.uniform(0, 6)) * np.cos(7 * rows)
    pixels = np.stack([ground, 0.9 * ground, 0.8 * ground], axis=-1) + random.normal(0, 12, (side, side, 3))
    mask = np.zeros((side, side), np.bool_)
    for _ in range(random.integers(1, 4)):
        y, x, radius, turn = *random.uniform(0.2, 0.8, 2), random.uniform(0.08, 0.2), random.uniform(0, 3)
        along, across = rows - y, columns - x
        bent = np.hypot(along, across) * (1 + 0.25 * np.cos(3 * np.arctan2(along, across) + turn))
        mask |= bent < radius
    pixels[mask] = pixels[mask] * 0.4 + np.array([150, 40, 30])
    return Example(f"drawn/{number}", pixels.clip(0, 255).astype(np.uint8), mask)


def real(folder: str | Path) -> list[Example]:
    """Pictures with their commonest class's masks, sorted by name.

    Args:
        folder: with `images/` and `masks/*.png`, as `evaluate` takes it.
    """
    known = Folder(Path(folder))
    held = known.classes()
    wanted = max(held, key=lambda label: len(held[label]))
    return [known.example(stem, wanted) for stem in held[wanted]]
