"""Kept IoU: what annotators left of our predictions; knows arrays and records only."""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.protocol import parse_time
from backend.store import Approval, KeptIoU, PredictionRecord, Store
from backend.store.pictures import unpack_mask
from model.evaluation import iou

# A prediction may have been recorded by another clock than the annotation was.
_CLOCK_SKEW = 2.0


def compare(store: Store, approval: Approval, masks: Mapping[str, NDArray[np.bool_]]) -> list[KeptIoU]:
    """Kept IoU of every target that had been predicted for the task before it was submitted.

    A target predicted empty and submitted empty is kept entirely (1.0).
    """
    record = _shown(store, approval)
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
            iou=_iou(record.masks.get(target), masks.get(target)),
            at=now,
        )
        for target in record.context
    ]


def _shown(store: Store, approval: Approval) -> PredictionRecord | None:
    """The newest prediction that the annotator can have seen."""
    submitted = parse_time(approval.at)
    for record in store.predictions(approval.project, approval.task):
        if submitted is None or record.at <= submitted + _CLOCK_SKEW:
            return record
    return None


def _iou(predicted: bytes | None, submitted: NDArray[np.bool_] | None) -> float:
    """IoU at the stored prediction's size."""
    if predicted is None:
        return 1.0 if submitted is None or not submitted.any() else 0.0
    ours = unpack_mask(predicted)
    if submitted is None:
        return iou(ours, np.zeros_like(ours))
    theirs = Image.fromarray(submitted.astype(np.uint8) * 255).resize(
        (ours.shape[1], ours.shape[0]), Image.Resampling.BOX
    )
    return iou(ours, np.array(theirs) > 127)
