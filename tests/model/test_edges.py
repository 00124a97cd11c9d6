"""Masks at full size: bilinear without a guide, along the picture's edges with one, and never far from the map."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model import canvas, edges
from model.edges import WORKING_SIDE, Guide, ProbabilityMap
from model.evaluation import iou
from model.example import Context, Example, Mask, Picture
from model.measures import boundary_f
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter

Shape = tuple[int, int]


def star(height: int, width: int, noise: float = 4.0) -> tuple[Picture, Mask]:
    """A thing with seven bays, a little lighter than the shaded ground, and its mask."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away, angle = np.hypot(y - height / 2, x - width / 2), np.arctan2(y - height / 2, x - width / 2)
    mask = away < min(height, width) * (0.3 + 0.06 * np.sin(7 * angle))
    ground = 80 + 40 * x / width + np.random.default_rng(0).normal(0, noise, (height, width))
    picture = np.stack([ground + 40 * mask, ground + 10 * mask, ground], axis=2)
    return np.clip(picture, 0, 255).astype(np.uint8), np.asarray(mask)


def seen(mask: Mask, side: int = 48, shift: int = 1) -> NDArray[np.float32]:
    """What a network would make of it: small, soft, and a pixel off."""
    small = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((side, side), Image.Resampling.BOX))
    return np.asarray(cv2.GaussianBlur(np.roll(small, shift, axis=1), (0, 0), 0.8), dtype=np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (30, 300), (500, 2), (16, 16)])
@pytest.mark.parametrize("guided", [False, True])
def test_any_size_and_proportion_has_a_map_and_a_mask(shape: Shape, guided: bool) -> None:
    guide = Guide(np.full((*shape, 3), 128, dtype=np.uint8)) if guided else None
    found = ProbabilityMap(np.full((16, 16), 0.25, dtype=np.float32), *shape, guide)
    assert found.whole().dtype == np.float32
    assert found.whole().shape == shape
    assert np.allclose(found.whole(), 0.25)
    for threshold, inside in ((0.2, True), (0.3, False)):
        mask = found.mask(threshold)
        assert mask.dtype == np.bool_
        assert mask.shape == shape
        assert (mask == inside).all()


def test_enlarging_is_bilinear() -> None:
    values = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.interpolate(values[None, None], size=(20, 33), mode="bilinear")[0, 0]
    assert np.allclose(ProbabilityMap(values.numpy(), 20, 33).whole(), wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(70, 90), (9, 300), (250, 10), (5, 6)])
def test_strips_and_what_is_left_out_of_them_change_nothing(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Larger and smaller than the map; a pixel is compared where rounding cannot tip it."""
    values = np.random.default_rng(1).random((12, 12)).astype(np.float32) ** 4
    whole = np.asarray(Image.fromarray(values).resize(shape[::-1], Image.Resampling.BILINEAR))
    for pixels in (1, 500):
        monkeypatch.setattr(edges, "STRIP_PIXELS", pixels)
        for threshold in (0.3, 0.6, 0.95):
            clear = np.abs(whole - threshold) > 1e-5
            mask = ProbabilityMap(values, *shape).mask(threshold)
            assert np.array_equal(mask[clear], (whole >= threshold)[clear])


@pytest.mark.parametrize("shape", [(300, 420), (1500, 2090)])
def test_a_guided_mask_follows_the_edges_that_the_network_did_not_see(shape: Shape) -> None:
    """The second shape is voted on at a reduced size."""
    picture, wanted = star(*shape)
    values = seen(wanted)
    plain = ProbabilityMap(values, *shape).mask(0.5)
    guided = ProbabilityMap(values, *shape, Guide(picture)).mask(0.5)
    assert iou(plain, wanted) < 0.93
    assert iou(guided, wanted) > 0.985
    assert boundary_f(guided, wanted, 0.002) > boundary_f(plain, wanted, 0.002) + 0.5


def test_a_blank_picture_leaves_a_mask_where_it_was() -> None:
    """A round one: of others it rounds off what is smaller than a window."""
    rows, columns = np.mgrid[:300, :420]
    values = seen(np.asarray(np.hypot(rows - 150, columns - 200) < 90), shift=0)
    guided = ProbabilityMap(values, 300, 420, Guide(np.full((300, 420, 3), 90, np.uint8))).mask(0.5)
    assert iou(guided, ProbabilityMap(values, 300, 420).mask(0.5)) > 0.95


def test_what_nobody_votes_for_is_gone() -> None:
    """A speck on a blank picture has a majority nowhere, so that the second round has nothing to begin with."""
    values = np.zeros((16, 16), np.float32)
    values[7, 7] = 1
    guide = Guide(np.full((160, 160, 3), 90, np.uint8))
    assert not ProbabilityMap(values, 160, 160, guide).mask(0.5).any()


def test_noise_does_not_fray_an_edge_that_the_picture_does_not_show() -> None:
    """Read at every pixel of the whole picture, the functions gave hundreds of specks along such an edge."""
    noise = np.random.default_rng(3).integers(80, 130, (1500, 2090, 3)).astype(np.uint8)
    values = seen(star(1500, 2090)[1])
    mask = ProbabilityMap(values, 1500, 2090, Guide(noise)).mask(0.5)
    assert cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 <= 3


def test_a_map_that_shows_as_much_as_the_picture_is_left_alone() -> None:
    random = np.random.default_rng(2)
    values = random.random((30, 40)).astype(np.float32)
    guide = Guide(random.integers(0, 255, (30, 40, 3)).astype(np.uint8))
    assert np.array_equal(ProbabilityMap(values, 30, 40, guide).mask(0.4), values >= 0.4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything_stay_so(value: float) -> None:
    picture, _ = star(200, 300)
    mask = ProbabilityMap(np.full((16, 16), value, np.float32), 200, 300, Guide(picture)).mask(0.5)
    assert (mask == (value == 1)).all()


def test_the_threshold_says_what_is_voted_on() -> None:
    picture, wanted = star(300, 420)
    values = np.float32(0.6) * seen(wanted)
    found = ProbabilityMap(values, 300, 420, Guide(picture))
    assert iou(found.mask(0.3), wanted) > 0.985
    assert not found.mask(0.7).any()


def test_a_mask_does_not_depend_on_what_else_the_guide_was_asked() -> None:
    picture, wanted = star(300, 420)
    first, second = seen(wanted), seen(~wanted, side=32)
    shared = Guide(picture)
    for values in (first, second, first):
        alone = ProbabilityMap(values, 300, 420, Guide(picture)).mask(0.5)
        assert np.array_equal(ProbabilityMap(values, 300, 420, shared).mask(0.5), alone)


@pytest.mark.parametrize("shape", [(600, 840), (401, 1023), (1, 700)])
def test_votes_by_blocks_are_those_by_pixels(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows reach 17 to 43 pixels here, so that blocks are 4 to 10 wide and do not divide the sides."""
    picture, wanted = star(*shape)
    values = seen(wanted)
    by_blocks = ProbabilityMap(values, *shape, Guide(picture)).mask(0.5)
    monkeypatch.setattr(edges, "BLOCKS", 10**6)
    by_pixels = ProbabilityMap(values, *shape, Guide(picture)).mask(0.5)
    assert iou(by_blocks, by_pixels) > 0.99


def test_looking_around_the_mask_only_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, wanted = star(600, 840)
    part = wanted.copy()
    part[:, :350] = part[330:] = False  # in one corner, with an edge that the picture does not show
    values = seen(part)
    around = ProbabilityMap(values, 600, 840, Guide(picture)).mask(0.5)
    everywhere = (slice(None), slice(None))
    monkeypatch.setattr(edges._Colours, "_around", lambda _colours, _mask: (everywhere, everywhere))
    assert np.array_equal(ProbabilityMap(values, 600, 840, Guide(picture)).mask(0.5), around)


def test_a_large_picture_is_voted_on_at_a_bounded_size() -> None:
    guide = Guide(np.zeros((30, 5 * WORKING_SIDE, 3), np.uint8))
    values = np.zeros((16, 16), np.float32)
    values[:, :8] = 1
    votes: NDArray[Any] = guide.vote(values, 0.5)
    assert votes.shape == (6, WORKING_SIDE)
    assert 0 <= votes.min() <= votes.max() <= 1


def test_a_segmenter_s_masks_follow_the_pictures_where_it_was_told_so(small_model: SegGPT) -> None:
    """Also for a picture in another form, and whatever else is asked for in the same call."""
    picture, wanted = star(200, 300)
    deep = picture.astype(np.uint16) * 257
    context = Context((Example("star", picture, wanted),))
    queries = [Query(picture, context), Query(deep[:, :150], context), Query(picture, context, "instance")]
    guided, plain = Segmenter(small_model, guided=True), Segmenter(small_model)
    assert all(found.guide is None for found in plain.maps(queries))
    for query, found in zip(queries, guided.maps(queries), strict=True):
        seen_as = Guide(canvas.to_rgb(query.image))
        threshold = float(np.median(found.values))
        alone = ProbabilityMap(found.values, query.image.shape[0], query.image.shape[1], seen_as).mask(
            threshold
        )
        assert found.guide is not None
        assert 0 < alone.mean() < 1
        assert np.array_equal(found.mask(threshold), alone)
