"""How well a mask's edge and its objects agree with those of a known mask; knows no network and no files.

Boundary F is that of DAVIS (Perazzi et al.: A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation, 2016): of each mask's boundary, the share that lies within a tolerance of the other's, and the harmonic mean
of the two shares. The tolerance is DAVIS's too, `TOLERANCE` of the diagonal, rounded up to whole pixels.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.example import Mask

TOLERANCE = 0.008
"""Of the picture's diagonal; what DAVIS 2016 and 2017 use."""

MATCHING = 0.5
"""IoU above which two objects are the same one: then no object has two partners."""

Labels = NDArray[np.int32]


def boundary_f(found: Mask, wanted: Mask, tolerance: float = TOLERANCE) -> float:
    """Boundary F of two masks `[H, W]` bool: 0 to 1; 1 where neither has a boundary, 0 where one has none.

    Args:
        found: what is judged.
        wanted: what is known.
        tolerance: share of the diagonal.

    Raises:
        ValueError: if their shapes differ.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"masks of different shape: {found.shape} and {wanted.shape}")
    edges = _boundary(found), _boundary(wanted)
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    reach = math.ceil(tolerance * math.hypot(*found.shape))
    precision = _near(edges[0], edges[1], reach)
    recall = _near(edges[1], edges[0], reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(mask: Mask) -> Mask:
    """Pixels that differ from the one to their right, below or both; so an edge is one pixel wide, as in DAVIS."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def _near(edge: Mask, other: Mask, reach: int) -> float:
    """The share of `edge` that lies at most `reach` pixels from `other`; neither is empty."""
    away = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[edge] <= reach).mean())


@dataclass(frozen=True)
class ObjectCounts:
    """Objects found and known, added up over pictures.

    Attributes:
        matched: found objects that are known ones, by an IoU above `MATCHING`.
        found: all objects found.
        wanted: all objects known.
    """

    matched: int = 0
    found: int = 0
    wanted: int = 0

    def __add__(self, other: "ObjectCounts") -> "ObjectCounts":
        return ObjectCounts(
            self.matched + other.matched, self.found + other.found, self.wanted + other.wanted
        )

    @property
    def f1(self) -> float:
        """0 to 1: the harmonic mean of precision and recall; 1 where there is nothing and nothing was found."""
        total = self.found + self.wanted
        return 2 * self.matched / total if total else 1.0


def components(mask: Mask) -> Labels:
    """`[H, W]` bool to int32: 0 outside, 1 and more for its components; pixels that touch by a corner are connected."""
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1], dtype=np.int32)


def count_objects(found: Labels, wanted: Labels) -> ObjectCounts:
    """Match objects.

    Args:
        found: `[H, W]` int32, 0 outside of objects, and a number for each object.
        wanted: the same of the known objects.

    Raises:
        ValueError: if their shapes differ.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"labels of different shape: {found.shape} and {wanted.shape}")
    ours, ours_of = np.unique(found, return_inverse=True)
    theirs, theirs_of = np.unique(wanted, return_inverse=True)
    pairs = ours_of.ravel() * len(theirs) + theirs_of.ravel()
    shared = np.bincount(pairs, minlength=len(ours) * len(theirs)).reshape(len(ours), len(theirs))
    union = shared.sum(axis=1)[:, None] + shared.sum(axis=0)[None] - shared
    same = (shared > MATCHING * union)[ours != 0][:, theirs != 0]
    return ObjectCounts(int(same.sum()), int((ours != 0).sum()), int((theirs != 0).sum()))
