"""Annotations that are to be read again, though they say what they said: loads no torch, and asks nobody by itself."""

import uuid
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import replace

from backend.store import Store
from backend.store.leases import held

_PATIENCE = 5.0  # seconds for the worker to end what it reads


def while_nothing_is_read(store: Store, project: str) -> AbstractContextManager[None]:
    """While a block runs, the worker applies no events of the project.

    Raises:
        Refused: on entry, if the worker does not come to an end with what it reads.
    """
    busy = "The project's annotations are being read; try again."
    return held(store, f"learn:{project}", busy, patience=_PATIENCE)


def read_again(store: Store, project: str, annotations: Collection[int]) -> None:
    """Forget that annotations were read, so that the next comparison with Label Studio reads them.

    What they taught stays meanwhile; their approvals have an empty digest until then. Those that are no approvals are
    passed over.
    """
    keys: dict[int, list[str]] = {}
    for info in store.pool(project):
        keys.setdefault(info.annotation, []).append(info.key)
    for approval in store.approvals(project):
        if approval.annotation in annotations:
            staying = store.examples(keys.get(approval.annotation, ()))
            store.put_approval(replace(approval, digest=""), list(staying.values()))
    # Last, so that a comparison that has not seen all is not the last.
    store.set_note(_name(project), uuid.uuid4().hex)


def last_asked(store: Store, project: str) -> str:
    """Another text for each time that something was to be read again, "" before the first."""
    return store.note(_name(project)) or ""


def _name(project: str) -> str:
    return f"read-again:{project}"
