"""`evaluate --protocol`: one command from a folder in a published layout to figures beside those of papers."""

import json
from pathlib import Path

import pytest

from tests.backend.documented import ROOT
from tests.backend.stage import Run
from tests.model.protocol_trees import HALF, SIDE, coco, davis, fss, pascal, polygon

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    pictures = {f"{label} {number}": {label: HALF} for label in (1, 6, 11, 16) for number in range(3)}
    return pascal(tmp_path / "VOC2012", pictures)


def test_published_figures_are_printed_beside_what_was_measured(run: Run, voc: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    code, out, err = run(
        "evaluate", str(voc), "--protocol", "pascal5i", "--episodes", "2", "--json", str(report)
    )
    assert (code, err) == (0, "")
    rows = [
        [cell.strip() for cell in line.strip("│ \n").split("│")] for line in out.splitlines() if "│" in line
    ]
    measured = [row for row in rows if row[-1] == "measured"]
    parts = ["fold 0", "fold 1", "fold 2", "fold 3", "all"]
    assert [(row[1], row[2]) for row in measured] == [(part, count) for count in "15" for part in parts]
    published = {(row[0], row[2]): row[3] for row in rows if "Table 1" in row[-1]}
    assert published["SegGPT", "1"] == "83.2"
    assert published["HSNet", "few"] == "70.4"
    written = json.loads(report.read_text())
    assert written["protocol"] == "pascal5i"
    for row, shown in zip(written["rows"], measured, strict=True):
        assert shown[3] == f"{100 * row['miou']:.1f}"
    assert "not comparable with published figures" in out
    assert "Fold 3: 3 pairs of picture and class, by rule" in out


def test_coco_is_measured_in_one_fold(run: Run, tmp_path: Path) -> None:
    annotations = [(image, 2, polygon(HALF), 2048.0) for image in range(4)]
    folder = coco(tmp_path / "COCO2014", annotations, [1, 2])
    options = ("--protocol", "coco20i", "--fold", "1", "--shots", "2", "--episodes", "3")
    code, out, err = run("evaluate", str(folder), *options)
    assert (code, err) == (0, "")
    assert "fold 1" in out
    assert "Published figures are the mean over all folds." in out


def test_fss_1000_is_measured_on_its_240_test_classes(run: Run, tmp_path: Path) -> None:
    names = (ROOT / "model" / "protocols" / "fss1000_test.txt").read_text().splitlines()
    fss(tmp_path, {names[0]: HALF})
    for name in names[1:]:  # the first episodes are of the first class
        (tmp_path / name).mkdir()
    code, out, err = run(
        "evaluate", str(tmp_path), "--protocol", "fss1000", "--shots", "1", "--episodes", "3"
    )
    assert (code, err) == (0, "")
    assert "fold" not in out.partition("measured")[0]
    assert "DAN" in out


def test_davis_is_measured_with_eight_examples(run: Run, tmp_path: Path) -> None:
    folder = davis(tmp_path / "DAVIS", {"swan": [{1: HALF, 2: (0, 48, SIDE, SIDE)}] * 4})
    report = tmp_path / "report.json"
    code, out, err = run("evaluate", str(folder), "--protocol", "davis2017", "--json", str(report))
    assert (code, err) == (0, "")
    for heading in ("J&F", "AGAME", "72.5"):
        assert heading in out
    (row,) = json.loads(report.read_text())["rows"]
    assert (row["examples"], row["queries"]) == (8, 4)
    assert {"j_and_f", "j", "f"} < set(row)


@pytest.mark.parametrize("protocol", ["coco20i", "pascal5i", "fss1000", "davis2017"])
def test_what_is_missing_is_named_before_weights_are_loaded(run: Run, tmp_path: Path, protocol: str) -> None:
    checkpoint = str(tmp_path / "none.pth")
    code, _, err = run("evaluate", str(tmp_path), "--protocol", protocol, "--checkpoint", checkpoint)
    assert code == 1
    assert "is missing. " in err
    assert str(tmp_path) in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--protocol", "fss1000", "--fold", "1"), "fss1000 has no folds"),
        (("--protocol", "davis2017", "--fold", "1"), "davis2017 has no folds"),
        (("--protocol", "pascal5i", "--tune"), "do not go with --protocol"),
        (("--fold", "1"), "need --protocol"),
        (("--episodes", "10"), "need --protocol"),
        (("--protocol", "pascal5i", "--shots", "none"), "--shots"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    run: Run, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    code, _, err = run("evaluate", str(tmp_path), *options)
    assert code == 1
    assert said in err
