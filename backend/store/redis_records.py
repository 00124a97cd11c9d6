"""What the records look like in Redis: columns and forms as in the SQLite engine's tables; knows no server.

A record is a hash with a field for each column, or, where projects have very many that never change by halves, a JSON
object in a hash of the project. Numbers are texts that read back as the same number; no number at all is "".
Mappings and sequences are JSON texts, as in SQLite, so that copies between the engines are exact.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from backend.errors import StoreError

Form = Literal["text", "integer", "real", "blob", "integer?", "real?"]
Columns = Mapping[str, Form]
Value = str | int | float | bytes | None
Row = Mapping[str, Value]

_EMPTY: dict[str, Value] = {
    "text": "",
    "integer": 0,
    "real": 0.0,
    "blob": b"",
    "integer?": None,
    "real?": None,
}
_LARGEST = 2**63

PROJECT: Columns = {
    "key": "text",
    "label_config": "text",
    "targets": "text",
    "generation": "integer",
    "approvals": "integer",
    "reconciled": "real",
    "signs": "text",
}
EVENT: Columns = {
    "id": "integer",
    "project": "text",
    "action": "text",
    "body": "text",
    "received": "real",
    "attempts": "integer",
    "reason": "text",
}
APPROVAL: Columns = {
    "project": "text",
    "task": "integer",
    "annotation": "integer",
    "kind": "text",
    "annotator": "integer?",
    "at": "text",
    "digest": "text",
    "lead_time": "real?",
    "moment": "real",
}
EXAMPLE: Columns = {
    "key": "text",
    "project": "text",
    "target": "text",
    "task": "integer",
    "annotation": "integer",
    "kind": "text",
    "annotator": "integer?",
    "at": "text",
    "area": "real",
    "descriptor": "blob",
    "score": "real?",
    "pinned": "integer",
    "sequence": "text",
    "frame": "real?",
    "moment": "real",
}
ARRAYS: Columns = {"image": "blob", "mask": "blob"}
PREDICTION: Columns = {
    "id": "integer",
    "project": "text",
    "task": "integer",
    "revision": "text",
    "at": "real",
    "score": "real",
    "context": "text",
    "seconds": "real",
}
FRAME: Columns = {
    "project": "text",
    "target": "text",
    "task": "integer",
    "sequence": "text",
    "frame": "real",
    "score": "real",
    "at": "real",
}
MASK: Columns = {"prediction": "integer", "target": "text", "mask": "blob"}
PUSHED: Columns = {"project": "text", "id": "integer", "task": "integer", "revision": "text", "at": "real"}
KEPT: Columns = {
    "project": "text",
    "task": "integer",
    "annotation": "integer",
    "target": "text",
    "revision": "text",
    "iou": "real",
    "at": "real",
}
TASK_STATE: Columns = {
    "project": "text",
    "task": "integer",
    "status": "text",
    "reason": "text",
    "revision": "text",
    "at": "real",
}
NOTE: Columns = {"name": "text", "value": "text"}
PROMPT: Columns = {
    "project": "text",
    "number": "integer",
    "target": "text",
    "label": "text",
    "checkpoint": "text",
    "status": "text",
    "uses": "text",
    "origin": "text",
    "created": "real",
    "figures": "text",
    "examples": "text",
    "withdrawn": "text",
    "activated": "real?",
    "retired": "real?",
    "replaced": "integer?",
    "reason": "text",
}
TUNING: Columns = {
    "id": "integer",
    "project": "text",
    "target": "text",
    "status": "text",
    "asked_by": "text",
    "created": "real",
    "started": "real?",
    "ended": "real?",
    "updated": "real?",
    "step": "integer",
    "steps": "integer",
    "loss": "real?",
    "validation_iou": "real?",
    "seconds_left": "real?",
    "checkpoint": "text",
    "examples": "text",
    "prompt": "integer?",
    "reason": "text",
    "stop": "integer",
}

KINDS: dict[str, Columns] = {
    "projects": PROJECT,
    "events": EVENT,
    "approvals": APPROVAL,
    "examples": {**EXAMPLE, **ARRAYS},
    "predictions": PREDICTION,
    "predicted_masks": MASK,
    "frames": {**FRAME, **ARRAYS},
    "pushed": PUSHED,
    "kept": KEPT,
    "task_states": TASK_STATE,
    "notes": NOTE,
    "prompts": {**PROMPT, "content": "blob"},
    "tunings": TUNING,
    "tuning_states": {"tuning": "integer", "state": "blob"},
    "counters": {"name": "text", "seq": "integer"},
}
"""All that a store holds but leases, by the names of SQLite's tables; `counters` are the last ids ever given."""


def row_of(record: object, columns: Columns, **others: Value) -> dict[str, Any]:
    """A record's fields by column; mappings and sequences become JSON."""
    return {name: others[name] if name in others else _flat(getattr(record, name)) for name in columns}


def _flat(value: Any) -> Any:
    if isinstance(value, str | bytes | int | float | None):
        return value
    return json.dumps(dict(value) if isinstance(value, Mapping) else list(value))


def fields(columns: Columns, row: Mapping[str, Any]) -> list[bytes]:
    """Names and values in turn, as a hash takes them.

    Raises:
        StoreError: a value does not fit its column.
    """
    flat: list[bytes] = []
    for name in columns:
        flat += encoded(name), _packed(name, columns[name], row[name])
    return flat


def counted(columns: Columns, row: Mapping[str, Any]) -> list[int | bytes]:
    """A record among a script's arguments: how many fields, then names and values."""
    return [len(columns), *fields(columns, row)]


def listed(items: Iterable[str | int]) -> bytes:
    """One argument for a list of any length: JSON of texts (Lua's numbers are not exact), each once."""
    return encoded(json.dumps([str(item) for item in dict.fromkeys(items)], ensure_ascii=False))


def without(columns: Columns, *names: str) -> Columns:
    """All columns but some."""
    return {column: form for column, form in columns.items() if column not in names}


def values(columns: Columns, reply: Sequence[bytes | None]) -> dict[str, Any]:
    """The row in a hash's values in the columns' order; what is not there is what SQLite's DEFAULT would say."""
    return {
        name: _EMPTY[form] if packed is None else _unpacked(form, packed)
        for (name, form), packed in zip(columns.items(), reply, strict=True)
    }


def as_json(columns: Columns, row: Mapping[str, Any]) -> bytes:
    """A row as a JSON object; `from_json` gives back the same values.

    Raises:
        StoreError: a value does not fit its column.
    """
    checked = {name: _checked(name, form, row[name]) for name, form in columns.items()}
    return encoded(json.dumps(checked, ensure_ascii=False))


def from_json(reply: bytes) -> dict[str, Any]:
    """The row in a JSON object."""
    row: dict[str, Any] = json.loads(reply)
    return row


def encoded(text: str) -> bytes:
    """A text's bytes in Redis.

    Raises:
        StoreError: it holds half a character.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"A value cannot be kept: {error}.") from error


def _packed(name: str, form: Form, value: Any) -> bytes:
    checked = _checked(name, form, value)
    if isinstance(checked, bytes):
        return checked
    if isinstance(checked, str):
        return encoded(checked)
    return b"" if checked is None else repr(checked).encode()


def _unpacked(form: Form, packed: bytes) -> Value:
    if form == "blob":
        return packed
    if form == "text":
        return packed.decode()
    if not packed:
        return None
    return float(packed) if form.startswith("real") else int(packed)


def _checked(name: str, form: Form, value: Any) -> Value:
    """A value as its column keeps it: what SQLite's NOT NULL and its limits refuse, this refuses too."""
    if isinstance(value, float) and math.isnan(value):
        value = None  # as SQLite keeps it
    if value is None and form.endswith("?"):
        return None
    if form == "text" and isinstance(value, str):
        return value
    if form == "blob" and isinstance(value, bytes):
        return value
    if form.startswith("real") and isinstance(value, int | float):
        return float(value)
    if form.startswith("integer") and isinstance(value, int) and -_LARGEST <= value < _LARGEST:
        return int(value)
    raise StoreError(f"A value cannot be kept: {name} may not be {type(value).__name__}, or is too large.")
