"""Small objects on large photographs, with and without a nearer look; the photographs are drawn.

    PYTHONPATH=. .venv/bin/python benchmarks/zoom.py [--megapixels 12] [--sides 400,200,100,50,25]

Each photograph has a dozen ragged spots of one colour, all of about one size, among as many of another colour. The
examples are others like it, as the store keeps them. For each size: the side of a spot at the network's size, tiles
looked at a photograph, IoU and the share of spots that are found (half of their pixels) with `ZOOM=off` and `auto`, and
seconds of this process on the processor, which a busy machine does not stretch. Figures belong to one machine.
"""

import argparse
import platform
import time

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from backend.store.pictures import pack_image, pack_mask, unpack_image, unpack_mask
from benchmarks.edges import size_of
from benchmarks.tables import Console
from model import zoom
from model.evaluation import THRESHOLD, iou
from model.example import Context, Example, Mask, Picture
from model.segmenter import Query, Segmenter

SPOTS = 12
WANTED, OTHER = (170, 60, 50), (60, 90, 160)
FOUND = 0.5  # of a spot's pixels
WIDE = 110  # characters


def photograph(seed: int, height: int, width: int, side: float) -> tuple[Picture, Mask]:
    """Spots of about `side` pixels on a mottled ground, with a camera's noise; the mask is that of one colour."""
    random = np.random.default_rng(seed)
    mottle = random.integers(90, 150, (12, 16, 3), dtype=np.uint8)
    picture = cv2.resize(mottle, (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), dtype=np.uint8)
    cells = random.permutation(48)[: 2 * SPOTS]  # of 6 x 8, so that spots neither touch nor hide each other
    for place, cell in enumerate(cells):
        outline = _outline(
            random, (cell % 8 + 0.5) * width / 8, (cell // 8 + 0.5) * height / 6, side, height / 6
        )
        spot = np.zeros_like(mask)
        cv2.fillPoly(spot, [outline], 1)
        colour = np.array(WANTED if place < SPOTS else OTHER, np.float32) + random.uniform(-12, 12, 3)
        inside = spot.astype(np.bool_)
        picture[inside] = (0.3 * picture[inside] + 0.7 * colour).astype(np.uint8)
        if place < SPOTS:
            mask |= spot
    grain = random.integers(0, 17, (512, 512, 3), dtype=np.uint8)
    for top in range(0, height, 512):
        for left in range(0, width, 512):
            part = picture[top : top + 512, left : left + 512]
            part[:] = cv2.add(part, grain[: part.shape[0], : part.shape[1]])
    return picture, mask.astype(np.bool_)


def _outline(random: np.random.Generator, x: float, y: float, side: float, cell: float) -> NDArray[np.int32]:
    """A closed curve with bays, of about the area of a square of `side`, somewhere in a cell: points x, y."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = np.full_like(angle, side / np.sqrt(np.pi) * random.uniform(0.8, 1.2))
    for waves in (2, 3, 5):
        radius *= 1 + 0.4 / waves * np.sin(waves * angle + random.uniform(0, 2 * np.pi))
    free = max(0.0, cell / 2 - side)
    x, y = x + random.uniform(-free, free), y + random.uniform(-free, free)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1).astype(np.int32)


def found_spots(found: Mask, wanted: Mask) -> tuple[int, int]:
    """How many spots are found, of how many."""
    count, parts = cv2.connectedComponents(wanted.astype(np.uint8))
    sizes = np.bincount(parts.ravel(), minlength=count)[1:]
    held = np.bincount(parts[found], minlength=count)[1:]
    return int((held >= FOUND * sizes).sum()), count - 1


def measure(segmenter: Segmenter, side: float, given: argparse.Namespace) -> list[str]:
    """A row of the table."""
    height, width = size_of(given.megapixels)
    examples = []
    for number in range(given.shots):
        picture, mask = photograph(1000 + number, height, width, side)
        image, small = unpack_image(pack_image(picture)), unpack_mask(pack_mask(mask))
        examples.append(Example(f"{side}/{number}", image, small))
    context = Context(tuple(examples))
    figures: dict[str, list[tuple[float, float, float]]] = {"off": [], "auto": []}
    tiles = 0
    for number in range(given.pictures):
        picture, wanted = photograph(number, height, width, side)
        query = Query(picture, context)
        began = time.process_time()
        (likely,) = segmenter.maps([query])
        first = time.process_time() - began
        look = zoom.plan(segmenter, query, likely)
        nearer = likely
        if look is not None:
            tiles += len(look.tiles)
            nearer = zoom.joined(look, segmenter.maps(look.queries), likely)
        both = time.process_time() - began
        for name, one, seconds in (("off", likely, first), ("auto", nearer, both)):
            mask = one.mask(THRESHOLD)
            spots, known = found_spots(mask, wanted)
            figures[name].append((iou(mask, wanted), spots / known, seconds))
    (off, off_found, off_seconds), (auto, auto_found, auto_seconds) = (
        np.mean(figures[name], axis=0) for name in ("off", "auto")
    )
    return [
        f"{side:.0f}",
        f"{context.object_side * segmenter.image_size:.1f}",
        f"{tiles / given.pictures:.0f}",
        f"{off:.3f} / {auto:.3f}",
        f"{off_found:.0%} / {auto_found:.0%}",
        f"{off_seconds:.2f} / {auto_seconds:.2f}",
    ]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--checkpoint", default="embedded")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--megapixels", type=float, default=12)
    arguments.add_argument(
        "--sides",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[400.0, 200.0, 100.0, 50.0, 25.0],
        help="of a spot, pixels",
    )
    arguments.add_argument("--shots", type=int, default=4)
    arguments.add_argument("--pictures", type=int, default=2, help="photographs of each size")
    given = arguments.parse_args()
    segmenter = Segmenter.load(given.checkpoint, given.device, guided=True)
    console = Console(width=WIDE)
    table = Table(
        title=f"{given.megapixels:g} MP, {given.shots} examples, {segmenter.identity}, {segmenter.device}, "
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    )
    for heading in ("side, px", "at the network", "tiles", "IoU off / auto", "spots found", "CPU s"):
        table.add_column(heading, justify="right")
    for side in given.sides:
        table.add_row(*measure(segmenter, side, given))
    console.print(table)


if __name__ == "__main__":
    main()
