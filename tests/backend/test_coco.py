"""G16: the exported file loads with pycocotools and gives the same pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from backend.coco import LabeledImage, dataset

# pycocotools 2.0.11 leaves its file open and has no `copy` in its `__array__`.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture
def off_diagonal() -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros((7, 5), np.bool_)
    mask[1, 3] = True  # row 1, column 3: another pixel if rows and columns were swapped
    return mask


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # pycocotools leaves its file open
def test_the_file_loads_with_pycocotools_and_gives_the_same_pixels(
    tmp_path: Path, off_diagonal: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> None:
    block = np.zeros((7, 5), np.bool_)
    block[2:6, 0:2] = True
    images = [
        LabeledImage("a b.png", 7, 5, {"cell": off_diagonal, "debris": block}),
        LabeledImage("empty.png", 7, 5, {"cell": np.zeros((7, 5), np.bool_)}),
        LabeledImage("none.png", 7, 5, {}),
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(dataset(images, ["cell", "debris"])))
    loaded = COCO(str(path))
    assert [image["file_name"] for image in loaded.loadImgs(loaded.getImgIds())] == [
        "a b.png",
        "empty.png",
        "none.png",
    ]
    found = loaded.loadAnns(loaded.getAnnIds())
    assert len({annotation["id"] for annotation in found}) == len(found) == 2
    masks = {
        loaded.cats[annotation["category_id"]]["name"]: loaded.annToMask(annotation) for annotation in found
    }
    assert np.array_equal(masks["cell"].astype(bool), off_diagonal)
    assert np.array_equal(masks["debris"].astype(bool), block)
    assert {annotation["area"] for annotation in found} == {1, 8}
    assert [annotation["bbox"] for annotation in found] == [[3, 1, 1, 1], [0, 2, 2, 4]]
    assert loaded.getAnnIds(imgIds=[2, 3]) == []


def test_a_mask_of_another_size_or_label_is_refused(
    off_diagonal: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> None:
    with pytest.raises(ValueError, match=r"a\.png: the mask is \(7, 5\)"):
        dataset([LabeledImage("a.png", 5, 7, {"cell": off_diagonal})], ["cell"])
    with pytest.raises(ValueError, match="unknown label 'cell'"):
        dataset([LabeledImage("a.png", 7, 5, {"cell": off_diagonal})], ["debris"])
