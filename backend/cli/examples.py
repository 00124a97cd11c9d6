"""`examples`: what the backend has learned from, listed, measured, dropped, exported."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from backend.cli.main import app, console
from backend.cli.projects import DataDir, Project, built, opened
from backend.errors import NotFound
from backend.findings import read_findings

examples = typer.Typer(help="What the backend has learned from.", no_args_is_help=True)
app.add_typer(examples, name="examples")


@examples.command("list")
def list_examples(project: Project, data_dir: DataDir = None) -> None:
    """List the examples of a project, oldest first; mark those that harm the others, where that was measured."""
    with opened(data_dir, project) as found:
        names = {target.id: target.label for target in found.snapshot.config.targets}
        findings = read_findings(found.store, found.key).by_key
        table = Table()
        table.add_column("key", no_wrap=True, min_width=12)
        for heading in ("label", "task", "annotation", "kind", "annotator", "at"):
            table.add_column(heading)
        for heading in ("area", "found", "finds"):
            table.add_column(heading, justify="right")
        table.add_column("")
        recheck = []
        for info in (info for pool in found.snapshot.pool.values() for info in pool):
            label = escape(names.get(info.target, f"({info.target})"))
            who = "" if info.annotator is None else str(info.annotator)
            area = f"{100 * info.area:.1f} %"
            at = info.at[:16].replace("T", " ")  # to the minute
            row = [info.key[:12], label, str(info.task), str(info.annotation), info.kind, who, at, area]
            if (finding := findings.get(info.key)) is not None:
                row += [f"{finding.found:.2f}", f"{finding.finds:.2f}"]
                if finding.suspicious:
                    row.append("[red]recheck[/red]")
                    recheck.append((info.task, finding.reason))
            table.add_row(*row)
    console.print(table)
    for task, reason in recheck:
        _recheck(task, reason)


@examples.command("measure")
def measure_examples(project: Project, data_dir: DataDir = None) -> None:
    """Measure now which examples harm the others, by leaving each one out; `list` shows what was found."""
    with built(data_dir, project) as (backend, key):
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("measuring", total=None)
            measured = backend.alarm.measure(
                key, lambda done, total: bar.update(task, completed=done, total=total)
            )
        findings = measured.by_key
        there = {info.key: info for info in backend.store.pool(key)}
    suspects = [info for key, info in there.items() if key in findings and findings[key].suspicious]
    console.print(f"{len(findings)} of {len(there)} examples measured, {len(suspects)} suspicious.")
    for info in suspects:
        _recheck(info.task, findings[info.key].reason)


@examples.command("drop")
def drop_examples(
    project: Project,
    keys: Annotated[list[str], typer.Argument(help="Keys, or what they begin with.")],
    data_dir: DataDir = None,
) -> None:
    """Take examples out of use; their annotations stay in Label Studio, and the revision moves."""
    with opened(data_dir, project) as found:
        known = [info.key for pool in found.snapshot.pool.values() for info in pool]
        chosen: set[str] = set()
        for given in keys:
            meant = [key for key in known if key.startswith(given)]
            if len(meant) != 1:
                raise NotFound(
                    f"'{given}' begins {len(meant)} keys of the project.", remedy="See: examples list."
                )
            chosen.add(meant[0])
        found.store.drop_examples(chosen)
        found.store.move_generation(found.key)
    console.print(f"{len(chosen)} dropped.")


@examples.command("export")
def export_examples(
    project: Project,
    folder: Annotated[Path, typer.Argument(help="Folder to write to: images/ and annotations.json (COCO).")],
    data_dir: DataDir = None,
) -> None:
    """Write the pool as a COCO dataset, at the size at which examples are kept."""
    from backend import coco
    from backend.store.pictures import unpack_mask

    with opened(data_dir, project) as found:
        names = {target.id: target.label for target in found.snapshot.config.targets}
        stored = found.store.examples([info.key for pool in found.snapshot.pool.values() for info in pool])
        approvals = found.store.approvals(found.key)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: dict[str, coco.LabeledImage] = {}
    for example in sorted(stored.values(), key=lambda example: (example.info.task, example.info.at)):
        label = names.get(example.info.target)
        if label is None:
            continue
        image = example.info.target.split("/")[1]
        name = f"{image}-{example.info.task}-{example.info.annotation}.png"
        mask = unpack_mask(example.mask)
        (folder / "images" / name).write_bytes(example.image)
        known = images.setdefault(name, coco.LabeledImage(name, mask.shape[0], mask.shape[1], {}))
        images[name] = coco.LabeledImage(name, known.height, known.width, {**known.masks, label: mask})
    for approval in approvals:
        if not any(name.endswith(f"-{approval.task}-{approval.annotation}.png") for name in images):
            console.print(f"annotation {approval.annotation} of task {approval.task} has no mask: left out")
    dataset = coco.dataset(list(images.values()), list(names.values()))
    (folder / "annotations.json").write_text(json.dumps(dataset), encoding="utf-8")
    console.print(f"{len(dataset['annotations'])} masks on {len(images)} images in {folder}.")


def _recheck(task: int, reason: str) -> None:
    console.print(f"[red]recheck task {task}:[/red] {escape(reason)}", highlight=False, soft_wrap=True)
