"""The commands: what they do, and that what goes wrong is one line without a traceback."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.learner import withdrawn
from backend.store.leases import held
from model.device import DeviceMemoryError
from tests.backend.stage import Run, Stage, blob, brush


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Six pictures with masks of one class, as `evaluate` and `predict` read them."""
    folder = tmp_path / "cells"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for seed in range(6):
        add_pair(folder, seed)
    return folder


def add_pair(folder: Path, seed: int) -> None:
    image, mask = blob(seed)
    Image.fromarray(image).save(folder / "images" / f"{seed}.png")
    indices = Image.new("P", (64, 48))
    indices.putdata(mask.astype(np.uint8).ravel().tolist())
    indices.putpalette([0, 0, 0, 255, 0, 0])
    indices.save(folder / "masks" / f"{seed}.png")


@pytest.fixture
def label_studio_in_environment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("LABEL_STUDIO_URL", stage.label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stage.label_studio.legacy_token)
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    return stage


# -- all of them ---------------------------------------------------------------------------------------------------
def test_without_a_command_all_are_listed(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    for command in ("serve", "worker", "sync", "predict", "evaluate", "doctor"):
        assert command in out + err


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "ninety"), ("LABEL_STUDIO_URL", "studio:8080"), ("PRE_ANNOTATE", "some"), ("SHOTS", "99")],
)
def test_a_setting_that_is_not_understood_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    code, _, err = run("sync")
    assert code == 1
    assert name in err
    assert len(err.strip().splitlines()) == 1


def test_an_option_comes_before_the_environment_and_is_named_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "9191")
    code, _, err = run("serve", "--port", "0")
    assert code == 1
    assert "PORT" in err
    assert "docs/settings.md" in err


def test_what_an_error_says_is_not_read_as_markup(run: Run, tmp_path: Path) -> None:
    code, _, err = run("evaluate", str(tmp_path / "[/bold] a"))
    assert code == 1
    assert "[/bold] a" in err


# -- evaluate ------------------------------------------------------------------------------------------------------
def test_evaluate_prints_a_table_and_writes_the_report(run: Run, data_set: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    code, out, err = run("evaluate", str(data_set), "--shots", "1,2", "--json", str(report))
    assert (code, err) == (0, "")
    rows = json.loads(report.read_text())["rows"]
    assert [row["shots"] for row in rows] == [1, 2]
    assert all(0 <= row["miou"] <= 1 and row["queries"] == 6 for row in rows)
    assert "mIoU" in out
    assert f"{rows[0]['miou']:.3f}" in out


def test_evaluate_measures_edges_and_objects_where_asked(run: Run, data_set: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("--shots", "1", "--boundary", "--objects", "--json", str(report))
    for edges in ("guided", "off"):
        code, out, err = run("evaluate", str(data_set), *options, "--edges", edges)
        assert (code, err) == (0, "")
        (row,) = json.loads(report.read_text())["rows"]
        assert 0 <= row["boundary_f"] <= 1
        assert 0 <= row["object_f1"] <= 1
        assert "boundary F" in out
        assert f"{row['object_f1']:.3f}" in out
    code, _, err = run("evaluate", str(data_set), "--edges", "sharp")
    assert code == 1
    assert "edges" in err.lower()


@pytest.mark.parametrize("shots", ["", "0", "one", "1,,2", "-1"])
def test_evaluate_wants_numbers_of_examples(run: Run, data_set: Path, shots: str) -> None:
    code, _, err = run("evaluate", str(data_set), f"--shots={shots}")
    assert code == 1
    assert "--shots" in err


def test_evaluate_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    code, _, err = run("evaluate", str(tmp_path / "none"))
    assert code == 1
    assert "none" in err
    code, _, err = run("evaluate", str(tmp_path), "--checkpoint", str(tmp_path / "weights.pth"))
    assert code == 1
    assert "weights.pth" in err


@pytest.mark.parametrize("protocol", [(), ("--protocol", "fss1000")], ids=["folder", "protocol"])
def test_evaluate_measures_nothing_where_the_report_could_not_be_written(
    run: Run, data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: tuple[str, ...]
) -> None:
    """All was measured, which can take hours, and then lost."""

    def measured(*_: object, **__: object) -> None:
        pytest.fail("measured")

    monkeypatch.setattr("backend.wiring.load_segmenter", measured)
    monkeypatch.setattr("backend.cli.protocols._prepared", measured)
    for report in (tmp_path / "nowhere" / "report.json", tmp_path):
        code, _, err = run("evaluate", str(data_set), *protocol, "--json", str(report))
        assert code == 1
        assert f"--json: {report} cannot be written." in err
        assert len(err.strip().splitlines()) == 1


# -- sync ----------------------------------------------------------------------------------------------------------
def test_sync_makes_the_examples_equal_to_label_studio_s(
    run: Run, label_studio_in_environment: Stage
) -> None:
    stage = label_studio_in_environment
    annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]), tell=False)
    lost = stage.label_studio.add_task(stage.project, image="/data/upload/gone.png")
    stage.submit(lost, brush(blob(2)[1]), tell=False)
    code, out, _ = run("sync", str(stage.project))
    assert code == 0
    assert stage.pool == [annotation]
    (row,) = [line for line in out.splitlines() if stage.key in line]
    assert [cell.strip() for cell in row.split("│")[2:6]] == ["1", "0", "1", "yes"]
    assert f"task {lost}: " in row
    assert "pre_annotate" in stage.work()
    stage.label_studio.withdraw(annotation)
    code, out, _ = run("sync")  # the projects that were seen
    assert code == 0
    assert stage.pool == []


def test_sync_of_all_projects_notes_that_one_is_gone_and_does_the_others(
    run: Run, label_studio_in_environment: Stage
) -> None:
    """Once a project was deleted it failed for ever."""
    stage = label_studio_in_environment
    stage.approve(1)
    stage.backend.store.put_label_config("99.1700000000", "<View/>", "f")
    code, out, _ = run("sync")
    assert code == 0
    assert "note: project 99.1700000000 is no longer in Label Studio." in out
    assert stage.key in out
    code, _, err = run("sync", "99")
    assert code == 1
    assert "/api/projects/99/" in err


def test_sync_of_projects_of_which_one_cannot_be_compared_does_the_others_and_fails(
    run: Run, label_studio_in_environment: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody else withdrew approvals at that moment it ended in the middle."""
    monkeypatch.setattr(withdrawn, "held", partial(held, patience=0.1))
    stage = label_studio_in_environment
    stage.label_studio.withdraw(stage.approve(1))
    number = stage.label_studio.add_project()
    other = stage.backend.label_studio.project(number).key
    stage.backend.store.acquire(f"changing:withdrawn:{stage.key}", "another", 3600)
    code, out, _ = run("sync", str(stage.project), str(number))
    assert code == 1
    assert f"project {stage.key}: Somebody else withdraws approvals at this moment; try again." in out
    assert other in out


def test_sync_says_what_is_missing(
    run: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = str(tmp_path / "new")
    code, _, err = run("sync", "--data-dir", folder)
    assert code == 1
    assert "LABEL_STUDIO_URL" in err
    monkeypatch.setenv("LABEL_STUDIO_URL", stage.label_studio.url)
    code, _, err = run("sync", "--data-dir", folder)
    assert code == 1
    assert "No project has been seen" in err
    code, _, err = run("sync", "1", "--data-dir", folder)
    assert code == 1
    assert "LABEL_STUDIO_API_KEY" in err


# -- doctor --------------------------------------------------------------------------------------------------------
def test_doctor_prints_what_it_found_and_fails_where_something_is_wrong(
    run: Run, label_studio_in_environment: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "1")  # where nothing listens
    stage = label_studio_in_environment
    code, out, _ = run("doctor", "--project", str(stage.project))
    assert code == 1
    assert "this backend is not connected" in out
    stage.label_studio.backends.append(
        {"id": 1, "project": stage.project, "url": "http://127.0.0.1:1", "readable_state": "Connected"}
    )
    stage.label_studio.webhooks[1] = {
        "id": 1, "project": stage.project, "url": "http://127.0.0.1:1/webhook", "headers": {}, "is_active": True
    }  # fmt: skip
    code, out, _ = run("doctor", "--project", str(stage.project))
    assert code == 0
    assert "warning" in out  # the server does not run
    assert "error" not in out


def test_doctor_cuts_nothing_on_a_narrow_screen(
    run: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 80 columns the remedy for the embedded checkpoint got `CHECKPOINT=BAAI/seggpt-...`."""
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run("doctor", "--data-dir", str(stage.settings.data_dir / ("long" * 20)))
    assert "…" not in out
    assert out.count("long") >= 16


# -- imports -------------------------------------------------------------------------------------------------------
def test_the_command_line_itself_loads_no_torch() -> None:
    code = "import sys\nfrom backend.cli import evaluation, main, serving, tasks\nsys.exit('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code])  # noqa: S603 - our own command line
    assert ended.returncode == 0


def test_evaluate_tunes_a_prompt_for_each_half_of_the_queries(
    run: Run, data_set: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    for seed in (6, 7):
        add_pair(data_set, seed)  # so that four are left to learn from
    options = ("--shots", "2", "--tune", "--boundary", "--objects", "--json", str(report))
    code, out, err = run("evaluate", str(data_set), *options)
    assert (code, err) == (0, "")
    rows = json.loads(report.read_text())["rows"]
    assert [(row["shots"], row["method"]) for row in rows] == [(2, "context"), (2, "tuned")]
    assert rows[0]["queries"] == rows[1]["queries"]
    plain = {"shots", "method", "miou", "seconds_per_image", "queries"}
    assert set(rows[0]) == set(rows[1]) == plain | {"boundary_f", "object_f1"}
    assert "2 prompts" in out


def test_too_little_memory_is_said_without_a_traceback(
    run: Run, data_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise DeviceMemoryError("cpu has not enough memory for even one query at 64 px.")

    monkeypatch.setattr("model.segmenter.Segmenter.segment", too_large)
    monkeypatch.setattr("model.segmenter.Segmenter.maps", too_large)
    code, _, err = run("evaluate", str(data_set), "--shots", "1")
    assert code == 1
    assert "cpu has not enough memory for even one query" in err


def test_python_s_own_lack_of_memory_which_says_nothing_is_put_into_words(
    run: Run, data_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("model.segmenter.Segmenter.segment", too_large)
    monkeypatch.setattr("model.segmenter.Segmenter.maps", too_large)
    code, _, err = run("evaluate", str(data_set), "--shots", "1")
    assert (code, err.strip()) == (1, "MemoryError: There is not enough memory.")
