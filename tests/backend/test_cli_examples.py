"""`examples`: list, measure, drop and export what was approved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from backend import dropped
from backend.cli import example_folder
from backend.errors import BadRequest, Refused
from backend.store.pictures import unpack_image
from model.evaluation import Folder
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import Run, Stage, blob, brush, by_colour

TWO_LABELS = LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')


@pytest.fixture
def learned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Two approved blobs of the first of two labels."""
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
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


# -- export --------------------------------------------------------------------------------------------------------
# pycocotools 2.0.11 leaves its file open and has no `copy` in its `__array__`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_export_loads_with_pycocotools_and_holds_the_approved_pixels(
    run: Run, learned: Stage, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    code, out, _ = run("examples", "export", str(learned.project), str(folder))
    assert code == 0
    assert "2 masks on 2 images" in out
    loaded = COCO(str(folder / "annotations.json"))
    assert [category["name"] for category in loaded.loadCats(loaded.getCatIds())] == ["cell", "debris"]
    for number, seed in ((1, 1), (2, 2)):
        image, mask = blob(seed)
        (record,) = loaded.loadImgs([number])
        name = Path(record["file_name"]).stem
        assert name.startswith("task-")
        assert np.array_equal(unpack_image((folder / "images" / record["file_name"]).read_bytes()), image)
        (annotation,) = loaded.loadAnns(loaded.getAnnIds(imgIds=[number]))
        assert np.array_equal(loaded.annToMask(annotation).astype(bool), mask)
        with Image.open(folder / "masks" / f"{name}.png") as palette:
            assert palette.mode == "P"
            assert np.array_equal(np.array(palette), mask.astype(np.uint8))  # 1: "cell" is the first label
            assert (palette.getpalette() or [])[:3] == [0, 0, 0]
        with Image.open(folder / "labels" / "cell" / f"{name}.png") as single:
            assert np.array_equal(np.array(single), mask.astype(np.uint8) * 255)
    assert not (folder / "labels" / "debris").exists()


def test_what_was_exported_is_read_again_pixel_by_pixel_also_where_labels_overlap(
    run: Run, learned: Stage, tmp_path: Path
) -> None:
    image, mask = blob(5)
    wide = mask | np.roll(mask, 6, axis=1)
    task = learned.upload(image)
    annotation = learned.submit(task, brush(mask), brush(wide, "debris"))
    learned.work()
    folder = tmp_path / "out"
    code, out, _ = run("examples", "export", str(learned.project), str(folder))
    assert code == 0
    assert f"{np.count_nonzero(mask & wide)} pixels have several labels" in out
    pairs = example_folder.pairs(folder)
    assert {label: len(found) for label, found in pairs.items()} == {"cell": 3, "debris": 1}
    name = f"task-{task}-annotation-{annotation}"
    by_name = {label: {pair.name: pair.read_mask() for pair in found} for label, found in pairs.items()}
    assert np.array_equal(by_name["cell"][name], mask)
    assert np.array_equal(by_name["debris"][name], wide)
    opened = Folder(folder)  # as `evaluate` opens it
    assert {index: len(stems) for index, stems in opened.classes().items()} == {1: 2, 2: 1}
    assert np.array_equal(opened.example(name, 2).mask, wide)


def test_two_controls_with_one_label_give_one_mask_that_has_both(
    run: Run, learned: Stage, tmp_path: Path
) -> None:
    """The second control's mask stood in the first one's place, which was lost without a word."""
    config = """<View><Image name="image" value="$image"/>
      <BrushLabels name="tag" toName="image"><Label value="cell"/></BrushLabels>
      <PolygonLabels name="outline" toName="image"><Label value="cell"/></PolygonLabels></View>"""
    learned.label_studio.projects[learned.project]["label_config"] = config
    learned.setup()
    learned.work()
    image, mask = blob(6)
    task = learned.upload(image)
    height, width = mask.shape
    triangle = {
        "id": "p", "from_name": "outline", "to_name": "image", "type": "polygonlabels", "origin": "manual",
        "original_width": width, "original_height": height, "image_rotation": 0,
        "value": {"points": [[0, 0], [30, 0], [0, 30]], "closed": True, "polygonlabels": ["cell"]},
    }  # fmt: skip
    learned.submit(task, brush(mask), triangle)
    learned.work()
    assert run("examples", "export", str(learned.project), str(tmp_path / "out"))[0] == 0
    (found,) = [
        pair.read_mask()
        for pair in example_folder.pairs(tmp_path / "out")["cell"]
        if pair.name.startswith(f"task-{task}-")
    ]
    assert found[mask].all()
    assert found[:5, :5].all()
    assert not mask[:5, :5].any()


def test_an_export_is_not_mixed_with_what_lies_there(run: Run, learned: Stage, tmp_path: Path) -> None:
    """A mask that was withdrawn since the earlier export would be an example again."""
    folder, project = tmp_path / "out", str(learned.project)
    assert run("examples", "export", project, str(folder))[0] == 0
    code, _, err = run("examples", "export", project, str(folder))
    assert code == 1
    assert "--force" in err
    run("examples", "drop", project, learned.backend.store.pool(learned.key)[0].key[:12])
    assert run("examples", "export", project, str(folder), "--force")[0] == 0
    assert len(list((folder / "images").iterdir())) == len(example_folder.pairs(folder)["cell"]) == 1
    other = tmp_path / "photographs"
    (other / "images").mkdir(parents=True)
    code, _, err = run("examples", "export", project, str(other), "--force")
    assert code == 1
    assert "no export wrote it" in err
    assert (other / "images").exists()


# -- what is left out, and why -------------------------------------------------------------------------------------
def exported(run: Run, stage: Stage, folder: Path) -> list[str]:
    """What a successful export says, its last line left out."""
    code, out, err = run("examples", "export", str(stage.project), str(folder))
    assert code == 0, err
    return out.strip().splitlines()[:-1]


def test_an_export_of_all_that_was_approved_leaves_nothing_out(
    run: Run, learned: Stage, tmp_path: Path
) -> None:
    assert exported(run, learned, tmp_path / "out") == []


def test_an_annotation_submitted_empty_is_counted_as_one_without_a_mask(
    run: Run, learned: Stage, tmp_path: Path
) -> None:
    (task,) = learned.blobs(1, first=5)
    learned.submit(task)
    learned.work()
    assert exported(run, learned, tmp_path / "out") == ["1 submitted empty: left out."]


def test_what_left_a_full_pool_is_not_said_to_have_no_mask(
    run: Run, staging: Callable[..., Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was: of each project with more approvals than `POOL_SIZE`, once for each of them."""
    stage = staging(pool_size=2)
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    stage.setup()
    for seed in range(5):
        stage.approve(seed)
    (line,) = exported(run, stage, tmp_path / "out")
    assert line.startswith("3 in no pool: left out.")
    assert "POOL_SIZE" in line


def test_what_was_taken_out_of_use_is_said_to_be(run: Run, learned: Stage, tmp_path: Path) -> None:
    run("examples", "drop", str(learned.project), learned.backend.store.pool(learned.key)[0].key)
    assert exported(run, learned, tmp_path / "out") == ["1 taken out of use: left out."]


def test_what_was_put_back_is_said_to_be_read_again(run: Run, learned: Stage, tmp_path: Path) -> None:
    """It was said to be taken out of use still."""
    key = learned.backend.store.pool(learned.key)[0].key
    run("examples", "drop", str(learned.project), key)
    dropped.put_back(learned.backend.store, learned.key, key)
    assert exported(run, learned, tmp_path / "out") == ["1 put back and being read again: left out."]


def test_masks_of_a_lost_label_are_said_to_be_left_out(run: Run, learned: Stage, tmp_path: Path) -> None:
    """Nothing was said of one whose annotation has another label too."""
    image, mask = blob(5)
    learned.submit(learned.upload(image), brush(mask), brush(mask, "debris"))
    learned.work()
    learned.label_studio.projects[learned.project]["label_config"] = LABEL_CONFIG.replace("cell", "debris")
    learned.setup()
    (line,) = exported(run, learned, tmp_path / "out")
    assert line.startswith("3 of label 'cell', which the labeling config has lost: left out.")
    assert "Lost labels" in line


def test_an_export_that_would_hold_no_mask_leaves_the_earlier_one_as_it_is(
    run: Run, learned: Stage, tmp_path: Path
) -> None:
    """After a label was renamed `--force` cleared it, and wrote no masks in its place."""
    folder, project = tmp_path / "out", str(learned.project)
    assert run("examples", "export", project, str(folder))[0] == 0
    before = {file: file.read_bytes() for file in folder.rglob("*.*")}
    learned.label_studio.projects[learned.project]["label_config"] = LABEL_CONFIG.replace("cell", "nucleus")
    learned.setup()
    code, _, err = run("examples", "export", project, str(folder), "--force")
    assert code == 1
    assert (
        f"no mask to export in project {project}. 2 of label 'cell', which the labeling config has lost"
        in err
    )
    assert {file: file.read_bytes() for file in folder.rglob("*.*")} == before


@pytest.mark.parametrize(
    "content", ['{"info": {"description": "COCO 2017"}, "images": []}', "[]", '{"info": null}', "{", "\udcff"]
)
def test_a_dataset_of_somebody_else_is_not_thrown_away(tmp_path: Path, content: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(Refused, match="no export wrote it"):
        example_folder.clear(tmp_path, force=True)
    assert (tmp_path / "images").exists()


def test_more_labels_than_a_palette_holds_are_refused_before_anything_is_thrown_away(
    run: Run, learned: Stage, tmp_path: Path
) -> None:
    folder, project = tmp_path / "out", str(learned.project)
    assert run("examples", "export", project, str(folder))[0] == 0
    labels = "".join(f'<Label value="{number}"/>' for number in range(example_folder.MOST_LABELS))
    config = learned.label_studio.projects[learned.project]["label_config"]
    learned.label_studio.projects[learned.project]["label_config"] = config.replace(
        "</BrushLabels>", labels + "</BrushLabels>"
    )
    learned.setup()
    code, _, err = run("examples", "export", project, str(folder), "--force")
    assert (code, "254" in err) == (1, True), err
    assert list((folder / "masks").iterdir())


def test_labels_become_names_that_every_file_system_takes() -> None:
    labels = ["cell", "a/b", "a:b", "Cell", "..", "x" * 200, "Zelle öß"]
    names = example_folder.file_names(labels)
    assert names["cell"] == "cell"
    assert names["a/b"] != names["a:b"]
    assert names["Cell"] == "Cell 2"  # some file systems do not tell them apart
    assert names[".."] == "label"
    assert names["Zelle öß"] == "Zelle öß"
    assert all(len(name) <= 90 and "/" not in name for name in names.values())


def test_more_labels_than_a_palette_holds_are_refused(tmp_path: Path) -> None:
    mask = np.ones((4, 4), np.bool_)
    labels = [str(number) for number in range(example_folder.MOST_LABELS + 1)]
    with pytest.raises(BadRequest, match="254"):
        example_folder.write_masks(tmp_path, "a", {"1": mask}, labels)
    example_folder.write_masks(tmp_path, "a", {"253": mask}, labels[:-1])
    with Image.open(tmp_path / "masks" / "a.png") as palette:
        assert np.array(palette).max() == 254
    assert len(set(example_folder.colours(254))) > 200


def test_a_project_that_was_never_seen_is_named(run: Run, learned: Stage) -> None:
    code, _, err = run("examples", "list", "999")
    assert code == 1
    assert "Project 999 has never been seen" in err
