"""`make bench`: runs the benchmarks, gathers their ratios in one table and writes docs/benchmarks.md.

A section tells the machine and the day of its run. Those of benchmarks that were not run this time, or could not be
(`gpu.py` needs a card; `absent.py`, `context_choice.py` and `ensembles.py` data), stay as they are.

    PYTHONPATH=. .venv/bin/python -m benchmarks [NAME ...] [--data FOLDER ...] [--output docs/benchmarks.md]
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.tables import COLLECTED, Console

ROOT = Path(__file__).parents[1]
NEEDS_CARD, NEEDS_DATA = "gpu", ("absent", "context_choice", "ensembles")
INTRODUCTION = """# Benchmarks

Written by `make bench`; `make bench ARGS="serving tuning"` renews these sections only. Figures belong to the run and
the machine that their section names: compare the ratios, not the seconds.
"""
RATIO = re.compile(r"\bratio\b|\brate\b|\b(ours|HF|SDK) / ")  # headings of such columns
Row = tuple[str, str, str, str]


def names() -> list[str]:
    """The benchmarks: the files here that can be run."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [
        file.stem
        for file in files
        if file.stem != "__main__" and '__name__ == "__main__"' in file.read_text()
    ]


def machine() -> str:
    """This machine and what runs on it."""
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", known.read_text()) if known.exists() else None
    processor = found[1].strip() if found else platform.processor() or "processor"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{processor} ({platform.machine()}), {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}; "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    )


def missing(name: str, data: list[str]) -> str:
    """What a benchmark lacks here, in words; empty if nothing."""
    if name == NEEDS_CARD and not torch.cuda.is_available():
        return "no card here"
    return "no --data" if name in NEEDS_DATA and not data else ""


def run(name: str, arguments: list[str]) -> tuple[str, bool]:
    """Run one benchmark, its output passing through.

    Returns:
        Its section's text, empty where there are no figures, and whether all went well.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder, "tables")
        environment = {**os.environ, COLLECTED: str(tables), "OUT": folder, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, check=False)  # noqa: S603
        parts = (
            [markdown(json.loads(line)) for line in tables.read_text().splitlines()]
            if tables.exists()
            else []
        )
        parts += [loose(file.read_text()) for file in sorted(Path(folder).glob("*.md"))]
    if not parts:
        return "", done.returncode == 0
    today = datetime.datetime.now(tz=datetime.UTC).date()
    parts.insert(0, f"{today}; {machine()}; load {load:.1f} at the start.\n")
    if done.returncode:
        parts.append(f"It left with {done.returncode}: a bar that it sets was missed, or it broke off.\n")
    return "\n".join(parts), done.returncode == 0


def markdown(table: dict[str, Any]) -> str:
    """A collected table."""
    rows = [table["headings"], ["---"] * len(table["headings"]), *table["rows"]]
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join(
        [f"**{table['title']}**\n", *lines, *([f"\n{table['caption']}"] if table["caption"] else []), ""]
    )


def loose(text: str) -> str:
    """Lines and tables mixed: every line that is none of a table becomes an item of a list."""
    lines = [
        line if line.startswith("|") else f"- {line.strip()}" for line in text.splitlines() if line.strip()
    ]
    return (
        re.sub(r"(?m)^(- .*)\n(?=\|)|^(\|.*)\n(?=- )", lambda found: f"{found[0]}\n", "\n".join(lines)) + "\n"
    )


def sections(text: str) -> dict[str, str]:
    """What stands below each benchmark's heading, by name."""
    parts = re.split(r"(?m)^## `benchmarks/(\w+)\.py`\n+", text)[1:]
    return dict(zip(parts[::2], (part.strip() + "\n" for part in parts[1::2]), strict=True))


def ratios(name: str, section: str) -> list[Row]:
    """The ratios in a section's tables: benchmark, what, which ratio, figure."""
    found: list[Row] = []
    for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        headings, _, *rows = (
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()
        )
        places = [place for place, heading in enumerate(headings) if RATIO.search(heading)]
        told = places[0] if places else 0
        labels = [
            place
            for place, heading in enumerate(headings[:told])
            if rows and not re.search(r"\d\.\d", rows[0][place])
        ]
        for row in rows:
            named = [(row[place], headings[place]) for place in labels if row[place]]
            what = ", ".join(f"{heading} {cell}" if cell.isdigit() else cell for cell, heading in named)
            found += [
                (name, what, headings[place], row[place])
                for place in places
                if row[place] not in ("", "-", "nan")
            ]
    return found


def written(found: dict[str, str]) -> str:
    """The whole file."""
    rows = [row for name, section in found.items() for row in ratios(name, section)]
    summary = {
        "title": "All ratios",
        "caption": "",
        "headings": ["benchmark", "what", "ratio", "figure"],
        "rows": rows,
    }
    parts = [INTRODUCTION, markdown(summary)]
    parts += [f"## `benchmarks/{name}.py`\n\n{section}" for name, section in found.items()]
    return "\n".join(parts)


def main() -> None:
    """Run what is asked for, print the one table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; none: all of them"
    )
    parser.add_argument("--data", nargs="+", default=[], help="folders as `evaluate` takes them")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    given = parser.parse_args()
    unknown = set(given.names) - set(names())
    if unknown:
        parser.error(f"no benchmark: {', '.join(sorted(unknown))}")
    found = sections(given.output.read_text()) if given.output.exists() else {}
    failed = []
    for name in given.names or names():
        lacks = missing(name, given.data)
        print(f"== {name}{lacks and f': {lacks}, its section stays as it is'}", flush=True)
        if lacks:
            continue
        section, well = run(name, given.data if name in NEEDS_DATA else [])
        if section:
            found[name] = section
            given.output.write_text(written(dict(sorted(found.items()))))
        failed += [] if well else [name]
    table = Table("benchmark", "what", "ratio", "figure", title="All ratios")
    for name, section in sorted(found.items()):
        for row in ratios(name, section):
            table.add_row(*row)
    Console(width=120).print(table)
    if failed:
        raise SystemExit(f"left with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
