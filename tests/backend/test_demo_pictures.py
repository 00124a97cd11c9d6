import io

import numpy as np
import pytest
from PIL import Image

from backend.demo.pictures import HEIGHT, LABELS, WIDTH, demo_pictures, draw


def test_a_picture_is_the_same_each_time_it_is_drawn() -> None:
    one, other = draw(3), draw(3)

    assert one.image.shape == (HEIGHT, WIDTH, 3)
    assert one.image.dtype == np.uint8
    assert np.array_equal(one.image, other.image)
    assert all(np.array_equal(one.masks[label], other.masks[label]) for label in LABELS)


def test_pictures_differ() -> None:
    assert not np.array_equal(draw(1).masks[LABELS[0]], draw(2).masks[LABELS[0]])
    assert not np.array_equal(draw(1).image, draw(1, seed=7).image)


def test_every_demo_picture_shows_both_labels_apart() -> None:
    pictures = demo_pictures()

    assert len({picture.name for picture in pictures}) == 12
    for picture in pictures:
        red, white = (picture.masks[label] for label in LABELS)
        assert red.dtype == np.bool_
        assert red.mean() > 0.05
        assert white.mean() > 0.01
        assert not (red & white).any()


def test_masks_lie_on_what_the_picture_shows() -> None:
    """Red cells swallow green light and white cells red light: a shifted mask would lose these differences."""
    picture = draw(6)
    red, white = (picture.masks[label] for label in LABELS)
    around = ~(red | white)
    greens, reds = picture.image[..., 1].astype(float), picture.image[..., 0].astype(float)

    assert np.median(greens[red]) < np.quantile(greens[around], 0.1)
    assert np.median(reds[white]) < np.quantile(reds[around], 0.05)


@pytest.mark.parametrize(("width", "height"), [(240, 180), (64, 64), (200, 500)])
def test_any_size_can_be_drawn(width: int, height: int) -> None:
    picture = draw(1, width=width, height=height)

    assert Image.open(io.BytesIO(picture.png())).size == (width, height)
    assert picture.masks[LABELS[0]].shape == (height, width)
