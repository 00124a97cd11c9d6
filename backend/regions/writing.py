"""One target's mask to regions that Label Studio shows; knows no geometry (see `kinds`) and no model."""

from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.label_config import Target
from backend.regions.components import Runs, components, numbered, runs_of, without_specks
from backend.regions.kinds import KINDS
from model.instances import split

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

    A brush gives one region in all; the other controls give one for each connected component. With `instances` all give
    one for each object: a component, or its parts where it narrows between them (`model.instances`), small holes filled.
    At most `MAX_REGIONS`, the largest, are told apart. Polygons are the simplified outline with large holes cut out,
    rectangles the bounding box, and ellipses have the same spread; the last two have rotation 0.

    Args:
        mask: bool [H, W] at the image's original size; any other dtype counts as inside where it is not 0.
        target: whose regions they are. With a separate Labels tag each region is two items with one id.
        score: 0 to 1, the expected quality.
        instances: a region for each object.
        min_area: components and objects below it are left out: below 1 a share of the image's pixels, else pixels.
        probability: float [h, w], 0 to 1, the whole image at any resolution; where it is given, a region's score is
            its mean over the region instead.

    Returns:
        Complete regions; none for a mask that is empty, or has only components that are too small.

    Raises:
        ValueError: the score is not a number from 0 to 1, a probability is none, or the mask has not two dimensions.
    """
    if mask.ndim != 2:
        raise ValueError(f"A mask has the shape height x width, not {mask.shape}.")
    overall = _checked(score)
    smallest = min_area * mask.size if min_area < 1 else min_area
    parts = _parts(np.asarray(mask, dtype=np.bool_), target, smallest, instances)
    found: list[dict[str, Any]] = []
    for part in parts:
        sure = overall if probability is None else _checked(np.clip(part.mean(probability), 0, 1))
        value = KINDS[target.kind].describe(part, smallest)
        found += _items(target, value, sure, mask.shape[0], mask.shape[1])
    return found


def _parts(mask: NDArray[np.bool_], target: Target, smallest: float, instances: bool) -> list[Runs]:
    """What becomes a region each, largest first."""
    if not mask.any():
        return []
    if instances:
        return numbered(split(mask, smallest), MAX_REGIONS)
    runs = without_specks(runs_of(mask), smallest)
    if target.kind != "brush":
        return components(runs, MAX_REGIONS)
    return [runs] if runs.area else []


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
