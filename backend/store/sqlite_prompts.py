"""Tunings and prompts in the SQLite store; knows no other tables."""

import json
import math
import sqlite3
from dataclasses import replace
from typing import Any

from typing_extensions import override

from backend.store.contract import IN_USE_AGAIN, REPLACED, PromptStore
from backend.store.database import Database
from backend.store.records import PromptRecord, TuningRecord

_PROMPT = (
    "project, number, target, label, checkpoint, status, uses, origin, created, figures, examples, withdrawn,"
    " activated, retired, replaced, reason"
)
_PROGRESS = (
    "status, started, ended, updated, step, steps, loss, validation_iou, seconds_left, checkpoint, examples,"
    " prompt, reason"
)
_TUNING = f"id, project, target, asked_by, created, {_PROGRESS}, stop"


class SqlitePrompts(PromptStore):
    """The part of a store that an engine hands out as `prompts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- tunings -------------------------------------------------------------------------------------------------
    @override
    def add_tuning(self, project: str, target: str, asked_by: str, at: float) -> TuningRecord | None:
        with self._database.writing() as connection:
            if _has_open_tuning(connection, project, target):
                return None
            number = connection.execute(
                "INSERT INTO tunings (project, target, status, asked_by, created) VALUES (?, ?, 'queued', ?, ?)",
                (project, target, asked_by, at),
            ).lastrowid
        return TuningRecord(int(number or 0), project, target, "queued", asked_by, at)

    @override
    def tuning(self, number: int) -> TuningRecord | None:
        found = self._rows(f"SELECT {_TUNING} FROM tunings WHERE id = ?", number)
        return _tuning(found[0]) if found else None

    @override
    def tunings(self, project: str | None = None) -> list[TuningRecord]:
        query = f"SELECT {_TUNING} FROM tunings WHERE project = coalesce(?, project) ORDER BY id DESC"
        return [_tuning(row) for row in self._rows(query, project)]

    @override
    def put_tuning(self, tuning: TuningRecord, state: bytes | None = None) -> None:
        with self._database.writing() as connection:
            _put_tuning(connection, tuning)
            if state is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO tuning_states (tuning, state) VALUES (?, ?)", (tuning.id, state)
                )
            if tuning.status in ("done", "failed"):
                connection.execute("DELETE FROM tuning_states WHERE tuning = ?", (tuning.id,))

    @override
    def tuning_state(self, number: int) -> bytes | None:
        rows = self._rows("SELECT state FROM tuning_states WHERE tuning = ?", number)
        return bytes(rows[0][0]) if rows else None

    @override
    def ask_stop(self, number: int) -> None:
        with self._database.writing() as connection:
            connection.execute("UPDATE tunings SET stop = 1 WHERE id = ?", (number,))

    @override
    def reopen_tuning(self, number: int) -> bool:
        with self._database.writing() as connection:
            found = connection.execute(
                "SELECT project, target FROM tunings WHERE id = ? AND status = 'stopped'", (number,)
            ).fetchone()
            if found is None or _has_open_tuning(connection, *found):
                return False
            connection.execute(
                "UPDATE tunings SET status = 'queued', stop = 0, ended = NULL, reason = '' WHERE id = ?",
                (number,),
            )
        return True

    # -- prompts -------------------------------------------------------------------------------------------------
    @override
    def add_prompt(
        self,
        prompt: PromptRecord,
        content: bytes,
        *,
        tuning: TuningRecord | None = None,
        activate: bool = False,
    ) -> PromptRecord:
        with self._database.writing() as connection:
            (number,) = connection.execute(
                "SELECT coalesce(max(number), 0) + 1 FROM prompts WHERE project = ?", (prompt.project,)
            ).fetchone()
            kept = replace(prompt, number=int(number), status="candidate")
            places = ", ".join("?" for _ in _PROMPT.split(", "))
            connection.execute(
                f"INSERT INTO prompts ({_PROMPT}, content) VALUES ({places}, ?)",
                (*_prompt_row(kept), content),
            )
            if activate:
                _activate(connection, kept.project, kept.target, kept.number, kept.created, kept.reason)
            if tuning is not None:
                _put_tuning(connection, replace(tuning, prompt=kept.number))
                connection.execute("DELETE FROM tuning_states WHERE tuning = ?", (tuning.id,))
            row = connection.execute(
                f"SELECT {_PROMPT} FROM prompts WHERE project = ? AND number = ?", (kept.project, kept.number)
            ).fetchone()
        return _prompt(row)

    @override
    def prompts(self, project: str, target: str | None = None) -> list[PromptRecord]:
        query = f"SELECT {_PROMPT} FROM prompts WHERE project = ? AND target = coalesce(?, target) ORDER BY number"
        return [_prompt(row) for row in self._rows(query, project, target)]

    @override
    def prompt_content(self, project: str, number: int) -> bytes | None:
        rows = self._rows("SELECT content FROM prompts WHERE project = ? AND number = ?", project, number)
        return bytes(rows[0][0]) if rows else None

    @override
    def activate_prompt(self, project: str, target: str, number: int, at: float, reason: str) -> bool:
        with self._database.writing() as connection:
            return _activate(connection, project, target, number, at, reason)

    @override
    def retire_prompt(self, project: str, number: int, back_to: int | None, at: float, reason: str) -> bool:
        with self._database.writing() as connection:
            return _go_back(connection, project, number, back_to, at, reason)

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        with self._database.reading() as connection:
            return connection.execute(query, parameters).fetchall()


def _has_open_tuning(connection: sqlite3.Connection, project: str, target: str) -> bool:
    query = "SELECT 1 FROM tunings WHERE project = ? AND target = ? AND status IN ('queued', 'running')"
    return connection.execute(query, (project, target)).fetchone() is not None


def _put_tuning(connection: sqlite3.Connection, tuning: TuningRecord) -> None:
    columns = _PROGRESS.split(", ")
    values = [
        json.dumps(getattr(tuning, name)) if name == "examples" else getattr(tuning, name) for name in columns
    ]
    places = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE tunings SET {places} WHERE id = ?", (*map(_number, values), tuning.id))


def _activate(
    connection: sqlite3.Connection, project: str, target: str, number: int, at: float, reason: str
) -> bool:
    versions = _versions(connection, project, target)
    before = next((found for found, (status, _) in versions.items() if status == "active"), None)
    if number == before or number not in versions:
        return False
    replaced = before
    if before is not None:
        _retire(connection, project, before, at, REPLACED % number)
        # Going back to what was there before must not make the newer one look like its forerunner.
        forerunners = {found: forerunner for found, (_, forerunner) in versions.items()}
        if number in _chain(before, forerunners):
            replaced = forerunners[number]
    _use(connection, project, number, at, replaced, reason)
    return True


def _go_back(
    connection: sqlite3.Connection, project: str, number: int, back_to: int | None, at: float, reason: str
) -> bool:
    query = "SELECT target FROM prompts WHERE project = ? AND number = ? AND status = 'active'"
    found = connection.execute(query, (project, number)).fetchone()
    if found is None:
        return False
    versions = _versions(connection, project, found[0])
    if back_to is not None and (back_to == number or back_to not in versions):
        return False
    _retire(connection, project, number, at, reason)
    if back_to is not None:
        _use(connection, project, back_to, at, versions[back_to][1], IN_USE_AGAIN % number)
    return True


def _versions(connection: sqlite3.Connection, project: str, target: str) -> dict[int, tuple[str, int | None]]:
    """Status and `replaced` of a target's versions, by number."""
    query = "SELECT number, status, replaced FROM prompts WHERE project = ? AND target = ?"
    return {
        number: (status, replaced)
        for number, status, replaced in connection.execute(query, (project, target))
    }


def _retire(connection: sqlite3.Connection, project: str, number: int, at: float, reason: str) -> None:
    connection.execute(
        "UPDATE prompts SET status = 'retired', retired = ?, reason = ? WHERE project = ? AND number = ?",
        (at, reason, project, number),
    )


def _use(
    connection: sqlite3.Connection, project: str, number: int, at: float, replaced: int | None, reason: str
) -> None:
    connection.execute(
        "UPDATE prompts SET status = 'active', activated = ?, retired = NULL, replaced = ?, reason = ?"
        " WHERE project = ? AND number = ?",
        (at, replaced, reason, project, number),
    )


def _chain(number: int, forerunners: dict[int, int | None]) -> list[int]:
    """What was active before a version, and before that, ...; each once."""
    chain: list[int] = []
    while (found := forerunners.get(number)) is not None and found not in chain:
        chain.append(found)
        number = found
    return chain


def _number(value: Any) -> Any:
    """SQLite keeps NaN as NULL; say so before it does."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _prompt_row(prompt: PromptRecord) -> tuple[Any, ...]:
    values = (getattr(prompt, name) for name in _PROMPT.split(", "))
    return tuple(value if isinstance(value, str | int | float | None) else _json(value) for value in values)


def _json(value: Any) -> str:
    return json.dumps(dict(value) if hasattr(value, "keys") else list(value))


def _prompt(row: Any) -> PromptRecord:
    fields = dict(zip(_PROMPT.split(", "), row, strict=True))
    many = {name: tuple(json.loads(fields[name])) for name in ("examples", "withdrawn")}
    return PromptRecord(**{**fields, **many, "figures": json.loads(fields["figures"])})


def _tuning(row: Any) -> TuningRecord:
    fields = dict(zip(_TUNING.split(", "), row, strict=True))
    return TuningRecord(
        **{**fields, "examples": tuple(json.loads(fields["examples"])), "stop": bool(fields["stop"])}
    )
