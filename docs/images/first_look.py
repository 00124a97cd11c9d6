"""Makes docs/images/first-look.jpg: approved masks above, what the embedded checkpoint predicts by them below.

PYTHONPATH=. .venv/bin/python docs/images/first_look.py
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.demo.pictures import LABELS, draw
from model.example import Context, Example
from model.segmenter import Query, Segmenter

COLOURS = {
    label: np.array(colour) for label, colour in zip(LABELS, ((230, 0, 90), (0, 110, 255)), strict=True)
}
SIDE, GAP = 240, 8


def painted(image: NDArray[np.uint8], masks: dict[str, NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """The picture with its masks laid over it, in the labels' colours."""
    over = image.astype(np.float64)
    for label, mask in masks.items():
        over[mask] = 0.45 * over[mask] + 0.55 * COLOURS[label]
    small = Image.fromarray(over.astype(np.uint8)).resize((SIDE, SIDE * image.shape[0] // image.shape[1]))
    return np.asarray(small)


def row(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures side by side with white between them."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


segmenter = Segmenter.load()
drawn = [draw(number) for number in range(1, 9)]
examples = {
    label: Context(
        tuple(
            Example(f"{picture.name} {label}", picture.image, picture.masks[label]) for picture in drawn[:3]
        )
    )
    for label in LABELS
}
below = []
for picture in drawn[3:6]:
    maps = segmenter.segment([Query(picture.image, examples[label]) for label in LABELS])
    below.append(
        painted(picture.image, {label: map_ >= 0.5 for label, map_ in zip(LABELS, maps, strict=True)})
    )
above = row([painted(picture.image, picture.masks) for picture in drawn[:3]])
gap = np.full((2 * GAP, above.shape[1], 3), 255, np.uint8)
target = Path(__file__).with_name("first-look.jpg")
Image.fromarray(np.concatenate([above, gap, row(below)])).save(target, quality=88)
