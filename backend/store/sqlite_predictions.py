"""Predictions and kept IoUs in the SQLite store, and the statements that its parts share."""

import json
import math
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from backend.store.database import Database
from backend.store.records import KeptFigures, KeptIoU, PredictedFrame, PredictionRecord

ANY_OF = "IN (SELECT value FROM json_each(?))"
"""One parameter for a list of any length."""

_KEPT = "project, task, annotation, target, revision, iou, at"
_FRAME = "project, target, task, sequence, frame, score, at, image, mask"
_AT_ONCE = 200  # tasks in one transaction, so that others write in between
_DROP_SUPERSEDED = f"""
DELETE FROM predictions AS old WHERE project = ? AND task {ANY_OF}
    AND EXISTS (
        SELECT 1 FROM predictions AS new WHERE (new.project, new.task) = (old.project, old.task)
        AND (new.at, new.id) > (old.at, old.id) AND new.at <= ?
    )
    AND NOT EXISTS (
        SELECT 1 FROM pushed
        WHERE (pushed.project, pushed.task, pushed.revision) = (old.project, old.task, old.revision)
    )
"""


class SqlitePredictions:
    """The engine's part about predictions and what annotators left of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_prediction(self, prediction: PredictionRecord) -> None:
        """See `Store`."""
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
            insert(connection, "predicted_masks", "prediction, target, mask", masks)
            if prediction.pushed is not None:
                pushed = [(*place, prediction.pushed, prediction.at)]
                insert(connection, "pushed", "project, task, revision, id, at", pushed)

    def predictions(self, project: str, task: int) -> list[PredictionRecord]:
        """See `Store`."""
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
                f"SELECT prediction, target, mask FROM predicted_masks WHERE prediction {ANY_OF} ORDER BY rowid",
                (json.dumps(list(masks)),),
            ):
                masks[prediction][target] = mask
        return [_prediction(row[1:], masks[row[0]]) for row in rows]

    def predicted_tasks(self, project: str, revision: str) -> set[int]:
        """See `Store`."""
        query = "SELECT task FROM predictions WHERE project = ? AND revision = ?"
        return {task for (task,) in self._rows(query, project, revision)}

    def pushed(self, project: str, *, except_revision: str | None = None) -> list[PredictionRecord]:
        """See `Store`."""
        rows = self._rows(
            "SELECT pushed.project, pushed.task, pushed.revision, pushed.at, score, context, seconds, pushed.id"
            " FROM pushed JOIN predictions USING (project, task, revision)"
            " WHERE pushed.project = ? AND pushed.revision IS NOT ? ORDER BY pushed.at, pushed.id",
            project,
            except_revision,
        )
        return [_prediction(row, {}) for row in rows]

    def forget_pushed(self, project: str, pushed: Collection[int]) -> None:
        """See `Store`."""
        self._write(
            f"DELETE FROM pushed WHERE project = ? AND id {ANY_OF}", project, json.dumps(list(pushed))
        )

    def drop_superseded(self, project: str, before: float) -> int:
        """See `Store`."""
        again = [
            task
            for (task,) in self._rows(
                "SELECT task FROM predictions WHERE project = ? GROUP BY task HAVING count(*) > 1", project
            )
        ]
        return sum(
            self._write(_DROP_SUPERSEDED, project, json.dumps(again[start : start + _AT_ONCE]), before)
            for start in range(0, len(again), _AT_ONCE)
        )

    def put_frames(self, project: str, task: int, frames: Sequence[PredictedFrame], keep: int) -> None:
        """See `Store`."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM frames WHERE project = ? AND task = ?", (project, task))
            insert(connection, "frames", _FRAME, [values_of(frame, _FRAME) for frame in frames])
            connection.execute(
                "DELETE FROM frames WHERE rowid IN (SELECT rowid FROM frames WHERE project = ?"
                " ORDER BY at DESC, task DESC, target DESC LIMIT -1 OFFSET ?)",
                (project, keep),
            )

    def frame_before(self, project: str, target: str, sequence: str, frame: float) -> PredictedFrame | None:
        """See `Store`."""
        rows = self._rows(
            f"SELECT {_FRAME} FROM frames WHERE project = ? AND target = ? AND sequence = ? AND frame < ?"
            " ORDER BY frame DESC, at DESC, task DESC LIMIT 1",
            project,
            target,
            sequence,
            frame,
        )
        return PredictedFrame(*rows[0]) if rows else None

    def add_kept(self, kept: Iterable[KeptIoU]) -> None:
        """See `Store`."""
        rows = [values_of(one, _KEPT) for one in kept]
        with self._database.writing() as connection:
            insert(connection, "kept", _KEPT, rows)

    def kept(
        self,
        project: str,
        since: float = 0.0,
        *,
        before: float = math.inf,
        target: str | None = None,
        newest: int | None = None,
    ) -> list[KeptIoU]:
        """See `Store`."""
        wanted = "project = ? AND at >= ? AND at < ? AND (? IS NULL OR target = ?)"
        query = (
            f"SELECT {_KEPT} FROM kept WHERE {wanted} ORDER BY at DESC, annotation DESC, target DESC LIMIT ?"
        )
        most = -1 if newest is None else newest
        rows = self._rows(query, project, since, before, target, target, most)
        return [KeptIoU(*row) for row in reversed(rows)]

    def kept_figures(self, project: str, newest: int = 50) -> KeptFigures:
        """See `Store`."""
        ((count, recent),) = self._rows(
            "SELECT (SELECT count(*) FROM kept WHERE project = ?1),"
            " (SELECT avg(iou) FROM (SELECT iou FROM kept WHERE project = ?1 ORDER BY at DESC LIMIT ?2))",
            project,
            newest,
        )
        return KeptFigures(count, recent)

    # -- statements ----------------------------------------------------------------------------------------------
    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        with self._database.reading() as connection:
            return connection.execute(query, parameters).fetchall()

    def _write(self, statement: str, *parameters: Any) -> int:
        """Run one statement; how many rows it changed."""
        with self._database.writing() as connection:
            return connection.execute(statement, parameters).rowcount


def values_of(record: object, columns: str) -> tuple[Any, ...]:
    """A record's values in the order of the columns."""
    return tuple(getattr(record, column) for column in columns.split(", "))


def insert(connection: sqlite3.Connection, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows, each in place of the one with the same primary key."""
    places = ", ".join("?" for _ in columns.split(", "))
    connection.executemany(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})", rows)


def _prediction(row: Sequence[Any], masks: Mapping[str, bytes]) -> PredictionRecord:
    project, task, revision, at, score, context, seconds, pushed = row
    keys = {target: tuple(keys) for target, keys in json.loads(context).items()}
    return PredictionRecord(project, task, revision, at, score, keys, masks, pushed, seconds)
