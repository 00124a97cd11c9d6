"""`prompts`: versions of learned prompts, listed, judged, activated, taken back, carried to other backends."""

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from backend import revision, shadows
from backend.cli.main import app, console
from backend.cli.projects import DataDir, Opened, Project, built, opened
from backend.errors import NotFound, Refused
from backend.store import PromptRecord

if TYPE_CHECKING:
    from backend.wiring import Backend

prompts = typer.Typer(help="Prompts that were learned from approved masks.", no_args_is_help=True)
app.add_typer(prompts, name="prompts")

Number = Annotated[int, typer.Argument(help="The prompt's number, as `prompts list` shows it.")]
Label = Annotated[str | None, typer.Option(help="The label whose prompt is meant.")]
Target = Annotated[str | None, typer.Option(help="The target whose prompt is meant: control/image/label.")]

_STATUS = {"active": "[green]active[/green]", "candidate": "candidate", "retired": "[dim]retired[/dim]"}
_UNUSED = "[yellow]active, not used[/yellow]"
_STANDING = {
    "there": "in the pool",
    "withdrawn_during": "withdrawn or corrected while the prompt was tuned",
    "withdrawn_since": "withdrawn, corrected or dropped since",
    "gone": "no longer in the pool, which is full",
}
FIGURES = {
    "context_iou": "IoU by\nexamples",
    "prompt_iou": "IoU by\nprompt",
    "both_iou": "IoU by\nboth",
    "gain": "gain",
}
"""What a version is judged by: names of the figures, and the headings of their columns."""


# -- looking -------------------------------------------------------------------------------------------------------
@prompts.command("list")
def list_prompts(project: Project, data_dir: DataDir = None) -> None:
    """List the prompts of a project, and its shadows; examples alone are used for labels that have no active prompt."""
    with opened(data_dir, project) as found:
        versions = found.store.prompts.prompts(found.key)
        unfit = {
            one.number: why for one in versions if one.status == "active" and (why := _unfit(found, one))
        }
        compared = shadows.read(found.store, found.key)
    if not versions:
        console.print(f"No prompt yet. One is learned by: python -m backend tune {project}")
        return
    table = Table("no.", "label", "status", "uses", "masks")
    for heading in FIGURES.values():
        table.add_column(heading, justify="right")
    table.add_column("created")
    for prompt in versions:
        figures = [shown(prompt.figures.get(name), signed=name == "gain") for name in FIGURES]
        status = _UNUSED if prompt.number in unfit else _STATUS[prompt.status]
        told = (str(prompt.number), escape(prompt.label), status)
        row = (*told, prompt.uses, str(prompt.masks))
        table.add_row(*row, *figures, _moment(prompt.created))
    console.print(table)
    for prompt in versions:
        said = unfit.get(prompt.number, prompt.reason)
        console.print(f"{prompt.number}: {escape(said)}", highlight=False, soft_wrap=True)
    for shadow in compared:
        _tell(shadow)


@prompts.command("show")
def show_prompt(project: Project, number: Number, data_dir: DataDir = None) -> None:
    """Show one prompt: what it learned from, what was measured, why it is or is not in use."""
    with opened(data_dir, project) as found:
        prompt = _version(found, number)
        pool = found.snapshot.pool.get(prompt.target, ())
        became = revision.standing(prompt, pool, found.settings.pool_size)
        unfit = _unfit(found, prompt)
        compared = [one for one in shadows.read(found.store, found.key) if one.prompt == number]
    facts = Table(show_header=False)
    rows = {
        "prompt": f"{prompt.number}",
        "label": f"{prompt.label} ({prompt.target})",
        "status": prompt.status,
        "uses": "the prompt alone" if prompt.uses == "prompt" else "the prompt beside examples",
        "origin": prompt.origin,
        "checkpoint": prompt.checkpoint,
        "created": _moment(prompt.created),
        "activated": _moment(prompt.activated),
        "retired": _moment(prompt.retired),
        "replaced": "" if prompt.replaced is None else f"prompt {prompt.replaced}",
        "reason": prompt.reason,
        "cannot be used": unfit or "",
    }
    rows |= {name: shown(value, signed=name == "gain") for name, value in prompt.figures.items()}
    for name, said in rows.items():
        facts.add_row(name, escape(said))
    console.print(facts)
    for shadow in compared:
        _tell(shadow)
    if became:
        known = {info.key: info for info in pool}
        table = Table("example", "task", "annotation", "")
        for key, stands in became.items():
            info = known.get(key)
            where = (str(info.task), str(info.annotation)) if info else ("", "")
            colour = "red" if stands.startswith("withdrawn") else "default"
            table.add_row(key[:12], *where, f"[{colour}]{_STANDING[stands]}[/{colour}]")
        console.print(table)


# -- changing ------------------------------------------------------------------------------------------------------
@prompts.command("activate")
def activate_prompt(project: Project, number: Number, data_dir: DataDir = None) -> None:
    """Use a prompt from the next request on; the one in use is retired and can be rolled back to."""
    with built(data_dir, project) as (backend, key):
        prompt = backend.prompts.activate(key, number)
        _ask_again(backend, key)
    console.print(f"Prompt {number} of '{escape(prompt.label)}' is active.", highlight=False)


@prompts.command("rollback")
def roll_back(
    project: Project,
    number: Annotated[
        int | None,
        typer.Argument(help="The prompt that was seen in use; refused where it is not any more."),
    ] = None,
    label: Label = None,
    target: Target = None,
    data_dir: DataDir = None,
) -> None:
    """Take the active prompt out of use: back to the one that it replaced, or to examples alone."""
    with built(data_dir, project) as (backend, key):
        done = backend.prompts.roll_back(key, target, label=label, number=number)
        _ask_again(backend, key)
    now = f"prompt {done.active.number}" if done.active else "examples alone"
    said = f"Prompt {done.retired.number} of '{escape(done.retired.label)}' is retired; in use: {now}."
    console.print(said, highlight=False)


# -- shadows -------------------------------------------------------------------------------------------------------
@prompts.command("shadow")
def start_shadow(
    project: Project,
    number: Annotated[
        int | None,
        typer.Argument(help="The prompt's number; left out: examples alone, beside an active prompt."),
    ] = None,
    submissions: Annotated[
        int, typer.Option(min=1, max=shadows.MOST, help="How many submissions are to be compared.")
    ] = shadows.USUAL,
    target: Annotated[
        str | None, typer.Option(help="The target whose examples are meant: control/image/label.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Let a prompt, or examples alone, predict silently beside what is in use, and compare what is kept of both."""
    with built(data_dir, project) as (backend, key):
        snapshot = revision.take(backend.store, key, backend.checkpoint)
        shadow = shadows.start(backend.store, snapshot, backend.checkpoint, number, target, submissions)
    console.print(
        f"A shadow for {submissions} submissions: {shadow.name} beside {shadows.called(shadow.against)} "
        f"({escape(shadow.target)}). To see it: python -m backend prompts list {project}",
        highlight=False,
        soft_wrap=True,
    )


@prompts.command("unshadow")
def stop_shadow(
    project: Project,
    target: Annotated[
        str | None, typer.Option(help="The target whose shadow is meant, if several run.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Stop a shadow before its time; what it has compared stays."""
    with opened(data_dir, project) as found:
        shadow = shadows.stop(found.store, found.key, target)
    _tell(shadow)


# -- carrying ------------------------------------------------------------------------------------------------------
@prompts.command("export")
def export_prompt(
    project: Project,
    number: Number,
    file: Annotated[Path, typer.Argument(help="File to write (.safetensors).")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Write a prompt to one file, without names of tasks, images or people in it."""
    with opened(data_dir, project) as found:
        content = found.store.prompts.prompt_content(found.key, _version(found, number).number)
    if content is None:
        raise NotFound(f"The tensors of prompt {number} are gone.")
    if file.exists() and not force:
        raise Refused(f"{file} is there already.", remedy="Choose another name, or --force.")
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with part.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    console.print(f"Prompt {number} is in {escape(str(file))} ({len(content) / 2**20:.1f} MiB).")


@prompts.command("import")
def import_prompt(
    project: Project,
    file: Annotated[Path, typer.Argument(help="File that `prompts export` wrote.")],
    target: Annotated[
        str | None, typer.Option(help="Target that it is for, control/image/label; else by the file's label.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Keep an exported prompt as a candidate of a project; it is used once it is activated."""
    from backend.store.tensors import LIMIT_BYTES

    with file.open("rb") as stream:
        content = stream.read(LIMIT_BYTES + 1)  # what is longer is refused, whatever its length
    with built(data_dir, project) as (backend, key):
        prompt = backend.prompts.bring_in(key, content, target)
    console.print(
        f"Prompt {prompt.number} of '{escape(prompt.label)}' is a candidate. To use it: "
        f"python -m backend prompts activate {project} {prompt.number}",
        highlight=False,
        soft_wrap=True,
    )


# -- inside --------------------------------------------------------------------------------------------------------
def _ask_again(backend: "Backend", key: str) -> None:
    from backend.jobs import Jobs, ask_again

    ask_again(backend, Jobs(backend.settings), key)


def _tell(shadow: shadows.Shadow) -> None:
    found = shadow.comparison
    state = "running" if shadow.ended is None else f"ended: {shadow.reason}"
    said = f"Shadow: {shadow.name} ({shadow.target}), {len(shadow.pairs)} of {shadow.wanted} submissions, {state}"
    if found.difference is not None:
        error = "" if found.error is None else f", give or take {2 * found.error:.3f} (two standard errors)"
        said += (
            f"\n  mean kept IoU {shown(found.shadow)} by it, {shown(found.shown)} by {shadows.called(shadow.against)}, "
            f"difference {shown(found.difference, signed=True)}{error}. {found.said}"
        )
    console.print(escape(said), highlight=False, soft_wrap=True)


def _unfit(found: Opened, prompt: PromptRecord) -> str | None:
    """Why its label cannot use it now; whether the checkpoint is another one is not known without loading it."""
    return revision.unfit(prompt, found.snapshot.config, prompt.checkpoint)


def _version(found: Opened, number: int) -> PromptRecord:
    for prompt in found.store.prompts.prompts(found.key):
        if prompt.number == number:
            return prompt
    raise NotFound(f"Project {found.snapshot.project} has no prompt {number}.", remedy="See: prompts list.")


def shown(value: float | None, *, signed: bool = False) -> str:
    """A figure for a table; empty where it was not measured."""
    if value is None:
        return ""
    if signed:
        return f"{value:+.3f}"
    return f"{value:.0f}" if value == round(value) and abs(value) > 1 else f"{value:.3f}"


def _moment(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
