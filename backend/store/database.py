"""An SQLite file shared by threads and processes: connections, transactions, versions; knows no tables.

What a `writing()` block did is on the disk when the block has ended, whole, or not at all (write-ahead log,
synchronous=FULL). A connection is used by one thread at a time, and never by a forked child.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backend.errors import StoreError

BUSY_SECONDS = 30.0
"""How long a writer waits for the others before it gives up."""

_LOG_LIMIT_BYTES = 64 * 2**20
_BACKUP = (
    "Stop the backend and put back a copy of the file, or move the file away: a new store is made, and "
    "`python -m backend sync` learns again from the annotations in Label Studio."
)


class Database:
    """The file at `path`, made or brought up to date by `steps` (see `schema`).

    Raises:
        StoreError: the file cannot be made, read or written, is no store, or is of a newer version.
    """

    def __init__(
        self, path: Path, steps: Sequence[Sequence[str]], *, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._inherited: list[list[sqlite3.Connection]] = []
        self._process = os.getpid()
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder {path.parent} cannot be made: {error.strerror}.",
                remedy="Choose another one with DATA_DIR, or let the backend's user write there.",
            ) from error
        with self._lent() as connection:
            self._use_write_ahead_log(connection)
            self._bring_up_to_date(connection, steps)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file throughout; writers are not held up."""
        with self._lent() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that is the only one to write; everything done with it happens, or nothing."""
        with self._lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connections; those in use are closed when their block ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        """A connection for one block; rolled back where the block fails, closed where SQLite itself failed."""
        try:
            connection = self._take()
            try:
                yield connection
            except sqlite3.Error:
                connection.close()
                raise
            except BaseException:
                connection.rollback()
                self._put_back(connection)
                raise
            self._put_back(connection)
        except sqlite3.Error as error:
            raise _explained(error, self._path, self._busy_seconds) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise StoreError(f"A value cannot be kept: {error}.") from error

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError("The store has been closed.")
            if self._process != os.getpid():
                # A forked child may neither use nor close its parent's connections: both would harm the file.
                self._inherited.append(self._idle)
                self._idle = []
                self._process = os.getpid()
            if self._idle:
                return self._idle.pop()
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _put_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._busy_seconds
        mode = None
        while mode is None:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                # Where two processes make the same file, SQLite does not always wait by itself.
                if _reason(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if mode != "wal":
            raise StoreError(
                f"The store {self._path} lies where SQLite cannot share it between processes.",
                remedy="Choose a folder on a local disk with DATA_DIR.",
            )

    def _bring_up_to_date(self, connection: sqlite3.Connection, steps: Sequence[Sequence[str]]) -> None:
        if self._version(connection, len(steps)) == len(steps):
            return
        connection.execute("BEGIN IMMEDIATE")
        for step in steps[self._version(connection, len(steps)) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")

    def _version(self, connection: sqlite3.Connection, newest: int) -> int:
        # One statement, so that another process cannot make the tables between two looks.
        version, has_tables = connection.execute(
            "SELECT user_version, EXISTS (SELECT * FROM sqlite_master) FROM pragma_user_version"
        ).fetchone()
        if version > newest:
            raise StoreError(
                f"The store {self._path} has version {version}; this backend knows versions up to {newest}.",
                remedy="It was made by a newer backend: use that one, or choose another folder with DATA_DIR.",
            )
        if version == 0 and has_tables:
            raise StoreError(
                f"{self._path} is a database, but not a store of this backend.",
                remedy="Choose another folder with DATA_DIR.",
            )
        return int(version)


def _reason(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for errors of the Python module itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _explained(error: sqlite3.Error, path: Path, busy_seconds: float) -> StoreError:
    match _reason(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"The store {path} was locked by another process for {busy_seconds:g} seconds.",
                remedy="Close other programs that have the file open (a backup, a database browser) and try again.",
            )
        case sqlite3.SQLITE_FULL:
            return StoreError(
                f"The disk is full: nothing more can be kept in {path}.",
                remedy="Free space there; what was acknowledged before is safe.",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreError(f"The store {path} is damaged ({error}).", remedy=_BACKUP)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreError(
                f"The store {path} cannot be opened for writing ({error}).",
                remedy="Let the backend's user write to the file and its folder, or choose another one with DATA_DIR.",
            )
        case sqlite3.SQLITE_IOERR:
            return StoreError(
                f"The disk failed while the store {path} was read or written ({error}).",
                remedy="See whether the disk is full or broken; what was acknowledged before is safe.",
            )
    return StoreError(f"The store {path} cannot be used ({error}).", remedy=_BACKUP)
