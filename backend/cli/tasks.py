"""`sync`, `doctor`: what is done once, about projects."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Column, Table

from backend.cli.main import app, console, settings_with
from backend.errors import BadRequest, LabelConfigError, LabelStudioError, NotFound, Refused

_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@app.command()
def sync(
    projects: Annotated[
        list[int] | None, typer.Argument(help="Project numbers; none: all that were ever seen.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")] = None,
) -> None:
    """Make the examples equal to what is approved in Label Studio, now."""
    settings = settings_with({"data_dir": data_dir})

    from backend.jobs import Jobs  # loads torch
    from backend.wiring import build

    if not settings.label_studio_url:
        raise BadRequest("LABEL_STUDIO_URL is not set.", remedy="Set it and LABEL_STUDIO_API_KEY.")
    backend, jobs = build(settings), Jobs(settings)
    keys = [backend.label_studio.project(number).key for number in projects or ()]
    keys = keys or [record.key for record in backend.store.projects()]
    if not keys:
        raise NotFound("No project has been seen yet.", remedy="Name one: python -m backend sync 1")
    table = Table("project", "approved", "withdrawn", "examples", "revision moved", "not readable")
    failed = False
    for key in track(keys, "comparing", console=console, transient=True):
        try:
            learnt = backend.learner.reconcile(key)
        except NotFound as error:
            named = bool(projects)
            console.print(f"[red]project {key}:[/red]" if named else "[cyan]note:[/cyan]", escape(str(error)))
            failed |= named
            continue
        except (LabelStudioError, LabelConfigError, Refused) as error:
            console.print(f"[red]project {key}:[/red] {escape(str(error))}", highlight=False)
            failed = True
            continue
        jobs.pre_annotate(key)
        pool = backend.store.pool(key)
        unread = "; ".join(f"task {task}: {reason}" for task, reason in learnt.unread)
        moved = "yes" if learnt.moved else "no"
        counts = (learnt.approved, learnt.withdrawn, len(pool))
        table.add_row(key, *map(str, counts), moved, escape(unread))
    console.print(table)
    backend.close()
    if failed:
        raise typer.Exit(1)


@app.command()
def doctor(
    project: Annotated[
        int | None, typer.Option(help="Project number to look at; none: all that were seen.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")] = None,
) -> None:
    """Check what really goes wrong: addresses, tokens, webhooks, checkpoint; exit code 1 where something is an error."""
    settings = settings_with({"data_dir": data_dir})

    from backend.doctor import examine  # loads torch

    table = Table("", *(Column(name, overflow="fold") for name in ("what", "finding", "remedy")))
    findings = examine(settings, project)
    for finding in findings:
        colour = _COLOURS[finding.level]
        said = (finding.what, finding.found, finding.remedy)
        table.add_row(f"[{colour}]{finding.level}[/{colour}]", *map(escape, said))
    console.print(table)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
