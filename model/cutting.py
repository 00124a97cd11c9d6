"""Objects cut out of a picture along its edges: in an outlined area, under clicks, or all that a network has found.

Knows no network and no Label Studio: a probability map, where there is one, is given.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.example import Mask, Picture
from model.frames import Frame, Patch, Points, around, shown, whole
from model.growing import grown, under
from model.scene import COARSE_SIDE, LEAST_SIDE, Clicks, Scene

_BORDER = 0.3  # of background around an object, as a share of it
_LEAST_BORDER = 4  # pixels
_REACH = 0.12  # of its size that an object may be larger than at first glance
_FOUND = 0.02  # of an outlined area; of less a prior says nothing
_LITTLE = 0.05  # of an outlined area; people outline tightly, so less is tried again
_LEAST = 0.01  # of an outlined area; less is no object
_SHRUNK = 0.3  # of a proposed region; less has lost the object
_SPECK = 0.1  # of the largest part; smaller ones are left out
_HOLE = 0.02  # of an object; smaller holes are filled
_MOST = 40  # regions of a map that are cut; the rest is taken as it is
_RIM = 0.03  # of a known object's frame, that its edge may be drawn otherwise
_AT_FULL_SIDE = 4  # regions
_ALONE_BORDER = 0.15  # of its surroundings that an object keeps when it is shown alone
_ALONE_SIDE = 1024  # pixels; no network looks closer
_ALONE_SHARE = 0.25  # of the sides of the picture in which it is shown alone


@dataclass(frozen=True, eq=False)
class Cutout:
    """What was cut out.

    Attributes:
        mask: `[H, W]` bool, at the picture's size.
        score: 0 to 1, the IoU to expect by how well the object differs from what is around it.
    """

    mask: Mask
    score: float


def cut_area(
    picture: Picture,
    area: Mask,
    clicks: Clicks | None = None,
    prior: Patch | None = None,
    threshold: float = 0.5,
) -> Cutout | None:
    """The object in an outlined area.

    Args:
        picture: `[H, W, 3]` uint8 RGB.
        area: `[H, W]` bool; nothing outside it is taken.
        clicks: to correct by.
        prior: the probability of what is wanted; not believed where it finds nothing in the area.
        threshold: from which a probability counts as found.

    Returns:
        None where nothing in the area stands out.
    """
    if not area.any():
        return None
    frame = around(area).grown(_BORDER, _LEAST_BORDER, whole(picture.shape))
    near = (clicks or Clicks.none()).within(frame)
    scene = Scene(picture, frame, None, near)
    within = Patch(area[frame.slices].astype(np.float32), frame).seen(frame, scene.size) >= 0.5
    start = within
    if prior is not None:
        foreseen = within & (prior.seen(frame, scene.size) >= threshold)
        if foreseen.sum() > _FOUND * within.sum():
            scene, start = Scene(picture, frame, prior, near), foreseen
    found = scene.cut(start, within)
    if found is None or found.mask.sum() < _LITTLE * within.sum():
        found = scene.cut(scene.unlike_around(within), within)
    if found is None:
        return None
    parts = _filled(_large(found.mask) | _under(found.mask, scene.places(near.inside)))
    mask = np.zeros(area.shape, dtype=np.bool_)
    mask[frame.slices] = scene.drawn(parts) & area[frame.slices]
    return Cutout(mask, found.score(parts)) if mask.sum() > _LEAST * area.sum() else None


def cut_clicked(
    picture: Picture, clicks: Clicks, prior: Patch | None = None, threshold: float = 0.5
) -> Cutout | None:
    """The objects under clicks.

    Clicks whose regions overlap are taken for one object's, or for objects that touch, and are cut together.

    Args:
        picture: `[H, W, 3]` uint8 RGB.
        clicks: each inside within the picture.
        prior: the probability of what is wanted; where it finds nothing at a click, the picture's colours decide.
        threshold: from which a probability counts as found.

    Returns:
        None where no click has an object.
    """
    regions: list[_Group] = []
    for point in clicks.inside:  # another click on a region that is proposed already says nothing new
        if not any(region.covers(point[None]) for region in regions):
            region = _proposed(picture, point[None], prior, threshold)
            regions += [] if region is None else [region]
    groups = _joined(regions)
    return _cut(picture, groups, clicks, prior)


def cut_found(picture: Picture, prior: Patch, threshold: float = 0.5) -> Cutout | None:
    """All that a probability map finds, each region cut along the picture's edges.

    Args:
        picture: `[H, W, 3]` uint8 RGB.
        prior: the map; of its regions, specks beside the largest are left out.
        threshold: from which a probability counts as found.

    Returns:
        None where nothing is found.
    """
    _, parts, stats, _ = cv2.connectedComponentsWithStats(
        _large(prior.values >= threshold).astype(np.uint8), connectivity=8
    )
    largest = [int(part) for part in np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1]
    regions = [_region(parts == part, prior.frame, foreseen=True) for part in largest[:_MOST]]
    cut = [_cut(picture, _joined(regions), Clicks.none(), prior)]
    if len(largest) > _MOST:
        rest = Patch(np.isin(parts, largest[_MOST:]).astype(np.float32), prior.frame)
        mask = rest.seen(whole(picture.shape), (picture.shape[0], picture.shape[1])) >= 0.5
        cut.append(Cutout(mask, threshold))
    return united(picture, cut)


def united(picture: Picture, cutouts: Iterable[Cutout | None]) -> Cutout | None:
    """Several cutouts of one picture as one, with their mean score by area; None where there is nothing in them.

    Args:
        picture: `[H, W, 3]` uint8 RGB.
        cutouts: of it; none is kept, so that they may be made one after the other.
    """
    mask = np.zeros(picture.shape[:2], dtype=np.bool_)
    scores, areas = [], []
    for cutout in cutouts:
        if cutout is not None and cutout.mask.any():
            mask |= cutout.mask
            scores.append(cutout.score)
            areas.append(int(cutout.mask.sum()))
    if not areas:
        return None
    return Cutout(mask, float(np.average(scores, weights=areas)))


def without(cutout: Cutout, known: Mask) -> Cutout | None:
    """A cutout without an object that is known already, nor what is left of its rim; None where nothing else is there.

    Args:
        cutout: of a picture.
        known: `[H, W]` bool, not empty.
    """
    frame = around(known).grown(_RIM, _LEAST_BORDER, whole(known.shape))
    wide = 2 * max(1, round(_RIM * min(frame.height, frame.width))) + 1
    rim = cv2.dilate(known[frame.slices].astype(np.uint8), np.ones((wide, wide), np.uint8))
    mask = cutout.mask.copy()
    mask[frame.slices] &= rim == 0
    if not mask.any():
        return None
    return Cutout(mask, cutout.score)


def alone(picture: Picture, mask: Mask) -> tuple[Picture, Mask]:
    """An object shown alone, as an example of itself: its likes around it would say that they are not meant.

    Args:
        picture: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` bool, not empty.

    Returns:
        A part of the picture with its proportions, in which the object takes `_ALONE_SHARE` of a side where there is
        room, everything but the object's close surroundings painted in their colour; and the object's mask there.
    """
    everything, box = whole(picture.shape), around(mask)
    close = box.grown(_ALONE_BORDER, 2, everything)
    share = max(box.height / everything.height, box.width / everything.width) / _ALONE_SHARE
    height, width = (
        max(side, min(most, round(share * most)))
        for side, most in ((close.height, everything.height), (close.width, everything.width))
    )
    top = min(max(0, (box.top + box.bottom - height) // 2), everything.height - height)
    left = min(max(0, (box.left + box.right - width) // 2), everything.width - width)
    frame = Frame(top, left, top + height, left + width)
    size = frame.fitted(_ALONE_SIDE)
    (first_row, first_column), (last_row, last_column) = frame.places(
        np.array([[close.left, close.top], [close.right - 1, close.bottom - 1]], dtype=np.float64), size
    ).tolist()
    kept = np.zeros(size, dtype=np.bool_)
    kept[first_row : last_row + 1, first_column : last_column + 1] = True
    seen = shown(picture, frame, size).copy()
    share_taken = cv2.resize(mask[frame.slices].astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    taken = (
        np.asarray(share_taken >= min(0.5, float(share_taken.max()))) & kept
    )  # what is thin does not vanish
    ground = seen[kept & ~taken]
    if len(ground):
        seen[~kept] = np.median(ground, axis=0).astype(np.uint8)
    return seen, taken


# -- regions at first glance ---------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Group:
    """Proposed regions that are cut together, and the part of the picture that they take."""

    regions: tuple[Patch, ...]
    frame: Frame
    foreseen: bool  # by the prior, all of them

    def seen(self, scene: Scene) -> Mask:
        taken = np.zeros(scene.size, dtype=np.bool_)
        for region in self.regions:
            taken |= region.seen(scene.frame, scene.size) >= 0.5
        return taken

    def covers(self, point: Points) -> bool:
        """Whether a point `[1, 2]` lies in one of the regions."""
        x, y = point[0]
        if not (self.frame.left <= x < self.frame.right and self.frame.top <= y < self.frame.bottom):
            return False
        places = ((region, region.frame.places(point, region.size)[0]) for region in self.regions)
        return any(bool(region.values[tuple(place)] >= 0.5) for region, place in places)

    def with_(self, other: "_Group") -> "_Group":
        frame, foreseen = self.frame.joined(other.frame), self.foreseen and other.foreseen
        return _Group(self.regions + other.regions, frame, foreseen)


def _proposed(picture: Picture, point: Points, prior: Patch | None, threshold: float) -> _Group | None:
    """The region that a click means: the prior's, else one of like colour."""
    if prior is not None:
        row, column = (int(index) for index in prior.frame.places(point, prior.size)[0])
        body = under(prior.values, (row, column), threshold)
        if body is not None:
            return _region(body, prior.frame, foreseen=True)
    region = grown(picture, point)
    return None if region is None else _region(region.values >= 0.5, region.frame, foreseen=False)


def _region(mask: Mask, frame: Frame, *, foreseen: bool) -> _Group:
    """A group of one region, whose mask covers `frame`."""
    box = around(mask)
    down, across = frame.height / mask.shape[0], frame.width / mask.shape[1]
    taken = Frame(
        frame.top + int(box.top * down),
        frame.left + int(box.left * across),
        frame.top + min(frame.height, int(np.ceil(box.bottom * down))),
        frame.left + min(frame.width, int(np.ceil(box.right * across))),
    )
    return _Group((Patch(mask.astype(np.float32), frame),), taken, foreseen)


def _joined(regions: Iterable[_Group]) -> list[_Group]:
    """Regions whose frames overlap, together."""
    groups: list[_Group] = []
    for region in regions:
        group = region
        while touching := [other for other in groups if other.frame.overlaps(group.frame)]:
            groups = [other for other in groups if not other.frame.overlaps(group.frame)]
            for other in touching:
                group = group.with_(other)
        groups.append(group)
    return groups


# -- cuts ----------------------------------------------------------------------------------------------------------
def _cut(picture: Picture, groups: Sequence[_Group], clicks: Clicks, prior: Patch | None) -> Cutout | None:
    """Cut regions: of each group those under clicks; without clicks all of them."""
    mask = np.zeros(picture.shape[:2], dtype=np.bool_)
    scores, areas = [], []
    # Many regions are cut in the time of a few.
    side = max(LEAST_SIDE, round(COARSE_SIDE * min(1.0, (_AT_FULL_SIDE / max(1, len(groups))) ** 0.5)))
    for group in groups:
        frame = group.frame.grown(_BORDER, _LEAST_BORDER, whole(picture.shape))
        scene = Scene(picture, frame, prior if group.foreseen else None, clicks.within(frame), side)
        found = _cut_group(group, scene)
        if found is not None:
            drawn = scene.drawn(found[0])
            mask[frame.slices] |= drawn
            scores.append(found[1])
            areas.append(int(drawn.sum()))
    if not any(areas):
        return None
    return Cutout(mask, float(np.average(scores, weights=areas)))


def _cut_group(group: _Group, scene: Scene) -> tuple[Mask, float] | None:
    """The parts of a scene that a group's regions became, and their score."""
    start = group.seen(scene)
    if not start.any():
        return None
    box = around(start)
    reach = max(3, round(_REACH * max(box.height, box.width)))
    possible = cv2.dilate(start.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=reach) > 0
    found = scene.cut(start, np.asarray(possible))
    if found is None:
        return None
    places = scene.places(scene.clicks.inside)
    parts, proposed = (_under(each, places) if len(places) else each for each in (found.mask, start))
    if parts.sum() < _SHRUNK * proposed.sum():
        parts = proposed
    return _filled(parts), found.score(parts)


def _under(mask: Mask, places: NDArray[np.int64]) -> Mask:
    """The connected parts under places."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    wanted = {int(parts[row, column]) for row, column in places} - {0}
    return np.asarray(np.isin(parts, list(wanted)))


def _large(mask: Mask) -> Mask:
    """The connected parts that are not specks beside the largest."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray(mask & (areas[parts] >= max(1, _SPECK * areas.max())))


def _filled(mask: Mask) -> Mask:
    """Without holes that are specks beside the object."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < _HOLE * mask.sum()
    return np.asarray(mask | (small[parts] & ~mask))
