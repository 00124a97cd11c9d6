"""Tiny data sets in the layouts of the published ones: what is red on a picture is what its mask shows, if not said."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

SIDE = 64
Block = tuple[int, int, int, int]
"""Top, left, bottom, right; multiples of 16, so that JPEG keeps its edges."""

HALF: Block = (0, 0, SIDE, SIDE // 2)
"""2048 pixels, as many as a list that is made by rule asks for."""


def inside(block: Block) -> NDArray[np.bool_]:
    top, left, bottom, right = block
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def save_picture(path: Path, red: NDArray[np.bool_]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((*red.shape, 3), dtype=np.uint8)
    picture[red] = (255, 0, 0)
    Image.fromarray(picture).save(path, quality=95, subsampling=0)


def save_indices(path: Path, indices: NDArray[np.uint8]) -> None:
    """As a palette image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices)
    image.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    image.save(path)


def pascal(folder: Path, pictures: Mapping[str, Mapping[int, Block]], ignored: Block | None = None) -> Path:
    """`VOC2012`, by picture and class; all classes are red, and so is what is ignored."""
    for name, blocks in pictures.items():
        indices = np.zeros((SIDE, SIDE), dtype=np.uint8)
        for label, block in blocks.items():
            indices[inside(block)] = label
        if ignored is not None:
            indices[inside(ignored)] = 255
        save_picture(folder / "JPEGImages" / f"{name}.jpg", indices > 0)
        save_indices(folder / "SegmentationClassAug" / f"{name}.png", indices)
    listed = folder / "ImageSets" / "Segmentation" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"{name}\n" for name in pictures))
    return folder


def polygon(block: Block) -> list[list[int]]:
    top, left, bottom, right = block
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(block: Block, *, text: bool) -> dict[str, Any]:
    """As COCO stores crowds: numbers in its files, text where a program made them."""
    mask = inside(block)
    if text:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
    edges = [0, *np.flatnonzero(np.diff(mask.T.ravel().astype(np.int8), prepend=0)).tolist(), mask.size]
    return {"size": list(mask.shape), "counts": [b - a for a, b in pairwise(edges)]}


def coco(folder: Path, annotations: Sequence[tuple[int, int, Any, float]], categories: Sequence[int]) -> Path:
    """`COCO2014`: of each annotation the picture's number, category, segmentation and area."""
    images = sorted({image for image, *_ in annotations})
    for image in images:
        red = np.zeros((SIDE, SIDE), dtype=np.bool_)
        red[:, : SIDE // 2] = True
        save_picture(folder / "val2014" / f"COCO_val2014_{image:012}.jpg", red)
    path = folder / "annotations" / "instances_val2014.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps(
            {
                "categories": [{"id": number, "name": f"thing {number}"} for number in categories],
                "images": [
                    {
                        "id": image,
                        "file_name": f"COCO_val2014_{image:012}.jpg",
                        "height": SIDE,
                        "width": SIDE,
                    }
                    for image in images
                ],
                "annotations": [
                    {"image_id": image, "category_id": category, "segmentation": segmentation, "area": area}
                    for image, category, segmentation, area in annotations
                ],
            }
        )
    )
    return folder


def fss(folder: Path, classes: Mapping[str, Block]) -> Path:
    """FSS-1000's folders: ten pictures a class, red where it is."""
    for name, block in classes.items():
        mask = inside(block)
        for number in range(1, 11):
            save_picture(folder / name / f"{number}.jpg", mask)
            Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB").save(folder / name / f"{number}.png")
    return folder


def davis(folder: Path, videos: Mapping[str, Sequence[Mapping[int, Block]]]) -> Path:
    """`DAVIS`, by video, frame and object; objects are red."""
    for video, frames in videos.items():
        for number, blocks in enumerate(frames):
            indices = np.zeros((SIDE, SIDE), dtype=np.uint8)
            for label, block in blocks.items():
                indices[inside(block)] = label
            save_picture(
                folder / "JPEGImages" / "480p" / video / f"{number:05}.jpg", (indices > 0) & (indices < 255)
            )
            save_indices(folder / "Annotations" / "480p" / video / f"{number:05}.png", indices)
    listed = folder / "ImageSets" / "2017" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"{video}\n" for video in videos))
    return folder
