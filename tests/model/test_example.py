"""Examples that are not of the form are refused where they are made."""

import numpy as np
import pytest

from model.example import Context, Example, Prompt

IMAGE, MASK = np.zeros((4, 6, 3), dtype=np.uint8), np.zeros((4, 6), dtype=np.bool_)


@pytest.mark.parametrize("image", [IMAGE[:, :, 0], IMAGE[:, :, :2], IMAGE.astype(np.uint16)])
def test_an_image_is_rgb_in_bytes(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(ValueError, match=r"example one: image must be \[H, W, 3\] uint8"):
        Example("one", image, MASK)


@pytest.mark.parametrize("mask", [MASK.T, MASK.astype(np.uint8), MASK[:, :, None]])
def test_a_mask_is_bool_and_of_its_images_size(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
    with pytest.raises(ValueError, match=r"example one: mask must be bool \(4, 6\)"):
        Example("one", IMAGE, mask)


def test_a_context_counts_and_names_its_prompt_first() -> None:
    learned = np.zeros((3, 8, 8), dtype=np.float32)
    context = Context((Example("a", IMAGE, MASK), Example("b", IMAGE, MASK)), Prompt("p", learned, learned))
    assert len(context) == 3
    assert context.keys == ("p", "a", "b")
    assert len(Context()) == 0
