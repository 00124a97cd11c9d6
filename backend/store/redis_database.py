"""A Redis database shared by threads, processes and machines: commands, scripts, errors, version; knows no records.

A script or a transaction is done whole or not at all, and no other client sees the middle of it. How much of what was
acknowledged outlives a crash of Redis itself is its administrator's choice: with `appendonly yes` and
`appendfsync always` all of it, with `appendfsync everysec` all but the last second (the next reconcile learns again
from Label Studio), without `appendonly` whatever the last snapshot holds.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
from redis.commands.core import Script as Registered
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError
from redis.sentinel import MasterNotFoundError

from backend.errors import StoreError
from backend.store.redis_address import ANSWER_SECONDS, Address

PREFIX = "seggpt:"
"""How all keys begin; what else the database holds is left alone."""

_SCANNED_AT_ONCE = 500
_PAUSES = (0.05, 0.25)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Script:
    """Lua that Redis runs as one step. `ARGV[1]` is the keys' prefix, the arguments follow.

    Attributes:
        text: the whole program.
        reads: whether it writes nothing, so that it may be asked again when the connection breaks.
    """

    text: str
    reads: bool = False


# The error, what is said, what to do; the first that fits counts.
_TROUBLES: tuple[tuple[type[redis.RedisError], str, str], ...] = (
    (
        NoPermissionError,
        "Redis at {where} does not let this user do what the store needs ({said}).",
        f"Give it the keys ~{PREFIX}* and ~huey.* (the queue) and the commands +@all -@admin +info.",
    ),
    (
        AuthenticationError,
        "Redis at {where} refused the user or the password.",
        "Put the right ones into REDIS_URL: redis://USER:PASSWORD@HOST.",
    ),
    (
        redis.BusyLoadingError,
        "Redis at {where} is still reading its data from the disk.",
        "Try again in a moment.",
    ),
    (
        MasterNotFoundError,
        "No sentinel of {where} names a primary.",
        "See whether the sentinels run and call the service by this name.",
    ),
    (
        redis.TimeoutError,
        f"Redis at {{where}} gave no answer within {ANSWER_SECONDS:g} seconds.",
        "See whether it runs and is not overloaded.",
    ),
    (
        redis.ConnectionError,
        "Redis at {where} cannot be reached ({said}).",
        "See whether it runs there, and whether REDIS_URL is right.",
    ),
    (
        redis.ReadOnlyError,
        "Redis at {where} is a replica, which takes no writes.",
        "Name the primary in REDIS_URL, or the sentinels, which know it.",
    ),
    (
        redis.OutOfMemoryError,
        "The memory of Redis at {where} is full: nothing more can be kept.",
        "Raise its maxmemory; what was acknowledged before is safe.",
    ),
)
_DISK = (
    "Redis at {where} cannot write to its disk, and takes no writes until it can.",
    "Free space there and see its log; what was acknowledged before is safe.",
)
_OTHER = ("Redis at {where} cannot be used ({said}).", "See its log and the address in REDIS_URL.")

_OPEN = Script(
    """
    local version = redis.call('GET', ARGV[1] .. 'version')
    if not version then
        redis.call('SET', ARGV[1] .. 'version', ARGV[2])
    end
    return {version or ARGV[2], redis.call('EXISTS', ARGV[1] .. 'incomplete')}
    """
)
# Another process may have gone further meanwhile.
_MOVE_ON = Script(
    """
    if redis.call('GET', ARGV[1] .. 'version') == ARGV[2] then
        redis.call('SET', ARGV[1] .. 'version', ARGV[3])
    end
    """
)


class RedisDatabase:
    """The database at an address (see `redis_address`), with a version of its own below `PREFIX`.

    Args:
        address: see `redis_address`.
        steps: the first brings a store of version 1 to version 2, and so on (see `redis_steps`).
        unfinished: whether half a copy is taken, too.
        patient: whether a Redis that is away now may come later; its version is looked at then, before anything else.

    Raises:
        StoreError: it cannot be reached or used, or is of a newer version; every method raises it too.
    """

    def __init__(
        self, address: str, steps: Sequence["Step"], *, unfinished: bool = False, patient: bool = False
    ) -> None:
        self.address = Address.parse(address)
        self._steps = steps
        self._client = redis.Redis(connection_pool=self.address.pool())
        self._scripts: dict[str, Registered] = {}
        self._closed = False
        self._unfinished = unfinished
        self._is_known = False  # to be of a version that can be worked with
        try:
            self._check_version()
        except StoreError as error:
            if not (patient and _may_come_back(error.__cause__)):
                raise

    def key(self, kind: str, *parts: str | int) -> str:
        """The key of something; `kind` and parts are told apart whatever the parts hold."""
        return PREFIX + ":".join((kind, *(escaped(str(part)) for part in parts)))

    def parts_of(self, key: bytes) -> list[str]:
        """The parts that made a key."""
        return [unescaped(part) for part in key.decode().removeprefix(PREFIX).split(":")[1:]]

    def run(self, script: Script, *arguments: Any) -> Any:
        """Run a script; what it returns, texts as bytes."""
        return self._answer(lambda: self._called(script, *arguments), again=script.reads)

    def read(self, *command: Any) -> Any:
        """Ask a command that writes nothing; it is asked again where the connection breaks."""
        return self._answer(lambda: self._execute(self._client, command), again=True)

    def read_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What several commands that write nothing return, asked at once; others may write between them."""

        def ask() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    self._execute(pipeline, command)
                return list(pipeline.execute())

        return self._answer(ask, again=True)

    def keys(self, kind: str) -> Iterator[bytes]:
        """Keys of a kind; of all kinds where it is ""."""
        pattern = PREFIX + (f"{kind}:*" if kind else "*")
        for name, _ in self.scanned("SCAN", options=("MATCH", pattern)):
            yield name

    def scanned(self, *command: Any, options: Sequence[Any] = ()) -> Iterator[tuple[bytes, bytes]]:
        """Names, with their values in a hash, each once: while Redis rearranges its tables, some come twice."""
        seen: set[bytes] = set()
        cursor = -1
        while cursor != 0:
            cursor, found = self.read(*command, max(cursor, 0), *options, "COUNT", _SCANNED_AT_ONCE)
            pairs = found.items() if isinstance(found, dict) else ((name, b"") for name in found)
            for name, value in pairs:
                if name not in seen:
                    seen.add(name)
                    yield name, value

    def write(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Run commands as one transaction; what each returns."""

        def execute() -> list[Any]:
            with self._client.pipeline(transaction=True) as pipeline:
                for command in commands:
                    self._execute(pipeline, command)
                return list(pipeline.execute())

        return self._answer(execute, again=False) if commands else []

    def warnings(self) -> list[str]:
        """What in the server's settings puts at risk what is kept, a sentence each; [] where all is well.

        Raises:
            StoreError: the server cannot be asked.
        """
        said = self.read("INFO")
        found = []
        # No key of ours expires, so the `volatile-` policies take none of them.
        if str(said.get("maxmemory_policy", "")).startswith("allkeys-"):
            found.append(
                f"Redis throws keys away when its memory is full (maxmemory-policy {said['maxmemory_policy']}): "
                "what was learned could be lost. Set noeviction."
            )
        if not said.get("aof_enabled"):
            found.append(
                "Redis keeps no log of what was written (appendonly no): a crash loses all since its last snapshot. "
                "Set appendonly yes."
            )
        if (
            said.get("aof_last_write_status", "ok") != "ok"
            or said.get("rdb_last_bgsave_status", "ok") != "ok"
        ):
            found.append("Redis could not write to its disk the last time. See its log.")
        return found

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._client.close()
        self._client.connection_pool.disconnect()

    @staticmethod
    def _execute(client: "redis.Redis", command: tuple[Any, ...]) -> Any:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's has no types

    def _called(self, script: Script, *arguments: Any) -> Any:
        registered = self._scripts.get(script.text)
        if registered is None:
            registered = self._scripts[script.text] = self._client.register_script(script.text)
        return registered(args=(PREFIX, *arguments))

    def _answer(self, ask: Callable[[], Answer], *, again: bool) -> Answer:
        if not self._is_known:
            self._check_version()
        return self._tried(ask, again=again)

    def _tried(self, ask: Callable[[], Answer], *, again: bool) -> Answer:
        if self._closed:
            raise StoreError("The store has been closed.")
        pauses = list(_PAUSES) if again else []
        try:
            while True:
                try:
                    return ask()
                except redis.ConnectionError as error:
                    if not pauses or isinstance(error, AuthenticationError | AuthorizationError):
                        raise
                    time.sleep(pauses.pop(0))
        except redis.RedisError as error:
            raise self._explained(error) from error
        except UnicodeEncodeError as error:
            raise StoreError(f"A value cannot be kept: {error}.") from error

    def _check_version(self) -> None:
        found, newest = self._version(), len(self._steps) + 1
        if found < newest:
            known = copy.copy(self)  # with the same connections, but let in
            known._is_known = True
            for version in range(max(found, 1), newest):
                self._steps[version - 1](known)
                known.run(_MOVE_ON, version, version + 1)
            self._version()
        self._is_known = True

    def _version(self) -> int:
        newest = len(self._steps) + 1
        found, incomplete = self._tried(lambda: self._called(_OPEN, newest), again=False)
        if not found.isdigit():
            raise StoreError(
                f"{self.address.shown} holds keys {PREFIX}... that are no store of this backend.",
                remedy="Choose another database of this Redis with REDIS_URL, such as .../1.",
            )
        if int(found) > newest:
            raise StoreError(
                f"The store in {self.address.shown} has version {int(found)}; "
                f"this backend knows versions up to {newest}.",
                remedy="It was made by a newer backend: use that one, or choose another database with REDIS_URL.",
            )
        if incomplete and not self._unfinished:
            raise StoreError(
                f"The store in {self.address.shown} is half a copy: `store migrate` was cut off.",
                remedy="Run it again with --force.",
            )
        return int(found)

    def _explained(self, error: redis.RedisError) -> StoreError:
        """What happened, by the address without its password."""
        # Where a transaction fails, the command with its values stands before this.
        said = str(error).rpartition(" of pipeline caused error: ")[2].rstrip(".")
        if said.startswith("UNFIT ") or isinstance(error, redis.DataError):
            return StoreError(f"A value cannot be kept: {said.removeprefix('UNFIT ')}.")
        sentence, remedy = _DISK if "MISCONF" in said else _OTHER
        for kind, *words in _TROUBLES:
            if isinstance(error, kind):
                sentence, remedy = words
                break
        return StoreError(sentence.format(where=self.address.shown, said=said), remedy=remedy)


Step = Callable[[RedisDatabase], None]
"""Brings a store to the next version; may be cut off, and done by several processes at once."""


def _may_come_back(cause: BaseException | None) -> bool:
    """Whether the trouble is one of the moment: not a refused password, another version or an address that is none."""
    lasting = (AuthenticationError, AuthorizationError, NoPermissionError)
    return isinstance(cause, redis.RedisError) and not isinstance(cause, lasting)


def escaped(part: str) -> str:
    """A part of a key without the sign that stands between parts; `redis_keys` has the same in Lua."""
    return part.replace("%", "%25").replace(":", "%3A")


def unescaped(part: str) -> str:
    """The part that was escaped."""
    return part.replace("%3A", ":").replace("%25", "%")
