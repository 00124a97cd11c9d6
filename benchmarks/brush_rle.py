"""The brush codec against Label Studio's SDK on a 12-megapixel mask: `python benchmarks/brush_rle.py`.

Both get the same masks and streams, in turn, on one thread; a line is the best of the repeats in processor time, so that
a busy machine does not count. The SDK decodes to RGBA, so its time includes taking the alpha channel, as every user of
it must.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush
from numpy.typing import NDArray
from rich.table import Table

from backend import brush_rle
from benchmarks.tables import Console

sdk: Any = brush

HEIGHT, WIDTH = 3000, 4000


def masks() -> dict[str, NDArray[np.bool_]]:
    """What annotators and models make: one large object, many small ones, thin branches, and specks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    cells = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    for row, column, radius in zip(
        rng.integers(0, HEIGHT, 400), rng.integers(0, WIDTH, 400), rng.integers(10, 60, 400), strict=True
    ):
        top, left = max(row - radius, 0), max(column - radius, 0)
        part = np.s_[top : row + radius, left : column + radius]
        cells[part] |= (y[part] - row) ** 2 + (x[part] - column) ** 2 < radius**2
    return {
        "one object": (y - HEIGHT / 2) ** 2 + (x - WIDTH / 2) ** 2 < 1200**2,
        "400 cells": cells,
        "branches": np.abs(np.sin(x / 90 + 3 * np.sin(y / 200))) < 0.1,
        "5 % specks": rng.random((HEIGHT, WIDTH)) < 0.05,
    }


def sdk_alpha(rle: list[int]) -> NDArray[np.uint8]:
    """What decoding with the SDK takes: its decoder stops at RGBA bytes."""
    alpha: NDArray[np.uint8] = sdk.decode_rle(rle).reshape(HEIGHT, WIDTH, 4)[..., 3]
    return alpha


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds of this thread on the processor, and what came out."""
    start = time.thread_time()
    result = work(*arguments)
    return time.thread_time() - start, result


def compare(mask: NDArray[np.bool_], repeats: int) -> dict[str, tuple[float, float]]:
    """Best seconds (ours, the SDK's) of encoding and decoding one mask; stops where the two disagree."""
    seconds: dict[str, list[tuple[float, float]]] = {"encode": [], "decode": []}
    levels = mask * np.uint8(brush_rle.OPAQUE)
    for _ in range(repeats):
        ours, rle = timed(brush_rle.encode, mask)
        theirs, other = timed(sdk.mask2rle, levels)
        seconds["encode"].append((ours, theirs))
        if other[: len(rle)] != rle:
            raise SystemExit("The two encoders disagree.")
        ours, alpha = timed(brush_rle.decode, other, HEIGHT, WIDTH)
        theirs, pixels = timed(sdk_alpha, other)
        seconds["decode"].append((ours, theirs))
        if not np.array_equal(alpha, pixels):
            raise SystemExit("The two decoders disagree.")
    return {name: (min(a for a, _ in pairs), min(b for _, b in pairs)) for name, pairs in seconds.items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    table = Table("mask", "stream", "", "ours", "SDK", "SDK / ours", title=f"{WIDTH} x {HEIGHT} pixels")
    for name, mask in masks().items():
        size = f"{len(brush_rle.encode(mask)) / 1000:.0f} kB"
        for act, (ours, theirs) in compare(mask, repeats).items():
            table.add_row(name, size, act, f"{ours:.4f} s", f"{theirs:.2f} s", f"{theirs / ours:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
