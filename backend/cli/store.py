"""`store`: where everything learned is kept, and copies of it from one engine into the other; loads no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from backend.cli.main import app, console, settings_with
from backend.settings import Settings
from backend.store.engines import STORE_FILE
from backend.store.migrate import Place, migrate, place
from backend.store.redis_records import KINDS

store = typer.Typer(help="Where everything learned is kept: SQLite or Redis.", no_args_is_help=True)
app.add_typer(store, name="store")

DataDir = Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")]
_PLACE = "address of Redis, file, or folder; else the store that the settings name"


@store.command("info")
def info(data_dir: DataDir = None) -> None:
    """Tell where the store is, what it holds, and what puts it at risk."""
    with _opened(None, settings_with({"data_dir": data_dir})) as found:
        console.print(f"The store is {escape(found.shown)}.", highlight=False, soft_wrap=True)
        with found.reading() as rows:
            table = Table("what", "rows")
            table.columns[1].justify = "right"
            for kind in KINDS:
                if kind != "counters":
                    table.add_row(kind.replace("_", " "), str(rows.count(kind)))
        console.print(table)
        for warning in found.warnings():
            console.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)


@store.command("migrate")
def copy(
    source: Annotated[str | None, typer.Option("--from", help=f"Copied: {_PLACE}.")] = None,
    target: Annotated[str | None, typer.Option("--to", help=f"Written: {_PLACE}.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Throw away what the target holds.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Copy everything from one store into another, empty one, and compare. Stop the backend before.

    A password is safer in REDIS_URL, with --from or --to left out, than among the arguments, which others see.
    """
    settings = settings_with({"data_dir": data_dir})
    with _opened(source, settings) as old, _opened(target, settings, made=True) as new:
        table = Table("what", "rows", "digest of both")
        table.columns[1].justify = "right"
        for copied in migrate(old, new, force=force):
            table.add_row(copied.kind.replace("_", " "), str(copied.rows), copied.digest)
        console.print(table)
        console.print(
            f"{escape(old.shown)} is copied to {escape(new.shown)}, and both are equal.",
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def _opened(named: str | None, settings: Settings, *, made: bool = False) -> Iterator[Place]:
    """A store by its name, or the one that the settings name."""
    usual = settings.redis_url.get_secret_value() or str(settings.data_dir / STORE_FILE)
    found = place(named or usual, made=made)
    try:
        yield found
    finally:
        found.close()
