"""`examples`: what the backend has learned from, listed, dropped, exported."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from backend.cli.main import app, console, settings_with
from backend.errors import NotFound
from backend.revision import Snapshot, take
from backend.settings import Settings
from backend.store import Store

examples = typer.Typer(help="What the backend has learned from.", no_args_is_help=True)
app.add_typer(examples, name="examples")

Project = Annotated[int, typer.Argument(help="Label Studio's number of the project.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")]


def _open(data_dir: Path | None, project: int) -> tuple[Settings, Store, Snapshot]:
    """Settings, store, and the project's snapshot; the revision's name is of no use here."""
    from backend.store.sqlite import SqliteStore

    settings = settings_with({"data_dir": data_dir})
    store = SqliteStore(settings.data_dir / "store.sqlite3")
    keys = [record.key for record in store.projects() if record.id == project]
    if not keys:
        known = ", ".join(str(record.id) for record in store.projects()) or "none"
        raise NotFound(f"Project {project} has never been seen; known: {known}.")
    return settings, store, take(store, keys[-1], "")


@examples.command("list")
def list_examples(project: Project, data_dir: DataDir = None) -> None:
    """List the examples of a project, oldest first."""
    _, store, snapshot = _open(data_dir, project)
    names = {target.id: target.label for target in snapshot.config.targets}
    table = Table("key", "label", "task", "annotation", "kind", "annotator", "at", "area")
    for pool in snapshot.pool.values():
        for info in pool:
            label = names.get(info.target, f"({info.target})")
            who = "" if info.annotator is None else str(info.annotator)
            area = f"{100 * info.area:.1f} %"
            table.add_row(
                info.key[:12], label, str(info.task), str(info.annotation), info.kind, who, info.at, area
            )
    console.print(table)
    store.close()


@examples.command("drop")
def drop_examples(
    project: Project,
    keys: Annotated[list[str], typer.Argument(help="Keys, or what they begin with.")],
    data_dir: DataDir = None,
) -> None:
    """Take examples out of use; their annotations stay in Label Studio, and the revision moves."""
    _, store, snapshot = _open(data_dir, project)
    known = [info.key for pool in snapshot.pool.values() for info in pool]
    chosen: set[str] = set()
    for given in keys:
        found = [key for key in known if key.startswith(given)]
        if len(found) != 1:
            raise NotFound(
                f"'{given}' begins {len(found)} keys of the project.", remedy="See: examples list."
            )
        chosen.add(found[0])
    store.drop_examples(chosen)
    store.move_generation(snapshot.project)
    console.print(f"{len(chosen)} dropped.")
    store.close()


@examples.command("export")
def export_examples(
    project: Project,
    folder: Annotated[Path, typer.Argument(help="Folder to write to: images/ and annotations.json (COCO).")],
    data_dir: DataDir = None,
) -> None:
    """Write the pool as a COCO dataset, at the size at which examples are kept."""
    from backend import coco
    from backend.store.pictures import unpack_mask

    _, store, snapshot = _open(data_dir, project)
    names = {target.id: target.label for target in snapshot.config.targets}
    stored = store.examples([info.key for pool in snapshot.pool.values() for info in pool])
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
    for approval in store.approvals(snapshot.project):
        if not any(name.endswith(f"-{approval.task}-{approval.annotation}.png") for name in images):
            console.print(f"annotation {approval.annotation} of task {approval.task} has no mask: left out")
    dataset = coco.dataset(list(images.values()), list(names.values()))
    (folder / "annotations.json").write_text(json.dumps(dataset), encoding="utf-8")
    console.print(f"{len(dataset['annotations'])} masks on {len(images)} images in {folder}.")
    store.close()
