"""Which region a click means."""

import numpy as np
import pytest

from model.evaluation import iou
from model.frames import whole
from model.growing import grown, under
from tests.model.drawn_objects import BLUE, RED, at, disc, painted, rectangle


def test_the_body_under_a_place_is_the_connected_part_there() -> None:
    one, other = disc(80, 100, 40), disc(240, 100, 40)
    found = under((one | other).astype(np.float32), (100, 80), 0.5)
    assert found is not None
    assert (found == one).all()


def test_a_place_below_the_threshold_has_no_body() -> None:
    probability = np.where(disc(80, 100, 40), 0.6, 0.1).astype(np.float32)
    assert under(probability, (200, 300), 0.5) is None
    assert under(probability, (100, 80), 0.7) is None


@pytest.mark.parametrize("gap", [-4, 0, 3])
def test_bodies_that_merely_touch_part_at_their_neck(gap: int) -> None:
    one, other = disc(100, 120, 40), disc(180 + gap, 120, 40)
    bridge = rectangle(130, 116, 150 + gap, 124)
    found = under((one | other | bridge).astype(np.float32), (120, 90), 0.5)
    assert found is not None
    assert iou(found, one) > 0.93


def test_bodies_at_the_picture_s_edge_part_too() -> None:
    one, other = disc(100, 240, 40), disc(178, 240, 40)
    found = under((one | other).astype(np.float32), (230, 80), 0.5)
    assert found is not None
    assert iou(found, one) > 0.93


@pytest.mark.parametrize("shape", ["long", "bent"])
def test_a_body_without_a_neck_stays_whole(shape: str) -> None:
    region = rectangle(20, 100, 300, 130)
    if shape == "bent":
        region |= rectangle(270, 20, 300, 130)
    found = under(region.astype(np.float32), (110, 40), 0.5)
    assert found is not None
    assert (found == region).all()


@pytest.mark.parametrize("radius", [6, 20, 70])
def test_a_click_finds_what_stands_out_there_large_or_small(radius: int) -> None:
    thing, other = disc(110, 120, radius), disc(280, 60, 25)
    found = grown(painted([(thing, RED), (other, BLUE)]), at((108, 118)))
    assert found is not None
    region = found.seen(whole(thing.shape), (240, 320)) >= 0.5
    assert iou(region, thing) > 0.7


def test_a_click_where_nothing_stands_out_finds_nothing() -> None:
    assert grown(np.full((240, 320, 3), 90, np.uint8), at((100, 100))) is None


def test_a_picture_of_a_few_pixels_has_no_regions() -> None:
    assert grown(np.zeros((5, 5, 3), np.uint8), at((2, 2))) is None
