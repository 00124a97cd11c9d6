"""One target's mask to regions that Label Studio shows; knows no geometry (see `kinds`) and no model."""

from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.label_config import Target
from backend.regions.components import components, runs_of, without_specks
from backend.regions.kinds import KINDS

MIN_AREA = 2e-4
MAX_REGIONS = 200


def encode(
    mask: NDArray[Any],
    target: Target,
    *,
    score: float,
    instances: bool = False,
    min_area: float = MIN_AREA,
    probability: NDArray[np.float32] | None = None,
) -> list[dict[str, Any]]:
    """Describe a mask as the regions of one target.

    A brush gives one region in all, or with `instances` one for each connected component; the other controls always
    give one for each component: polygons by their simplified outline with large holes cut out, rectangles by their
    bounding box and ellipses by their spread, both with rotation 0. At most `MAX_REGIONS` components, the largest, are
    told apart.

    Args:
        mask: bool [H, W] at the image's original size; any other dtype counts as inside where it is not 0.
        target: whose regions they are. With a separate Labels tag each region is two items with one id.
        score: 0 to 1, the expected quality.
        instances: a brush region for each component.
        min_area: components below it are left out: below 1 a share of the image's pixels, else pixels.
        probability: float [H, W], 0 to 1; where it is given, a region's score is its mean over the region instead.

    Returns:
        Complete regions; none for a mask that is empty, or has only components that are too small.

    Raises:
        ValueError: the score is not a number from 0 to 1, a probability is none, or the mask has not two dimensions.
    """
    if mask.ndim != 2:
        raise ValueError(f"A mask has the shape height x width, not {mask.shape}.")
    overall = _checked(score)
    smallest = min_area * mask.size if min_area < 1 else min_area
    runs = without_specks(runs_of(np.asarray(mask, dtype=np.bool_)), smallest)
    if target.kind != "brush" or instances:
        parts = components(runs, MAX_REGIONS)
    else:
        parts = [runs] if runs.area else []
    found: list[dict[str, Any]] = []
    for part in parts:
        sure = overall if probability is None else _checked(np.clip(part.mean(probability), 0, 1))
        value = KINDS[target.kind].describe(part, smallest)
        found += _items(target, value, sure, mask.shape[0], mask.shape[1])
    return found


def _checked(score: float) -> float:
    if not 0 <= score <= 1:
        raise ValueError(f"A score is a number from 0 to 1, not {score}.")
    return float(score)


def _items(
    target: Target, value: dict[str, Any], score: float, height: int, width: int
) -> list[dict[str, Any]]:
    common = {
        "id": token_hex(5),
        "to_name": target.image,
        "origin": "prediction",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": score,
    }
    if target.labels_control is None:
        kind = f"{target.kind}labels"
        return [
            {**common, "from_name": target.control, "type": kind, "value": {**value, kind: [target.label]}}
        ]
    named = {**value, "labels": [target.label]}
    return [
        {**common, "from_name": target.control, "type": target.kind, "value": value},
        {**common, "from_name": target.labels_control, "type": "labels", "value": named},
    ]
