"""Objects cut out of drawn pictures: by an outline, by clicks, with and without what a network thinks."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from model.cutting import Cutout, alone, cut_area, cut_clicked, cut_found, united, without
from model.evaluation import iou
from model.example import Mask
from model.frames import Patch, around, whole
from tests.model.drawn_objects import BLUE, RED, clicks, disc, guess, painted, rectangle

THING, OTHER = disc(100, 120, 45), disc(230, 90, 40)
PICTURE = painted([(THING, RED), (OTHER, BLUE)])
BOX = rectangle(48, 68, 152, 172)


def taken(cutout: Cutout | None) -> Mask:
    assert cutout is not None
    assert 0 <= cutout.score <= 1
    return cutout.mask


def patch(mask: Mask) -> Patch:
    return Patch(guess(mask), whole(mask.shape))


# -- outlined ------------------------------------------------------------------------------------------------------
def test_an_outline_s_object_is_cut_along_its_edge() -> None:
    assert iou(taken(cut_area(PICTURE, BOX)), THING) > 0.96


def test_nothing_outside_an_outline_is_taken() -> None:
    half = rectangle(48, 68, 130, 172)
    mask = taken(cut_area(PICTURE, half))
    assert not (mask & ~half).any()
    assert iou(mask, THING & half) > 0.85


def test_an_outline_may_be_turned() -> None:
    rows, columns = np.mgrid[:240, :320]
    turned = (abs(rows + columns - 220) < 80) & (abs(rows - columns - 20) < 80)
    assert iou(taken(cut_area(PICTURE, turned)), THING) > 0.96


def test_in_an_outline_a_click_takes_a_part_away() -> None:
    pair = disc(70, 120, 40) | disc(150, 120, 40)
    picture = painted([(pair, RED)])
    area = rectangle(25, 75, 195, 165)
    both = taken(cut_area(picture, area))
    assert iou(both, pair) > 0.95
    one = taken(cut_area(picture, area, clicks([(70, 120)], [(150, 120)])))
    assert iou(one, disc(70, 120, 40)) > 0.85


def test_what_the_network_finds_in_an_outline_decides_what_is_meant() -> None:
    """Both things in the outline stand out alike: by the colours alone both are taken."""
    area = rectangle(45, 40, 280, 180)
    neither = taken(cut_area(PICTURE, area))
    assert iou(neither, THING | OTHER) > 0.9
    assert iou(taken(cut_area(PICTURE, area, prior=patch(THING))), THING) > 0.95


def test_a_network_that_finds_nothing_in_an_outline_is_not_asked() -> None:
    prior = patch(OTHER)
    assert (taken(cut_area(PICTURE, BOX, prior=prior)) == taken(cut_area(PICTURE, BOX))).all()


def test_in_a_plain_outline_nothing_is_found() -> None:
    assert cut_area(np.full((240, 320, 3), 90, np.uint8), BOX) is None
    assert cut_area(PICTURE, np.zeros((240, 320), np.bool_)) is None


def test_a_thin_thing_in_a_large_outline_is_found_all_the_same() -> None:
    pole = rectangle(155, 20, 163, 220)
    picture = painted([(pole, (230, 230, 230))], noise=5)
    assert iou(taken(cut_area(picture, rectangle(100, 10, 220, 230))), pole) > 0.7


# -- clicked -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prior", [None, patch(THING)], ids=["alone", "with a map"])
def test_a_click_s_object_is_cut_along_its_edge(prior: Patch | None) -> None:
    assert iou(taken(cut_clicked(PICTURE, clicks([(90, 110)]), prior)), THING) > 0.96


def test_a_map_of_few_pixels_is_brought_to_the_picture_s_edges() -> None:
    coarse = patch(THING)
    before = coarse.seen(whole(THING.shape), (240, 320)) >= 0.5
    assert iou(taken(cut_clicked(PICTURE, clicks([(90, 110)]), coarse)), THING) > iou(before, THING) + 0.01


def test_two_clicks_take_two_objects_far_apart_or_touching() -> None:
    assert iou(taken(cut_clicked(PICTURE, clicks([(90, 110), (230, 90)]))), THING | OTHER) > 0.95
    touching = disc(178, 120, 33)
    picture = painted([(THING, RED), (touching, BLUE)])
    assert iou(taken(cut_clicked(picture, clicks([(90, 110), (180, 120)]))), THING | touching) > 0.93


def test_a_click_outside_takes_away_what_is_connected_and_of_the_same_colour() -> None:
    one, other = disc(90, 120, 42), disc(172, 120, 42)
    picture = painted([(one | other, RED)])
    both = taken(cut_clicked(picture, clicks([(80, 120)])))
    assert iou(both, one | other) > 0.95
    less = taken(cut_clicked(picture, clicks([(80, 120)], [(190, 120)])))
    assert iou(less, one) > 0.85
    assert not less[120, 190]


def test_a_click_outside_takes_away_from_what_the_network_found() -> None:
    body, tail = rectangle(60, 80, 160, 160), rectangle(160, 105, 260, 135)
    picture = painted([(body, RED), (tail, BLUE)])
    prior = patch(body | tail)
    assert iou(taken(cut_clicked(picture, clicks([(100, 120)]), prior)), body | tail) > 0.93
    less = taken(cut_clicked(picture, clicks([(100, 120)], [(230, 120)]), prior))
    assert iou(less, body) > 0.93


def test_where_the_map_has_nothing_the_colours_decide() -> None:
    assert iou(taken(cut_clicked(PICTURE, clicks([(230, 90)]), patch(THING))), OTHER) > 0.95


def test_of_touching_objects_a_click_takes_its_own() -> None:
    one, other = disc(90, 120, 40), disc(168, 120, 40)
    picture = painted([(one | other, RED)])
    assert iou(taken(cut_clicked(picture, clicks([(90, 120)]), patch(one | other))), one) > 0.85


def test_clicks_on_nothing_find_nothing() -> None:
    plain = np.full((240, 320, 3), 90, np.uint8)
    assert cut_clicked(plain, clicks([(100, 100)])) is None
    assert cut_clicked(PICTURE, clicks([], [(100, 100)])) is None


def test_the_same_clicks_give_the_same_mask() -> None:
    first, second = (taken(cut_clicked(PICTURE, clicks([(90, 110)]))) for _ in range(2))
    assert (first == second).all()


def test_a_clear_object_scores_higher_than_one_that_hardly_differs() -> None:
    faint = painted([(THING, (85, 118, 70))], noise=12)
    clear, poor = cut_area(PICTURE, BOX), cut_area(faint, BOX)
    assert clear is not None
    assert clear.score > 0.9
    assert poor is None or poor.score < clear.score - 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 3), (50, 2)])
def test_the_smallest_pictures_are_survived(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (*size, 3)).astype(np.uint8)
    everything = np.ones(size, np.bool_)
    prior = Patch(everything.astype(np.float32), whole(size))
    for found in (
        cut_area(picture, everything),
        cut_area(picture, everything, clicks([(0, 0)], [(0, 0)]), prior),
        cut_clicked(picture, clicks([(0, 0)])),
        cut_clicked(picture, clicks([(0, 0)]), prior),
        cut_found(picture, prior),
    ):
        assert found is None or found.mask.shape == size


# -- all that is found ---------------------------------------------------------------------------------------------
def test_all_that_a_map_finds_is_cut_along_the_edges() -> None:
    things = [disc(50 + 75 * column, 60 + 110 * row, 28) for row in range(2) for column in range(4)]
    everything = np.any(things, axis=0)
    picture = painted([(everything, RED)])
    prior = patch(everything)
    before = prior.seen(whole(everything.shape), (240, 320)) >= 0.5
    found = taken(cut_found(picture, prior))
    assert iou(found, everything) > max(0.95, iou(before, everything))


def test_of_very_many_regions_the_rest_is_taken_as_it_is() -> None:
    things = [disc(16 + 24 * column, 14 + 24 * row, 8) for row in range(9) for column in range(12)]
    everything = np.any(things, axis=0)
    prior = Patch(everything.astype(np.float32), whole(everything.shape))
    assert iou(taken(cut_found(painted([(everything, RED)]), prior)), everything) > 0.85


def test_where_a_map_finds_nothing_nothing_is_cut() -> None:
    assert cut_found(PICTURE, Patch(np.zeros((24, 32), np.float32), whole(PICTURE.shape))) is None


def test_what_is_known_already_is_left_out_with_its_rim() -> None:
    wider = disc(100, 120, 47)
    left = without(Cutout(wider | OTHER, 0.8), THING)
    assert left is not None
    assert (left.mask == OTHER).all()
    assert left.score == 0.8
    assert without(Cutout(wider, 0.8), THING) is None


def test_cutouts_are_united_with_their_score_by_area() -> None:
    found = united(PICTURE, [Cutout(THING, 1.0), None, Cutout(OTHER, 0.5)])
    assert found is not None
    assert (found.mask == (THING | OTHER)).all()
    assert found.score == pytest.approx((THING.sum() + 0.5 * OTHER.sum()) / (THING.sum() + OTHER.sum()))
    assert united(PICTURE, [None]) is None


def test_cutouts_are_not_kept_while_they_are_united() -> None:
    alive: weakref.WeakSet[Cutout] = weakref.WeakSet()

    def made() -> Iterator[Cutout]:
        for _ in range(5):
            cutout = Cutout(THING.copy(), 1.0)
            alive.add(cutout)
            assert len(alive) <= 2
            yield cutout

    assert united(PICTURE, made()) is not None


# -- shown alone ---------------------------------------------------------------------------------------------------
def test_an_object_is_shown_alone_in_the_picture_s_proportions() -> None:
    things = [disc(60 + 70 * column, 60 + 90 * row, 15) for row in range(2) for column in range(4)]
    picture = painted([(np.any(things, axis=0), RED)], noise=0)
    shown, mask = alone(picture, things[5])
    assert shown.shape[:2] == mask.shape
    assert mask.sum() == things[5].sum()
    assert mask.shape[1] / mask.shape[0] == pytest.approx(320 / 240, rel=0.05)
    red = shown[..., 0].astype(int) - shown[..., 1] > 60
    assert iou(red, mask) > 0.9, "its likes are not there"


@pytest.mark.parametrize(
    "thing", [disc(3, 3, 10), disc(318, 238, 20), disc(160, 120, 118), rectangle(0, 100, 320, 110)]
)
def test_an_object_at_the_edge_or_as_large_as_the_picture_is_whole(thing: Mask) -> None:
    shown, mask = alone(painted([(thing, RED)]), thing)
    assert mask.sum() == thing.sum()
    assert shown.shape[:2] == mask.shape
    box = around(mask)
    assert box.height == around(thing).height


def test_a_thread_on_a_large_picture_does_not_vanish_when_it_is_shown_alone() -> None:
    thread = rectangle(40, 20, 3960, 21, height=40, width=4000)
    shown, mask = alone(painted([(thread, RED)]), thread)
    assert shown.shape[1] <= 1024
    assert mask.sum() > 100
