"""What an example becomes: its mask moves with its picture, and its colours change a little."""

from collections.abc import Callable

import numpy as np
import torch

from model import canvas
from model.augmentation import augmented
from model.example import Example

SIZE = 32


def test_the_mask_moves_with_the_picture() -> None:
    """A bright disc stays under its mask, whatever the crop and the mirror."""
    rows, columns = np.mgrid[:60, :90]
    mask = (rows - 25) ** 2 + (columns - 30) ** 2 < 200
    image = np.where(mask[..., None], 230, 30).astype(np.uint8).repeat(3, axis=2)[..., :3]
    shares = set()
    for seed in range(20):
        picture, painted = augmented(Example("disc", image, mask), SIZE, np.random.default_rng(seed))
        assert picture.shape == painted.shape == (3, SIZE, SIZE)
        assert picture.dtype == painted.dtype == torch.float32
        bright = canvas.probability(picture[None])[0] > 0.5
        target = canvas.probability(painted[None])[0] > 0.5
        assert (bright != target).float().mean() < 0.03
        shares.add(round(float(target.float().mean()), 3))
    assert len(shares) > 10, "crops differ"


def test_mirrors_and_colours_are_drawn_and_the_same_seed_draws_the_same(draw: Callable[..., Example]) -> None:
    left = np.zeros((40, 40), dtype=np.bool_)
    left[:, :20] = True
    grey = Example("half", np.full((40, 40, 3), 120, np.uint8), left)
    drawn = [augmented(grey, SIZE, np.random.default_rng(seed)) for seed in range(30)]
    mirrored = [bool(painted[0, 16, 0] < painted[0, 16, -1]) for _, painted in drawn]
    assert {*mirrored} == {True, False}
    colours = [
        picture.mean(dim=(1, 2)) * torch.tensor(canvas.STD) + torch.tensor(canvas.MEAN)
        for picture, _ in drawn
    ]
    assert max(float(colour.max() - colour.min()) for colour in colours) > 0.03, "channels apart"
    assert max(float(abs(colour.mean() - 120 / 255)) for colour in colours) > 0.05, "brightness"
    first, second = (augmented(draw(1), SIZE, np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
