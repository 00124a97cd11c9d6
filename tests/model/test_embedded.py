"""The checkpoint that comes with the code: it is there, it is small, and it does what examples show."""

import numpy as np
import pytest

from model import checkpoint
from model.evaluation import iou
from model.example import Context, Example
from model.segmenter import Query, Segmenter

MOST_BYTES = 25 * 2**20


@pytest.fixture(scope="module")
def embedded() -> Segmenter:
    return Segmenter.load("embedded", "cpu")


def scene(number: int, colour: int) -> Example:
    """A disc in one of three colours and two discs in the others, on grey; the mask is of the one colour."""
    random = np.random.default_rng(number)
    image = random.integers(100, 130, (120, 160, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:120, :160]
    places = random.permutation([(35, 40), (35, 120), (90, 80)])
    masks = [np.hypot(rows - row, columns - column) < 24 for row, column in places]
    for channel, mask in enumerate(masks):
        image[mask] = 30
        image[mask, channel] = 230
    return Example(f"scene/{number}/{colour}", image, masks[colour])


def test_it_is_small_and_named_by_its_numbers(embedded: Segmenter) -> None:
    assert checkpoint.EMBEDDED.stat().st_size < MOST_BYTES
    numbers = checkpoint.identity(checkpoint.load("embedded"))
    assert embedded.identity == f"embedded-{numbers}"


@pytest.mark.parametrize("colour", [0, 1, 2])
def test_it_finds_what_the_examples_show_and_not_what_they_do_not(embedded: Segmenter, colour: int) -> None:
    """The same picture is asked for each colour in turn, so an answer that ignores the examples fails two of three."""
    wanted = [scene(90, other) for other in range(3)]
    context = Context(tuple(scene(number, colour) for number in range(4)))
    (probability,) = embedded.segment([Query(wanted[0].image, context)])
    scores = [iou(probability > 0.5, example.mask) for example in wanted]
    assert max(range(3), key=scores.__getitem__) == colour
    assert scores[colour] > 0.4
