"""The store in one SQLite file: the engine for one machine; knows no Label Studio and no model."""

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    KeptIoU,
    PredictionRecord,
    ProjectRecord,
    StoredExample,
    TaskState,
)
from backend.store.schema import STEPS
from backend.store.sqlite_prompts import SqlitePrompts

_PROJECT = "key, label_config, targets, generation, approvals, reconciled, signs"
_EVENT = "id, project, action, body, received, attempts"
_APPROVAL = "project, task, annotation, kind, annotator, at, digest, lead_time"
_EXAMPLE = "key, project, target, task, annotation, kind, annotator, at, area, descriptor, score"
_KEPT = "project, task, annotation, target, revision, iou, at"
_TASK_STATE = "project, task, status, reason, revision, at"
_ANY_OF = "IN (SELECT value FROM json_each(?))"  # one parameter for a list of any length


class SqliteStore(Store):
    """The store in the file at `path`, which is made, with its folder, where there is none.

    Raises:
        StoreError: the file cannot be used; every method raises it too.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._database = Database(path, STEPS, busy_seconds=busy_seconds)
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
    def pending_events(self, limit: int = 100) -> list[Event]:
        rows = self._rows(f"SELECT {_EVENT} FROM events ORDER BY id LIMIT ?", limit)
        return [
            Event(event, project, action, json.loads(body), received, attempts)
            for event, project, action, body, received, attempts in rows
        ]

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
    def put_approval(self, approval: Approval, examples: Sequence[StoredExample]) -> Change:
        moment = unix_seconds(approval.at)
        with self._database.writing() as connection:
            stored = connection.execute(
                "SELECT digest, moment FROM approvals WHERE project = ? AND annotation = ?",
                (approval.project, approval.annotation),
            ).fetchone()
            if stored and stored[0] == approval.digest:
                return Change.UNCHANGED
            if stored and stored[1] > moment:
                return Change.STALE
            _remove_examples(connection, approval.project, [approval.annotation])
            _insert(
                connection, "approvals", f"{_APPROVAL}, moment", [(*_values(approval, _APPROVAL), moment)]
            )
            _insert(
                connection,
                "examples",
                f"{_EXAMPLE}, moment, image, mask",
                [
                    (
                        *_values(example.info, _EXAMPLE),
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
        these, parameters = f"project = ? AND annotation {_ANY_OF}", (project, json.dumps(list(annotations)))
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
            query += f" AND task {_ANY_OF}"
            parameters.append(json.dumps(list(tasks)))
        return [Approval(*row) for row in self._rows(f"{query} ORDER BY annotation", *parameters)]

    @override
    def pool(self, project: str, target: str | None = None) -> list[ExampleInfo]:
        query = f"SELECT {_EXAMPLE} FROM examples WHERE project = ?"
        parameters = [project]
        if target is not None:
            query += " AND target = ?"
            parameters.append(target)
        return [ExampleInfo(*row) for row in self._rows(f"{query} ORDER BY moment, key", *parameters)]

    @override
    def examples(self, keys: Collection[str]) -> dict[str, StoredExample]:
        rows = self._rows(
            f"SELECT {_EXAMPLE}, image, mask FROM examples WHERE key {_ANY_OF}", json.dumps(list(keys))
        )
        return {row[0]: StoredExample(ExampleInfo(*row[:-2]), *row[-2:]) for row in rows}

    @override
    def drop_examples(self, keys: Collection[str]) -> int:
        return self._write(f"DELETE FROM examples WHERE key {_ANY_OF}", json.dumps(list(keys)))

    @override
    def score_examples(self, scores: Mapping[str, float]) -> None:
        with self._database.writing() as connection:
            connection.executemany(
                "UPDATE examples SET score = ? WHERE key = ?", [(score, key) for key, score in scores.items()]
            )

    # -- predictions ---------------------------------------------------------------------------------------------
    @override
    def put_prediction(self, prediction: PredictionRecord) -> None:
        place = (prediction.project, prediction.task, prediction.revision)
        context = json.dumps({target: list(keys) for target, keys in prediction.context.items()})
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM predictions WHERE project = ? AND task = ? AND revision = ?", place
            )
            row = connection.execute(
                "INSERT INTO predictions (project, task, revision, at, score, context, seconds)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*place, prediction.at, prediction.score, context, prediction.seconds),
            ).lastrowid
            masks = [(row, target, mask) for target, mask in prediction.masks.items()]
            _insert(connection, "predicted_masks", "prediction, target, mask", masks)
            if prediction.pushed is not None:
                pushed = [(*place, prediction.pushed, prediction.at)]
                _insert(connection, "pushed", "project, task, revision, id, at", pushed)

    @override
    def predictions(self, project: str, task: int) -> list[PredictionRecord]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT id, project, task, revision, at, score, context, seconds, (SELECT max(pushed.id) FROM pushed"
                "  WHERE (pushed.project, pushed.task, pushed.revision)"
                "   = (predictions.project, predictions.task, predictions.revision))"
                " FROM predictions WHERE project = ? AND task = ? ORDER BY at DESC, id DESC",
                (project, task),
            ).fetchall()
            masks: dict[int, dict[str, bytes]] = {row[0]: {} for row in rows}
            for prediction, target, mask in connection.execute(
                f"SELECT prediction, target, mask FROM predicted_masks WHERE prediction {_ANY_OF} ORDER BY rowid",
                (json.dumps(list(masks)),),
            ):
                masks[prediction][target] = mask
        return [_prediction(row[1:], masks[row[0]]) for row in rows]

    @override
    def predicted_tasks(self, project: str, revision: str) -> set[int]:
        query = "SELECT task FROM predictions WHERE project = ? AND revision = ?"
        return {task for (task,) in self._rows(query, project, revision)}

    @override
    def pushed(self, project: str, *, except_revision: str | None = None) -> list[PredictionRecord]:
        rows = self._rows(
            "SELECT pushed.project, pushed.task, pushed.revision, pushed.at, score, context, seconds, pushed.id"
            " FROM pushed JOIN predictions USING (project, task, revision)"
            " WHERE pushed.project = ? AND pushed.revision IS NOT ? ORDER BY pushed.at, pushed.id",
            project,
            except_revision,
        )
        return [_prediction(row, {}) for row in rows]

    @override
    def forget_pushed(self, project: str, pushed: Collection[int]) -> None:
        self._write(
            f"DELETE FROM pushed WHERE project = ? AND id {_ANY_OF}", project, json.dumps(list(pushed))
        )

    @override
    def add_kept(self, kept: Iterable[KeptIoU]) -> None:
        rows = [_values(one, _KEPT) for one in kept]
        with self._database.writing() as connection:
            _insert(connection, "kept", _KEPT, rows)

    @override
    def kept(self, project: str, since: float = 0.0) -> list[KeptIoU]:
        query = f"SELECT {_KEPT} FROM kept WHERE project = ? AND at >= ? ORDER BY at, annotation, target"
        return [KeptIoU(*row) for row in self._rows(query, project, since)]

    # -- background work -----------------------------------------------------------------------------------------
    @override
    def set_task_states(self, states: Iterable[TaskState]) -> None:
        rows = [_values(state, _TASK_STATE) for state in states]
        with self._database.writing() as connection:
            _insert(connection, "task_states", _TASK_STATE, rows)

    @override
    def task_states(self, project: str) -> list[TaskState]:
        query = f"SELECT {_TASK_STATE} FROM task_states WHERE project = ? ORDER BY task"
        return [TaskState(*row) for row in self._rows(query, project)]

    @override
    def forget_tasks(self, project: str, tasks: Collection[int]) -> None:
        gone = json.dumps(list(tasks))
        with self._database.writing() as connection:
            for table in ("task_states", "predictions", "pushed"):
                connection.execute(
                    f"DELETE FROM {table} WHERE project = ? AND task {_ANY_OF}", (project, gone)
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

    # -- statements ----------------------------------------------------------------------------------------------
    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        with self._database.reading() as connection:
            return connection.execute(query, parameters).fetchall()

    def _write(self, statement: str, *parameters: Any) -> int:
        """Run one statement; how many rows it changed."""
        with self._database.writing() as connection:
            return connection.execute(statement, parameters).rowcount


def _add_project(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("INSERT OR IGNORE INTO projects (key) VALUES (?)", (key,))


def _remove_examples(connection: sqlite3.Connection, project: str, annotations: Collection[int]) -> None:
    connection.execute(
        f"DELETE FROM examples WHERE project = ? AND annotation {_ANY_OF}",
        (project, json.dumps(list(annotations))),
    )


def _values(record: object, columns: str) -> tuple[Any, ...]:
    return tuple(getattr(record, column) for column in columns.split(", "))


def _insert(
    connection: sqlite3.Connection, table: str, columns: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    """Insert rows, each in place of the one with the same primary key."""
    places = ", ".join("?" for _ in columns.split(", "))
    connection.executemany(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})", rows)


def _prediction(row: Sequence[Any], masks: Mapping[str, bytes]) -> PredictionRecord:
    project, task, revision, at, score, context, seconds, pushed = row
    keys = {target: tuple(keys) for target, keys in json.loads(context).items()}
    return PredictionRecord(project, task, revision, at, score, keys, masks, pushed, seconds)
