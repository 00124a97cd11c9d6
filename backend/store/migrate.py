"""Copies one engine's store into another's, exactly, below the contract: ids, counts and times stay what they are.

Everything is copied but leases, which belong to processes that run. Queued jobs are no part of the store; what they
were about is, so that the next look queues it again. Rows are compared after the copy, by number and by
a digest of their content whatever their order. The backend must not run meanwhile: what it writes could be missed.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from backend.errors import NotFound, Refused, StoreError
from backend.store.database import Database
from backend.store.engines import STORE_FILE
from backend.store.redis_address import is_address
from backend.store.redis_records import KINDS, Columns, Row
from backend.store.redis_rows import RedisRows
from backend.store.schema import STEPS

_TABLES = {"counters": "sqlite_sequence"}


class Rows(Protocol):
    """The rows of a store, by kind."""

    def count(self, kind: str) -> int:
        """How many rows there are."""

    def read(self, kind: str) -> Iterator[dict[str, Any]]:
        """All rows of a kind, in no order."""

    def clear(self) -> None:
        """Remove everything."""

    def write(self, kind: str, rows: Iterable[Row]) -> None:
        """Add rows."""


class Place(Protocol):
    """A store that is copied from or to."""

    @property
    def shown(self) -> str:
        """Where it is, without a password."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for two names of the same store."""

    def reading(self) -> AbstractContextManager[Rows]:
        """Its rows."""

    def filling(self) -> AbstractContextManager[Rows]:
        """Its rows, to be written; a block that fails leaves nothing that a backend would take for a store."""

    def warnings(self) -> list[str]:
        """What puts at risk what is kept there."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass(frozen=True)
class Copied:
    """One kind of rows after the copy, equal on both sides."""

    kind: str
    rows: int
    digest: str


def place(named: str, *, made: bool = False) -> Place:
    """The store at an address of Redis, in a file, or in a folder like DATA_DIR.

    Args:
        named: address or path.
        made: whether a file that is missing is made, and half a copy taken for what it is.

    Raises:
        NotFound: there is no such file.
        StoreError: it cannot be used.
    """
    if is_address(named):
        return RedisRows(named, unfinished=made)
    path = Path(named)
    if path.is_dir() or not path.suffix:
        path = path / STORE_FILE
    if not made and not path.is_file():
        raise NotFound(f"There is no store {path}.")
    return SqliteRows(path)


def migrate(source: Place, target: Place, *, force: bool = False) -> list[Copied]:
    """Copy all rows and compare them.

    Args:
        source: stays as it is.
        target: must be empty, unless `force` says that what it holds may go.
        force: see `target`.

    Raises:
        Refused: both are the same store, the source is empty, or the target is not.
        StoreError: either cannot be used, or the copy is not equal.
    """
    if source.identity == target.identity:
        raise Refused(f"{source.shown} and {target.shown} are the same store.")
    with source.reading() as rows:
        if not _held(rows):
            raise Refused(f"There is nothing in {source.shown} to copy.")
        with target.reading() as there:
            held = _held(there)
        if held and not force:
            said = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in held.items())
            raise Refused(
                f"{target.shown} is not empty ({said}).",
                remedy="Choose another place, or let it go with --force.",
            )
        with target.filling() as copy:
            if held:
                copy.clear()
            return [_copy(kind, rows, copy) for kind in KINDS]


def _copy(kind: str, source: Rows, target: Rows) -> Copied:
    wanted, got = _Digest(KINDS[kind]), _Digest(KINDS[kind])
    target.write(kind, wanted.passing(source.read(kind)))
    for _ in got.passing(target.read(kind)):
        pass
    if (wanted.rows, wanted.shown) != (got.rows, got.shown):
        raise StoreError(
            f"The copy of {kind} is not equal: {wanted.rows} rows ({wanted.shown}) became "
            f"{got.rows} ({got.shown}).",
            remedy="Stop every backend that uses either store and try again with --force.",
        )
    return Copied(kind, wanted.rows, wanted.shown)


def _held(rows: Rows) -> dict[str, int]:
    counts = {kind: rows.count(kind) for kind in KINDS}
    return {kind: count for kind, count in counts.items() if count}


class _Digest:
    """Number and digest of the rows that pass, the same in any order."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._sum = 0
        self.rows = 0

    @property
    def shown(self) -> str:
        return f"{self._sum:064x}"[:12]

    def passing(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            digest = hashlib.sha256()
            for name in self._columns:
                value = row[name]
                content = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
                digest.update(f"{type(value).__name__}{len(content)}:".encode() + content)
            self._sum = (self._sum + int.from_bytes(digest.digest())) % 2**256
            self.rows += 1
            yield row


class SqliteRows:
    """The rows of the store in an SQLite file.

    Raises:
        StoreError: it cannot be used; every method raises it too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = Database(path, STEPS)

    @property
    def shown(self) -> str:
        """Where it is."""
        return str(self._path)

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for two names of the same file."""
        status = self._path.stat()
        return ("sqlite", str(status.st_dev), str(status.st_ino))

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """One state of the file."""
        with self._database.reading() as connection:
            yield _Tables(connection)

    @contextmanager
    def filling(self) -> Iterator[Rows]:
        """One transaction: a block that fails leaves the file as it was."""
        with self._database.writing() as connection:
            yield _Tables(connection)

    def warnings(self) -> list[str]:
        """None: every commit reaches the disk."""
        return []

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


class _Tables:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def count(self, kind: str) -> int:
        (count,) = self._connection.execute(f"SELECT count(*) FROM {_table(kind)}").fetchone()  # noqa: S608 - ours
        return int(count)

    def read(self, kind: str) -> Iterator[dict[str, Any]]:
        columns = list(KINDS[kind])
        query = f"SELECT {', '.join(columns)} FROM {_table(kind)}"  # noqa: S608 - our own names
        for row in self._connection.execute(query):
            yield dict(zip(columns, row, strict=True))

    def clear(self) -> None:
        for table in (*map(_table, reversed(KINDS)), "leases"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names

    def write(self, kind: str, rows: Iterable[Row]) -> None:
        columns = list(KINDS[kind])
        if kind == "counters":  # SQLite has counted the rows with ids itself
            self._connection.execute("DELETE FROM sqlite_sequence")
        places = ", ".join("?" for _ in columns)
        self._connection.executemany(
            f"INSERT INTO {_table(kind)} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608 - our own names
            ([row[name] for name in columns] for row in rows),
        )


def _table(kind: str) -> str:
    return _TABLES.get(kind, kind)
