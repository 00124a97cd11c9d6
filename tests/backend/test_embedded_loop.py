"""The loop with the embedded weights: an approved mask is worth something on the next picture."""

from collections.abc import Callable
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from model.checkpoint import EMBEDDED
from tests.backend.stage import Stage, brush, mask_of

pytestmark = pytest.mark.slow


def scene(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A reddish blob on a mottled green ground, with a blue distractor; and the blob."""
    random = np.random.default_rng(seed)
    height, width = 180, 240
    ground = random.integers(0, 90, (height, width, 3)).astype(np.uint8)
    image = np.array(Image.fromarray(ground).filter(ImageFilter.GaussianBlur(3)))
    image[..., 1] += 70
    rows, columns = np.mgrid[:height, :width]

    def ellipse(left: int, right: int) -> NDArray[np.bool_]:
        y, x = random.integers(50, 130), random.integers(left, right)
        tall, wide = random.integers(25, 40, 2)
        inside: NDArray[np.bool_] = ((rows - y) / tall) ** 2 + ((columns - x) / wide) ** 2 < 1
        return inside

    sides = [(45, 90), (150, 195)]
    random.shuffle(sides)
    mask, other = ellipse(*sides[0]), ellipse(*sides[1])
    image[other] = [50, 70, 190]
    image[mask] = [200, 70, 60]
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))), mask


@pytest.fixture
def embedded(staging: Callable[..., Stage], missing: Callable[[str], NoReturn]) -> Stage:
    if not EMBEDDED.exists():
        missing("the embedded checkpoint is not here")
    return staging(checkpoint="embedded", min_area=0.0002)


def test_one_approved_mask_finds_its_like_on_the_next_pictures_and_three_do_not_worse(
    embedded: Stage,
) -> None:
    scenes = {embedded.upload(image): mask for image, mask in map(scene, range(10, 15))}

    def quality() -> float:
        found = []
        for prediction, mask in zip(embedded.predict(*scenes), scenes.values(), strict=True):
            ours = np.zeros_like(mask)
            for region in prediction["result"]:
                ours |= mask_of(region)
            found.append((ours & mask).sum() / (ours | mask).sum())
        return float(np.mean(found))

    figures = []
    for seed in range(3):
        image, mask = scene(seed)
        embedded.submit(embedded.upload(image), brush(mask))
        embedded.work()
        figures.append(quality())
    assert figures[0] > 0.5
    assert figures[2] > figures[0] - 0.05


def test_the_score_sorts_what_was_found_before_what_was_not(embedded: Stage) -> None:
    image, mask = scene(0)
    embedded.submit(embedded.upload(image), brush(mask))
    embedded.work()
    pictures = [embedded.upload(scene(seed)[0]) for seed in (20, 21)]
    noise = np.random.default_rng(1).integers(0, 255, (180, 240, 3)).astype(np.uint8)
    predictions = embedded.predict(*pictures, embedded.upload(noise))
    *found, lost = [prediction["score"] for prediction in predictions]
    assert min(found) > lost + 0.1
