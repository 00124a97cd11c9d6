"""Which pictures hold which class, in the layouts of the data sets; what is missing is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.evaluation import EvaluationError
from model.protocols import Coco20i, Fss1000, Pascal5i
from model.protocols.sources import LEAST_PIXELS
from tests.model.protocol_trees import (
    HALF,
    SIDE,
    coco,
    fss,
    inside,
    pascal,
    polygon,
    run_lengths,
    save_indices,
)

# pycocotools 2.0.11 does not know NumPy 2's copy keyword: it warns, and copies.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

QUARTER = (0, 0, 32, 32)
LOWER = (32, 0, SIDE, SIDE)
WHOLE = (0, 0, SIDE, SIDE)


# -- PASCAL-5i -----------------------------------------------------------------------------------------------------
def test_five_classes_in_a_row_are_a_fold_of_pascal(tmp_path: Path) -> None:
    source = Pascal5i(
        pascal(tmp_path, {"a": {1: HALF}, "b": {5: HALF, 6: (0, 32, SIDE, SIDE)}, "c": {20: HALF}})
    )
    assert [dict(source.classes(fold)) for fold in source.folds] == [
        {1: ["a"], 5: ["b"]},
        {6: ["b"]},
        {},
        {20: ["c"]},
    ]


def test_a_class_is_on_a_picture_from_2048_pixels_on(tmp_path: Path) -> None:
    folder = pascal(tmp_path, {"a": {1: HALF}, "b": {1: HALF}})
    indices = inside(HALF).astype(np.uint8)
    indices[0, 0] = 0
    assert indices.sum() == LEAST_PIXELS - 1
    save_indices(folder / "SegmentationClassAug" / "b.png", indices)
    assert Pascal5i(folder).classes(0) == {1: ["a"]}


def test_pairs_come_picture_by_picture_in_the_order_of_the_list(tmp_path: Path) -> None:
    source = Pascal5i(pascal(tmp_path, {"b": {2: LOWER}, "a": {1: HALF, 2: (0, 32, SIDE, SIDE)}}))
    assert source.queries(0) == [("b", 2), ("a", 1), ("a", 2)]
    assert "Fold 0: 3 pairs" in source.notes[0]
    assert "by rule" in source.notes[0]


def test_hsnet_s_list_decides_where_it_is_in_the_folder(tmp_path: Path) -> None:
    folder = pascal(tmp_path, {"a": {1: HALF}, "b": {1: QUARTER}})
    listed = folder / "splits" / "pascal" / "val" / "fold0.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("b__01\na__01")
    source = Pascal5i(folder)
    assert source.queries(0) == [("b", 1), ("a", 1)]
    assert source.classes(0) == {1: ["b", "a"]}
    assert source.notes == ["Fold 0: 2 pairs of picture and class, of splits/pascal/val/fold0.txt."]
    listed.write_text("b 1\n")
    with pytest.raises(EvaluationError, match=r"fold0\.txt: a line is a picture and its class.*'b 1'"):
        Pascal5i(folder).classes(0)


def test_an_example_of_pascal_is_one_class_of_its_picture(tmp_path: Path) -> None:
    source = Pascal5i(pascal(tmp_path, {"a": {1: QUARTER, 2: LOWER}}, ignored=(0, 48, 16, SIDE)))
    example = source.example("a", 2)
    assert (example.mask == inside(LOWER)).all()
    assert (example.image[:, :, 0] > 127).sum() == inside(LOWER).sum() + inside(QUARTER).sum() + 16 * 16
    assert source.pair("a")[1][0, 50] == 255


# -- COCO-20i ------------------------------------------------------------------------------------------------------
def test_every_fourth_class_in_the_order_of_ids_is_of_a_fold_of_coco(tmp_path: Path) -> None:
    """COCO's ids have gaps: here 1, 2, 3, 5, 90 are classes 1 to 5, and class 5 is of fold 0 again."""
    annotations = [(7, 90, polygon(HALF), 2048), (3, 90, polygon(HALF), 2048), (3, 2, polygon(HALF), 2048)]
    source = Coco20i(coco(tmp_path, annotations, [90, 2, 3, 5, 1]))
    assert [dict(source.classes(fold)) for fold in source.folds] == [
        {5: ["5/3", "5/7"]},
        {2: ["2/3"]},
        {},
        {},
    ]


def test_all_annotations_of_a_class_are_its_mask_and_other_classes_do_not_cover_it(tmp_path: Path) -> None:
    parts = [(0, 0, 16, 16), (0, 32, 16, 48), (48, 0, SIDE, 16), (48, 48, SIDE, SIDE)]
    annotations = [
        (1, 1, polygon(parts[0]) + polygon(parts[1]), 512),
        (1, 1, run_lengths(parts[2], text=False), 256),
        (1, 1, run_lengths(parts[3], text=True), 256),
        (1, 2, polygon((0, 0, SIDE, SIDE)), 4096),
    ]
    source = Coco20i(coco(tmp_path, annotations, [1, 2]))
    expected = np.logical_or.reduce([inside(part) for part in parts])
    assert (source.example("1/1", 1).mask == expected).all()
    assert source.example("2/1", 2).mask.all()


def test_an_annotation_without_area_makes_no_picture_of_its_class(tmp_path: Path) -> None:
    annotations = [(1, 1, polygon((0, 0, 0, 0)), 0.2), (2, 1, polygon(HALF), 2048)]
    assert Coco20i(coco(tmp_path, annotations, [1])).classes(0) == {1: ["1/2"]}


def test_a_file_that_is_not_coco_s_is_told(tmp_path: Path) -> None:
    folder = coco(tmp_path, [(1, 1, polygon(HALF), 2048)], [1])
    path = folder / "annotations" / "instances_val2014.json"
    for said in ("[]", "{", json.dumps({"categories": [{}], "images": [], "annotations": []})):
        path.write_text(said)
        with pytest.raises(EvaluationError, match=r"instances_val2014\.json is not COCO's.*val2014\.zip"):
            Coco20i(folder)


# -- FSS-1000 ------------------------------------------------------------------------------------------------------
def test_fss_1000_has_240_test_classes() -> None:
    names = Path("model/protocols/fss1000_test.txt").read_text().split()
    assert len(set(names)) == 240
    assert names == sorted(names)
    assert {"abe's_flyingfish", "wooden_spoon"} <= set(names)


def test_fss_1000_asks_for_all_its_pictures_in_the_order_of_file_names(tmp_path: Path) -> None:
    source = Fss1000(fss(tmp_path, {"bus": HALF, "ant": LOWER}), ["ant", "bus"])
    names = [name for name, _ in source.queries(0)]
    assert names[:4] == ["ant/1", "ant/10", "ant/2", "ant/3"]
    assert len(names) == 20
    assert {label for _, label in source.queries(0)} == {1, 2}
    assert (source.example("bus/10", 2).mask == inside(HALF)).all()


# -- what is missing -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "missing", ["JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation/val.txt", "JPEGImages/a.jpg"]
)
def test_what_pascal_lacks_is_named_with_its_source(tmp_path: Path, missing: str) -> None:
    folder = pascal(tmp_path / "VOC2012", {"a": {1: HALF}})
    remove(folder / missing)
    with pytest.raises(EvaluationError, match=f"{missing} is missing.*host.robots.ox.ac.uk"):
        Pascal5i(folder).example(*Pascal5i(folder).queries(0)[0])


@pytest.mark.parametrize("missing", ["val2014", "annotations/instances_val2014.json"])
def test_what_coco_lacks_is_named_with_its_source(tmp_path: Path, missing: str) -> None:
    folder = coco(tmp_path, [(1, 1, polygon(HALF), 2048)], [1])
    remove(folder / missing)
    with pytest.raises(EvaluationError, match=f"{missing} is missing.*images.cocodataset.org"):
        Coco20i(folder)


def test_what_fss_1000_lacks_is_named_with_its_source(tmp_path: Path) -> None:
    folder = fss(tmp_path, {"bus": HALF})
    with pytest.raises(EvaluationError, match=r"abe's_flyingfish is missing.*github.com/HKUSTCV/FSS-1000"):
        Fss1000(folder)
    remove(folder / "bus" / "3.png")
    with pytest.raises(EvaluationError, match=r"bus/3\.png is missing"):
        Fss1000(folder, ["bus"]).pair("bus/3")


def test_masks_that_are_none_are_told(tmp_path: Path) -> None:
    folder = pascal(tmp_path, {"a": {1: WHOLE}, "b": {1: WHOLE}})
    save_indices(folder / "SegmentationClassAug" / "a.png", np.ones((SIDE, SIDE + 2), dtype=np.uint8))
    with pytest.raises(EvaluationError, match="differ in size"):
        Pascal5i(folder).pair("a")
    (folder / "JPEGImages" / "b.jpg").rename(folder / "SegmentationClassAug" / "b.png")
    with pytest.raises(EvaluationError, match="palette or grey image, not of mode RGB"):
        Pascal5i(folder).queries(0)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    with pytest.raises(EvaluationError, match=r"val\.txt is empty"):
        Pascal5i(folder).queries(0)


def remove(path: Path) -> None:
    path.rename(path.with_name(f"not {path.name}"))
