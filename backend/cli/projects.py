"""The project that a command is about: named by Label Studio's number, found in the store; loads torch only where a backend is built."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.main import settings_with
from backend.errors import NotFound
from backend.label_config import Target
from backend.revision import Snapshot, project_of, take
from backend.settings import Settings
from backend.store import Store

if TYPE_CHECKING:
    from backend.wiring import Backend

Project = Annotated[int, typer.Argument(help="Label Studio's number of the project.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")]


@dataclass(frozen=True)
class Opened:
    """A project in the store.

    Attributes:
        settings: with the command's options.
        store: open as long as the block runs.
        key: of the project.
        snapshot: of its targets and pools; revision and active prompts are of no use here (they want a checkpoint).
    """

    settings: Settings
    store: Store
    key: str
    snapshot: Snapshot


@contextmanager
def opened(data_dir: Path | None, project: int) -> Iterator[Opened]:
    """The project's part of the store, without a checkpoint.

    Raises:
        NotFound: if it has never been seen.
        StoreError: if the store cannot be used.
    """
    from backend.store.engines import open_engine

    settings = settings_with({"data_dir": data_dir})
    store = open_engine(settings)
    try:
        key = key_of(store, project)
        yield Opened(settings, store, key, take(store, key, ""))
    finally:
        store.close()


@contextmanager
def built(data_dir: Path | None, project: int, **overrides: object) -> Iterator[tuple["Backend", str]]:
    """A backend, since only it has the checkpoint, and the project's key; loads torch. `overrides`: of settings.

    Raises:
        NotFound: if the project has never been seen.
        StoreError: if the store cannot be used.
        CheckpointError: if the checkpoint cannot be loaded.
    """
    settings = settings_with({"data_dir": data_dir, **overrides})

    from backend.wiring import build

    backend = build(settings)
    try:
        yield backend, key_of(backend.store, project)
    finally:
        backend.close()


def key_of(store: Store, project: int) -> str:
    """The project's key.

    Raises:
        NotFound: if it has never been seen; names those that have.
    """
    key = project_of(store, project)
    if key is None:
        known = ", ".join(str(record.id) for record in store.projects()) or "none"
        raise NotFound(f"Project {project} has never been seen; known: {known}.")
    return key


def targets_named(targets: Sequence[Target], labels: Sequence[str], ids: Sequence[str]) -> list[str] | None:
    """Ids of the targets that a command's options name, in the config's order; None where they name none.

    A label means all targets of its name.

    Raises:
        NotFound: if a label or an id is not in the labeling config; names those that are.
    """
    known_labels = dict.fromkeys(target.label for target in targets)
    known_ids = [target.id for target in targets]
    for what, given, known in (("label", labels, known_labels), ("target", ids, known_ids)):
        for name in given:
            if name not in known:
                said = ", ".join(f"'{one}'" for one in known) or "none"
                raise NotFound(f"The project has no {what} '{name}'; it has: {said}.")
    if not labels and not ids:
        return None
    return [target.id for target in targets if target.label in labels or target.id in ids]
