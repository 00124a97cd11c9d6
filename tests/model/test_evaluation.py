"""The protocol's figures, checked against ones worked out by hand."""

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model import evaluation
from model.edges import ProbabilityMap
from model.evaluation import EvaluationError, Folder
from model.example import Context, Example
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter

SIZE = 224


class RedReader(Segmenter):
    """Finds what is red, and keeps what it was asked: a segmenter whose errors can be counted by hand."""

    def __init__(self, model: SegGPT) -> None:
        super().__init__(model, name="red")
        self.asked: list[Context] = []

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        self.asked += [query.context for query in queries]
        found = [np.float32(0.9) * (query.image[:, :, 0] > 127) + np.float32(0.05) for query in queries]
        return [ProbabilityMap(values, values.shape[0], values.shape[1]) for values in found]


@pytest.fixture
def red(small_model: SegGPT) -> RedReader:
    return RedReader(small_model)


def write(folder: Path, stem: str, red: NDArray[np.bool_], indices: NDArray[np.uint8]) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    picture = np.dstack([red.astype(np.uint8) * 255, np.zeros_like(indices), np.zeros_like(indices)])
    Image.fromarray(picture).save(folder / "images" / f"{stem}.png")
    mask = Image.fromarray(indices).convert("P")
    mask.putpalette([value for index in range(256) for value in (255 - index, 7, 7)])
    mask.putdata(indices.ravel().tolist())
    mask.save(folder / "masks" / f"{stem}.png")


def square(label: int, rows: slice, columns: slice, size: int = SIZE) -> NDArray[np.uint8]:
    indices = np.zeros((size, size), dtype=np.uint8)
    indices[rows, columns] = label
    return indices


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class 1 in five pictures, red in all of it; class 3 in three, red in half of it and in as much beside."""
    path = tmp_path / "drawn"
    for number in range(5):
        indices = square(1, slice(0, 50 + number), slice(0, 60))
        if number < 3:
            indices |= square(3, slice(100, 120), slice(100, 140))
        painted = indices == 1
        painted[100:120, 120:160] = number < 3
        write(path, f"picture {number}", painted, indices)
    return path


def test_a_report_has_the_fixed_form(folder: Path, red: RedReader) -> None:
    """Class 3: 20 x 20 of 20 x 40 found and 20 x 20 too many; but red finds class 1 too, and the other way round."""
    report = evaluation.evaluate_folder(folder, red, [1, 2, 4])
    content = json.loads(json.dumps(report.to_json()))
    assert content["dataset"] == "drawn"
    assert content["checkpoint"] == red.identity
    assert [list(row) for row in content["rows"]] == [
        ["shots", "method", "miou", "seconds_per_image", "queries"]
    ] * 3
    assert [(row["shots"], row["method"], row["queries"]) for row in content["rows"]] == [
        (1, "context", 8),
        (2, "context", 8),
        (4, "context", 5),
    ]
    ones, extra = [60 * (50 + number) for number in range(5)], 20 * 40
    first = sum(ones) / (sum(ones) + 3 * extra)
    third = 3 * 400 / (sum(ones[:3]) + 3 * (extra + 400))
    row = report.rows[0]
    assert row.classes == pytest.approx({1: first, 3: third})
    assert row.miou == pytest.approx((first + third) / 2)
    assert report.rows[2].classes == pytest.approx({1: first})
    assert all(row.seconds_per_image > 0 for row in report.rows)


def test_examples_are_drawn_by_the_fixed_seed_from_the_other_images_of_the_class(
    folder: Path, red: RedReader
) -> None:
    evaluation.evaluate_folder(str(folder) + "/", red, [2])
    stems = [f"picture {number}" for number in range(5)]
    expected = []
    for label, holding in ((1, stems), (3, stems[:3])):
        for stem in holding:
            seed = int(hashlib.sha256(f"drawn/{label}/{stem}/2".encode()).hexdigest()[:8], 16)
            drawn = random.Random(seed).sample([other for other in holding if other != stem], 2)  # noqa: S311
            expected.append([f"{folder}/{label}/{other}" for other in drawn])
    assert [list(context.keys) for context in red.asked] == expected
    example = red.asked[-1].examples[0]
    assert example.mask.sum() == 20 * 40, "the mask is of the class, by palette index"


def test_only_the_first_twenty_by_name_are_queries_and_all_are_examples(
    tmp_path: Path, red: RedReader
) -> None:
    indices = square(1, slice(0, 50), slice(0, 50))
    for number in range(24):
        write(tmp_path / "many", f"{number:02}", indices == 1, indices)
    episodes = Folder(tmp_path / "many").episodes(8)
    assert [episode.query for episode in episodes] == [f"{number:02}" for number in range(20)]
    used = {stem for episode in episodes for stem in episode.examples}
    assert {"20", "21", "22", "23"} <= used
    assert all(episode.query not in episode.examples for episode in episodes)


def test_a_class_counts_where_it_is_on_more_than_its_least_share(tmp_path: Path) -> None:
    """0.2 % of 224 x 224 is 100.4 pixels: 100 are too few, 101 enough, also of a mask four times as large."""
    few, enough = square(1, slice(0, 1), slice(0, 100)), square(1, slice(0, 1), slice(0, 101))
    write(tmp_path, "few", few == 1, few)
    write(tmp_path, "enough", enough == 1, enough)
    large = enough.repeat(2, axis=0).repeat(2, axis=1)
    write(tmp_path, "large", large == 1, large)
    everything = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    write(tmp_path, "ignored", everything == 1, everything)
    assert Folder(tmp_path).classes() == {1: ["enough", "large"]}


def test_ignored_pixels_count_neither_for_nor_against(tmp_path: Path, red: RedReader) -> None:
    indices = square(1, slice(0, 50), slice(0, 50))
    painted = indices == 1
    painted[100:150] = True
    indices[100:150] = evaluation.IGNORED
    for number in range(2):
        write(tmp_path, str(number), painted, indices)
    report = evaluation.evaluate_folder(tmp_path, red, [1])
    assert report.rows[0].miou == 1


@pytest.mark.parametrize("form", ["1-bit", "8-bit"])
def test_masks_in_black_and_white_show_one_class(tmp_path: Path, red: RedReader, form: str) -> None:
    """White was taken for `IGNORED`, so such a folder had no class. One picture is without the class: all black."""
    for number in range(4):
        mask = square(255, slice(0, 50), slice(0, 60 * (number < 3)))
        write(tmp_path, str(number), mask > 0, mask)
        picture = Image.fromarray(mask)
        (picture.convert("1") if form == "1-bit" else picture).save(tmp_path / "masks" / f"{number}.png")
    assert Folder(tmp_path).classes() == {1: ["0", "1", "2"]}
    report = evaluation.evaluate_folder(tmp_path, red, [1])
    assert report.rows[0].miou == 1
    assert red.asked[0].examples[0].mask.sum() == 50 * 60


def test_in_grey_masks_that_hold_indices_white_is_ignored(tmp_path: Path) -> None:
    """One of the masks has nothing but background and ignored pixels: the other one says what they are."""
    for stem, label in (("a", evaluation.IGNORED), ("b", 7)):
        indices = square(label, slice(0, 50), slice(0, 50))
        write(tmp_path, stem, indices == 7, indices)
        Image.fromarray(indices).save(tmp_path / "masks" / f"{stem}.png")
    assert Folder(tmp_path).classes() == {7: ["b"]}


def test_shots_that_no_class_has_images_for_have_no_row(folder: Path, red: RedReader) -> None:
    assert [row.shots for row in evaluation.evaluate_folder(folder, red, [4, 8]).rows] == [4]
    with pytest.raises(EvaluationError, match="no class has more than 8 images"):
        evaluation.evaluate_folder(folder, red, [8])


def test_progress_goes_from_none_to_all(folder: Path, red: RedReader) -> None:
    calls: list[tuple[int, int]] = []
    evaluation.evaluate_folder(folder, red, [1, 4], lambda done, total: calls.append((done, total)))
    assert calls[0] == (0, 13)
    assert calls[-1] == (13, 13)
    assert calls == sorted(calls)


def test_a_real_segmenter_is_evaluated_alike_twice(folder: Path, segmenter: Segmenter) -> None:
    first, second = (evaluation.evaluate_folder(folder, segmenter, [1, 4]) for _ in range(2))
    assert [row.classes for row in first.rows] == [row.classes for row in second.rows]
    assert 0 <= first.rows[0].miou <= 1


def test_folders_that_are_not_of_the_form_are_told(folder: Path, red: RedReader, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no masks/\*\.png"):
        evaluation.evaluate_folder(tmp_path, red)
    with pytest.raises(EvaluationError, match="shots"):
        evaluation.evaluate_folder(folder, red, [0])
    (folder / "images" / "picture 1.png").unlink()
    with pytest.raises(EvaluationError, match="without an image: picture 1"):
        evaluation.evaluate_folder(folder, red)
    Image.new("RGB", (9, 9)).save(folder / "images" / "picture 1.png")
    with pytest.raises(EvaluationError, match="differ in size"):
        evaluation.evaluate_folder(folder, red)
    Image.new("RGB", (9, 9)).save(folder / "masks" / "picture 1.png")
    with pytest.raises(EvaluationError, match="palette or grey image, not of mode RGB"):
        evaluation.evaluate_folder(folder, red)


def test_iou_is_intersection_over_union() -> None:
    first, second = np.zeros((2, 4), dtype=np.bool_), np.zeros((2, 4), dtype=np.bool_)
    assert evaluation.iou(first, second) == 1
    first[0] = True
    assert evaluation.iou(first, second) == 0
    second[:, :2] = True
    assert evaluation.iou(first, second) == pytest.approx(2 / 6)
    with pytest.raises(ValueError, match="different shape"):
        evaluation.iou(first, second.T)


def pool(*shares: float) -> list[Example]:
    """Pictures that are red at the left; each mask covers its share of the red and as much again beside it."""
    examples = []
    for number, share in enumerate(shares):
        image = np.zeros((20, 40, 3), dtype=np.uint8)
        image[:, :20, 0] = 255
        mask = np.zeros((20, 40), dtype=np.bool_)
        mask[:, : round(20 * share)] = True
        examples.append(Example(f"pool/{number}", image, mask))
    return examples


def test_the_worth_of_an_example_is_how_well_it_alone_finds_others(red: RedReader) -> None:
    examples = pool(1, 0.5, 0.25)
    assert evaluation.worth(examples, red) == pytest.approx([0.375, 0.625, 0.75])
    assert [context.keys for context in red.asked] == [(f"pool/{number}",) for number in (0, 0, 1, 1, 2, 2)]
    red.asked.clear()
    evaluation.worth(pool(*[1.0] * 9), red, at_most=3)
    assert len(red.asked) == 9 * 3


def test_one_example_cannot_be_measured(red: RedReader) -> None:
    with pytest.raises(EvaluationError, match="two"):
        evaluation.worth(pool(1), red)


def test_boundaries_and_objects_are_measured_where_asked_for(tmp_path: Path, red: RedReader) -> None:
    """Found: two squares, known: one of them and a third; a boundary of 4 x 40 each, all far apart, in both pictures."""
    places = [slice(20, 60), slice(90, 130), slice(160, 200)]
    squares = [square(1, place, place) == 1 for place in places]
    for number in range(2):
        write(
            tmp_path, f"picture {number}", squares[0] | squares[1], (squares[0] | squares[2]).astype(np.uint8)
        )
    plain, measured = (
        evaluation.evaluate_folder(tmp_path, red, [1], extras=extras).rows[0]
        for extras in ((), ("boundary_f", "object_f1"))
    )
    assert plain.extras == {}
    assert measured.extras == pytest.approx({"boundary_f": 0.5, "object_f1": 0.5})
    assert measured.to_json() == {
        **plain.to_json(), **measured.extras, "seconds_per_image": measured.seconds_per_image
    }  # fmt: skip
