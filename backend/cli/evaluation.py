"""`evaluate`: mIoU of a checkpoint on a folder of images and masks."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from backend.cli.main import app, console, settings_with
from backend.cli.protocols import Protocol, measure
from backend.errors import BadRequest


@app.command()
def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Holds images/ and masks/*.png (palette; 0 background, 255 ignore; or black and white)."
        ),
    ],
    shots: Annotated[
        str | None,
        typer.Option(help="Numbers of examples, comma-separated; 1,4,8, or what the protocol asks for."),
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="A published one; FOLDER is in its data's own layout, see docs/protocols.md."),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, max=3, help="One fold of the protocol instead of all.")
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="So many of a fold (DAVIS 2017: videos), for a quick look.")
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Measure tuned prompts too: minutes for every class on a CPU.")
    ] = False,
    boundary: Annotated[bool, typer.Option("--boundary", help="Measure boundary F too, as DAVIS.")] = False,
    objects: Annotated[
        bool, typer.Option("--objects", help="Measure object F1 too: objects parted as with INSTANCES.")
    ] = False,
    edges: Annotated[str | None, typer.Option(help="guided or off, instead of EDGES.")] = None,
    zoom: Annotated[str | None, typer.Option(help="auto or off, instead of ZOOM.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Instead of CHECKPOINT.")] = None,
    device: Annotated[str | None, typer.Option(help="Instead of DEVICE.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report to this file too.")
    ] = None,
) -> None:
    """Measure mIoU and seconds an image, with examples chosen by a fixed rule."""
    settings = settings_with({"checkpoint": checkpoint, "device": device, "edges": edges, "zoom": zoom})
    _refuse_what_cannot_be_written(json_file)
    if protocol is not None:
        if tune or boundary or objects or zoom:
            raise BadRequest("--tune, --boundary, --objects and --zoom do not go with --protocol.")
        counts = None if shots is None else _numbers(shots)
        measure(folder, protocol, settings, counts, fold, episodes, json_file)
        return
    if fold is not None or episodes is not None:
        raise BadRequest("--fold and --episodes need --protocol.")
    counts = _numbers("1,4,8" if shots is None else shots)

    from backend.wiring import load_segmenter  # loads torch
    from model.evaluation import Extra, evaluate_folder  # loads torch
    from model.tuned_evaluation import evaluate_tuned

    segmenter = load_segmenter(settings)
    asked: dict[Extra, bool] = {"boundary_f": boundary, "object_f1": objects}
    wanted = [extra for extra, is_asked in asked.items() if is_asked]
    caption = None
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{folder.name}", total=None)
        report = evaluate_folder(
            folder,
            segmenter,
            counts,
            lambda done, total: bar.update(task, completed=done, total=total),
            wanted,
            nearer=settings.zoom == "auto",
        )
        if tune:
            tuning = bar.add_task("tuning", total=None)
            tuned = evaluate_tuned(
                folder,
                segmenter,
                counts,
                progress=lambda done, total: bar.update(tuning, completed=done, total=total),
                extras=wanted,
            )
            report = replace(report, rows=(*report.rows, tuned.row))
            caption = f"{tuned.tunings} prompts learned, {tuned.with_companions} used with companions"
            caption += f"; {tuned.seconds / max(tuned.tunings, 1):.0f} s a prompt"
    table = Table(title=f"{report.dataset}, {report.checkpoint}", caption=caption)
    names = {"boundary_f": "boundary F", "object_f1": "object F1"}
    for heading in ("shots", "method", "mIoU", "s / image", "queries", *(names[extra] for extra in wanted)):
        table.add_column(heading, justify="right")
    for row in report.rows:
        figures = [f"{row.extras[extra]:.3f}" if extra in row.extras else "" for extra in wanted]
        table.add_row(
            str(row.shots),
            row.method,
            f"{row.miou:.3f}",
            f"{row.seconds_per_image:.3f}",
            str(row.queries),
            *figures,
        )
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")


def _refuse_what_cannot_be_written(report: Path | None) -> None:
    """See that the report can be written, before anything is measured: that may take hours.

    Raises:
        BadRequest: if the report's file cannot be written.
    """
    if report is None:
        return
    if report.is_dir() or not os.access(report if report.exists() else report.parent, os.W_OK):
        raise BadRequest(
            f"--json: {report} cannot be written.", remedy="Name a file in a folder that exists and is yours."
        )


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise BadRequest(f"--shots must be numbers from 1 on, comma-separated, not '{text}'.")
    return [int(part) for part in parts]
