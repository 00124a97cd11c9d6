"""An annotation's regions to one target's mask; knows no geometry (see `kinds`) and no store."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.errors import RegionError
from backend.label_config import Target
from backend.regions.kinds import KINDS, Value

MAX_PIXELS = 1 << 28

Region = Mapping[str, Any]


def decode(
    result: Sequence[Region], target: Target, max_pixels: int = MAX_PIXELS
) -> NDArray[np.bool_] | None:
    """The union of an annotation's regions of one target.

    Regions of other targets, drafts without geometry and unfinished polygons are passed over. A brush pixel counts
    where its alpha is above `ALPHA_THRESHOLD`.

    Args:
        result: an annotation's (or a prediction's) `result`.
        target: whose regions are wanted.
        max_pixels: largest image that a region may state, `MAX_PIXELS` at most.

    Returns:
        bool [H, W] at the image's original size, or None where no pixel is marked.

    Raises:
        RegionError: one of these regions, or the size of its image, cannot be read.
    """
    mask: NDArray[np.bool_] | None = None
    for region, value in _regions(result, target):
        size = _size(region, min(max_pixels, MAX_PIXELS))
        if mask is None:
            mask = np.zeros(size, dtype=np.bool_)
        elif mask.shape != size:
            raise RegionError(
                f"The regions of one image say {mask.shape} and {size} for its height and width."
            )
        KINDS[target.kind].paint(value, mask)
    return mask if mask is not None and mask.any() else None


def original_size(result: Sequence[Region], target: Target) -> tuple[int, int] | None:
    """Height and width in pixels that the target's first region states; None where there is no region.

    Raises:
        RegionError: it states none, or an absurd one.
    """
    return next((_size(region) for region, _ in _regions(result, target)), None)


def approved_labels(result: Sequence[Region]) -> frozenset[str]:
    """The labels of all regions that some target could have, whatever their control."""
    types = {"labels", *(f"{kind}labels" for kind in KINDS)}
    found: set[str] = set()
    for region in result:
        if isinstance(region, Mapping) and str(region.get("type")) in types:
            found.update(_labels(_value(region), str(region["type"])))
    return frozenset(found)


def _regions(result: Sequence[Region], target: Target) -> Iterator[tuple[Region, Value]]:
    """The target's regions and their values."""
    joined = target.labels_control is not None
    wanted = target.kind if joined else f"{target.kind}labels"
    named = _named(result, target)
    for region in result:
        if not _is_of(region, target, target.control, wanted):
            continue
        value = _value(region)
        labelled = target.label in _labels(value, "labels" if joined else wanted)
        if labelled or _identity(region) in named:
            yield region, value


def _named(result: Sequence[Region], target: Target) -> set[str]:
    """The ids of regions to which the separate Labels tag gives the target's label."""
    if target.labels_control is None:
        return set()
    return {
        _identity(region)
        for region in result
        if _is_of(region, target, target.labels_control, "labels")
        and target.label in _labels(_value(region), "labels")
    } - {""}


def _is_of(region: Region, target: Target, control: str, kind: str) -> bool:
    return (
        isinstance(region, Mapping)
        and region.get("from_name") == control
        and region.get("to_name") == target.image
        and region.get("type") == kind
        # Only the first of a list's pages is predicted, so only it teaches.
        and not region.get("item_index")
    )


def _identity(region: Region) -> str:
    return str(region.get("id") or "")


def _value(region: Region) -> Value:
    value = region.get("value")
    return value if isinstance(value, Mapping) else {}


def _labels(value: Value, key: str) -> list[str]:
    labels = value.get(key)
    return [label for label in labels if isinstance(label, str)] if isinstance(labels, list | tuple) else []


def _size(region: Region, most: int = MAX_PIXELS) -> tuple[int, int]:
    height, width = _side(region, "original_height"), _side(region, "original_width")
    if height * width > most:
        raise RegionError(
            f"A region's image of {height} x {width} pixels is larger than {most} pixels.",
            remedy="Images of that size are not read; see MAX_IMAGE_PIXELS." if most < MAX_PIXELS else "",
        )
    return height, width


def _side(region: Region, name: str) -> int:
    side = region.get(name)
    if isinstance(side, bool) or not isinstance(side, int | float):
        raise RegionError(f"A region needs its image's {name} as a number of pixels, not {side!r}.")
    if not 1 <= side <= MAX_PIXELS or side != int(side):
        raise RegionError(f"A region states no possible {name} of its image.")
    return int(side)
