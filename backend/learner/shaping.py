"""Masks brought into shape for pools: which of them teach, at which size, as which example; asks no store."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import sequences
from backend.errors import RegionError
from backend.label_config import Target, image_url
from backend.lost_labels import LostLabels
from backend.sequences import Place
from backend.store import Approval, ExampleInfo, StoredExample
from backend.store.pictures import pack_image, pack_mask

Masks = Mapping[str, NDArray[np.bool_]]
"""By target id, `[H, W]` bool."""


def without(masks: Masks, out: Collection[str]) -> dict[str, NDArray[np.bool_]]:
    """Masks of all targets but some."""
    return {target: mask for target, mask in masks.items() if target not in out}


def readable(
    task: Mapping[str, Any], aside: Masks, there: Iterable[StoredExample], lost: LostLabels
) -> dict[str, NDArray[np.bool_]]:
    """Masks of lost labels that have no example, though the task still has their picture.

    Args:
        task: as Label Studio gives it.
        aside: the annotation's masks of lost labels.
        there: the annotation's examples of lost labels.
        lost: the lost labels.
    """
    stored, data = {example.info.target for example in there}, task.get("data")
    if not isinstance(data, Mapping):
        return {}
    pictured = {target.id for target in lost.targets if image_url(target.value, data) is not None}
    return {target: mask for target, mask in aside.items() if target in pictured - stored}


def fit(mask: NDArray[np.bool_], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The mask at the image's size; they differ only where the file changed after it was annotated.

    Raises:
        RegionError: if the proportions differ, so that mask and image cannot belong together.
    """
    height, width = image.shape[:2]
    if mask.shape == (height, width):
        return mask
    if abs(mask.shape[1] / mask.shape[0] - width / height) > 0.02 * width / height:
        raise RegionError(f"the mask is {mask.shape[1]} x {mask.shape[0]}, but the image {width} x {height}.")
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    fitted: NDArray[np.bool_] = mask[rows[:, None], columns]
    return fitted


def example(
    approval: Approval,
    target: Target,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    place: Place | None,
    descriptor: NDArray[np.float32],
) -> StoredExample:
    """One mask as an example, its key a hash of all that it is.

    Args:
        approval: that it is of.
        target: that it is of.
        image: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` bool, of the same size.
        place: in a sequence; None where the task is in none.
        descriptor: `[n]`, of the image.
    """
    image_png, mask_png = pack_image(image), pack_mask(mask)
    sequence, frame = sequences.as_columns(place)
    content = hashlib.sha256(image_png + mask_png)
    content.update(f"{approval.project} {approval.annotation} {target.id}".encode())
    info = ExampleInfo(
        key=content.hexdigest()[:32],
        project=approval.project,
        target=target.id,
        task=approval.task,
        annotation=approval.annotation,
        kind=approval.kind,
        annotator=approval.annotator,
        at=approval.at,
        area=float(mask.mean()),
        descriptor=descriptor.astype(np.float32).tobytes(),
        sequence=sequence,
        frame=frame,
    )
    return StoredExample(info, image_png, mask_png)
