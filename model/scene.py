"""A part of a picture told apart into object and background: GrabCut, then an edge laid along the picture's.

Knows no network: what one thinks comes as a map, and GrabCut sees it as a third channel beside the colours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.example import Mask, Picture
from model.frames import Frame, Patch, Points, shown

COARSE_SIDE = 224
"""Longest side in pixels at which object and background are told apart; the time goes with its square."""

LEAST_SIDE = 112
"""The same, where there are many scenes."""

FINE_SIDE = 512
"""Longest side in pixels at which the object's edge is drawn."""

_ROUNDS = 2  # of GrabCut; more move little
_KINDS = 8  # of colours in the surroundings
_FEW = 0.02  # of an area; less of it is noise
_LEAST_CONTRAST = 32.0  # of 255; below it, noise would be blown up into contrast
_EDGE = 1e-4  # variance of the guide, 0 to 1, from which the guided filter keeps an edge


@dataclass(frozen=True, eq=False)
class Clicks:
    """Where somebody clicked.

    Attributes:
        inside: on what is wanted.
        outside: on what is not.
    """

    inside: Points
    outside: Points

    @classmethod
    def none(cls) -> "Clicks":
        """No clicks."""
        return cls(np.zeros((0, 2)), np.zeros((0, 2)))

    def within(self, frame: Frame) -> "Clicks":
        """Those that lie in a frame."""
        return Clicks(self.inside[frame.holds(self.inside)], self.outside[frame.holds(self.outside)])


@dataclass(frozen=True, eq=False)
class Found:
    """Object and background at a scene's size.

    Attributes:
        mask: `[h, w]` bool, the object.
        likely: `[h, w]` float32, how much a pixel's colours speak for the object, 0 to 1.
    """

    mask: Mask
    likely: NDArray[np.float32]

    def score(self, parts: Mask) -> float:
        """IoU to expect of a mask if every pixel's probability is right, 0 to 1."""
        inside = float(self.likely[parts].sum())
        missed = float(self.likely[~parts].sum())
        return float(np.clip(inside / max(int(parts.sum()) + missed, 1e-6), 0.0, 1.0))


class Scene:
    """A part of a picture, brought to a size at which it can be cut.

    Attributes:
        frame: the part.
        size: height and width to which it is brought.
        clicks: those in the frame.
    """

    def __init__(
        self, picture: Picture, frame: Frame, prior: Patch | None, clicks: Clicks, side: int = COARSE_SIDE
    ) -> None:
        """Look at a part of a picture.

        Args:
            picture: `[H, W, 3]` uint8 RGB.
            frame: the part.
            prior: probabilities of the object, if any are known.
            clicks: those in the frame.
            side: the longest, in pixels.
        """
        self.frame = frame
        self.size = frame.fitted(side)
        self._picture = picture
        self.clicks = clicks
        seen = None if prior is None else prior.seen(frame, self.size)
        self._features = _features(shown(picture, frame, self.size), seen)

    def cut(self, start: Mask, possible: Mask) -> Found | None:
        """Tell object and background apart.

        Args:
            start: `[h, w]` bool, where the object is at first glance.
            possible: `[h, w]` bool, where it may be; the rest is background for certain.

        Returns:
            None where nothing is left of the object.
        """
        labels = np.full(self.size, cv2.GC_BGD, dtype=np.uint8)
        labels[possible] = cv2.GC_PR_BGD
        labels[start & possible] = cv2.GC_PR_FGD
        for spot in self._spots(self.clicks.inside, 1):
            labels[spot] = cv2.GC_FGD
        for spot in self._spots(self.clicks.outside, 1):
            labels[spot] = cv2.GC_BGD
        found = self._grab(labels.copy())
        around = self._spots(self.clicks.outside, 2)
        if found is not None and any(found.mask[spot].any() for spot in around):
            labels[self._given_up()] = cv2.GC_BGD  # a click that took away no more than itself
            found = self._grab(labels)
        return found

    def unlike_around(self, area: Mask) -> Mask:
        """The pixels of an area whose colours are rare outside it; all of it where that tells nothing."""
        colours = self._features.astype(np.float32)
        ground = colours[~area]
        if len(ground) < _KINDS or not area.any():
            return area
        cv2.setRNGSeed(0)
        stop = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0.0)
        _, _, kinds = cv2.kmeans(ground, _KINDS, np.empty(0, np.int32), stop, 1, cv2.KMEANS_PP_CENTERS)
        away = np.min([np.linalg.norm(colours - kind, axis=2) for kind in kinds], axis=0)
        levels = np.clip(away[area], 0, 255).astype(np.uint8).reshape(-1, 1)
        level, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        unlike = area & (away > level)
        return unlike if unlike.sum() > _FEW * area.sum() else area

    def drawn(self, mask: Mask) -> Mask:
        """A mask at the scene's size to one of its frame at the picture's size, its edge laid along the picture's edges.

        Args:
            mask: `[h, w]` bool.

        Returns:
            Bool, of the frame's height and width.
        """
        size = self.frame.fitted(FINE_SIDE)
        guide = _axes(shown(self._picture, self.frame, size), 1)[0].astype(np.float32) / np.float32(255)
        soft = Patch(mask.astype(np.float32), self.frame).seen(self.frame, size)
        fine = _guided(guide, soft, max(1, round(1.5 * size[0] / self.size[0])))
        if fine.max() < 0.5:  # thinner than the filter is wide
            fine = soft
        return np.asarray(
            Patch(fine, self.frame).seen(self.frame, (self.frame.height, self.frame.width)) >= 0.5
        )

    def places(self, points: Points) -> NDArray[np.int64]:
        """`[N, 2]`: row and column of points of the picture in the scene."""
        return self.frame.places(points, self.size)

    def _grab(self, labels: NDArray[np.uint8]) -> Found | None:
        objects = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        if not objects.any():
            return None
        if objects.all():
            return Found(objects, objects.astype(np.float32))
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # the same clicks give the same answer
        cv2.grabCut(
            self._features, labels, (0, 0, 1, 1), background, foreground, _ROUNDS, cv2.GC_INIT_WITH_MASK
        )
        objects = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        if not objects.any():
            return None
        likely = _posterior(self._features, background, foreground)
        likely[labels == cv2.GC_BGD] = 0
        likely[labels == cv2.GC_FGD] = 1
        return Found(np.asarray(objects), likely)

    def _given_up(self) -> Mask:
        """What belongs rather to a click outside than to one inside, by edges and distance."""
        markers = np.zeros(self.size, dtype=np.int32)
        for spot in self._spots(self.clicks.outside, 1):
            markers[spot] = 2
        for spot in self._spots(self.clicks.inside, 1):
            markers[spot] = 1
        cv2.watershed(cv2.GaussianBlur(self._features, (0, 0), 1.0), markers)
        return np.asarray(markers == 2)

    def _spots(self, points: Points, reach: int) -> Iterator[tuple[slice, slice]]:
        """The pixels around each point."""
        for row, column in self.places(points):
            yield (
                slice(max(0, row - reach), row + reach + 1),
                slice(max(0, column - reach), column + reach + 1),
            )


def _features(pixels: Picture, prior: NDArray[np.float32] | None) -> Picture:
    """What GrabCut sees in three channels: colours alone, or the two axes on which they vary most and the prior."""
    if prior is None:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2Lab), dtype=np.uint8)
    return np.dstack([*_axes(pixels, 2), np.clip(prior * 255, 0, 255).astype(np.uint8)])


def _axes(pixels: Picture, count: int) -> list[NDArray[np.uint8]]:
    """The projections of colours on the directions in which they vary most, each stretched over 0 to 255."""
    flat = pixels.reshape(-1, 3).astype(np.float32)
    centred = flat - flat.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    found = []
    for direction in directions.T[::-1][:count]:
        values = centred @ direction
        low, high = np.percentile(values, (0.5, 99.5))
        wide = max(float(high - low), _LEAST_CONTRAST)
        stretched = np.clip((values - (low + high) / 2) * (255 / wide) + 127.5, 0, 255)
        found.append(stretched.reshape(pixels.shape[:2]).astype(np.uint8))
    return found


def _posterior(
    features: Picture, background: NDArray[np.float64], foreground: NDArray[np.float64]
) -> NDArray[np.float32]:
    """`[h, w]`: the probability of the object by GrabCut's two colour models alone."""
    flat = features.reshape(-1, 3).astype(np.float64)
    inside, outside = _density(flat, foreground), _density(flat, background)
    return (inside / (inside + outside)).reshape(features.shape[:2]).astype(np.float32)


def _density(flat: NDArray[np.float64], model: NDArray[np.float64]) -> NDArray[np.float64]:
    """Density of a mixture as GrabCut stores it: five weights, five means, five covariances."""
    weights, means, covariances = model[0, :5], model[0, 5:20].reshape(5, 3), model[0, 20:].reshape(5, 3, 3)
    found = np.full(len(flat), 1e-12)
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        if weight <= 0:
            continue
        spread = covariance + np.eye(3)  # a single colour has no spread of its own
        away = flat - mean
        distance = np.einsum("ni,ij,nj->n", away, np.linalg.inv(spread), away, optimize=True)
        found += weight * np.exp(-distance / 2) / np.sqrt(np.linalg.det(spread))
    return found


def _guided(guide: NDArray[np.float32], values: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """The guided filter (He, Sun and Tang, 2010): values smoothed along the guide's edges, not across them."""
    window = (2 * reach + 1, 2 * reach + 1)

    def mean(of: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(of, window), dtype=np.float32)

    guides, means = mean(guide), mean(values)
    slope = (mean(guide * values) - guides * means) / (mean(guide * guide) - guides**2 + np.float32(_EDGE))
    return np.asarray(mean(slope) * guide + mean(means - slope * guides), dtype=np.float32)
