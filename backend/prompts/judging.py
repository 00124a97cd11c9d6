"""Whether a candidate is to be used: the gate's figures to a decision and a sentence; knows no store."""

import math
from collections.abc import Sequence

import numpy as np

from model.canvas import resize_mask
from model.evaluation import iou
from model.example import Example
from model.gate import Verdict

EVERYTHING = -1.0
"""The gate that lets everything through."""

_CHANCE = 0.15  # how much the IoU of one mask with what was found of another may be there by chance
_SIDE = 224  # masks are compared with the one that never looks at this size; 3 px of 640 are a cell


def blind_iou(examples: Sequence[Example]) -> float:
    """What who never looks at a picture would reach: mean IoU, 0 to 1, with each mask, of what the others have there.

    The better of two: all of the picture, or the places that belong to the target on most of the other pictures. A
    prompt that does no better has learned where masks lie and not what they show, as it does from wrong masks.

    Args:
        examples: at least two.
    """
    masks = np.stack([resize_mask(example.mask, _SIDE, _SIDE) for example in examples])
    total = masks.sum(axis=0)
    usual = [iou((total - mask) * 2 > len(masks) - 1, mask) for mask in masks]
    everywhere = [float(mask.mean()) for mask in masks]
    return float(max(np.mean(usual), np.mean(everywhere)))


def decide(
    verdict: Verdict, blind: float, gate: float, objection: str = "", *, is_known: bool = True
) -> tuple[bool, str]:
    """Whether a candidate is to be used, and why, a sentence for people.

    Args:
        verdict: what was measured on masks that neither it nor what is in use had seen.
        blind: what `blind_iou` found for the same examples.
        gate: by how much mean IoU it must be better than what is in use; `EVERYTHING` asks for nothing.
        objection: what is against it all the same, half a sentence; "" for nothing.
        is_known: whether it is known which masks the prompt in use had seen.
    """
    unseen = "neither had seen"
    if verdict.incumbent_iou is not None and verdict.rival_iou is not None:
        measured = f"IoU {verdict.rival_iou:.2f} against {verdict.incumbent_iou:.2f} by the prompt in use"
        if not is_known:
            unseen = "it had not seen; those that the other had seen are not known, as it was imported"
    else:
        measured = f"IoU {verdict.tuned_iou:.2f} against {verdict.context_iou:.2f} by examples"
    measured = f"{measured}, on masks that {unseen} ({verdict.masks} judged)"
    if verdict.gain < gate:
        return False, f"Not good enough: {measured}; TUNE_GATE asks for {gate:+.2f}."
    least = blind + _CHANCE / math.sqrt(max(verdict.masks, 1))  # a mean varies less, the more masks it is of
    if gate > EVERYTHING and verdict.tuned_iou <= least:
        return (
            False,
            f"Not good enough: {measured}, but {blind:.2f} is reached without looking at the picture, and up to "
            f"{least:.2f} by chance.",
        )
    if objection:
        return False, f"Good enough, but {objection}: {measured}."
    return True, f"At least as good: {measured}."
