"""The gate's decision as arithmetic: better than what is in use, better than who never looks, on what still stands."""

import cv2
import numpy as np
import pytest

from backend.prompts.judging import blind_iou, decide
from model.evaluation import iou
from model.example import Example
from model.gate import Verdict


def example(mask: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Example:
    return Example("k", np.zeros((*mask.shape, 3), np.uint8), mask)


def square(top: int, left: int, side: int = 20, size: int = 64) -> Example:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return example(mask)


def test_masks_that_always_lie_in_the_same_place_are_found_without_looking() -> None:
    assert blind_iou([square(10, 10) for _ in range(5)]) == 1.0
    shifted = blind_iou([square(10, 10), square(10, 10), square(10, 20)])
    assert shifted == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)


def test_masks_that_lie_anywhere_are_not() -> None:
    places = [(0, 0), (0, 40), (40, 0), (40, 40), (22, 22)]
    assert blind_iou([square(*place) for place in places]) == pytest.approx(20 * 20 / 64**2, abs=0.02)


def test_masks_of_nearly_everything_are_found_by_taking_everything() -> None:
    assert blind_iou([square(0, place, side=60) for place in (0, 2, 4)]) > 0.85


def test_pictures_of_other_sizes_are_compared_by_place() -> None:
    wide = np.zeros((30, 90), bool)
    wide[:15] = True
    tall = np.zeros((200, 40), bool)
    tall[:100] = True
    assert blind_iou([example(wide), example(tall)]) == pytest.approx(1.0)


@pytest.mark.parametrize(("height", "width"), [(640, 5), (5, 640), (5, 5), (1, 1)])
def test_thin_and_small_masks_that_lie_anywhere_are_not_found_without_looking(
    height: int, width: int
) -> None:
    """Less than half of any cell that is compared: they must not all come to nothing, and be found by finding nothing."""
    random = np.random.default_rng(0)
    examples = []
    for _ in range(16):
        mask = np.zeros((640, 640), bool)
        top, left = random.integers(0, 641 - height), random.integers(0, 641 - width)
        mask[top : top + height, left : left + width] = True
        examples.append(example(mask))
    blind = blind_iou(examples)
    assert blind < 0.1
    passed, reason = decide(Verdict(16, 0.60, 0.85, 0.80), blind, 0.0)
    assert passed, reason


@pytest.mark.parametrize("thick", [3, 5])
def test_thin_masks_that_lie_in_nearly_the_same_place_are_found_without_looking(thick: int) -> None:
    """Diagonal lines, moved by up to four pixels: what of them is compared must not depend on where cells begin."""
    random = np.random.default_rng(0)
    examples = []
    for _ in range(16):
        mask = np.zeros((640, 640), np.uint8)
        right, down = random.integers(-4, 5, 2).tolist()
        cv2.line(mask, (60 + right, 80 + down), (560 + right, 500 + down), 1, thick)
        examples.append(example(mask.astype(bool)))
    masks = np.stack([one.mask for one in examples])
    total = masks.sum(axis=0)
    whole = np.mean([iou((total - mask) * 2 > len(masks) - 1, mask) for mask in masks])
    assert blind_iou(examples) == pytest.approx(whole, abs=0.05)
    assert whole > 0.4


def test_thin_masks_that_always_lie_in_the_same_place_are_found_without_looking() -> None:
    assert blind_iou([square(301, 301, side=3, size=640) for _ in range(5)]) == 1.0


@pytest.mark.parametrize(
    ("verdict", "blind", "gate", "objection", "passes", "says"),
    [
        (
            Verdict(9, 0.5, 0.6, 0.5),
            0.1,
            0.0,
            "",
            True,
            "At least as good: IoU 0.60 against 0.50 by examples",
        ),
        (Verdict(9, 0.6, 0.6, 0.5), 0.1, 0.0, "", True, "At least as good"),
        (Verdict(9, 0.6, 0.59, 0.5), 0.1, 0.0, "", False, "TUNE_GATE asks for +0.00"),
        (Verdict(9, 0.6, 0.59, 0.5), 0.1, -0.05, "", True, "At least as good"),
        (Verdict(9, 0.6, 0.63, 0.5), 0.1, 0.05, "", False, "TUNE_GATE asks for +0.05"),
        (Verdict(9, 0.1, 0.12, 0.1), 0.2, 0.0, "", False, "0.20 is reached without looking at the picture"),
        (Verdict(9, 0.1, 0.24, 0.1), 0.2, 0.0, "", False, "up to 0.25 by chance"),
        (Verdict(36, 0.1, 0.24, 0.1), 0.2, 0.0, "", True, "At least as good"),
        (Verdict(9, 0.9, 0.1, 0.1), 0.2, -1.0, "", True, "At least as good"),
        (
            Verdict(9, 0.5, 0.6, 0.5),
            0.1,
            0.0,
            "it rains",
            False,
            "Good enough, but it rains: IoU 0.60 against",
        ),
        (Verdict(9, 0.1, 0.6, 0.5, 0.7, 0.65), 0.1, 0.0, "", False, "0.65 against 0.70 by the prompt in use"),
        (Verdict(9, 0.9, 0.6, 0.5, 0.6, 0.65), 0.1, 0.0, "", True, "0.65 against 0.60 by the prompt in use"),
    ],
)
def test_a_candidate_passes_only_if_it_is_at_least_as_good_and_has_looked(
    verdict: Verdict, blind: float, gate: float, objection: str, passes: bool, says: str
) -> None:
    passed, reason = decide(verdict, blind, gate, objection)
    assert passed is passes
    assert says in reason
