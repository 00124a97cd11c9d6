"""The Redis store row by row, below the contract: for copies and counts; knows no other engine.

Looks through all keys of a kind (SCAN), which no request may do.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from backend.store.redis_database import RedisDatabase
from backend.store.redis_records import ARRAYS, KINDS, Row, from_json, values, without
from backend.store.redis_scripts import ADD_ROWS, BESIDE, rows_of
from backend.store.redis_steps import STEPS

_AT_ONCE = 500
_LARGE_AT_ONCE = 16

# Kinds with a hash for each row, and how its key begins.
_HASHES = {
    "projects": "project",
    "events": "event",
    "examples": "example",
    "predictions": "prediction",
    "frames": "frame",
    "prompts": "prompt",
    "tunings": "tuning",
}
# Kinds whose rows are the fields of larger hashes.
_FIELDS = {
    "approvals": "approvals",
    "predicted_masks": "masks",
    "pushed": "pushed",
    "kept": "kept",
    "task_states": "task-states",
}
_SMALL = [kind for kind, columns in KINDS.items() if "blob" not in columns.values()]
_COUNTERS = {"events": "last-event", "tunings": "last-tuning"}


class RedisRows:
    """The rows of the store at an address, by kind (see `redis_records.KINDS`).

    Raises:
        StoreError: it cannot be reached or used; every method raises it too.
    """

    def __init__(self, address: str, *, unfinished: bool = False) -> None:
        self._database = RedisDatabase(address, STEPS, unfinished=unfinished)

    @property
    def shown(self) -> str:
        """Where it is, without a password."""
        return self._database.address.shown

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for two names of the same store."""
        server = self._database.read("INFO", "server")
        return ("redis", str(server["run_id"]), str(self._database.address.options["db"]))

    @contextmanager
    def reading(self) -> Iterator["RedisRows"]:
        """The rows as they are at each moment: a Redis has no state that stays while others write."""
        yield self

    @contextmanager
    def filling(self) -> Iterator["RedisRows"]:
        """The rows, to be written; a block that fails leaves a store that nobody opens."""
        mark = self._database.key("incomplete")
        self._database.write(("SET", mark, 1))
        yield self
        self._database.write(("DEL", mark))

    def close(self) -> None:
        """Let go of connections."""
        self._database.close()

    def warnings(self) -> list[str]:
        """What in the server's settings puts at risk what is kept."""
        return self._database.warnings()

    # -- reading -------------------------------------------------------------------------------------------------
    def count(self, kind: str) -> int:
        """How many rows there are."""
        if kind == "notes":
            return int(self._database.read("HLEN", self._database.key("notes")))
        if kind == "counters":
            return sum(1 for _ in self.read(kind))
        if kind in _FIELDS:
            keys = self._database.keys(_FIELDS[kind])
            return sum(sum(self._ask("HLEN", some)) for some in _parts(keys, _AT_ONCE))
        return sum(1 for _ in self._database.keys(_HASHES.get(kind, "state")))

    def read(self, kind: str) -> Iterator[dict[str, Any]]:
        """All rows of a kind, in no order."""
        if kind in _HASHES:
            yield from self._hashes(kind)
        elif kind in _FIELDS:
            for hash_key in self._database.keys(_FIELDS[kind]):
                for field, value in self._database.scanned("HSCAN", hash_key):
                    yield self._field(kind, hash_key, field, value)
        elif kind == "tuning_states":
            for state_key in self._database.keys("state"):
                state = self._database.read("GET", state_key)
                yield {"tuning": int(self._database.parts_of(state_key)[0]), "state": state}
        elif kind == "notes":
            found = self._database.read("HGETALL", self._database.key("notes"))
            yield from ({"name": name.decode(), "value": value.decode()} for name, value in found.items())
        else:
            for name, counter in _COUNTERS.items():
                if last := self._database.read("GET", self._database.key(counter)):
                    yield {"name": name, "seq": int(last)}

    def _hashes(self, kind: str) -> Iterator[dict[str, Any]]:
        columns = KINDS[kind] if kind == "frames" else without(KINDS[kind], *BESIDE[kind])
        for keys in _parts(
            self._database.keys(_HASHES[kind]), _AT_ONCE if kind in _SMALL else _LARGE_AT_ONCE
        ):
            rows = [values(columns, reply) for reply in self._ask("HMGET", keys, *columns)]
            if kind == "examples":
                arrays = [self._database.key("arrays", row["key"]) for row in rows]
                rows = [
                    {**row, **values(ARRAYS, reply)}
                    for row, reply in zip(rows, self._ask("HMGET", arrays, *ARRAYS), strict=True)
                ]
            elif kind == "prompts":
                contents = [self._database.key("content", row["project"], row["number"]) for row in rows]
                rows = [
                    {**row, "content": content}
                    for row, content in zip(rows, self._ask("GET", contents), strict=True)
                ]
            yield from rows

    def _field(self, kind: str, name: bytes, field: bytes, value: bytes) -> dict[str, Any]:
        parts = self._database.parts_of(name)
        if kind == "predicted_masks":
            return {"prediction": int(parts[0]), "target": field.decode(), "mask": value}
        if kind == "pushed":
            task, at = value.split()
            project, revision = parts
            return {
                "project": project,
                "id": int(field),
                "task": int(task),
                "revision": revision,
                "at": float(at),
            }
        return from_json(value)

    # -- writing -------------------------------------------------------------------------------------------------
    def clear(self) -> None:
        """Remove everything but the version."""
        kept = {self._database.key(name).encode() for name in ("version", "incomplete")}
        for names in _parts(self._database.keys(""), _AT_ONCE):
            gone = [name for name in names if name not in kept]
            self._database.write(*([("UNLINK", *gone)] if gone else []))

    def write(self, kind: str, rows: Iterable[Row]) -> None:
        """Add rows."""
        key, size = self._database.key, _AT_ONCE if kind in _SMALL else _LARGE_AT_ONCE
        for some in _parts(rows, size):
            if kind == "notes":
                self._database.write(*(("HSET", key(kind), row["name"], row["value"]) for row in some))
            elif kind == "counters":
                self._database.write(*(("SET", key(_COUNTERS[row["name"]]), row["seq"]) for row in some))
            else:
                self._database.run(ADD_ROWS[kind], *rows_of(kind, some))

    def _ask(self, command: str, keys: Iterable[bytes | str], *arguments: Any) -> list[Any]:
        return self._database.read_all([(command, key, *arguments) for key in keys])


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
