"""Arrays to stored PNG files and back."""

import numpy as np
import pytest

from backend.store.pictures import EXAMPLE_SIDE, pack_image, pack_mask, unpack_image, unpack_mask
from tests.backend.stage import blob


def test_what_fits_comes_back_as_it_was() -> None:
    image, mask = blob(1)
    assert (unpack_image(pack_image(image)) == image).all()
    assert (unpack_mask(pack_mask(mask)) == mask).all()
    assert unpack_mask(pack_mask(mask)).dtype == bool


@pytest.mark.parametrize(
    ("shape", "stored"),
    [((1280, 640), (640, 320)), ((100, 6400), (10, 640)), ((2, 6400), (1, 640)), ((640, 640), (640, 640)), ((1, 1), (1, 1))],
)  # fmt: skip
def test_what_is_larger_is_shrunk_in_proportion(shape: tuple[int, int], stored: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    assert unpack_image(pack_image(image)).shape == (*stored, 3)
    assert (unpack_image(pack_image(image)) == 77).all()
    assert unpack_mask(pack_mask(np.ones(shape, bool))).all()
    assert unpack_mask(pack_mask(np.ones(shape, bool))).shape == stored
    assert max(stored) <= EXAMPLE_SIDE


def test_a_pixel_of_a_shrunk_mask_is_set_where_half_of_its_area_is() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True
    small = unpack_mask(pack_mask(mask, 4))
    assert (
        small.tolist() == [[True, True, False, False]] * 4
    )  # three columns of eight: one and a half of four


def test_what_is_thinner_than_half_a_pixel_of_a_stored_mask_does_not_vanish() -> None:
    """A scratch two pixels wide on a photograph of 4000: it was stored as an empty mask, which teaches nothing."""
    mask = np.zeros((3000, 4000), bool)
    mask[1500:1502, 1000:3000] = True
    small = unpack_mask(pack_mask(mask))
    assert small.shape == (480, 640)
    assert small.sum() == pytest.approx(320, abs=2)
    assert not unpack_mask(pack_mask(np.zeros((3000, 4000), bool))).any()


def test_a_mask_and_its_image_are_shrunk_alike() -> None:
    image, mask = blob(1, 900, 1300)
    small, fitted = unpack_image(pack_image(image)), unpack_mask(pack_mask(mask))
    assert small.shape[:2] == fitted.shape
    assert ((small[..., 0] > 140) == fitted).mean() > 0.9999
