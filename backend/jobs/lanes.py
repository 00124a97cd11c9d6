"""Lanes: where jobs wait, in SQLite or in Redis, as JSON; knows no job."""

import json
import sqlite3
import time
from datetime import datetime
from typing import Any

from huey import Huey, PriorityRedisHuey, SqliteHuey
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer
from redis.exceptions import RedisError

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

    def _set_signal_handlers(self) -> None:
        return

    def ended(self, deadline: float) -> bool:
        """Whether all its threads have ended after it was stopped; waits until `deadline` (`time.monotonic()`)."""
        every = [self.scheduler, *(thread for _, thread in self.worker_threads)]
        threads = [thread for thread in every if thread.ident is not None]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


def open_lane(name: str, settings: Settings) -> Huey:
    """A lane by its name: in Redis where REDIS_URL is set, else in a file of DATA_DIR.

    Raises:
        StoreError: if REDIS_URL cannot be read.
    """
    if url := settings.redis_url.get_secret_value():
        pool = Address.parse(url).pool()
        return PriorityRedisHuey(
            f"seggpt-{name}", serializer=JsonSerializer(), results=False, connection_pool=pool
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    filename = str(settings.data_dir / "queue.sqlite3")
    return SqliteHuey(name, filename=filename, serializer=JsonSerializer(), results=False, timeout=10)
