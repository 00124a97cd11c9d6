"""`prompts`: versions listed, judged, activated, taken back, carried."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backend.store.tensors import LIMIT_BYTES
from tests.backend.stage import Run, Stage
from tests.backend.test_prompts import add

ROOT = Path(__file__).parents[2]


@pytest.fixture
def judged(staging: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A prompt that the gate kept out; the commands find the store and Label Studio by their environment."""
    stage = staging(tune_gate=1.0, tune_steps=1)
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", stage.label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stage.label_studio.legacy_token)
    stage.tune_four()
    return stage


@pytest.fixture
def added(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """An active prompt, as a tuning would have left it."""
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    stage.setup()
    add(stage, activate=True)
    return stage


def cells(out: str, number: int) -> list[str]:
    """The row of a version in a table."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    (row,) = [row for row in rows if row[0] == str(number)]
    return row


def statuses(stage: Stage) -> list[str]:
    return [prompt.status for prompt in stage.prompts]


# -- looking -------------------------------------------------------------------------------------------------------
def test_versions_are_listed_with_what_was_measured(run: Run, judged: Stage) -> None:
    code, out, _ = run("prompts", "list", str(judged.project))
    assert code == 0
    (prompt,) = judged.prompts
    row = cells(out, 1)
    assert row[1:5] == ["cell", "candidate", prompt.uses, "4"]
    assert row[5] == f"{prompt.figures['context_iou']:.3f}"
    assert row[8] == f"{prompt.figures['gain']:+.3f}"
    assert out.splitlines()[-1] == f"1: {prompt.reason}"
    assert row[-1] == f"{datetime.fromtimestamp(prompt.created, UTC):%Y-%m-%d %H:%M} UTC"  # as on the page


def test_where_there_is_none_the_way_to_one_is_named(
    run: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(stage.settings.data_dir))
    stage.setup()
    code, out, _ = run("prompts", "list", str(stage.project))
    assert code == 0
    assert f"python -m backend tune {stage.project}" in out


def test_a_label_is_not_read_as_markup(run: Run, judged: Stage) -> None:
    (prompt,) = judged.prompts
    odd = replace(prompt, label="[red]x[/red]", reason="[/bold]")
    judged.backend.store.prompts.add_prompt(odd, b"")
    code, out, _ = run("prompts", "list", str(judged.project))
    assert code == 0
    assert cells(out, 2)[1] == "[red]x[/red]"
    code, out, _ = run("prompts", "show", str(judged.project), "2")
    assert code == 0
    assert "[/bold]" in out


def test_one_is_shown_with_what_it_learned_from(run: Run, judged: Stage) -> None:
    kept, withdrawn = judged.backend.store.pool(judged.key)[1], judged.backend.store.pool(judged.key)[0]
    judged.delete(withdrawn.annotation)
    judged.work()
    code, out, _ = run("prompts", "show", str(judged.project), "1")
    assert code == 0
    assert judged.prompts[0].reason in out
    assert judged.backend.checkpoint in out
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if line.count("│") == 5}
    there = [cell.strip() for cell in rows[kept.key[:12]].split("│")[2:5]]
    assert there == [str(kept.task), str(kept.annotation), "in the pool"]
    gone = [cell.strip() for cell in rows[withdrawn.key[:12]].split("│")[2:5]]
    assert gone == ["", "", "withdrawn, corrected or dropped since"]


def test_an_active_one_whose_label_is_gone_is_said_not_to_be_used(run: Run, added: Stage) -> None:
    """The page and the API said why; the command line said that it was active, and since when."""
    project = added.label_studio.projects[added.project]
    code, out, _ = run("prompts", "show", str(added.project), "1")
    assert (code, "not in the labeling config" in out) == (0, False)
    project["label_config"] = project["label_config"].replace("cell", "nucleus")
    added.setup()
    code, out, _ = run("prompts", "list", str(added.project))
    assert code == 0
    assert "active, not used" in re.sub(r"[\s│]+", " ", out)
    assert out.splitlines()[-1].startswith(
        "1: Label 'cell' (target tag/image/cell) is not in the labeling config"
    )
    code, out, _ = run("prompts", "show", str(added.project), "1")
    assert code == 0
    assert "not in the labeling config" in re.sub(r"[\s│]+", " ", out)


def test_of_one_that_is_not_in_use_the_reason_stands_though_its_label_is_gone(
    run: Run, judged: Stage
) -> None:
    """Nobody would use it either way; what the gate measured is what there is to read."""
    project = judged.label_studio.projects[judged.project]
    project["label_config"] = project["label_config"].replace("cell", "nucleus")
    judged.setup()
    code, out, _ = run("prompts", "list", str(judged.project))
    assert code == 0
    assert out.splitlines()[-1] == f"1: {judged.prompts[0].reason}"


@pytest.mark.parametrize(
    "command", [("show", "1", "7"), ("activate", "1", "7"), ("export", "1", "7", "file"), ("list", "999"),
                ("rollback", "1"), ("rollback", "1", "--label", "none"), ("import", "1", "no file")]
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(run: Run, judged: Stage, command: tuple[str, ...]) -> None:
    code, out, err = run("prompts", *command)
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert any(said in err for said in ("no prompt 7", "Project 999", "nothing to roll back", "no file"))


# -- activate and take back ----------------------------------------------------------------------------------------
def test_one_is_activated_and_rolled_back_and_tasks_are_predicted_anew(run: Run, judged: Stage) -> None:
    project, versions = str(judged.project), [judged.setup()]
    code, out, _ = run("prompts", "activate", project, "1")
    assert (code, out.strip()) == (0, "Prompt 1 of 'cell' is active.")
    assert statuses(judged) == ["active"]
    assert judged.setup() not in versions
    assert judged.work() == ["pre_annotate"]
    code, _, err = run("prompts", "activate", project, "1")
    assert code == 1
    assert "already" in err
    code, out, _ = run("prompts", "rollback", project, "--label", "cell")
    assert (code, out.strip()) == (0, "Prompt 1 of 'cell' is retired; in use: examples alone.")
    assert statuses(judged) == ["retired"]
    assert judged.setup() in versions
    assert judged.work() == ["pre_annotate"]


def test_roll_back_goes_to_the_prompt_before(run: Run, judged: Stage, tmp_path: Path) -> None:
    project, file = str(judged.project), str(tmp_path / "prompt.safetensors")
    run("prompts", "export", project, "1", file)
    run("prompts", "import", project, file)
    for number in ("1", "2"):
        assert run("prompts", "activate", project, number)[0] == 0
    code, out, _ = run("prompts", "rollback", project, "--target", judged.target)
    assert (code, out.strip()) == (0, "Prompt 2 of 'cell' is retired; in use: prompt 1.")
    assert statuses(judged) == ["active", "retired"]


def test_a_roll_back_of_what_is_not_in_use_any_more_is_refused(run: Run, added: Stage) -> None:
    project = str(added.project)
    assert run("prompts", "rollback", project, "1")[0] == 0
    code, out, err = run("prompts", "rollback", project, "1")
    assert (code, out) == (1, "")
    assert "Prompt 1 of 'cell' is not active; in use: examples alone." in err
    assert len(err.strip().splitlines()) == 1


def test_without_label_studio_nothing_is_queued(
    run: Run, judged: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL")
    assert run("prompts", "activate", str(judged.project), "1")[0] == 0
    assert run("prompts", "rollback", str(judged.project))[0] == 0
    assert judged.work() == []


def test_of_several_targets_with_one_label_the_one_is_to_be_named(run: Run, judged: Stage) -> None:
    project = judged.label_studio.projects[judged.project]
    project["label_config"] = project["label_config"].replace(
        "</View>", '<PolygonLabels name="outline" toName="image"><Label value="cell"/></PolygonLabels></View>'
    )
    judged.setup()
    (prompt,) = judged.prompts
    outline = replace(prompt, target="outline/image/cell", status="candidate")
    judged.backend.store.prompts.add_prompt(outline, b"", activate=True)
    run("prompts", "activate", str(judged.project), "1")
    code, _, err = run("prompts", "rollback", str(judged.project), "--label", "cell")
    assert code == 1
    assert "Say which one: 1 (tag/image/cell), 2 (outline/image/cell)." in err
    both = ("--label", "cell", "--target", judged.target)
    assert run("prompts", "rollback", str(judged.project), *both)[0] == 0
    assert statuses(judged) == ["retired", "active"]


# -- carry ---------------------------------------------------------------------------------------------------------
def test_one_is_exported_and_imported(run: Run, judged: Stage, tmp_path: Path) -> None:
    file = tmp_path / "prompt.safetensors"
    code, out, _ = run("prompts", "export", str(judged.project), "1", str(file))
    assert code == 0
    assert str(file) in out
    assert file.read_bytes() == judged.backend.prompts.export(judged.key, 1)
    assert list(tmp_path.glob(".prompt*")) == []
    code, out, _ = run("prompts", "import", str(judged.project), str(file))
    assert code == 0
    assert f"prompts activate {judged.project} 2" in out
    assert [(prompt.number, prompt.origin) for prompt in judged.prompts] == [(1, "tuned"), (2, "imported")]
    code, _, err = run("prompts", "import", str(judged.project), str(file), "--target", "tag/image/none")
    assert code == 1
    assert "tag/image/none" in err
    code, out, _ = run("prompts", "list", str(judged.project))
    assert cells(out, 2)[4] == "4"  # as the file says


def test_an_export_writes_over_nothing_unless_told_to(run: Run, judged: Stage, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("precious")
    code, _, err = run("prompts", "export", str(judged.project), "1", str(file))
    assert code == 1
    assert "--force" in err
    assert file.read_text() == "precious"
    assert run("prompts", "export", str(judged.project), "1", str(file), "--force")[0] == 0
    assert file.read_bytes() == judged.backend.prompts.export(judged.key, 1)


def test_an_export_that_fails_leaves_nothing_half_written(run: Run, judged: Stage, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "folder", tmp_path / "none" / "prompt"):
        code, _, err = run("prompts", "export", str(judged.project), "1", str(file), "--force")
        assert code == 1
        assert len(err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.glob("*folder*")] == ["folder"]


@pytest.mark.parametrize("size", [9, LIMIT_BYTES + 1])
def test_a_file_that_is_no_prompt_is_refused(run: Run, judged: Stage, tmp_path: Path, size: int) -> None:
    file = tmp_path / "other"
    with file.open("wb") as stream:
        stream.truncate(size)
    code, _, err = run("prompts", "import", str(judged.project), str(file))
    assert code == 1
    assert "The prompt file" in err
    assert len(judged.prompts) == 1


# -- imports -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", [("list", "1"), ("show", "1", "1"), ("export", "1", "1", "file")])
def test_looking_and_exporting_load_no_torch(judged: Stage, tmp_path: Path, command: tuple[str, ...]) -> None:
    code = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom backend.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\nsys.exit('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code, "prompts", *command], cwd=tmp_path)  # noqa: S603 - our own command line
    assert ended.returncode == 0


def test_the_commands_themselves_load_no_torch() -> None:
    code = "import sys\nfrom backend.cli import examples, prompts, tuning\nsys.exit('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT)  # noqa: S603 - our own command line
    assert ended.returncode == 0
