"""The store in a Redis database: the engine for many processes and machines; knows no Label Studio and no model.

One server, or one primary that sentinels watch; not a Redis Cluster. Addresses: see `redis_address`; what outlives a
crash of Redis: see `redis_database`; keys: see `redis_keys`. Several backends share one server by its numbered
databases. Everything is held in memory: examples (some 100 kB each) and predicted masks (some kB a task and label).
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from typing_extensions import override

from backend.store import redis_scripts as scripts
from backend.store.contract import Change, Store
from backend.store.instants import unix_seconds
from backend.store.records import (
    Approval,
    Event,
    ExampleInfo,
    KeptFigures,
    KeptIoU,
    PredictedFrame,
    PredictionRecord,
    ProjectRecord,
    StoredExample,
    TaskState,
    WaitingEvents,
    WaitingTasks,
)
from backend.store.redis_database import RedisDatabase
from backend.store.redis_prompts import RedisPrompts
from backend.store.redis_records import (
    APPROVAL,
    ARRAYS,
    EVENT,
    EXAMPLE,
    FRAME,
    KEPT,
    PREDICTION,
    PROJECT,
    TASK_STATE,
    Columns,
    as_json,
    counted,
    encoded,
    fields,
    from_json,
    listed,
    row_of,
    values,
    without,
)
from backend.store.redis_steps import STEPS

_EXAMPLE_INFO = without(EXAMPLE, "moment")
_AT_ONCE = 200  # tasks that one step looks at, so that Redis answers others in between


class RedisStore(Store):
    """The store in the database at an address such as `redis://:password@host:6379/0`.

    Args:
        address: see `redis_address`.
        patient: whether a Redis that is away now may come later.

    Raises:
        StoreError: it cannot be reached or used; every method raises it too, without the password in it.
    """

    def __init__(self, address: str, *, patient: bool = False) -> None:
        self._database = RedisDatabase(address, STEPS, patient=patient)
        self._prompts = RedisPrompts(self._database)

    @property
    @override
    def prompts(self) -> RedisPrompts:
        return self._prompts

    @override
    def close(self) -> None:
        self._database.close()

    @override
    def warnings(self) -> list[str]:
        return self._database.warnings()

    # -- projects ------------------------------------------------------------------------------------------------
    @override
    def project(self, key: str) -> ProjectRecord | None:
        reply = self._database.read("HMGET", self._database.key("project", key), *PROJECT)
        return None if reply[0] is None else ProjectRecord(**values(PROJECT, reply))

    @override
    def projects(self) -> list[ProjectRecord]:
        rows = self._database.run(scripts.PROJECTS, listed(PROJECT))
        return [ProjectRecord(**values(PROJECT, row)) for row in rows]

    @override
    def put_label_config(self, key: str, label_config: str, targets: str) -> bool:
        return bool(self._database.run(scripts.PUT_LABEL_CONFIG, key, label_config, targets))

    @override
    def move_generation(self, key: str) -> int:
        return int(self._database.run(scripts.MOVE_GENERATION, key))

    @override
    def mark_reconciled(self, key: str, at: float, signs: str) -> None:
        self._database.run(scripts.MARK_RECONCILED, key, repr(float(at)), signs)

    # -- events --------------------------------------------------------------------------------------------------
    @override
    def add_event(self, project: str, action: str, body: Mapping[str, Any], received: float) -> int:
        row = {
            "project": project,
            "action": action,
            "body": json.dumps(body),
            "received": received,
            "attempts": 0,
            "reason": "",
        }
        return int(self._database.run(scripts.ADD_EVENT, *counted(without(EVENT, "id"), row)))

    @override
    def pending_events(self, limit: int = 100, project: str | None = None) -> list[Event]:
        columns = without(EVENT, "reason")
        of = [] if project is None else [project]
        rows = self._database.run(scripts.PENDING_EVENTS, limit, listed(of), listed(columns))
        events = [values(columns, row) for row in rows]
        return [Event(**{**event, "body": json.loads(event["body"])}) for event in events]

    @override
    def waiting_events(self) -> dict[str, WaitingEvents]:
        columns = {name: form for name, form in EVENT.items() if name in ("project", "received")}
        found: dict[str, WaitingEvents] = {}
        for row in self._database.run(scripts.PENDING_EVENTS, -1, listed([]), listed(columns)):
            event = values(columns, row)
            before = found.get(event["project"], WaitingEvents(0, event["received"]))
            found[event["project"]] = WaitingEvents(before.count + 1, min(before.since, event["received"]))
        return found

    @override
    def count_events(self) -> int:
        return int(self._database.read("ZCARD", self._database.key("events")))

    @override
    def retry_event(self, event: int, reason: str) -> int:
        return int(self._database.run(scripts.RETRY_EVENT, event, reason))

    @override
    def finish_event(self, event: int) -> None:
        key = self._database.key
        self._database.write(("ZREM", key("events"), event), ("DEL", key("event", event)))

    # -- approvals and examples ----------------------------------------------------------------------------------
    @override
    def put_approval(self, approval: Approval, examples: Sequence[StoredExample] | None) -> Change:
        row = row_of(approval, APPROVAL, moment=unix_seconds(approval.at))
        arguments: list[Any] = [len(EXAMPLE), -1 if examples is None else len(examples)]
        for example in examples or ():
            info = row_of(example.info, EXAMPLE, moment=unix_seconds(example.info.at))
            arguments += fields(EXAMPLE, info)
            arguments += fields(ARRAYS, {"image": example.image, "mask": example.mask})[1::2]
        change = self._database.run(
            scripts.PUT_APPROVAL,
            *(approval.project, approval.annotation, approval.task, approval.digest, repr(row["moment"])),
            as_json(APPROVAL, row),
            *arguments,
        )
        return Change(change.decode())

    @override
    def withdraw(self, project: str, annotations: Collection[int]) -> list[Approval]:
        return _approvals(self._database.run(scripts.WITHDRAW, project, listed(annotations)))

    @override
    def approvals(self, project: str, tasks: Collection[int] | None = None) -> list[Approval]:
        if tasks is None:
            return _approvals(self._database.read("HVALS", self._database.key("approvals", project)))
        return _approvals(self._database.run(scripts.APPROVALS_OF_TASKS, project, listed(tasks)))

    @override
    def pool(self, project: str, target: str | None = None) -> list[ExampleInfo]:
        key = self._database.key
        index = key("pool", project) if target is None else key("target-pool", project, target)
        rows = self._database.run(scripts.POOL, index, listed(_EXAMPLE_INFO))
        return [_info(row) for row in rows]

    @override
    def examples(self, keys: Collection[str]) -> dict[str, StoredExample]:
        found = self._database.run(scripts.EXAMPLES, listed(_EXAMPLE_INFO), listed(keys))
        infos = [(_info(row), arrays) for row, arrays in found]
        return {info.key: StoredExample(info, **values(ARRAYS, arrays)) for info, arrays in infos}

    @override
    def drop_examples(self, keys: Collection[str]) -> int:
        return int(self._database.run(scripts.DROP_EXAMPLES, listed(keys)))

    @override
    def score_examples(self, scores: Mapping[str, float]) -> None:
        columns: Columns = dict.fromkeys(scores, "real?")
        self._database.run(scripts.SCORE_EXAMPLES, *counted(columns, scores))

    @override
    def pin_examples(self, keys: Collection[str], pinned: bool) -> int:
        return int(self._database.run(scripts.PIN_EXAMPLES, int(pinned), listed(keys)))

    @override
    def place_examples(self, places: Mapping[str, tuple[str, float | None]]) -> None:
        rows = [{"sequence": sequence, "frame": frame} for sequence, frame in places.values()]
        columns: Columns = {name: EXAMPLE[name] for name in ("sequence", "frame")}
        named = [[encoded(key), *fields(columns, row)[1::2]] for key, row in zip(places, rows, strict=True)]
        self._database.run(scripts.PLACE_EXAMPLES, len(places), *(part for parts in named for part in parts))

    # -- predictions ---------------------------------------------------------------------------------------------
    @override
    def put_prediction(self, prediction: PredictionRecord) -> None:
        context = json.dumps({target: list(keys) for target, keys in prediction.context.items()})
        columns = without(PREDICTION, "id")
        masks: Columns = dict.fromkeys(prediction.masks, "blob")
        self._database.run(
            scripts.PUT_PREDICTION,
            *counted(columns, row_of(prediction, columns, context=context)),
            "" if prediction.pushed is None else prediction.pushed,
            *counted(masks, prediction.masks),
        )

    @override
    def predictions(self, project: str, task: int) -> list[PredictionRecord]:
        found = []
        for reply, masks, pushed in self._database.run(
            scripts.PREDICTIONS, project, task, listed(PREDICTION)
        ):
            row = values(PREDICTION, reply)
            named = {target.decode(): mask for target, mask in zip(masks[::2], masks[1::2], strict=True)}
            newest = max(map(int, pushed), default=None)
            found.append(((row["at"], row["id"]), _prediction(row, masks=named, pushed=newest)))
        return [prediction for _, prediction in sorted(found, key=lambda one: one[0], reverse=True)]

    @override
    def predicted_tasks(self, project: str, revision: str) -> set[int]:
        return set(
            map(int, self._database.read("SMEMBERS", self._database.key("predicted", project, revision)))
        )

    @override
    def pushed(self, project: str, *, except_revision: str | None = None) -> list[PredictionRecord]:
        skipped = [] if except_revision is None else [except_revision]
        found = []
        for number, pushed, reply in self._database.run(
            scripts.PUSHED, project, listed(skipped), listed(PREDICTION)
        ):
            row = {**values(PREDICTION, reply), "at": float(pushed.split()[1])}
            found.append(_prediction(row, masks={}, pushed=int(number)))
        return sorted(found, key=lambda one: (one.at, one.pushed))

    @override
    def forget_pushed(self, project: str, pushed: Collection[int]) -> None:
        self._database.run(scripts.FORGET_PUSHED, project, listed(pushed))

    @override
    def drop_superseded(self, project: str, before: float) -> int:
        members = self._database.read("SMEMBERS", self._database.key("predicted-again", project))
        again = [member.decode() for member in members]
        return sum(
            int(
                self._database.run(
                    scripts.DROP_SUPERSEDED,
                    *(project, repr(float(before)), listed(again[start : start + _AT_ONCE])),
                )
            )
            for start in range(0, len(again), _AT_ONCE)
        )

    @override
    def put_frames(self, project: str, task: int, frames: Sequence[PredictedFrame], keep: int) -> None:
        arguments: list[Any] = [len(FRAME), len(frames)]
        for frame in frames:
            arguments += fields(FRAME, row_of(frame, FRAME))
            arguments += fields(ARRAYS, row_of(frame, ARRAYS))[1::2]
        self._database.run(scripts.PUT_FRAMES, project, task, keep, *arguments)

    @override
    def frame_before(self, project: str, target: str, sequence: str, frame: float) -> PredictedFrame | None:
        columns = {**FRAME, **ARRAYS}
        replies = self._database.run(
            scripts.FRAME_BEFORE, project, target, sequence, repr(float(frame)), listed(columns)
        )
        found = [PredictedFrame(**values(columns, reply)) for reply in replies]
        return max(found, key=lambda one: (one.at, one.task), default=None)

    @override
    def add_kept(self, kept: Iterable[KeptIoU]) -> None:
        self._add("kept", KEPT, kept)

    @override
    def kept(
        self,
        project: str,
        since: float = 0.0,
        *,
        before: float = math.inf,
        target: str | None = None,
        newest: int | None = None,
    ) -> list[KeptIoU]:
        of = listed([] if target is None else [target])
        most = -1 if newest is None else newest
        times = (repr(float(since)), f"({float(before)!r}")
        replies = self._database.run(scripts.KEPT, project, *times, most, of)
        found = [KeptIoU(**from_json(reply)) for reply in replies]
        return sorted(found, key=lambda one: (one.at, one.annotation, one.target))

    @override
    def kept_figures(self, project: str, newest: int = 50) -> KeptFigures:
        count, replies = self._database.run(scripts.KEPT_FIGURES, project, newest)
        ious = [from_json(reply)["iou"] for reply in replies]
        return KeptFigures(int(count), sum(ious) / len(ious) if ious else None)

    # -- background work -----------------------------------------------------------------------------------------
    @override
    def set_task_states(self, states: Iterable[TaskState]) -> None:
        self._add("task_states", TASK_STATE, states)

    @override
    def task_states(self, project: str, tasks: Collection[int] | None = None) -> list[TaskState]:
        key = self._database.key("task-states", project)
        if tasks is None:
            replies = self._database.read("HVALS", key)
        else:
            found = self._database.read("HMGET", key, *tasks) if tasks else []
            replies = [reply for reply in found if reply is not None]
        return sorted((TaskState(**from_json(reply)) for reply in replies), key=lambda one: one.task)

    @override
    def waiting_tasks(self, project: str) -> WaitingTasks:
        replies, news = self._database.run(scripts.WAITING_TASKS, project)
        states = sorted((TaskState(**from_json(reply)) for reply in replies), key=lambda one: one.task)
        return WaitingTasks(tuple(states), float(news))

    @override
    def forget_tasks(self, project: str, tasks: Collection[int]) -> None:
        self._database.run(scripts.FORGET_TASKS, project, listed(tasks))

    @override
    def acquire(self, name: str, owner: str, seconds: float) -> bool:
        return bool(self._database.run(scripts.ACQUIRE, name, owner, repr(float(seconds))))

    @override
    def release(self, name: str, owner: str) -> None:
        self._database.run(scripts.RELEASE, name, owner)

    @override
    def held(self, prefix: str) -> bool:
        return bool(self._database.run(scripts.HELD, prefix))

    @override
    def set_note(self, name: str, value: str) -> None:
        self._database.write(("HSET", self._database.key("notes"), name, value))

    @override
    def note(self, name: str) -> str | None:
        reply = self._database.read("HGET", self._database.key("notes"), name)
        return None if reply is None else str(reply.decode())

    @override
    def note_once(self, name: str, value: str) -> bool:
        return bool(self._database.write(("HSETNX", self._database.key("notes"), name, value))[0])

    def _add(self, kind: str, columns: Columns, records: Iterable[object]) -> None:
        rows = [row_of(record, columns) for record in records]
        self._database.run(scripts.ADD_ROWS[kind], *scripts.rows_of(kind, rows))


def _info(row: Sequence[bytes | None]) -> ExampleInfo:
    found = values(_EXAMPLE_INFO, row)
    return ExampleInfo(**{**found, "pinned": bool(found["pinned"])})


def _approvals(replies: Iterable[bytes]) -> list[Approval]:
    rows = [from_json(reply) for reply in replies]
    for row in rows:
        del row["moment"]
    return sorted((Approval(**row) for row in rows), key=lambda one: one.annotation)


def _prediction(row: Mapping[str, Any], **others: Any) -> PredictionRecord:
    context = {target: tuple(keys) for target, keys in json.loads(row["context"]).items()}
    fields_of_record = {name: value for name, value in row.items() if name != "id"}
    return PredictionRecord(**{**fields_of_record, "context": context}, **others)
