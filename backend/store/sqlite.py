"""The store in one SQLite file: the engine for one machine; knows no Label Studio and no model."""

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from backend.store.contract import Change, Store
from backend.store.database import BUSY_SECONDS, Database
from backend.store.instants import unix_seconds
from backend.store.records import (
    Approval,
    Event,
    ExampleInfo,
    ProjectRecord,
    StoredExample,
    TaskState,
    WaitingEvents,
    WaitingTasks,
)
from backend.store.schema import STEPS
from backend.store.sqlite_predictions import ANY_OF, SqlitePredictions, insert, values_of
from backend.store.sqlite_prompts import SqlitePrompts

_PROJECT = "key, label_config, targets, generation, approvals, reconciled, signs"
_EVENT = "id, project, action, body, received, attempts"
_APPROVAL = "project, task, annotation, kind, annotator, at, digest, lead_time"
_EXAMPLE = "key, project, target, task, annotation, kind, annotator, at, area, descriptor, score, pinned, sequence, frame"
_TASK_STATE = "project, task, status, reason, revision, at"


class SqliteStore(SqlitePredictions, Store):
    """The store in the file at `path`, which is made, with its folder, where there is none.

    Raises:
        StoreError: the file cannot be used; every method raises it too.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        super().__init__(Database(path, STEPS, busy_seconds=busy_seconds))
        self._prompts = SqlitePrompts(self._database)

    @property
    @override
    def prompts(self) -> SqlitePrompts:
        return self._prompts

    @override
    def close(self) -> None:
        self._database.close()

    @override
    def warnings(self) -> list[str]:
        return []

    # -- projects ------------------------------------------------------------------------------------------------
    @override
    def project(self, key: str) -> ProjectRecord | None:
        rows = self._rows(f"SELECT {_PROJECT} FROM projects WHERE key = ?", key)
        return ProjectRecord(*rows[0]) if rows else None

    @override
    def projects(self) -> list[ProjectRecord]:
        return [ProjectRecord(*row) for row in self._rows(f"SELECT {_PROJECT} FROM projects ORDER BY key")]

    @override
    def put_label_config(self, key: str, label_config: str, targets: str) -> bool:
        with self._database.writing() as connection:
            _add_project(connection, key)
            moved = connection.execute(
                "UPDATE projects SET generation = generation + 1 WHERE key = ? AND targets NOT IN ('', ?)",
                (key, targets),
            ).rowcount
            connection.execute(
                "UPDATE projects SET label_config = ?, targets = ? WHERE key = ?",
                (label_config, targets, key),
            )
        return moved > 0

    @override
    def move_generation(self, key: str) -> int:
        with self._database.writing() as connection:
            _add_project(connection, key)
            connection.execute("UPDATE projects SET generation = generation + 1 WHERE key = ?", (key,))
            (generation,) = connection.execute(
                "SELECT generation FROM projects WHERE key = ?", (key,)
            ).fetchone()
        return int(generation)

    @override
    def mark_reconciled(self, key: str, at: float, signs: str) -> None:
        with self._database.writing() as connection:
            _add_project(connection, key)
            connection.execute(
                "UPDATE projects SET reconciled = ?, signs = ? WHERE key = ?", (at, signs, key)
            )

    # -- events --------------------------------------------------------------------------------------------------
    @override
    def add_event(self, project: str, action: str, body: Mapping[str, Any], received: float) -> int:
        text = json.dumps(body)
        with self._database.writing() as connection:
            event = connection.execute(
                "INSERT INTO events (project, action, body, received) VALUES (?, ?, ?, ?)",
                (project, action, text, received),
            ).lastrowid
        return int(event or 0)

    @override
    def pending_events(self, limit: int = 100, project: str | None = None) -> list[Event]:
        query = f"SELECT {_EVENT} FROM events WHERE ? IS NULL OR project = ? ORDER BY id LIMIT ?"
        rows = self._rows(query, project, project, limit)
        return [
            Event(event, project, action, json.loads(body), received, attempts)
            for event, project, action, body, received, attempts in rows
        ]

    @override
    def waiting_events(self) -> dict[str, WaitingEvents]:
        rows = self._rows("SELECT project, count(*), min(received) FROM events GROUP BY project")
        return {project: WaitingEvents(count, since) for project, count, since in rows}

    @override
    def count_events(self) -> int:
        return int(self._rows("SELECT count(*) FROM events")[0][0])

    @override
    def retry_event(self, event: int, reason: str) -> int:
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE events SET attempts = attempts + 1, reason = ? WHERE id = ?", (reason, event)
            )
            row = connection.execute("SELECT attempts FROM events WHERE id = ?", (event,)).fetchone()
        return int(row[0]) if row else 0

    @override
    def finish_event(self, event: int) -> None:
        self._write("DELETE FROM events WHERE id = ?", event)

    # -- approvals and examples ----------------------------------------------------------------------------------
    @override
    def put_approval(self, approval: Approval, examples: Sequence[StoredExample] | None) -> Change:
        moment = unix_seconds(approval.at)
        with self._database.writing() as connection:
            stored = connection.execute(
                "SELECT digest, moment FROM approvals WHERE project = ? AND annotation = ?",
                (approval.project, approval.annotation),
            ).fetchone()
            if stored and stored[0] == approval.digest:
                if stored[1] < moment:
                    _insert_approval(connection, approval, moment)
                return Change.UNCHANGED
            if examples is None or (stored and stored[1] > moment):
                return Change.STALE
            pinned = _pinned_targets(connection, approval)
            _remove_examples(connection, approval.project, [approval.annotation])
            _insert_approval(connection, approval, moment)
            insert(
                connection,
                "examples",
                f"{_EXAMPLE}, moment, image, mask",
                [
                    (
                        *values_of(_pinned_again(example.info, pinned), _EXAMPLE),
                        unix_seconds(example.info.at),
                        example.image,
                        example.mask,
                    )
                    for example in examples
                ],
            )
            if stored:
                return Change.CHANGED
            _add_project(connection, approval.project)
            connection.execute(
                "UPDATE projects SET approvals = approvals + 1 WHERE key = ?", (approval.project,)
            )
        return Change.NEW

    @override
    def withdraw(self, project: str, annotations: Collection[int]) -> list[Approval]:
        these, parameters = f"project = ? AND annotation {ANY_OF}", (project, json.dumps(list(annotations)))
        with self._database.writing() as connection:
            rows = connection.execute(
                f"SELECT {_APPROVAL} FROM approvals WHERE {these} ORDER BY annotation", parameters
            ).fetchall()
            connection.execute(f"DELETE FROM approvals WHERE {these}", parameters)
            _remove_examples(connection, project, annotations)
        return [Approval(*row) for row in rows]

    @override
    def approvals(self, project: str, tasks: Collection[int] | None = None) -> list[Approval]:
        query = f"SELECT {_APPROVAL} FROM approvals WHERE project = ?"
        parameters = [project]
        if tasks is not None:
            query += f" AND task {ANY_OF}"
            parameters.append(json.dumps(list(tasks)))
        return [Approval(*row) for row in self._rows(f"{query} ORDER BY annotation", *parameters)]

    @override
    def pool(self, project: str, target: str | None = None) -> list[ExampleInfo]:
        query = f"SELECT {_EXAMPLE} FROM examples WHERE project = ?"
        parameters = [project]
        if target is not None:
            query += " AND target = ?"
            parameters.append(target)
        return [_info(row) for row in self._rows(f"{query} ORDER BY moment, key", *parameters)]

    @override
    def examples(self, keys: Collection[str]) -> dict[str, StoredExample]:
        rows = self._rows(
            f"SELECT {_EXAMPLE}, image, mask FROM examples WHERE key {ANY_OF}", json.dumps(list(keys))
        )
        return {row[0]: StoredExample(_info(row[:-2]), *row[-2:]) for row in rows}

    @override
    def drop_examples(self, keys: Collection[str]) -> int:
        return self._write(f"DELETE FROM examples WHERE key {ANY_OF}", json.dumps(list(keys)))

    @override
    def score_examples(self, scores: Mapping[str, float]) -> None:
        with self._database.writing() as connection:
            connection.executemany(
                "UPDATE examples SET score = ? WHERE key = ?", [(score, key) for key, score in scores.items()]
            )

    @override
    def pin_examples(self, keys: Collection[str], pinned: bool) -> int:
        return self._write(
            f"UPDATE examples SET pinned = ? WHERE key {ANY_OF}", int(pinned), json.dumps(list(keys))
        )

    @override
    def place_examples(self, places: Mapping[str, tuple[str, float | None]]) -> None:
        with self._database.writing() as connection:
            connection.executemany(
                "UPDATE examples SET sequence = ?, frame = ? WHERE key = ?",
                [(*place, key) for key, place in places.items()],
            )

    # -- background work -----------------------------------------------------------------------------------------
    @override
    def set_task_states(self, states: Iterable[TaskState]) -> None:
        rows = [values_of(state, _TASK_STATE) for state in states]
        with self._database.writing() as connection:
            insert(connection, "task_states", _TASK_STATE, rows)

    @override
    def task_states(self, project: str, tasks: Collection[int] | None = None) -> list[TaskState]:
        query = f"SELECT {_TASK_STATE} FROM task_states WHERE project = ?"
        parameters = [project]
        if tasks is not None:
            query += f" AND task {ANY_OF}"
            parameters.append(json.dumps(list(tasks)))
        return [TaskState(*row) for row in self._rows(f"{query} ORDER BY task", *parameters)]

    @override
    def waiting_tasks(self, project: str) -> WaitingTasks:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_TASK_STATE} FROM task_states WHERE project = ? AND status IN ('queued', 'running')"
                " ORDER BY task",
                (project,),
            ).fetchall()
            (news,) = connection.execute(
                "SELECT max(at) FROM task_states WHERE project = ?", (project,)
            ).fetchone()
        return WaitingTasks(tuple(TaskState(*row) for row in rows), news or 0.0)

    @override
    def forget_tasks(self, project: str, tasks: Collection[int]) -> None:
        gone = json.dumps(list(tasks))
        with self._database.writing() as connection:
            for table in ("task_states", "predictions", "pushed", "frames"):
                connection.execute(
                    f"DELETE FROM {table} WHERE project = ? AND task {ANY_OF}", (project, gone)
                )

    @override
    def acquire(self, name: str, owner: str, seconds: float) -> bool:
        now = time.time()
        return bool(
            self._write(
                "INSERT INTO leases (name, owner, until) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET owner = excluded.owner, until = excluded.until WHERE owner = excluded.owner OR until <= ?",
                name,
                owner,
                now + seconds,
                now,
            )
        )

    @override
    def release(self, name: str, owner: str) -> None:
        self._write("DELETE FROM leases WHERE name = ? AND owner = ?", name, owner)

    @override
    def held(self, prefix: str) -> bool:
        query = "SELECT 1 FROM leases WHERE substr(name, 1, length(?)) = ? AND until > ? LIMIT 1"
        return bool(self._rows(query, prefix, prefix, time.time()))

    @override
    def set_note(self, name: str, value: str) -> None:
        self._write("INSERT OR REPLACE INTO notes (name, value) VALUES (?, ?)", name, value)

    @override
    def note(self, name: str) -> str | None:
        rows = self._rows("SELECT value FROM notes WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    @override
    def note_once(self, name: str, value: str) -> bool:
        return bool(self._write("INSERT OR IGNORE INTO notes (name, value) VALUES (?, ?)", name, value))


def _add_project(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("INSERT OR IGNORE INTO projects (key) VALUES (?)", (key,))


def _info(row: Sequence[Any]) -> ExampleInfo:
    info = ExampleInfo(*row)
    return replace(info, pinned=bool(info.pinned))


def _insert_approval(connection: sqlite3.Connection, approval: Approval, moment: float) -> None:
    insert(connection, "approvals", f"{_APPROVAL}, moment", [(*values_of(approval, _APPROVAL), moment)])


def _pinned_targets(connection: sqlite3.Connection, approval: Approval) -> set[str]:
    rows = connection.execute(
        "SELECT target FROM examples WHERE project = ? AND annotation = ? AND pinned",
        (approval.project, approval.annotation),
    )
    return {target for (target,) in rows}


def _pinned_again(info: ExampleInfo, pinned: Collection[str]) -> ExampleInfo:
    return replace(info, pinned=info.pinned or info.target in pinned)


def _remove_examples(connection: sqlite3.Connection, project: str, annotations: Collection[int]) -> None:
    connection.execute(
        f"DELETE FROM examples WHERE project = ? AND annotation {ANY_OF}",
        (project, json.dumps(list(annotations))),
    )
