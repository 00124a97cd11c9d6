"""Files of a data set: pictures, masks of class indices, lists; what is missing is named, with where it is to be had."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.evaluation import EvaluationError
from model.example import Mask, Picture

Indices = NDArray[np.uint8]
"""Class indices `[H, W]`; 0 is none, `model.evaluation.IGNORED` is not counted."""


def needed(path: Path, source: str) -> Path:
    """A file or folder that has to be there.

    Args:
        path: what is looked for.
        source: a sentence that says what it belongs to and where that is to be had.

    Raises:
        EvaluationError: if it is not there.
    """
    if not path.exists():
        raise EvaluationError(f"{path} is missing. {source}")
    return path


def lines(path: Path, source: str) -> list[str]:
    """The lines of a list, without empty ones.

    Raises:
        EvaluationError: if there is no such file, or nothing in it.
    """
    found = [line.strip() for line in needed(path, source).read_text(encoding="utf-8").splitlines()]
    if not any(found):
        raise EvaluationError(f"{path} is empty. {source}")
    return [line for line in found if line]


def picture(path: Path, source: str) -> Picture:
    """A picture, `[H, W, 3]` uint8 RGB.

    Raises:
        EvaluationError: if there is no such file.
        OSError: if it is no picture.
    """
    with Image.open(needed(path, source)) as opened:
        return np.asarray(opened.convert("RGB")).copy()


def white(path: Path, source: str) -> Mask:
    """A mask that is painted in white on black, `[H, W]` bool.

    Raises:
        EvaluationError: if there is no such file.
        OSError: if it is no picture.
    """
    with Image.open(needed(path, source)) as opened:
        return np.asarray(np.asarray(opened.convert("L")) >= 128)


def indices(path: Path, source: str) -> Indices:
    """A mask as it is stored: the indices of a palette, or grey values.

    Raises:
        EvaluationError: if there is no such file, or it has more than one channel.
        OSError: if it is no picture.
    """
    with Image.open(needed(path, source)) as opened:
        if opened.mode not in ("P", "L"):
            raise EvaluationError(f"{path}: a mask is a palette or grey image, not of mode {opened.mode}")
        return np.asarray(opened, dtype=np.uint8).copy()


def same_size(shown: Picture, mask: NDArray[np.generic], path: Path) -> None:
    """See that a mask is of its picture's size.

    Raises:
        EvaluationError: if it is not.
    """
    if mask.shape != shown.shape[:2]:
        raise EvaluationError(
            f"{path}: image and mask differ in size: image {shown.shape[:2]}, mask {mask.shape}"
        )
