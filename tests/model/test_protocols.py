"""The published protocols' episodes and figures, checked against ones worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.evaluation import EvaluationError
from model.protocols import PUBLISHED, Coco20i, FewShotSource, Fss1000, Pascal5i, evaluate_few_shot
from model.protocols.draws import EPISODES, episodes
from model.seggpt import SegGPT
from model.segmenter import Segmenter
from tests.model.protocol_trees import HALF, SIDE, Block, coco, fss, inside, pascal, polygon, save_indices
from tests.model.test_evaluation import RedReader

# pycocotools 2.0.11 does not know NumPy 2's copy keyword: it warns, and copies.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LOWER: Block = (32, 0, SIDE, SIDE)


@pytest.fixture
def red(small_model: SegGPT) -> RedReader:
    return RedReader(small_model)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Fold 0 has class 1 on three pictures and class 2 on two; fold 1 has class 6; folds 2 and 3 have one class each."""
    pictures: dict[str, dict[int, Block]] = {f"a{number}": {1: HALF} for number in range(3)}
    pictures |= {f"b{number}": {2: LOWER} for number in range(2)}
    for label in (6, 11, 16):
        pictures |= {f"c{label} {number}": {label: HALF} for number in range(2)}
    return pascal(tmp_path / "VOC2012", pictures)


# -- episodes ------------------------------------------------------------------------------------------------------
def test_episodes_of_pascal_are_those_of_hsnet_s_test(voc: Path) -> None:
    """Told again with NumPy's own generator, seeded and drawn from as there."""
    source = Pascal5i(voc)
    found = episodes(source, 0, shots=2)
    pairs = source.queries(0)
    np.random.seed(0)  # noqa: NPY002 - the very generator that is to be matched
    for place, episode in enumerate(found):
        query, label = pairs[place % len(pairs)]
        expected: list[str] = []
        while len(expected) < 2:
            name = np.random.choice(source.classes(0)[label], 1, replace=False)[0]  # noqa: NPY002
            if name != query:
                expected.append(str(name))
        assert (episode.query, episode.label, episode.examples) == (query, label, tuple(expected))
    assert len(found) == EPISODES


def test_episodes_of_coco_draw_class_query_and_examples_in_turn(tmp_path: Path) -> None:
    annotations = [
        (image, category, polygon(HALF), 2048.0) for category in (1, 5) for image in range(category, 12)
    ]
    source = Coco20i(coco(tmp_path, annotations, [1, 2, 3, 4, 5]))
    classes = source.classes(0)
    np.random.seed(0)  # noqa: NPY002 - the very generator that is to be matched
    for episode in episodes(source, 0, shots=1, at_most=50):
        label = int(np.random.choice(list(classes), 1, replace=False)[0])  # noqa: NPY002
        query = np.random.choice(classes[label], 1, replace=False)[0]  # noqa: NPY002
        example = query
        while example == query:
            example = np.random.choice(classes[label], 1, replace=False)[0]  # noqa: NPY002
        assert (episode.label, episode.query, episode.examples) == (label, query, (example,))


def test_episodes_of_fss_1000_ask_for_each_picture_once(tmp_path: Path) -> None:
    source = Fss1000(fss(tmp_path, {"ant": HALF, "bus": LOWER}), ["ant", "bus"])
    found = episodes(source, 0, shots=5)
    assert [episode.query for episode in found] == [name for name, _ in source.queries(0)]
    for episode in found:
        assert episode.query not in episode.examples
        assert {name.partition("/")[0] for name in episode.examples} == {episode.query.partition("/")[0]}
    np.random.seed(0)  # noqa: NPY002 - the very generator that is to be matched
    drawn: list[str] = []
    while len(drawn) < 5:
        name = f"ant/{np.random.choice(range(1, 11), 1, replace=False)[0]}"  # noqa: NPY002
        drawn += [name] if name != "ant/1" else []
    assert found[0].examples == tuple(drawn)


def test_the_first_episodes_are_the_same_however_many_are_asked_for(voc: Path) -> None:
    assert episodes(Pascal5i(voc), 0, 1, at_most=7) == episodes(Pascal5i(voc), 0, 1)[:7]


def test_a_class_with_one_picture_cannot_be_drawn_from(tmp_path: Path) -> None:
    source = Pascal5i(pascal(tmp_path, {"a": {1: HALF}, "b": {2: HALF}, "c": {2: HALF}}))
    with pytest.raises(EvaluationError, match="class 1 of fold 0 has one picture only"):
        episodes(source, 0, 1)
    with pytest.raises(EvaluationError, match="no picture holds a class of fold 3"):
        episodes(source, 3, 1)


# -- figures -------------------------------------------------------------------------------------------------------
def test_miou_is_the_mean_over_a_fold_s_classes_and_then_over_folds(voc: Path, red: RedReader) -> None:
    """All is found, but half of class 2's red is not its own: IoU 1 and 0.5 in fold 0, and 1 in the others."""
    for number in range(2):
        indices = inside(LOWER).astype(np.uint8) * 2
        indices[:, : SIDE // 2] = 0
        save_indices(voc / "SegmentationClassAug" / f"b{number}.png", indices)
    listed = voc / "splits" / "pascal" / "val" / "fold0.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("a0__01\na1__01\na2__01\nb0__02\nb1__02\n")
    report = evaluate_few_shot(Pascal5i(voc), red, [1], at_most=5)
    found = {row.part: row.figures["miou"] for row in report.rows}
    assert found == pytest.approx({"fold 0": 0.75, "fold 1": 1, "fold 2": 1, "fold 3": 1, "all": 3.75 / 4})
    assert [row.queries for row in report.rows] == [5, 5, 5, 5, 20]


def test_a_class_s_iou_is_of_all_its_episodes_together(tmp_path: Path, red: RedReader) -> None:
    """Two pictures of one class: 2048 of 2048 pixels and 1024 of 2048: 3072 / 4096, not the mean of 1 and 0.5."""
    annotations = [(1, 1, polygon(HALF), 2048.0), (2, 1, polygon((0, 0, 32, 32)), 1024.0)]
    source = Coco20i(coco(tmp_path, annotations, [1]))
    drawn = [episode.query for episode in episodes(source, 0, 1, at_most=40)]
    whole, quarter = drawn.count("1/1"), drawn.count("1/2")
    (row,) = evaluate_few_shot(source, red, [1], [0], at_most=40).rows
    expected = (2048 * whole + 1024 * quarter) / (2048 * (whole + quarter))
    assert 0 < quarter < 40
    assert row.figures["miou"] == pytest.approx(expected)


def test_ignored_pixels_count_neither_for_nor_against(tmp_path: Path, red: RedReader) -> None:
    pictures: dict[str, dict[int, Block]] = {"a": {1: HALF}, "b": {1: HALF}}
    source = Pascal5i(pascal(tmp_path, pictures, ignored=(0, 32, SIDE, 48)))
    (row,) = evaluate_few_shot(source, red, [1], [0], at_most=2).rows
    assert row.figures["miou"] == 1


def test_examples_are_as_many_as_asked_for_and_show_the_query_s_class(tmp_path: Path, red: RedReader) -> None:
    source = Fss1000(fss(tmp_path, {"ant": HALF, "bus": LOWER}), ["ant", "bus"])
    report = evaluate_few_shot(source, red, [1, 5])
    assert [(row.part, row.examples, row.queries) for row in report.rows] == [("all", 1, 20), ("all", 5, 20)]
    assert [len(context) for context in red.asked] == [1] * 20 + [5] * 20
    assert [context.examples[0].mask[40, 50] for context in red.asked] == 2 * (10 * [False] + 10 * [True])


def test_progress_goes_from_none_to_all(voc: Path, red: RedReader) -> None:
    calls: list[tuple[int, int]] = []
    evaluate_few_shot(
        Pascal5i(voc), red, [1, 2], [0], at_most=5, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(0, 10), (4, 10), (5, 10), (9, 10), (10, 10)]


def test_what_cannot_be_compared_is_said(voc: Path, tmp_path: Path, red: RedReader) -> None:
    notes = " ".join(evaluate_few_shot(Pascal5i(voc), red, [1], [0], at_most=2).notes)
    assert "mean over all folds" in notes
    assert "first 2 episodes of each fold only" in notes
    source = Fss1000(fss(tmp_path / "fss", {"ant": HALF}), ["ant"])
    assert evaluate_few_shot(source, red, [1]).notes == ()
    assert evaluate_few_shot(source, red, [1], at_most=10).notes == ()
    assert "not comparable" in evaluate_few_shot(source, red, [1], at_most=9).notes[0]


def test_questions_without_sense_are_refused(voc: Path, red: RedReader) -> None:
    source: FewShotSource = Pascal5i(voc)
    with pytest.raises(EvaluationError, match="has the folds 0, 1, 2, 3, and no fold 4"):
        evaluate_few_shot(source, red, folds=[4])
    with pytest.raises(EvaluationError, match="shots"):
        evaluate_few_shot(source, red, [0])
    with pytest.raises(EvaluationError, match="at least one episode"):
        evaluate_few_shot(source, red, at_most=0)


def test_a_real_segmenter_is_evaluated_alike_twice(voc: Path, segmenter: Segmenter) -> None:
    first, second = (evaluate_few_shot(Pascal5i(voc), segmenter, [2], [0], at_most=4) for _ in range(2))
    assert [row.figures for row in first.rows] == [row.figures for row in second.rows]
    assert first.checkpoint == segmenter.identity


# -- published -----------------------------------------------------------------------------------------------------
def test_the_report_holds_published_figures_on_the_same_scale(voc: Path, red: RedReader) -> None:
    written = json.loads(json.dumps(evaluate_few_shot(Pascal5i(voc), red, [1], [0], at_most=1).to_json()))
    assert written["rows"][0]["part"] == "fold 0"
    assert {"examples", "miou", "queries", "seconds_per_query"} < set(written["rows"][0])
    ours = [row for row in written["published"] if row["method"] == "SegGPT"]
    assert [(row["examples"], row["miou"]) for row in ours] == [("1", 0.832), ("few", 0.898)]
    assert {row["source"] for row in written["published"]} == {"arXiv 2304.03284, Table 1"}


def test_every_published_figure_is_a_percentage_of_its_protocol_and_has_a_source() -> None:
    names = {
        "coco20i": {"miou"},
        "pascal5i": {"miou"},
        "fss1000": {"miou"},
        "davis2017": {"j_and_f", "j", "f"},
    }
    for protocol, rows in PUBLISHED.items():
        keys = [(row.method, row.examples, row.table, row.remark) for row in rows]
        assert len(set(keys)) == len(keys)
        for row in rows:
            assert set(row.figures) == names[protocol]
            assert all(1 < figure < 100 for figure in row.figures.values())
            assert row.table.startswith("Table ")
            if protocol == "davis2017":  # rounded parts of a rounded mean
                assert row.figures["j_and_f"] == pytest.approx(
                    (row.figures["j"] + row.figures["f"]) / 2, abs=0.11
                )
