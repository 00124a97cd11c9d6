"""Equal pictures and masks in any form are equal tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import canvas

GREY = np.arange(0, 252, 7, dtype=np.uint8).reshape(4, 9)
COLOUR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(GREY, id="grey"),
        pytest.param(GREY[:, :, None], id="grey with its axis"),
        pytest.param(np.dstack([GREY] * 3), id="RGB"),
        pytest.param(np.dstack([GREY, np.full_like(GREY, 255)]), id="grey, opaque"),
        pytest.param(np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]), id="RGBA, opaque"),
        pytest.param(GREY / np.float32(255), id="0 to 1"),
        pytest.param(GREY.astype(np.float64), id="0 to 255 in floats"),
    ],
)
def test_a_grey_picture_is_the_same_in_any_form(form: NDArray[Any]) -> None:
    rgb = canvas.to_rgb(form)
    assert rgb.dtype == np.uint8
    assert np.array_equal(rgb, np.dstack([GREY] * 3))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_a_16_bit_picture_equals_its_8_bit_stretch(dtype: Any) -> None:
    """Values of 800 to 1400 clip to white, or wrap, where 16 bits are cut to 8."""
    deep = np.linspace(800, 1400, 600).reshape(20, 30).astype(dtype)
    stretched = np.rint((deep.astype(np.float64) - 800) * 255 / 600).astype(np.uint8)
    rgb = canvas.to_rgb(deep)
    assert np.array_equal(rgb, canvas.to_rgb(stretched))
    assert (rgb.min(), rgb.max()) == (0, 255)


def test_channels_of_a_16_bit_picture_are_stretched_together_and_its_opacity_is_not() -> None:
    deep = np.zeros((1, 2, 4), dtype=np.uint16)
    deep[0] = [[1000, 2000, 3000, 65535], [2000, 2000, 2000, 65535]]
    assert canvas.to_rgb(deep).tolist() == [[[0, 128, 255], [128, 128, 128]]]


def test_a_picture_of_one_value_or_of_none_that_is_a_number_is_still_a_picture() -> None:
    assert not canvas.to_rgb(np.full((2, 2), 1000, dtype=np.uint16)).any()
    strange = np.array([[np.nan, 1.0], [-np.inf, 0.5]], dtype=np.float32)
    assert canvas.to_rgb(strange)[:, :, 0].tolist() == [[0, 255], [0, 128]]


def test_black_and_white_are_taken_from_bools() -> None:
    assert canvas.to_rgb(np.array([[True, False]]))[0].tolist() == [[255] * 3, [0] * 3]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_transparent_parts_are_white(dtype: Any) -> None:
    full = 1 if dtype == np.float32 else 255
    picture = np.array([[[0, 0, 0, full], [0, 0, 0, 0], [full, 0, 0, full]]], dtype=dtype)
    assert canvas.to_rgb(picture)[0].tolist() == [[0, 0, 0], [255, 255, 255], [255, 0, 0]]
    half = canvas.to_rgb(np.array([[[0, 128]]], dtype=np.uint8))
    assert half.tolist() == [[[127, 127, 127]]]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((2, 2, 5)),
        np.zeros((3,)),
        np.zeros((0, 4)),
        np.zeros((2, 2), dtype=complex),
        np.zeros((1, 2, 2, 3)),
    ],
)
def test_what_is_no_picture_is_a_value_error(picture: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="a picture"):
        canvas.to_rgb(picture)


MASK_FORMS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "bool": lambda mask: mask,
    "0 and 1": lambda mask: mask.astype(np.uint8),
    "0 and 255": lambda mask: mask.astype(np.uint8) * 255,
    "float": lambda mask: mask.astype(np.float32),
    "float to 255": lambda mask: mask.astype(np.float64) * 255,
    "long": lambda mask: mask.astype(np.int64),
    "channels last": lambda mask: np.dstack([mask.astype(np.uint8) * 255] * 3),
    "channels first": lambda mask: np.stack([mask.astype(np.uint8)] * 3),
    "channels first, bool": lambda mask: np.stack([mask] * 3),
    "one channel last": lambda mask: mask[:, :, None],
    "one channel first": lambda mask: mask[None].astype(np.float32),
    "painted red": lambda mask: np.dstack([mask * 255, mask * 0, mask * 0]),
}


@pytest.mark.parametrize("form", MASK_FORMS)
@pytest.mark.parametrize("shape", [(6, 8), (3, 50), (50, 3), (3, 4), (1, 9)])
def test_equal_masks_in_any_form_are_equal(form: str, shape: tuple[int, int]) -> None:
    """Also where the height is 3, which the public port takes for channels."""
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[0, 0] = True
    assert np.array_equal(canvas.to_mask(MASK_FORMS[form](mask), size=shape), mask)
    if form != "painted red" and 1 not in shape:
        assert np.array_equal(canvas.to_mask(MASK_FORMS[form](mask)), mask)


@pytest.mark.parametrize("form", MASK_FORMS)
def test_a_mask_of_three_by_three_is_read_by_its_equal_channels(form: str) -> None:
    mask = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=np.bool_)
    assert np.array_equal(canvas.to_mask(MASK_FORMS[form](mask), size=(3, 3)), mask)


def test_soft_edges_are_cut_at_the_threshold() -> None:
    assert canvas.to_mask(np.array([[255, 128, 127, 60, 1, 0]], dtype=np.uint8)).tolist() == [
        [1, 1, 0, 0, 0, 0]
    ]


@pytest.mark.parametrize(
    "mask",
    [np.zeros((4, 5, 2)), np.zeros((4,)), np.zeros((0, 3)), np.array([[0, 1, 2, 7]])],
)
def test_what_is_no_mask_of_one_target_is_a_value_error(mask: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="mask"):
        canvas.to_mask(mask)


def test_a_mask_of_another_size_than_its_picture_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"a mask is \(4, 6\), not \(4, 5\)"):
        canvas.to_mask(np.zeros((4, 5)), size=(4, 6))


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (30, 300), (500, 2)])
def test_any_size_and_proportion_becomes_a_square(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 128, dtype=np.uint8)
    tensor = canvas.image_tensor(picture, 16)
    assert tensor.shape == (3, 16, 16)
    assert tensor.dtype == torch.float32
    wanted = (128 / 255 - np.array(canvas.MEAN)) / np.array(canvas.STD)
    assert np.allclose(tensor[:, 7, 7], wanted, atol=1e-5)


def test_what_is_painted_is_read_again() -> None:
    mask = np.random.default_rng(2).random((16, 16)) < 0.4
    painting = canvas.mask_tensor(mask, 16)
    assert torch.equal(canvas.probability(painting[None])[0] > 0.5, torch.from_numpy(mask))
    assert canvas.probability(painting[None] * 3).amax() == 1
    halved = canvas.probability(painting[None].bfloat16())
    assert halved.dtype == torch.float32
    assert (halved[0] - torch.from_numpy(mask).float()).abs().max() < 0.01


def test_a_mask_never_vanishes_when_it_shrinks() -> None:
    thin = np.zeros((1000, 1000), dtype=np.bool_)
    thin[500, :] = True
    small = canvas.resize_mask(thin, 16, 16)
    assert small.any(axis=0).all()
    assert small.sum() == 16
    assert not canvas.resize_mask(np.zeros((9, 9), dtype=np.bool_), 4, 4).any()
    solid = np.ones((90, 50), dtype=np.bool_)
    assert canvas.resize_mask(solid, 16, 16).all()


def test_alike_pictures_are_described_alike() -> None:
    random = np.random.default_rng(3)
    meadow = np.zeros((60, 80, 3), dtype=np.uint8)
    meadow[30:] = (40, 160, 50)
    meadow[:30] = (90, 150, 240)
    noise = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    same = np.clip(meadow + random.integers(-9, 9, meadow.shape), 0, 255).astype(np.uint8)[:, ::-1]
    described = [canvas.describe(picture) for picture in (meadow, same, noise)]
    assert all(np.linalg.norm(one) == pytest.approx(1) and one.dtype == np.float32 for one in described)
    assert described[0] @ described[1] > 0.9
    assert described[0] @ described[2] < 0.6


@pytest.mark.parametrize(
    "picture", [np.zeros((1, 1)), np.full((3, 400), 255, dtype=np.uint8), np.full((2, 2), 0.5)]
)
def test_a_picture_without_content_has_a_description(picture: NDArray[Any]) -> None:
    assert np.linalg.norm(canvas.describe(picture)) == pytest.approx(1)


def test_opacity_of_a_black_and_white_picture_is_taken_from_bools() -> None:
    picture = np.array([[[False, True], [False, False]]])
    assert canvas.to_rgb(picture)[0, :, 0].tolist() == [0, 255]
