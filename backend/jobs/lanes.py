"""Lanes: where jobs wait, in SQLite or in Redis, as JSON; knows no job."""

import json
import sqlite3
import time
from collections.abc import Sequence
from datetime import datetime
from threading import Thread
from typing import Any

from huey import Huey, PriorityRedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer
from redis.exceptions import RedisError

from backend.errors import StoreError
from backend.settings import Settings
from backend.store.redis_address import Address

QUEUE_TROUBLES = (OSError, sqlite3.Error, RedisError)
"""What a queue that is away raises."""


class JsonSerializer(Serializer):  # type: ignore[misc]  # Huey has no types
    """Messages as JSON: a queue that somebody else can write to must never unpickle."""

    def _serialize(self, data: Any) -> bytes:
        if not isinstance(data, Message):
            return json.dumps(data).encode()
        fields = data._asdict()
        fields["eta"] = data.eta.isoformat() if data.eta else None
        fields["expires_resolved"] = None
        return json.dumps(fields).encode()

    def _deserialize(self, data: bytes) -> Any:
        fields = json.loads(data)
        if not isinstance(fields, dict) or "name" not in fields:
            return fields
        fields["eta"] = datetime.fromisoformat(fields["eta"]) if fields["eta"] else None
        fields["args"] = tuple(fields["args"] or ())
        return Message(**fields)


class LaneConsumer(Consumer):  # type: ignore[misc]  # Huey has no types
    """A consumer that leaves signals to the process that runs several lanes."""

    def __init__(self, lane: Huey, workers: int) -> None:
        super().__init__(
            lane, workers=workers, periodic=False, initial_delay=0.05, max_delay=0.2, backoff=1.2
        )

    def _set_signal_handlers(self) -> None:
        return

    def ended(self, deadline: float) -> bool:
        """Whether all its threads have ended after it was stopped; waits until `deadline` (`time.monotonic()`)."""
        every = [self.scheduler, *(thread for _, thread in self.worker_threads)]
        threads = [thread for thread in every if thread.ident is not None]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


def stop_all(consumers: Sequence[LaneConsumer], threads: Sequence[Thread], patience: float) -> bool:
    """Stop consumers that run in these threads; whether all have ended within so many seconds."""
    for consumer in consumers:
        consumer.stop()
    deadline = time.monotonic() + patience
    for thread in threads:  # one that was just beginning starts others, and only then sees the end
        thread.join(max(0.0, deadline - time.monotonic()))
    return all(consumer.ended(deadline) for consumer in consumers)


def is_waiting(lane: Huey, name: str, *args: Any) -> bool:
    """Whether a job with these arguments is in the lane, for its time or for its turn.

    Raises:
        OSError, sqlite3.Error, RedisError: the queue is away.
    """
    found = (*lane.scheduled(), *lane.pending())  # one for later is pending first: a worker puts it aside
    return any(task.name == name and tuple(task.args) == args for task in found)


def open_lane(name: str, settings: Settings) -> Huey:
    """A lane by its name: in Redis where REDIS_URL is set, else in a file of DATA_DIR.

    Raises:
        StoreError: if REDIS_URL cannot be read, or the file cannot be used.
    """
    if url := settings.redis_url.get_secret_value():
        pool = Address.parse(url).pool()
        return PriorityRedisHuey(
            f"seggpt-{name}", serializer=JsonSerializer(), results=False, connection_pool=pool
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    filename = str(settings.data_dir / "queue.sqlite3")
    try:
        return SqliteHuey(name, filename=filename, serializer=JsonSerializer(), results=False, timeout=10)
    except sqlite3.Error as error:
        raise StoreError(
            f"The queue {filename} cannot be used ({error}).",
            remedy="If it is damaged, move it away: what is to be done is found anew in the store.",
        ) from error
