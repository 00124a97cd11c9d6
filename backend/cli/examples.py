"""`examples`: what the backend has learned from, listed, measured, dropped, exported."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from backend import dropped, lost_labels
from backend.cli import example_folder
from backend.cli.main import app, console
from backend.cli.projects import DataDir, Opened, Project, built, opened
from backend.errors import NotFound
from backend.findings import read_findings
from backend.store import StoredExample

examples = typer.Typer(help="What the backend has learned from.", no_args_is_help=True)
app.add_typer(examples, name="examples")


@examples.command("list")
def list_examples(project: Project, data_dir: DataDir = None) -> None:
    """List the examples of a project, oldest first; mark the pinned ones, and those that were measured to harm others."""
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
                    recheck.append((info.task, finding.reason))
            else:
                row += ["", ""]
            suspicious = finding is not None and finding.suspicious
            marks = ["pinned"] * info.pinned + ["[red]recheck[/red]"] * suspicious
            table.add_row(*row, " ".join(marks))
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
        dropped.drop(found.store, found.key, chosen)
    console.print(f"{len(chosen)} dropped.")


@examples.command("export")
def export_examples(
    project: Project,
    folder: Annotated[
        Path,
        typer.Argument(help="New folder to write to: annotations.json (COCO), images/, masks/ and labels/."),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Throw away what an earlier export wrote there.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Write the pool as a COCO dataset and as PNG masks, at the size at which examples are kept.

    `evaluate` and `predict --examples` take the folder.
    """
    from backend import coco

    with opened(data_dir, project) as found:
        labels = list(dict.fromkeys(target.label for target in found.snapshot.config.targets))
        images = _images(found)
        left_out = list(_left_out(found))
    if not images:
        raise NotFound(f"There is no mask to export in project {project}.", remedy=" ".join(left_out))
    example_folder.check(labels)
    example_folder.clear(folder, force=force)
    (folder / "images").mkdir(parents=True)
    for name, (example, _) in images.items():
        (folder / "images" / f"{name}.png").write_bytes(example.image)
    listed = []
    for name, (_, masks) in images.items():
        height, width = next(iter(masks.values())).shape
        listed.append(coco.LabeledImage(f"{name}.png", height, width, masks))
    dataset = coco.dataset(listed, labels)
    (folder / example_folder.COCO).write_text(json.dumps(dataset), encoding="utf-8")
    shared = sum(
        example_folder.write_masks(folder, name, masks, labels) for name, (_, masks) in images.items()
    )
    for said in left_out:
        console.print(escape(said), highlight=False, soft_wrap=True)
    if shared:
        console.print(
            f"{shared} pixels have several labels; in masks/ they have the last one, in labels/ each."
        )
    console.print(
        f"{len(dataset['annotations'])} masks on {len(images)} images in {escape(str(folder))}.",
        highlight=False,
        soft_wrap=True,
    )


def _left_out(found: Opened) -> Iterator[str]:
    """What of all that was approved an export does not hold, and why, a sentence each."""
    config = found.snapshot.config
    lost = lost_labels.of(found.store, found.key, config)
    labels = {target.id: target.label for target in lost.targets}
    pool = [info for infos in found.snapshot.pool.values() for info in infos]
    there = {target.id for target in config.targets}
    for target, count in Counter(info.target for info in pool if info.target not in there).items():
        yield (
            f"{count} of label '{labels.get(target, target)}', which the labeling config has lost: left out. "
            "Lost labels on the admin page asks what they should become."
        )
    out = dropped.listed(found.store, found.key, pool)
    returning = sum(one.returning for one in out)
    if len(out) > returning:
        yield f"{len(out) - returning} taken out of use: left out."
    if returning:
        yield f"{returning} put back and being read again: left out."
    told = {info.annotation for info in pool} | {one.annotation for one in out}
    rest = [approval for approval in found.store.approvals(found.key) if approval.annotation not in told]
    if not rest:
        return

    from backend.learner.annotations import digest  # loads torch

    empty = sum(one.digest == digest({"id": one.annotation, "result": []}, config, lost) for one in rest)
    if empty:
        yield f"{empty} submitted empty: left out."
    if len(rest) > empty:
        yield (
            f"{len(rest) - empty} in no pool: left out. A full pool (POOL_SIZE) has no place for them, they hold no "
            "mask of these labels, or they are being read again."
        )


def _images(found: Opened) -> dict[str, tuple[StoredExample, dict[str, NDArray[np.bool_]]]]:
    """Each annotated image by the name that its files get: an example that has its pixels, and its masks by label."""
    from backend.store.pictures import unpack_mask

    targets = {target.id: target for target in found.snapshot.config.targets}
    shown = example_folder.file_names(image for image, _ in found.snapshot.config.images())
    stored = found.store.examples([info.key for pool in found.snapshot.pool.values() for info in pool])
    images: dict[str, tuple[StoredExample, dict[str, NDArray[np.bool_]]]] = {}
    for example in sorted(stored.values(), key=lambda example: (example.info.task, example.info.at)):
        target = targets.get(example.info.target)
        if target is None:
            continue
        name = f"task-{example.info.task}-annotation-{example.info.annotation}"
        if len(shown) > 1:
            name += f"-{shown[target.image]}"
        masks = images.setdefault(name, (example, {}))[1]
        mask = unpack_mask(example.mask)
        before = masks.get(target.label)  # there is one where two controls have the label
        masks[target.label] = mask if before is None else before | mask
    return images


def _recheck(task: int, reason: str) -> None:
    console.print(f"[red]recheck task {task}:[/red] {escape(reason)}", highlight=False, soft_wrap=True)
