"""What only a store in Redis can get wrong: crashes and absence of the server, clocks, passwords, memory, keys."""

import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from backend.errors import StoreError
from backend.store import (
    Approval,
)
from backend.store import redis_address as addresses
from backend.store.redis import RedisStore
from tests.backend.redis_server import RedisServer
from tests.backend.served import until

pytestmark = pytest.mark.redis

PROJECT = "12.1700000000"
ROOT = Path(__file__).parents[3]
AT = "2026-03-01T12:00:00Z"
AN_APPROVAL = Approval(PROJECT, 7, 70, "drawn", None, AT, "digest")
WRITER = """if True:
    import sys
    from itertools import count, islice
    from backend.store import Approval, ExampleInfo, StoredExample
    from backend.store.redis import RedisStore
    address, first, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    store = RedisStore(address)
    for annotation in islice(count(first), limit or None):
        infos = [
            ExampleInfo(f"{annotation}/{target}", "12.1700000000", target, 7, annotation, "drawn", None, "", 0.5)
            for target in ("Cat", "Dog")
        ]
        examples = [StoredExample(info, bytes(20_000), bytes(20_000)) for info in infos]
        store.put_approval(Approval("12.1700000000", 7, annotation, "drawn", None, "", "digest"), examples)
        store.add_event("12.1700000000", "ANNOTATION_CREATED", {"annotation": annotation}, 1.0)
        print(annotation, flush=True)
"""


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    with closing(RedisStore(redis_server.url)) as opened:
        yield opened


def python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(  # noqa: S603 - our own words
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def writer(server: RedisServer, first: int, count: int) -> "subprocess.Popen[str]":
    return python(WRITER, server.url, str(first), str(count))


def annotations(store: RedisStore) -> list[int]:
    return [approval.annotation for approval in store.approvals(PROJECT)]


class TestCrashes:
    def test_what_was_acknowledged_outlives_a_killed_server_and_nothing_is_there_by_half(
        self, own_redis: RedisServer
    ) -> None:
        """Killed between any two instructions: the last approval may be there unacknowledged, but only whole."""
        process = writer(own_redis, 1, 0)
        with process:  # not `communicate`, which overlooks what `readline` has read ahead
            assert process.stdout is not None
            assert process.stderr is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(25)]
            own_redis.kill()
            acknowledged += [int(line) for line in process.stdout.read().split()]
            assert "StoreError" in process.stderr.read()
        own_redis.start()
        with closing(RedisStore(own_redis.url)) as store:
            stored = annotations(store)
            assert set(acknowledged) <= set(stored)
            assert len(stored) - len(acknowledged) in {0, 1}
            examples = [(info.annotation, info.target) for info in store.pool(PROJECT)]
            assert sorted(examples) == [(one, target) for one in stored for target in ("Cat", "Dog")]
            events = [event.body["annotation"] for event in store.pending_events(100_000)]
            assert set(acknowledged) <= set(events) <= set(stored)
            project = store.project(PROJECT)
            assert project is not None
            assert project.approvals == len(stored)

    def test_an_open_store_goes_on_when_the_server_is_back(self, own_redis: RedisServer) -> None:
        with closing(RedisStore(own_redis.url)) as store:
            first = store.add_event(PROJECT, "A", {}, 1.0)
            own_redis.kill()
            with pytest.raises(StoreError, match="cannot be reached"):
                store.add_event(PROJECT, "B", {}, 2.0)
            own_redis.start()
            second = store.add_event(PROJECT, "C", {}, 3.0)
            assert [event.id for event in store.pending_events()] == [first, second]
            assert second > first

    def test_two_processes_that_write_at_once_lose_nothing(
        self, redis_server: RedisServer, store: RedisStore
    ) -> None:
        writers = [writer(redis_server, first, 40) for first in (1_000, 2_000)]
        acknowledged = [int(line) for process in writers for line in process.communicate()[0].split()]
        assert [process.returncode for process in writers] == [0, 0]
        assert len(acknowledged) == 80
        assert annotations(store) == sorted(acknowledged)
        assert len(store.pool(PROJECT)) == 160
        assert len({event.id for event in store.pending_events(1000)}) == 80
        project = store.project(PROJECT)
        assert project is not None
        assert project.approvals == 80

    def test_a_forked_child_opens_connections_of_its_own(
        self, redis_server: RedisServer, store: RedisStore
    ) -> None:
        parent = f"""if True:
            import os
            from backend.store.redis import RedisStore
            store = RedisStore({redis_server.url!r})
            store.set_note("parent", "before")
            child = os.fork()
            for turn in range(200):
                name = "child" if child == 0 else "parent"
                store.set_note(name, str(turn))
                assert store.note(name) == str(turn)
            if child == 0:
                os._exit(0)
            raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
        process = python(parent)
        assert (process.communicate(), process.returncode) == (("", ""), 0)
        assert (store.note("child"), store.note("parent")) == ("199", "199")


class TestLeases:
    def test_a_lease_is_free_again_some_time_after_its_owner_s_death(
        self, redis_server: RedisServer, store: RedisStore
    ) -> None:
        owner = python(
            "import sys, time; from backend.store.redis import RedisStore;"
            "store = RedisStore(sys.argv[1]);"
            "print([store.acquire(f'learn:{seconds}', 'owner', seconds) for seconds in (2, 600)], flush=True);"
            "time.sleep(600)",
            redis_server.url,
        )
        assert owner.stdout is not None
        assert owner.stdout.readline() == "[True, True]\n"
        owner.kill()
        owner.communicate()
        assert store.acquire("learn:600", "heir", 3600) is False
        until(lambda: store.acquire("learn:2", "heir", 3600))
        assert store.held("learn:2") is True
        assert store.acquire("learn:600", "heir", 3600) is False

    @pytest.mark.parametrize("wrong", [0.0, 9e9])
    def test_a_machine_whose_clock_is_wrong_takes_no_lease_that_is_held(
        self, redis_server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch, wrong: float
    ) -> None:
        assert store.acquire("learn:1", "owner", 3600) is True
        monkeypatch.setattr(time, "time", lambda: wrong)
        with closing(RedisStore(redis_server.url)) as theirs:
            assert theirs.acquire("learn:1", "thief", 3600) is False
            assert theirs.held("learn:") is True
            assert theirs.acquire("tune:1", "thief", 3600) is True
        assert store.acquire("tune:1", "owner", 3600) is False


class TestAbsence:
    def test_a_server_that_is_not_there_is_named_without_the_password(
        self, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own_redis.kill()
        address = f"redis://me:s3cret-4711@127.0.0.1:{own_redis.port}/0"
        naps: list[float] = []
        monkeypatch.setattr("backend.store.redis_database.time.sleep", naps.append)
        with pytest.raises(
            StoreError, match=rf"127\.0\.0\.1:{own_redis.port}/0 cannot be reached"
        ) as refused:
            RedisStore(address)
        assert sum(naps) < 1
        assert "4711" not in "".join(traceback.format_exception(refused.value))

    def test_every_method_says_so_while_the_server_is_away(self, own_redis: RedisServer) -> None:
        with closing(RedisStore(own_redis.url)) as store:
            own_redis.kill()
            asked: list[Callable[[], object]] = [
                lambda: store.projects(),
                lambda: store.project(PROJECT),
                lambda: store.finish_event(1),
                lambda: store.put_approval(AN_APPROVAL, []),
                lambda: store.held(""),
                lambda: store.prompts.tuning(1),
                lambda: store.warnings(),
            ]
            for ask in asked:
                with pytest.raises(StoreError, match="cannot be reached"):
                    ask()

    def test_a_server_that_hangs_is_not_waited_for(
        self, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(addresses, "ANSWER_SECONDS", 0.5)
        with closing(RedisStore(own_redis.url, patient=True)) as store:

            def answers() -> bool:
                with suppress(StoreError):
                    return store.note("none") is None
                return False

            until(answers)
            own_redis.send(signal.SIGSTOP)
            with pytest.raises(StoreError, match="gave no answer"):
                store.add_event(PROJECT, "A", {}, 1.0)
            own_redis.send(signal.SIGCONT)
            until(answers)

    def test_only_what_writes_nothing_is_asked_twice(self, redis_server: RedisServer) -> None:
        """A write whose answer was lost may have been done: twice would be two events."""
        with closing(Losing(redis_server.port)) as way, closing(RedisStore(way.url)) as store:
            store.set_note("seen", "yes")
            store.add_event(PROJECT, "A", {}, 1.0)  # so that the server knows the script
            way.lose_next_answer()
            assert store.note("seen") == "yes"
            way.lose_next_answer()
            assert len(store.pending_events()) == 1
            way.lose_next_answer()
            with pytest.raises(StoreError, match="cannot be reached"):
                store.add_event(PROJECT, "B", {}, 2.0)
            assert [event.action for event in store.pending_events()] == ["A", "B"]
            assert way.lost == 3


class Losing:
    """A way to a server on loopback on which answers can be lost: the connection ends in their place."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._losing = False
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"

    def lose_next_answer(self) -> None:
        self._losing = True

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._port)) as server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for end, other in ((client, server), (server, client)):
                    if end not in ready:
                        continue
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is server and self._losing:
                        self._losing = False
                        self.lost += 1
                        return
                    other.sendall(data)
