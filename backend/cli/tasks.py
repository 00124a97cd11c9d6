"""`sync`, `predict`, `doctor`: what is done once, about projects or pictures."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from backend.cli.main import app, console, settings_with
from backend.errors import BadRequest, LabelStudioError, NotFound

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


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
        except (LabelStudioError, NotFound) as error:
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
def predict(
    pictures: Annotated[Path, typer.Argument(help="A picture or a folder of pictures.")],
    examples: Annotated[Path, typer.Option(help="Folder with images/ and masks/*.png of the same names.")],
    out: Annotated[Path, typer.Option(help="Folder for masks and previews.")] = Path("predictions"),
    checkpoint: Annotated[str | None, typer.Option(help="Instead of CHECKPOINT.")] = None,
    device: Annotated[str | None, typer.Option(help="Instead of DEVICE.")] = None,
) -> None:
    """Segment pictures by examples, without Label Studio; writes a mask and a preview of each."""
    settings = settings_with({"checkpoint": checkpoint, "device": device})
    found = [file for file in sorted(pictures.glob("*")) if file.is_file()] or [pictures]
    if not found[0].is_file():
        raise BadRequest(f"There is no picture at {pictures}.")

    from backend.images.decoding import decode  # loads torch
    from model.canvas import to_mask
    from model.example import Context, Example
    from model.segmenter import Query, Segmenter

    pairs = []
    for mask_file in sorted((examples / "masks").glob("*.png")):
        for image_file in (examples / "images").glob(f"{mask_file.stem}.*"):
            with Image.open(mask_file) as picture:
                # 255 is "ignore" in a palette of classes, but plain white in a black-and-white mask.
                indices = np.array(picture if picture.mode == "P" else picture.convert("L"))
                mask = (indices > 0) & (indices < 255) if picture.mode == "P" else to_mask(indices)
            image = decode(image_file.read_bytes(), settings.max_image_pixels)
            pairs.append(Example(mask_file.stem, image, mask))
    if not pairs:
        raise BadRequest(f"{examples} holds no pair images/NAME.* and masks/NAME.png.")
    segmenter = Segmenter.load(settings.checkpoint, settings.device, ensemble=settings.ensemble)
    context = Context(tuple(pairs[: settings.shots]))
    out.mkdir(parents=True, exist_ok=True)
    for path in track(found, "segmenting", console=console, transient=True):
        image = decode(path.read_bytes(), settings.max_image_pixels)
        mask = segmenter.segment([Query(image, context)])[0] >= settings.threshold
        Image.fromarray(mask.astype(np.uint8) * 255).save(out / f"{path.stem}.mask.png")
        preview = image.copy()
        preview[mask] = preview[mask] // 2 + np.array([127, 0, 64], np.uint8)
        Image.fromarray(preview).save(out / f"{path.stem}.preview.jpg", quality=90)
    console.print(f"{len(found)} masks and previews in {out}, by {len(context)} examples.")


@app.command()
def doctor(
    project: Annotated[
        int | None, typer.Option(help="Project number to look at; none: all that were seen.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")] = None,
) -> None:
    """Check what really goes wrong: addresses, tokens, webhooks, checkpoint; exit code 1 where something is."""
    settings = settings_with({"data_dir": data_dir})

    from backend.doctor import examine  # loads torch

    table = Table("", "what", "finding", "remedy")
    findings = examine(settings, project)
    for finding in findings:
        colour = _COLOURS[finding.level]
        said = (finding.what, finding.found, finding.remedy)
        table.add_row(f"[{colour}]{finding.level}[/{colour}]", *map(escape, said))
    console.print(table)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
