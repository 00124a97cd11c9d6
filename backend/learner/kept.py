"""Kept IoU: what annotators left of our predictions; knows arrays and records only."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.protocol import parse_time
from backend.store import Approval, KeptIoU, PredictionRecord, Store
from backend.store.pictures import unpack_mask
from model import canvas
from model.evaluation import iou

CLOCK_SKEW = 2.0
"""Seconds by which predictions may have been recorded by another clock than annotations were."""


@dataclass(frozen=True)
class Seen:
    """What Label Studio says of the prediction that an annotator saw.

    Attributes:
        prediction: its number of the prediction that the annotation began with; None where it began with none, or that
            one is gone.
        version: `model_version` whose predictions the project showed when it was submitted; "" where it showed the
            newest.
    """

    prediction: int | None = None
    version: str = ""


_NOT_SAID = Seen()


def compare(
    store: Store, approval: Approval, masks: Mapping[str, NDArray[np.bool_]], seen: Seen = _NOT_SAID
) -> list[KeptIoU]:
    """Kept IoU of every target that had been predicted for the task before it was submitted.

    A target predicted empty and submitted empty is kept entirely (1.0).

    Args:
        store: where predictions are.
        approval: what was submitted.
        masks: its masks, by target id.
        seen: which prediction the annotator saw, as far as Label Studio says.
    """
    record = _shown(store, approval, seen)
    if record is None:
        return []
    now = time.time()
    return [
        KeptIoU(
            project=approval.project,
            task=approval.task,
            annotation=approval.annotation,
            target=target,
            revision=record.revision,
            iou=left_of(record.masks.get(target), masks.get(target)),
            at=now,
        )
        for target in record.context
    ]


def _shown(store: Store, approval: Approval, seen: Seen) -> PredictionRecord | None:
    """The prediction that the annotator saw; where Label Studio does not say, the newest that they can have seen."""
    records = store.predictions(approval.project, approval.task)
    began = [one for one in records if seen.prediction is not None and one.pushed == seen.prediction]
    submitted = parse_time(approval.at)
    before = [one for one in records if submitted is None or one.at <= submitted + CLOCK_SKEW]
    shown = [one for one in before if one.revision == seen.version]
    return next(iter([*began, *shown, *before]), None)


def left_of(predicted: bytes | None, submitted: NDArray[np.bool_] | None) -> float:
    """What was left of a predicted mask: IoU, 0 to 1, with the submitted one, at the predicted one's size.

    Args:
        predicted: a 1-bit PNG as predictions are stored; None where nothing was predicted.
        submitted: `[H, W]` bool, of the image's size; None where nothing was submitted.
    """
    if predicted is None:
        return 1.0 if submitted is None or not submitted.any() else 0.0
    ours = unpack_mask(predicted)
    if submitted is None:
        return iou(ours, np.zeros_like(ours))
    # Shrunk by the rule that the stored one was: what is left as it is must be kept entirely, however thin.
    return iou(ours, canvas.resize_mask(submitted, *ours.shape))
