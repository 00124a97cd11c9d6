"""Examples that are not of the form are refused where they are made."""

import numpy as np
import pytest

from model.example import SPECK, TINY, Context, Example, Prompt

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


def test_how_small_objects_are_is_what_the_examples_say_and_without_them_the_prompt() -> None:
    """Else a prompt used alone would drop as specks what the examples that it replaces let through."""
    large = np.zeros((10, 10), dtype=np.bool_)
    large[:4, :4] = True
    example = Example("large", np.zeros((10, 10, 3), dtype=np.uint8), large)
    learned = np.zeros((3, 8, 8), dtype=np.float32)
    tiny = Prompt("p", learned, learned, object_side=0.01)
    assert Context(prompt=tiny).object_side == 0.01
    assert Context(prompt=tiny).least_area(TINY) == pytest.approx(SPECK * 0.0001)
    assert Context((example,), tiny).object_side == pytest.approx(0.4)
    assert Context((Example("empty", IMAGE, MASK),), tiny).object_side == 0.01
    untold = Context(prompt=Prompt("p", learned, learned))
    assert (untold.object_side, untold.least_area(TINY)) == (0, TINY)
