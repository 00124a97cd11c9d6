"""Few-shot data sets as they come: which pictures hold which class, in which fold; pictures and masks when asked.

A picture's name holds its class where a pixel can belong to several. Lists are in the order that episodes are drawn from.
"""

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from model.evaluation import IGNORED, PAIRS_KEPT, EvaluationError
from model.example import Example, Mask, Picture
from model.protocols import files
from model.protocols.files import Indices
from model.protocols.published import Protocol

FOLDS = 4
LEAST_PIXELS = 2 * 32 * 32
"""Of a class on a picture, where no list says which pictures hold it."""


class FewShotSource(ABC):
    """A data set of pictures with masks of classes, parted into folds.

    Attributes:
        protocol: by whose rules it is evaluated.
        folds: their numbers; one only where the data set has one test set.
        notes: what a reader must know to compare; grows while folds are looked at.
    """

    protocol: Protocol
    folds: tuple[int, ...] = tuple(range(FOLDS))

    def __init__(self, folder: Path) -> None:
        """Look at a folder.

        Args:
            folder: of the data set, see docs/protocols.md.

        Raises:
            EvaluationError: if something is missing; named, with where it is to be had.
        """
        self.folder = folder
        self.notes: list[str] = []
        self.pair = lru_cache(maxsize=PAIRS_KEPT)(self._read_pair)

    @abstractmethod
    def classes(self, fold: int) -> Mapping[int, Sequence[str]]:
        """The names of the pictures that hold each class, by class index, in order.

        Raises:
            EvaluationError: if something is missing.
        """

    def queries(self, fold: int) -> list[tuple[str, int]]:
        """Names and class indices in the order in which a protocol that draws no queries takes them."""
        return [(name, label) for label, names in self.classes(fold).items() for name in names]

    @abstractmethod
    def _read_pair(self, name: str) -> tuple[Picture, Indices]:
        """A picture and the class indices of its pixels."""

    def example(self, name: str, label: int) -> Example:
        """A picture with the mask of one class.

        Raises:
            EvaluationError: if a file is missing.
        """
        shown, indices = self.pair(name)
        return Example(f"{self.folder}/{label}/{name}", shown, indices == label)


class Pascal5i(FewShotSource):
    """PASCAL VOC 2012 with the masks of SBD; class indices 1 to 20, five in a row are a fold."""

    protocol: Protocol = "pascal5i"
    SOURCE = (
        "A folder VOC2012 holds JPEGImages/, ImageSets/Segmentation/val.txt (PASCAL VOC 2012, "
        "host.robots.ox.ac.uk/pascal/VOC/voc2012) and SegmentationClassAug/ (the masks of SBD; the README of "
        "github.com/juhongm999/hsnet says where)."
    )
    LISTS = Path("splits", "pascal", "val")

    def __init__(self, folder: Path) -> None:
        """As `FewShotSource`; the folder is `VOC2012`."""
        super().__init__(folder)
        for part in ("JPEGImages", "SegmentationClassAug"):
            files.needed(folder / part, self.SOURCE)
        self._pairs = lru_cache(maxsize=FOLDS)(self._read_pairs)

    def classes(self, fold: int) -> Mapping[int, Sequence[str]]:
        """The fold's pairs by class index."""
        holding: dict[int, list[str]] = defaultdict(list)
        for name, label in self.queries(fold):
            holding[label].append(name)
        return dict(sorted(holding.items()))

    def queries(self, fold: int) -> list[tuple[str, int]]:
        """The pairs of HSNet's list where it was put into the folder, else those of enough pixels, by name."""
        return self._pairs(fold)

    def _read_pairs(self, fold: int) -> list[tuple[str, int]]:
        listed = self.folder / self.LISTS / f"fold{fold}.txt"
        if listed.exists():
            pairs = [_listed(line, listed) for line in files.lines(listed, self.SOURCE)]
            said = f"of {self.LISTS / listed.name}"
        else:
            pairs = self._large_enough(fold)
            said = f"by rule: at least {LEAST_PIXELS} pixels of the class"
        self.notes.append(f"Fold {fold}: {len(pairs)} pairs of picture and class, {said}.")
        return pairs

    def _large_enough(self, fold: int) -> list[tuple[str, int]]:
        labels = range(5 * fold + 1, 5 * fold + 6)
        pairs = []
        for name in files.lines(self.folder / "ImageSets" / "Segmentation" / "val.txt", self.SOURCE):
            counts = np.bincount(self._indices(name).ravel(), minlength=256)
            pairs += [(name, label) for label in labels if counts[label] >= LEAST_PIXELS]
        return pairs

    def _indices(self, name: str) -> Indices:
        return files.indices(self.folder / "SegmentationClassAug" / f"{name}.png", self.SOURCE)

    def _read_pair(self, name: str) -> tuple[Picture, Indices]:
        path = self.folder / "JPEGImages" / f"{name}.jpg"
        shown, indices = files.picture(path, self.SOURCE), self._indices(name)
        files.same_size(shown, indices, path)
        return shown, indices


def _listed(line: str, path: Path) -> tuple[str, int]:
    """A line of HSNet's lists, such as `2007_000033__01`."""
    name, _, label = line.partition("__")
    if not label.isdecimal() or not 0 < int(label) < IGNORED:
        raise EvaluationError(f"{path}: a line is a picture and its class, as 2007_000033__01, not '{line}'")
    return name, int(label)


class Coco20i(FewShotSource):
    """COCO 2014's validation pictures; class indices 1 to 80 in the order of COCO's ids, every fourth is of a fold."""

    protocol: Protocol = "coco20i"
    SOURCE = (
        "A folder COCO2014 holds val2014/ (images.cocodataset.org/zips/val2014.zip) and "
        "annotations/instances_val2014.json (images.cocodataset.org/annotations/annotations_trainval2014.zip)."
    )

    def __init__(self, folder: Path) -> None:
        """As `FewShotSource`; the folder is `COCO2014`."""
        super().__init__(folder)
        files.needed(folder / "val2014", self.SOURCE)
        path = files.needed(folder / "annotations" / "instances_val2014.json", self.SOURCE)
        try:
            read = json.loads(path.read_bytes())
            numbers = {
                category: number
                for number, category in enumerate(sorted(each["id"] for each in read["categories"]), start=1)
            }
            self._images = {image["id"]: image for image in read["images"]}
            drawn: dict[int, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
            for annotation in read["annotations"]:
                if annotation["area"] >= 1:  # less paints no pixel
                    label = numbers[annotation["category_id"]]
                    drawn[label][annotation["image_id"]].append(annotation["segmentation"])
        except (ValueError, LookupError, TypeError) as error:
            raise EvaluationError(
                f"{path} is not COCO's: {type(error).__name__} {error}. {self.SOURCE}"
            ) from None
        self._drawn = drawn
        self._names = lru_cache(maxsize=len(drawn))(self._sorted_names)
        self.notes.append(
            "Pictures of a class are those with an annotation of it, by name; HSNet's own lists are not read."
        )

    def classes(self, fold: int) -> Mapping[int, Sequence[str]]:
        """The fold's pictures by class index."""
        labels = [label for label in sorted(self._drawn) if (label - 1) % FOLDS == fold]
        return {label: self._names(label) for label in labels}

    def _sorted_names(self, label: int) -> list[str]:
        by_file = sorted(self._drawn[label], key=lambda image: str(self._images[image]["file_name"]))
        return [f"{label}/{image}" for image in by_file]

    def _read_pair(self, name: str) -> tuple[Picture, Indices]:
        label, image = map(int, name.split("/"))
        path = self.folder / "val2014" / self._images[image]["file_name"]
        shown = files.picture(path, self.SOURCE)
        height, width = self._images[image]["height"], self._images[image]["width"]
        mask = _painted(self._drawn[label][image], height, width)
        files.same_size(shown, mask, path)
        return shown, mask.astype(np.uint8) * np.uint8(label)


def _painted(segmentations: Sequence[Any], height: int, width: int) -> Mask:
    """All of a class on a picture, crowds too: polygons, or run lengths as text or numbers."""
    mask: NDArray[np.bool_] = np.zeros((height, width), dtype=np.bool_)
    for segmentation in segmentations:
        is_text = isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list)
        encoded = segmentation if is_text else coco_mask.frPyObjects(segmentation, height, width)
        merged = coco_mask.merge(encoded) if isinstance(encoded, list) else encoded
        mask |= coco_mask.decode(merged).astype(np.bool_)
    return mask


class Fss1000(FewShotSource):
    """FSS-1000: a folder a class with ten pictures; the 240 test classes are numbered from 1 on, by name."""

    protocol: Protocol = "fss1000"
    folds: tuple[int, ...] = (0,)
    PICTURES = 10
    SOURCE = (
        "The folder of FSS-1000 holds a folder for each class, with 1.jpg, 1.png to 10.jpg, 10.png "
        "(github.com/HKUSTCV/FSS-1000)."
    )

    def __init__(self, folder: Path, names: Sequence[str] | None = None) -> None:
        """As `FewShotSource`.

        Args:
            folder: holds the folders of the classes.
            names: of the classes, sorted, at most 254; None for the published test set.

        Raises:
            EvaluationError: if a class is missing.
        """
        super().__init__(folder)
        listed = Path(__file__).with_name("fss1000_test.txt")
        self._names = list(names) if names else files.lines(listed, self.SOURCE)
        for name in self._names:
            files.needed(folder / name, self.SOURCE)

    def classes(self, fold: int) -> Mapping[int, Sequence[str]]:
        """Ten pictures of each class."""
        return {
            label: [f"{name}/{number}" for number in range(1, self.PICTURES + 1)]
            for label, name in enumerate(self._names, start=1)
        }

    def queries(self, fold: int) -> list[tuple[str, int]]:
        """In the order of file names: 1, 10, 2, 3 and so on."""
        return [(name, label) for label, names in self.classes(fold).items() for name in sorted(names)]

    def _read_pair(self, name: str) -> tuple[Picture, Indices]:
        path = self.folder / f"{name}.jpg"
        shown = files.picture(path, self.SOURCE)
        mask = files.white(path.with_suffix(".png"), self.SOURCE)
        files.same_size(shown, mask, path)
        label = self._names.index(name.rpartition("/")[0]) + 1
        return shown, mask.astype(np.uint8) * np.uint8(label)
