"""`examples`: list, drop and export what was approved."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from backend.store.pictures import unpack_image
from tests.backend.stage import Run, Stage, blob


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
