"""`examples`: list, measure, drop and export what was approved."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from backend.store.pictures import unpack_image
from tests.backend.stage import Run, Stage, blob, brush, by_colour


@pytest.fixture
def learned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Two approved blobs."""
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    for seed in (1, 2):
        stage.approve(seed)
    stage.work()
    return stage


def test_examples_are_listed_with_their_origin(run: Run, learned: Stage) -> None:
    code, out, _ = run("examples", "list", str(learned.project))
    assert code == 0
    rows = [line for line in out.splitlines() if "drawn" in line]
    assert len(rows) == len(learned.pool) == 2
    assert all("cell" in row for row in rows)
    assert "recheck" not in out


def test_measured_examples_are_listed_with_what_was_found_and_the_task_to_recheck(
    run: Run, learned: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four masks are the disc; one is everything but the disc, which finds what the others do not."""
    monkeypatch.setattr("model.segmenter.Segmenter.segment", lambda _, queries: by_colour(queries))
    for seed in (3, 4):
        learned.approve(seed)
    image, mask = blob(9)
    task = learned.upload(image)
    learned.submit(task, brush(~mask))
    learned.work()
    project = str(learned.project)
    code, out, _ = run("examples", "measure", project)
    assert code == 0
    first, *recheck = out.strip().splitlines()
    assert first == "5 of 5 examples measured, 1 suspicious."
    findings = learned.backend.alarm.findings(learned.key).by_key
    (suspect,) = [finding for finding in findings.values() if finding.suspicious]
    assert recheck == [f"recheck task {task}: {suspect.reason}"]

    code, out, _ = run("examples", "list", project)
    assert code == 0
    *table, last = out.strip().splitlines()
    assert last == recheck[0]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table if "drawn" in line]
    assert len(rows) == 5
    for row in rows:
        finding = findings[next(key for key in findings if key.startswith(row[0]))]
        assert row[8:10] == [f"{finding.found:.2f}", f"{finding.finds:.2f}"]
        assert row[10] == ("recheck" if row[2] == str(task) else "")


def test_what_came_after_the_measuring_is_listed_without_figures(run: Run, learned: Stage) -> None:
    learned.backend.alarm.measure(learned.key)
    new = learned.approve(7)
    _, out, _ = run("examples", "list", str(learned.project))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "drawn" in line]
    assert [row[8] != "" for row in rows] == [True, True, False]
    assert rows[-1][3] == str(new)


def test_measuring_a_project_that_was_never_seen_is_refused(run: Run, learned: Stage) -> None:
    code, out, err = run("examples", "measure", "999")
    assert (code, out) == (1, "")
    assert "Project 999 has never been seen" in err


def test_a_dropped_example_is_no_longer_used_and_the_revision_moves(run: Run, learned: Stage) -> None:
    before = learned.setup()
    first = learned.backend.store.pool(learned.key)[0]
    code, out, _ = run("examples", "drop", str(learned.project), first.key[:12])
    assert (code, out.strip()) == (0, "1 dropped.")
    assert learned.pool == [learned.pool[-1]]
    assert learned.pool != [first.annotation]
    assert learned.setup() != before
    assert run("examples", "drop", str(learned.project), "no such key")[0] == 1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11
def test_the_export_holds_the_approved_pixels(run: Run, learned: Stage, tmp_path: Path) -> None:
    code, out, _ = run("examples", "export", str(learned.project), str(tmp_path / "out"))
    assert code == 0
    assert "2 masks on 2 images" in out
    dataset = json.loads((tmp_path / "out" / "annotations.json").read_text())
    for number, seed in ((1, 1), (2, 2)):
        image, mask = blob(seed)
        (record,) = [record for record in dataset["images"] if record["id"] == number]
        written = (tmp_path / "out" / "images" / record["file_name"]).read_bytes()
        assert np.array_equal(unpack_image(written), image)
        (annotation,) = [row for row in dataset["annotations"] if row["image_id"] == number]
        assert np.array_equal(coco_mask.decode(annotation["segmentation"]).astype(bool), mask)


def test_a_project_that_was_never_seen_is_named(run: Run, learned: Stage) -> None:
    code, _, err = run("examples", "list", "999")
    assert code == 1
    assert "Project 999 has never been seen" in err
