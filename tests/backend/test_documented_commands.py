"""Every command of README.md and docs/*.md is run, or named with the reason why not; the README's Python is run too."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from backend.cli import evaluation, examples, playground, predicting, prompts, serving, store, tasks, tuning  # noqa: F401
from backend.cli.main import app
from tests.backend import documented
from tests.backend.stage import Run, Stage, blob, brush, png

ROOT = documented.ROOT
BACKEND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?python -m backend (?P<arguments>.*)")


def commands_below(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """All commands, groups included, by the words that are typed."""
    below = getattr(group, "commands", {})
    return [
        path,
        *(found for name, command in below.items() for found in commands_below(command, (*path, name))),
    ]


COMMANDS = commands_below(typer.main.get_command(app))


def meant(command: str) -> str:
    return re.sub(rf"\b({'|'.join(documented.MEANT)})\b", lambda word: documented.MEANT[word[0]], command)


# -- the lists are complete ----------------------------------------------------------------------------------------
def test_every_command_is_run_or_has_a_reason_and_no_list_has_more() -> None:
    told = {
        command: pages
        for command, pages in documented.commands().items()
        if not documented.benchmark(command)
    }
    known = {*documented.RUN, *documented.ELSEWHERE}
    assert {command: sorted(pages) for command, pages in told.items() if command not in known} == {}
    assert known - set(told) == set()
    assert set(documented.RUN) & set(documented.ELSEWHERE) == set()
    assert documented.other_blocks() == set(documented.NO_COMMANDS)


def test_commands_are_found_in_blocks_with_broken_lines_and_in_running_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```\nmake a \\\n  b   # why\n\nls\n```\n\n```xml\n<a/>\n```\n\n```\n[Unit]\nx=1\n```\n\n"
        "or `python -m backend\nstore info`, `make x`, `made`, `python -m backend`.\n"
    )
    monkeypatch.setattr(documented, "PAGES", [page])
    assert set(documented.commands()) == {"make a b", "ls", "python -m backend store info", "make x"}


def test_the_readme_s_table_of_commands_names_each_and_no_other() -> None:
    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    told = {
        (words[0], sub)
        for cell in cells
        if (words := cell.replace("\\|", "|").split())
        for sub in (words[1].split("|") if len(words) > 1 and re.fullmatch(r"[a-z|]+", words[1]) else [""])
    }
    groups = {path[0] for path in COMMANDS if len(path) == 2}
    leaves = {
        (path[0], path[1] if len(path) == 2 else "")
        for path in COMMANDS
        if path and path[:2] not in [(g,) for g in groups]
    }
    assert told == leaves


# -- what can be checked of each -----------------------------------------------------------------------------------
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_that_tells_what_it_does(run: Run, path: tuple[str, ...]) -> None:
    code, out, _ = run(*path, "--help")
    assert code == 0
    assert "Usage: " in out
    assert len(re.sub(r"[^a-z]", "", out.partition("Options")[0].partition("Usage")[2].lower())) > 40


@pytest.mark.parametrize("command", sorted(c for c in documented.commands() if BACKEND.fullmatch(c)))
def test_a_command_s_arguments_are_understood(command: str) -> None:
    found = BACKEND.fullmatch(meant(command))
    assert found is not None
    arguments = shlex.split(found["arguments"])
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        group = group.commands[arguments.pop(0)]
    group.make_context("test", arguments)  # parses, and runs nothing


@pytest.mark.parametrize("command", sorted(c for c in documented.commands() if re.search(r"\bmake [a-z]", c)))
def test_a_target_of_make_is_there(command: str) -> None:
    target = re.sub(r"\bmake ", "make --dry-run ", command)
    ended = subprocess.run(["bash", "-c", target], cwd=ROOT, capture_output=True, text=True)  # noqa: S603, S607 - the docs' own
    assert ended.returncode == 0, ended.stderr


def test_a_benchmark_is_there() -> None:
    files = [file for command in documented.commands() if (file := documented.benchmark(command))]
    assert [file.name for file in files if not file.exists()] == []


@pytest.mark.parametrize("reason", sorted(set(documented.ELSEWHERE.values())))
def test_what_a_reason_names_is_there(reason: str) -> None:
    for file in re.findall(r"(?:tests|docker)/[\w/.]+\w", reason):
        assert (ROOT / file).exists()


def test_the_pretraining_s_help_comes() -> None:
    command = [sys.executable, "-m", "model.pretraining", "--help"]
    assert b"usage" in subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.lower()  # noqa: S603 - our own


# -- and run -------------------------------------------------------------------------------------------------------
def test_the_commands_run_and_say_what_they_should(
    run: Run, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One project with two approved masks, in the folder `data` of a working folder; as a newcomer has them."""
    for seed in (1, 2):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(mask))
    stage.work()
    assert stage.project == 1
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "7.png").write_bytes(png(blob(7)[0]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", stage.label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stage.label_studio.legacy_token)
    for command, (expected, text) in documented.RUN.items():
        found = BACKEND.fullmatch(meant(command))
        if found is not None:
            code, out, err = run(*shlex.split(found["arguments"]))
        else:
            shown = command.replace(".venv/bin/python", shlex.quote(sys.executable))
            ended = subprocess.run(["bash", "-c", shown], capture_output=True, text=True)  # noqa: S603, S607 - the docs' own
            code, out, err = ended.returncode, ended.stdout, ended.stderr
        assert (code, text in out + err) == (expected, True), f"{command}: {out}{err}"
    assert (tmp_path / "backup.sqlite3").stat().st_size > 0
    assert {file.name for file in (tmp_path / "found").iterdir()} == {"7.cell.png", "7.preview.jpg"}


# -- Python --------------------------------------------------------------------------------------------------------
def test_the_readme_s_python_finds_the_cells_and_has_ten_lines() -> None:
    """In a process of its own, from the checkout, as a reader starts it."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    ended = subprocess.run(  # noqa: S603 - the README's own
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    figure = re.fullmatch(r"IoU (0\.\d\d)\n", ended.stdout)
    assert figure is not None, ended.stdout
    assert float(figure[1]) > 0.6
