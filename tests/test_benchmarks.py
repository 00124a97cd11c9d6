"""`python -m benchmarks`: tables are collected, ratios found, and what is not run again stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from benchmarks import __main__ as bench
from benchmarks import absent
from benchmarks.tables import COLLECTED, Console

ROOT = Path(__file__).parents[1]


def collected(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(COLLECTED, str(path))
    table = Table("prompts", "what", "ours, s", "HF / ours", "of the rate", title="speed", caption="a note")
    table.add_row("8", "a|b", "1.50", "3.1", "80%")
    table.add_row("1", "c", "0.50", "2.9", "-")
    Console(width=80).print("nothing of a table")
    Console(width=80).print(table)
    (line,) = path.read_text().splitlines()
    return bench.markdown(json.loads(line))


def test_a_printed_table_is_collected_and_its_ratios_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = collected(tmp_path / "tables", monkeypatch)
    assert "**speed**" in section
    assert "a note" in section
    assert "| 8 | a/b | 1.50 | 3.1 | 80% |" in section
    assert bench.ratios("some", section) == [
        ("some", "prompts 8, a/b", "HF / ours", "3.1"),
        ("some", "prompts 8, a/b", "of the rate", "80%"),
        ("some", "prompts 1, c", "HF / ours", "2.9"),
    ]


def test_sections_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "one": collected(tmp_path / "tables", monkeypatch),
        "two": bench.loose("said\n\n| a | b |\n|---|---|\n| 1 | 2 |\n(done)"),
    }
    assert found["two"] == "- said\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- (done)\n"
    text = bench.written(found)
    assert bench.sections(text) == found
    assert text.count("HF / ours") == 3, "twice in the one table, once in its section"


def test_the_file_of_the_docs_is_as_it_would_be_written() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert bench.written(bench.sections(text)) == text
    assert set(bench.sections(text)) <= set(bench.names())


def test_what_cannot_be_run_here_is_left_out_with_its_reason() -> None:
    assert bench.missing("serving", []) == ""
    for name in bench.NEEDS_DATA:
        assert bench.missing(name, []) == "no --data"
        assert bench.missing(name, ["folder"]) == ""
    assert {bench.NEEDS_CARD, *bench.NEEDS_DATA} <= set(bench.names())


def test_false_masks_are_counted_before_and_after_a_rule_that_other_pictures_made() -> None:
    drawn = absent.Drawn(
        folder="some",
        label=1,
        seed=0,
        size=5,
        source="own",
        seen=[(0.9, 0.8), (0.92, 0.9), (0.88, 0.7), (0.91, 0.9), (0.9, 0.6)],
        absent=[0.2, 0.3, 0.4],
        looked=4,
        present=[(0.95, 0.9), (0.3, 0.7), (0.2, 0.1), (None, 0.0)],
        lacking=[0.2, 0.95, None, 0.5],
    )
    assert 0.5 < drawn.rule.below < 0.88
    assert drawn.figures() == pytest.approx(
        {"on": 1.0, "wrong": 0.75, "after": 0.25, "IoU": 1.7 / 4, "IoU after": 0.9 / 4, "lost": 0.5}
    )
    cells = [list(column.cells) for column in absent.told([drawn]).columns]
    assert [column[0] for column in cells[:4]] == ["some", "own", "5", "1"]
    assert cells[6] == ["0.250", "0.250"]


@pytest.mark.slow
def test_the_benchmark_of_the_published_size_runs() -> None:
    command = [sys.executable, "benchmarks/vit_large_cpu.py", "--tiny", "--prompts", "1", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 prompts, ours" in done.stderr
