"""Approved masks as a COCO dataset that pycocotools and everybody else can read; knows no store and no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

DESCRIPTION = "masks approved in Label Studio"
"""What a dataset of ours says of itself."""


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """One image and its masks.

    Attributes:
        name: file name, as it stands in the dataset's folder.
        height: px.
        width: px.
        masks: `[height, width]` bool by label; an empty mask counts as none.
    """

    name: str
    height: int
    width: int
    masks: Mapping[str, NDArray[np.bool_]]


def dataset(images: Sequence[LabeledImage], labels: Sequence[str]) -> dict[str, Any]:
    """The dataset, ready for `json.dump`: ids from 1, masks as compressed RLE in column order with text counts.

    Args:
        images: in the order of their ids; one without masks is listed without annotation.
        labels: categories, in the order of their ids.

    Raises:
        ValueError: if a mask is not of its image's size, or its label is not among `labels`.
    """
    category = {label: number for number, label in enumerate(dict.fromkeys(labels), start=1)}
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for label, mask in image.masks.items():
            if mask.shape != (image.height, image.width):
                raise ValueError(f"{image.name}: the mask is {mask.shape}, not {(image.height, image.width)}")
            if label not in category:
                raise ValueError(f"{image.name}: unknown label '{label}'")
            if mask.any():
                annotations.append(_annotation(len(annotations) + 1, number, category[label], mask))
    return {
        "info": {"description": DESCRIPTION},
        "images": [
            {"id": number, "file_name": image.name, "height": image.height, "width": image.width}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in category.items()],
    }


def _annotation(number: int, image: int, category: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {
            "size": [int(side) for side in encoded["size"]],
            "counts": encoded["counts"].decode("ascii"),
        },
        "area": int(coco_mask.area(encoded)),
        "bbox": [float(side) for side in coco_mask.toBbox(encoded)],
        "iscrowd": 0,
    }
