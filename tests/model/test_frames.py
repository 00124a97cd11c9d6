"""Parts of a picture at other scales: what is looked at and what is painted back fit to the pixel."""

import numpy as np
import pytest

from model.frames import Frame, Patch, around, shown, whole
from tests.model.drawn_objects import at, disc

PICTURE = Frame(0, 0, 240, 320)


def test_a_mask_that_is_seen_smaller_and_back_is_where_it_was() -> None:
    mask = disc(100, 130, 60)
    frame = Frame(40, 20, 230, 190)
    part = Patch(mask[frame.slices].astype(np.float32), frame)
    small = Patch(part.seen(frame, (95, 85)), frame)
    again = small.seen(frame, (frame.height, frame.width)) >= 0.5
    assert (again != mask[frame.slices]).sum() < 0.02 * mask.sum()
    offsets = [np.argwhere(each).mean(axis=0) for each in (again, mask[frame.slices])]
    assert np.abs(offsets[0] - offsets[1]).max() < 0.1


def test_a_patch_seen_as_it_is_is_itself_and_nothing_reaches_beyond_it() -> None:
    values = np.random.default_rng(1).random((20, 30)).astype(np.float32)
    patch = Patch(values, Frame(10, 10, 30, 40))
    assert patch.seen(patch.frame, patch.size) is values
    wider = patch.seen(Frame(0, 0, 40, 50), (40, 50))
    assert (wider[10:30, 10:40] == values).all()
    assert wider.sum() == pytest.approx(values.sum(), rel=1e-5)
    assert patch.seen(Frame(100, 100, 110, 110), (10, 10)).max() == 0


def test_a_frame_grows_as_far_as_the_picture_reaches() -> None:
    assert Frame(50, 100, 90, 200).grown(0.25, 4, PICTURE) == Frame(40, 75, 100, 225)
    assert Frame(0, 310, 4, 320).grown(0.25, 6, PICTURE) == Frame(0, 304, 10, 320)


def test_frames_join_and_know_whether_they_share_a_pixel() -> None:
    left, right, apart = Frame(0, 0, 10, 10), Frame(5, 9, 20, 30), Frame(10, 0, 12, 10)
    assert left.joined(right) == Frame(0, 0, 20, 30)
    assert left.overlaps(right)
    assert right.overlaps(left)
    assert not left.overlaps(apart)


def test_points_fall_on_the_pixel_that_they_are_in_and_beyond_it_on_the_edge() -> None:
    frame = Frame(100, 200, 200, 400)
    points = at((200.0, 100.0), (399.9, 199.9), (300.0, 150.0), (0, 500))
    assert frame.places(points, (50, 100)).tolist() == [[0, 0], [49, 99], [25, 50], [49, 0]]
    assert frame.holds(points).tolist() == [True, True, True, False]


def test_a_frame_is_fitted_and_never_enlarged() -> None:
    assert Frame(0, 0, 3000, 4000).fitted(1000) == (750, 1000)
    assert Frame(0, 0, 30, 40).fitted(1000) == (30, 40)
    assert Frame(0, 0, 1, 4000).fitted(100) == (1, 100)


def test_a_part_is_shown_averaged_and_its_mask_has_the_least_frame() -> None:
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[:, 4:] = 100
    part = shown(picture, Frame(0, 2, 4, 8), (2, 3))
    assert part[..., 0].tolist() == [[0, 100, 100]] * 2
    assert around(picture[..., 0] > 0) == Frame(0, 4, 4, 8)
    assert whole(picture.shape) == Frame(0, 0, 4, 8)


def test_a_map_wider_than_opencv_warps_is_seen_all_the_same() -> None:
    """`warpAffine` takes sources of less than 32767 pixels on a side: it ended with an error."""
    values = np.zeros((20, 40_000), np.float32)
    values[:, 20_000:] = 1
    seen = Patch(values, whole(values.shape)).seen(whole(values.shape), (10, 2_000))
    assert seen[:, :990].max() == 0
    assert seen[:, 1_010:].min() > 0.99
