"""Prints a benchmark's tables and hands them to `python -m benchmarks`, which collects them."""

import json
import os
from pathlib import Path
from typing import Any

import rich.console
from rich.table import Table

COLLECTED = "BENCHMARK_TABLES"  # names the file, one table a line; unset where a benchmark runs alone


class Console(rich.console.Console):
    """Rich's console, for tables of plain texts."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich's; tables are collected too."""
        super().print(*objects, **options)
        collected = os.environ.get(COLLECTED)
        if not collected:
            return
        with Path(collected).open("a") as file:
            file.writelines(_line(table) for table in objects if isinstance(table, Table))


def _line(table: Table) -> str:
    rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    told = {
        "title": str(table.title or ""),
        "caption": str(table.caption or ""),
        "headings": [str(column.header) for column in table.columns],
        "rows": list(rows),
    }
    return json.dumps(told) + "\n"
