"""`evaluate --protocol`: a published protocol, and the figures of papers beside what was measured."""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from backend.cli.main import console
from backend.errors import BadRequest
from backend.settings import Settings

if TYPE_CHECKING:
    from model.protocols import Report
    from model.segmenter import Segmenter

FIGURES = {"miou": "mIoU", "j_and_f": "J&F", "j": "J", "f": "F"}
"""Headings."""


class Protocol(StrEnum):
    """What `--protocol` takes; `model.protocols` has the rules."""

    coco20i = "coco20i"
    pascal5i = "pascal5i"
    fss1000 = "fss1000"
    davis2017 = "davis2017"


def measure(
    folder: Path,
    protocol: Protocol,
    settings: Settings,
    shots: Sequence[int] | None,
    fold: int | None,
    episodes: int | None,
    json_file: Path | None,
) -> None:
    """Evaluate by a protocol and print what was found.

    Args:
        folder: in the layout of the protocol's data.
        protocol: which.
        settings: of the segmenter.
        shots: numbers of examples; None for the protocol's.
        fold: one fold; None for all.
        episodes: so many of a fold, or videos; None for all.
        json_file: where the report goes too.

    Raises:
        BadRequest: if there are no folds.
        EvaluationError: if data is missing.
    """
    from backend.wiring import load_segmenter  # loads torch

    # Before the weights: that something is missing should not take minutes to say.
    run = _prepared(folder, protocol, shots, fold, episodes)
    segmenter = load_segmenter(settings)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(protocol, total=None)
        report = run(segmenter, lambda done, total: bar.update(task, completed=done, total=total))
    _print(report)
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")


def _prepared(
    folder: Path, protocol: Protocol, shots: Sequence[int] | None, fold: int | None, episodes: int | None
) -> "Callable[[Segmenter, Callable[[int, int], None]], Report]":
    """Open the data; what is left is to be given a segmenter."""
    from model import protocols

    if fold is not None and protocol in (Protocol.fss1000, Protocol.davis2017):
        raise BadRequest(f"{protocol} has no folds.", remedy="Leave --fold out.")
    if protocol == Protocol.davis2017:
        videos = protocols.Davis2017(folder)
        return lambda segmenter, watch: protocols.evaluate_video(
            videos, segmenter, shots or (8,), episodes, watch
        )
    sources: dict[Protocol, Callable[[Path], protocols.FewShotSource]] = {
        Protocol.coco20i: protocols.Coco20i,
        Protocol.pascal5i: protocols.Pascal5i,
        Protocol.fss1000: protocols.Fss1000,
    }
    source = sources[protocol](folder)
    folds = None if fold is None else [fold]
    return lambda segmenter, watch: protocols.evaluate_few_shot(
        source, segmenter, shots or (1, 5), folds, episodes, watch
    )


def _print(report: "Report") -> None:
    """Measured rows and published ones in one table, all in percent."""
    from model.protocols import PAPER, PUBLISHED

    names = list(report.rows[0].figures)
    table = Table(title=f"{report.protocol}, percent", caption=f"tables of {PAPER}; `few` is its own word")
    for heading in ("method", "part", "examples", *(FIGURES[name] for name in names), "s / query", "queries"):
        table.add_column(heading, justify="left" if heading in ("method", "part") else "right")
    table.add_column("source")
    for row in report.rows:
        figures = [f"{100 * row.figures[name]:.1f}" for name in names]
        seconds = f"{row.seconds_per_query:.3f}"
        table.add_row(
            report.checkpoint, row.part, str(row.examples), *figures, seconds, str(row.queries), "measured"
        )
    table.add_section()
    for paper in PUBLISHED[report.protocol]:
        figures = [f"{paper.figures[name]:.1f}" for name in names]
        said = "; ".join(filter(None, (paper.table, paper.remark)))
        table.add_row(paper.method, "all", paper.examples, *figures, "", "", said)
    console.print(table)
    for note in report.notes:
        console.print(escape(note), highlight=False, soft_wrap=True)
