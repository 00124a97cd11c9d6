"""A folder of examples on the disk: written by `examples export`, read by `predict`; knows no store and no network.

`images/NAME.png` and `masks/NAME.png` are what `evaluate` takes: a palette image, in which index 1 is the first label.
A pixel of several labels can have one index only, so each label's own mask is in `labels/LABEL/NAME.png` too.
"""

import colorsys
import io
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.errors import BadRequest, Refused

MOST_LABELS = 254
"""Labels that a palette image holds: 0 is the background, 255 is ignored."""

BRIGHT = 127
"""Of 255: above it a pixel of a mask in grey counts as white."""

ONLY = "mask"
"""What the masks' label is called where the folder names none."""

COCO = "annotations.json"
PARTS = ("images", "masks", "labels")
"""What an export writes."""

_TURN = 0.618034  # of the colour circle, so that any number of labels differ well


@dataclass(frozen=True)
class Pair:
    """A picture and one of its masks, as files.

    Attributes:
        name: of both, without endings.
        image: the picture.
        mask: the mask's file.
        index: which of the file's indices is the mask; None where white is.
    """

    name: str
    image: Path
    mask: Path
    index: int | None = None

    def read_mask(self) -> NDArray[np.bool_]:
        """The mask, `[H, W]` bool.

        Raises:
            BadRequest: if it is to be white on black, and nothing of it is white nor all of it black.
            OSError: if the file is no picture.
        """
        with Image.open(self.mask) as picture:
            if self.index is not None:
                return np.asarray(np.array(picture) == self.index)
            levels = np.array(picture.convert("L"))
        if 1 < levels.max() <= BRIGHT:
            raise BadRequest(f"{self.mask}: nothing of the mask is white.", remedy="Paint it white on black.")
        return np.asarray(levels > (BRIGHT if levels.max() > 1 else 0))


def colours(count: int) -> list[tuple[int, int, int]]:
    """As many colours that differ well, 0 to 255 each; the first ones do not depend on the number."""
    turned = (colorsys.hsv_to_rgb((0.93 + number * _TURN) % 1.0, 0.95, 0.95) for number in range(count))
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in turned]


def file_names(labels: Iterable[str]) -> dict[str, str]:
    """Names for files and folders, by label: all that a file system might refuse is replaced, and no two are equal."""
    found: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        plain = re.sub(r"[^\w .+-]+", "_", label).strip(" .")[:80] or "label"
        name, number = plain, 2
        while name.casefold() in {taken.casefold() for taken in found.values()}:
            name, number = f"{plain} {number}", number + 1
        found[label] = name
    return found


# -- writing -------------------------------------------------------------------------------------------------------
def clear(folder: Path, *, force: bool) -> None:
    """See that a folder is new or empty: masks that were withdrawn since an earlier export must not be read again.

    Args:
        folder: of the examples.
        force: throw away what an earlier export wrote there, and nothing else.

    Raises:
        Refused: if it holds something else, or an earlier export that is not to be thrown away.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not force:
        raise Refused(f"{folder} is not empty.", remedy="Choose another folder, or --force after an export.")
    if not _is_ours(folder / COCO):
        raise Refused(
            f"{folder} holds no {COCO} of ours: no export wrote it.", remedy="Choose another folder."
        )
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
    (folder / COCO).unlink()


def _is_ours(file: Path) -> bool:
    """Whether a file is what an export wrote; other programs' datasets are called so too."""
    from backend.coco import DESCRIPTION

    try:
        info = json.loads(file.read_bytes())["info"]
        return bool(info["description"] == DESCRIPTION)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def check(labels: Sequence[str]) -> None:
    """See that the labels fit into a palette.

    Raises:
        BadRequest: if there are more.
    """
    if len(labels) > MOST_LABELS:
        raise BadRequest(f"A palette image holds {MOST_LABELS} labels; the project has {len(labels)}.")


def write_masks(
    folder: Path, name: str, masks: Mapping[str, NDArray[np.bool_]], labels: Sequence[str]
) -> int:
    """Write one image's masks; returns how many pixels belong to several labels, of which the last one has them.

    Args:
        folder: of the examples.
        name: of the image, without ending.
        masks: `[H, W]` bool by label, at least one, all of one size; empty ones are not written.
        labels: all labels of the folder, the palette's indices from 1 on.

    Raises:
        BadRequest: if there are more labels than a palette holds.
    """
    check(labels)
    names = file_names(labels)
    shape = next(iter(masks.values())).shape
    indices, taken = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for number, label in enumerate(labels, start=1):
        mask = masks.get(label)
        if mask is None or not mask.any():
            continue
        indices[mask] = number
        taken += mask
        file = folder / "labels" / names[label] / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(black_and_white(mask))
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices)
    picture.putpalette([0, 0, 0, *(part for colour in colours(len(labels)) for part in colour)])
    picture.save(folder / "masks" / f"{name}.png")
    return int(np.count_nonzero(taken > 1))


def black_and_white(mask: NDArray[np.bool_]) -> bytes:
    """`[H, W]` bool as a PNG of 0 and 255."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG")
    return buffer.getvalue()


# -- reading -------------------------------------------------------------------------------------------------------
def pairs(folder: Path) -> dict[str, list[Pair]]:
    """The folder's pairs by label, each label's sorted by name.

    Labels are the folders of `labels/`; without them the indices of the palette images in `masks/`, as `class 3`.
    Where these hold one class only, or are black and white, the label is called `ONLY`. Grey images hold indices too
    where no value of any of them is bright, white aside: the soft edges of a painting have bright values as well.

    Raises:
        BadRequest: if the folder holds no pair.
    """
    images = {file.stem: file for file in sorted((folder / "images").glob("*")) if file.is_file()}
    found: dict[str, list[Pair]] = {}
    for file in sorted((folder / "labels").glob("*/*.png")):
        if file.stem in images:
            found.setdefault(file.parent.name, []).append(Pair(file.stem, images[file.stem], file))
    if not found:
        found = _classes(folder, images)
    if not found:
        raise BadRequest(
            f"{folder} holds no pair images/NAME.* and masks/NAME.png.",
            remedy="`examples export` writes such a folder; README.md says what else does.",
        )
    return found


def _classes(folder: Path, images: Mapping[str, Path]) -> dict[str, list[Pair]]:
    by_class: dict[int | None, list[Pair]] = {}
    modes: dict[Path, str] = {}
    held: dict[Path, list[int]] = {}
    for file in sorted((folder / "masks").glob("*.png")):
        if file.stem not in images:
            continue
        with Image.open(file) as picture:
            modes[file] = picture.mode
            counts = picture.histogram() if picture.mode in ("P", "L") else []
            # 255 is "ignore" among indices of classes, but plain white in a black-and-white mask.
            held[file] = [index for index, count in enumerate(counts[:255]) if index and count]
    grey = [index for file, mode in modes.items() if mode == "L" for index in held[file]]
    indexed = ("P", "L") if grey and max(grey) <= BRIGHT else ("P",)
    for file, mode in modes.items():
        for index in held[file] if mode in indexed else [None]:
            by_class.setdefault(index, []).append(Pair(file.stem, images[file.stem], file, index))
    if len(by_class) == 1:
        return {ONLY: next(iter(by_class.values()))}
    return {
        ONLY if index is None else f"class {index}": by_class[index]
        for index in sorted(by_class, key=lambda index: index or 0)
    }
