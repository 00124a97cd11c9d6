"""A mask to its objects: components, and touching ones parted where they narrow; knows no network and no files.

How far each pixel is from the mask's edge makes hills, one for each round part. Two hills are two objects where the
saddle between them is low beside both tops. What lies between goes to the nearer one.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from model.example import Mask

NECK = 0.7
"""Two parts are two objects where their joint is narrower than this share of either's width: for two equal discs, where
their centres are more than 1.4 radii apart."""

WORKING_SIDE = 1024
"""Longest side in pixels, about, of the picture in which parting lines are looked for."""

LEVELS = 32
"""Heights at which hills are cut."""

MOST = 200
"""Components that are looked at, the largest ones."""

MOST_LOOKS = 8
"""How often the picture's pixels are looked at: the boxes of rings and slanting stripes lie upon one another."""

Labels = NDArray[np.int32]


def split(mask: Mask, least: float, neck: float = NECK) -> Labels:
    """Number the objects of a mask.

    Args:
        mask: `[H, W]` bool.
        least: pixels; smaller objects are left out or not parted from others, and smaller holes are filled.
        neck: 0 to 1; 0 parts nothing that is connected, also by a corner.

    Returns:
        `[H, W]` int32: 0 outside, else the object's number, from 1 on.
    """
    filled = _without_holes(mask, least)
    _, found, stats, _ = cv2.connectedComponentsWithStats(filled.astype(np.uint8), connectivity=8)
    parts = np.asarray(found, dtype=np.int32)
    areas = [0, *stats[1:, cv2.CC_STAT_AREA].tolist()]
    large = [number for number in range(1, len(areas)) if areas[number] >= 2 * max(least, 1)]
    step = -(-max(mask.shape) // WORKING_SIDE)
    looked_at = 0
    for number in sorted(large, key=lambda number: -areas[number])[:MOST] if neck > 0 else ():
        left, top, width, height, _ = stats[number].tolist()
        looked_at += width * height
        if looked_at > MOST_LOOKS * mask.size:
            break
        around = parts[top : top + height, left : left + width]
        own = around == number
        pieces = _pieces(own, step, least, neck)
        if pieces is not None:
            around[own] = pieces[own] + np.int32(len(areas) - 1)
            areas[number] = 0
            areas += np.bincount(pieces[own])[1:].tolist()
    kept = np.array(areas) >= max(least, 1)
    return np.asarray((np.cumsum(kept) * kept).astype(np.int32)[parts])


def _without_holes(mask: Mask, least: float) -> Mask:
    """The mask with those holes filled that have fewer than `least` pixels and do not reach the border."""
    if least <= 1:
        return mask
    _, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < least
    small[0] = False
    for rim in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        small[rim] = False
    return mask | small[parts] if small.any() else mask


def _pieces(own: Mask, step: int, least: float, neck: float) -> Labels | None:
    """`[h, w]`: for every pixel around a component the object that is nearest, from 1 on; None where it is only one."""
    small = own[step // 2 :: step, step // 2 :: step]
    cores = _cores(small, neck)
    while (count := int(cores.max(initial=0))) > 1:
        pieces = _nearest(cores)
        areas = np.bincount(pieces[small], minlength=count + 1) * step**2
        tiny = areas < least
        tiny[0] = False
        if not tiny.any():
            whole = pieces.repeat(step, axis=0).repeat(step, axis=1)
            missing = tuple(
                (0, max(0, side - have)) for side, have in zip(own.shape, whole.shape, strict=True)
            )
            return np.pad(whole, missing, mode="edge")[: own.shape[0], : own.shape[1]]
        cores = (np.cumsum(~tiny) * ~tiny - 1).clip(0).astype(np.int32)[cores]
    return None


def _cores(small: Mask, neck: float) -> Labels:
    """The objects of one component, each as far down its hill as it stands alone: 0 elsewhere, else 1 and more."""
    if not small.any():
        return np.zeros(small.shape, dtype=np.int32)
    hills = cv2.distanceTransform(np.pad(small, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[
        1:-1, 1:-1
    ]
    current = small.astype(np.int32)
    latest = 1
    for height in np.linspace(0, float(hills.max()), LEVELS + 2)[1:-1]:
        above = hills > height
        count, parts = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
        tops, parents = np.zeros(count, dtype=np.float32), np.zeros(count, dtype=np.int32)
        np.maximum.at(tops, parts[above], hills[above])
        parents[parts[above]] = current[above]
        alone = np.flatnonzero((height <= neck * tops) & (parents > 0))
        several = np.bincount(parents[alone], minlength=latest + 1) > 1
        alone = alone[several[parents[alone]]]
        if len(alone):
            names = np.zeros(count, dtype=np.int32)
            names[alone] = np.arange(latest + 1, latest + 1 + len(alone))
            current = np.where(several[current], names[parts], current)
            latest += len(alone)
    there = np.bincount(current.ravel(), minlength=latest + 1) > 0
    there[0] = False
    return np.asarray((np.cumsum(there) * there).astype(np.int32)[current])


def _nearest(cores: Labels) -> Labels:
    """Every pixel takes the number of the core that is nearest to it."""
    _, nearest = cv2.distanceTransformWithLabels(
        (cores == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    names = np.zeros(int(nearest.max()) + 1, dtype=np.int32)
    names[nearest[cores > 0]] = cores[cores > 0]
    return names[nearest]
