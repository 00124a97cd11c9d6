"""`benchmarks/ensembles.py`: flips are undone and averaged rightly, queries are `evaluate`'s, the table adds up."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import ensembles as bench
from model import checkpoint
from model.edges import ProbabilityMap
from model.evaluation import Folder
from model.example import Context, Example
from model.segmenter import Query, Segmenter
from tests.backend.stage import write_random_checkpoint

SIDE = 12


class Reader(Segmenter):
    """Finds what is red, wherever it is; and the first column of any picture, however it is turned."""

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        found = []
        for query in queries:
            values = (query.image[:, :, 0] > 150).astype(np.float32)
            values[:, 0] = 1
            found.append(ProbabilityMap(values, SIDE, SIDE))
        return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "drawn"
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
    for number in range(9):
        indices = np.zeros((SIDE, SIDE), np.uint8)
        indices[1:4, 2 : 4 + number % 3] = 1
        if number < 4:
            indices[6:9, 2 : 4 + number] = 2
        picture = np.full((SIDE, SIDE, 3), 10 * number, np.uint8)
        picture[indices > 0] = 200
        Image.fromarray(picture).save(path / "images" / f"{number}.png")
        Image.fromarray(indices).save(path / "masks" / f"{number}.png")
    return path


def asked(examples: int) -> Query:
    """A red spot high on the left, to be found by others like it."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[1:4, 2:7, 0] = 200
    mask = picture[:, :, 0] > 150
    return Query(
        picture, Context(tuple(Example(str(number), picture + number, mask) for number in range(examples)))
    )


def test_a_flipped_query_shows_picture_and_examples_turned_alike_and_turns_back() -> None:
    query = asked(2)
    for axes in ((bench.ACROSS,), (bench.DOWN,), (bench.DOWN, bench.ACROSS)):
        turned = bench.flip_query(query, axes)
        assert not np.array_equal(turned.image, query.image)
        for example in turned.context.examples:
            np.testing.assert_array_equal(example.mask, turned.image[:, :, 0] > 150)
        assert not set(turned.context.keys) & set(query.context.keys), "a key stands for one content"
        again = bench.flip_query(turned, axes)
        np.testing.assert_array_equal(again.image, query.image)
        np.testing.assert_array_equal(again.context.examples[1].mask, query.context.examples[1].mask)
    left = bench.flip_query(query, (bench.ACROSS,)).image
    assert left[2, SIDE - 3, 0] == 200
    assert bench.flip_query(query, (bench.DOWN,)).image[SIDE - 3, 3, 0] == 200


def test_flips_are_undone_before_they_are_averaged(weights: Path) -> None:
    """What is read off the picture stays whole and in place; what sticks to the network's own left is halved."""
    reader = Reader.load(weights, "cpu")
    query = asked(1)
    made = bench.looks({"feature": reader, "spatial": reader, "both": reader}, query)
    red = (query.image[:, :, 0] > 150).astype(np.float32)
    for way, sides in (("feature", (1, 0)), ("upside down", (1, 0)), ("left-right", (0.5, 0.5))):
        expected: NDArray[np.float32] = red.copy()
        expected[:, 0], expected[:, -1] = sides
        np.testing.assert_array_equal(made[way][0].values, expected)
    np.testing.assert_array_equal(made["both flips"][0].values, made["left-right"][0].values)
    assert made["left-right"][0].values.dtype == np.float32


def test_ways_that_are_the_same_by_construction_are_looked_at_once(weights: Path) -> None:
    network = checkpoint.load(weights)
    segmenters: bench.Segmenters = {
        mode: Segmenter(network, ensemble=mode, guided=True) for mode in ("feature", "spatial", "both")
    }
    always = {"feature", "left-right", "upside down", "both flips", "mirrored examples", "parts"}
    for examples, more in (
        (1, set()),
        (4, {"spatial", "each alone"}),
        (5, {"spatial", "both", "each alone"}),
    ):
        made = bench.looks(segmenters, asked(examples))
        assert set(made) == always | more
        (plain,) = segmenters["feature"].maps([asked(examples)])
        np.testing.assert_allclose(made["feature"][0].values, plain.values, atol=1e-6)
        assert all(found.values.min() >= 0 and found.values.max() <= 1 for found, _ in made.values())
        assert made["both flips"][1] > made["left-right"][1] > made["feature"][1] > 0, "all looks are counted"
    alone = [
        segmenters["feature"].maps([Query(asked(5).image, Context((example,)))])[0].values
        for example in asked(5).context.examples
    ]
    np.testing.assert_allclose(made["each alone"][0].values, np.mean(alone, axis=0), atol=1e-5)


def test_episodes_are_those_of_evaluate_and_other_seeds_have_other_examples(folder: Path) -> None:
    opened = Folder(folder)
    every = opened.episodes(3)
    first, second = (bench.draw(opened, 3, 8, seed) for seed in (0, 1))
    assert [episode.label for episode in first] == [1] * 4 + [2] * 4, "as many of each class as there are"
    assert all(episode in every for episode in first)
    assert not any(episode in every for episode in second if episode.label == 1)
    for episode in (*first, *second):
        assert episode.query not in episode.examples
        assert len(set(episode.examples)) == 3
        assert set(episode.examples) <= set(opened.classes()[episode.label])
    assert {episode.query for episode in first if episode.label == 1} != {
        episode.query for episode in second if episode.label == 1
    }
    assert len(bench.draw(opened, 1, 1, 0)) == 2, "no class without a query"
    assert bench.draw(opened, 3, 8, 1) == second


def found(
    folder: str, way: str, shots: int, areas: tuple[int, int], seconds: float, raw: float, query: str = "one"
) -> bench.Found:
    return bench.Found(folder, 1, 0, shots, query, way, *areas, raw, seconds)


def test_the_table_compares_with_the_feature_ensemble_of_as_many_examples() -> None:
    rows = [
        found("a", "feature", 1, (10, 100), 1, 0.5),
        found("a", "other", 1, (50, 100), 9, 0.5),
        found("a", "feature", 4, (500, 1000), 1, 0.9),
        found("a", "feature", 4, (0, 1000), 1, 0.1, "two"),
        found("a", "other", 4, (520, 1000), 2, 0.1),
        found("a", "other", 4, (0, 1000), 2, 0.9, "two"),
        found("b", "feature", 4, (500, 1000), 2, 0.5),
        found("b", "other", 4, (480, 1000), 6, 0.5),
    ]
    table = bench.ious(rows, ["a", "b"])
    cells = list(zip(*(column.cells for column in table.columns), strict=True))
    assert cells == [
        ("feature", "1", "0.100", "-", "0.100", "0 / 0", "+0.000 ± nan", "1.00", "1.00"),
        ("other", "1", "0.500", "-", "0.500", "1 / 0", "+0.400 ± nan", "9.00", "9.00"),
        ("feature", "4", "0.250", "0.500", "0.375", "0 / 0", "+0.000 ± 0.000", "1.33", "1.00"),
        ("other", "4", "0.260", "0.480", "0.370", "1 / 1", "+0.000 ± 0.012", "3.33", "2.50"),
    ]
    ranked = list(zip(*(column.cells for column in bench.ranks(rows).columns), strict=True))
    assert ranked == [("feature", "0.00", "0.50"), ("other", "0.00", "-0.50")]


def test_the_benchmark_runs_on_a_folder(
    folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = folder.parent / "every.json"
    given = ["--checkpoint", str(weights), "--shots", "1,5", "--queries", "2", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", ["ensembles.py", str(folder), *given])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    bench.main()
    printed = capsys.readouterr().out
    assert "mirrored examples" in printed
    assert "drawn" in printed
    rows = [bench.Found(**row) for row in json.loads(report.read_text())]
    assert {(row.seed, row.shots) for row in rows} == {(seed, shots) for seed in (0, 1) for shots in (1, 5)}
    # A query of each class with one example, in six ways; with five, nine ways, one class (the other has four pictures).
    assert len(rows) == 2 * (2 * 6 + 9)
