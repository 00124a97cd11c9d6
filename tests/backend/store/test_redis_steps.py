"""A store that 0.1.0 left in Redis: brought up to date when it is opened, whoever else opens it, cut off or not."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backend.errors import StoreError
from backend.store import (
    Approval,
    ExampleInfo,
    PredictionRecord,
    StoredExample,
    TaskState,
    WaitingTasks,
)
from backend.store import redis as engine
from backend.store.migrate import migrate, place
from backend.store.redis import RedisStore
from backend.store.redis_database import PREFIX, RedisDatabase
from backend.store.redis_steps import STEPS, VERSION
from backend.store.sqlite import SqliteStore
from tests.backend.redis_server import RedisServer

pytestmark = pytest.mark.redis

HERE, THERE = "12.1700000000", "3.1600000000:a%3A"
ROOT = Path(__file__).parents[3]
MANY = 1203
OPENER = """if True:
    import sys
    from contextlib import closing
    from backend.store.redis import RedisStore
    with closing(RedisStore(sys.argv[1])) as store:
        print(len(store.waiting_tasks("12.1700000000").states))
"""


def state(task: int, status: Any, at: float, project: str = HERE) -> TaskState:
    return TaskState(project, task, status, 'because "at": 9, }', "r1", at)


def put_predictions(store: RedisStore, task: int, *revisions: str, project: str = HERE) -> None:
    for place_of, revision in enumerate(revisions):
        store.put_prediction(PredictionRecord(project, task, revision, 100.0 + place_of, 0.5, {}, {}))


QUEUED, RUNNING, DONE = (
    state(7, "queued", 5.0),
    state(12, "running", 6.0),
    state(8, "done", 1700000000.1 + 0.2),
)


def fill(store: RedisStore) -> None:
    store.set_task_states([QUEUED, RUNNING, DONE, state(9, "failed", 4.0), state(3, "queued", 9.5, THERE)])
    put_predictions(store, 7, "r1", "r:2", "r3")
    put_predictions(store, 8, "r1")
    put_predictions(store, 7, "r1", "r2", project=THERE)


def fill_with_many(store: RedisStore) -> None:
    store.set_task_states(state(task, "queued" if task % 2 else "done", task / 7) for task in range(MANY))
    for task in range(0, MANY, 2):
        put_predictions(store, task, "r1", "r2")


def made_old(server: RedisServer, fill_it: Callable[[RedisStore], None] = fill) -> dict[bytes, Any]:
    """Fill a store and take out what 0.1.0 did not keep; returns what that was."""
    with closing(RedisStore(server.url)) as store:
        fill_it(store)
    indices = indices_of(server)
    with server.client() as client:
        client.delete(*indices)
        client.set(f"{PREFIX}version", 1)
    return indices


def indices_of(server: RedisServer) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    with server.client() as client:
        for kind in ("waiting-tasks", "predicted-again"):
            found |= {key: client.smembers(key) for key in client.keys(f"{PREFIX}{kind}:*")}
        for key in client.keys(f"{PREFIX}task-news:*"):
            found[key] = float(client.get(key) or 0)
    return found


def version(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.get(f"{PREFIX}version") or 0)


class TestAnOldStore:
    def test_its_waiting_tasks_and_superseded_predictions_are_found(self, redis_server: RedisServer) -> None:
        wanted = made_old(redis_server)
        assert (indices_of(redis_server), len(wanted)) == ({}, 6)
        with closing(RedisStore(redis_server.url)) as store:
            assert indices_of(redis_server) == wanted
            assert store.waiting_tasks(HERE) == WaitingTasks((QUEUED, RUNNING), DONE.at)
            assert [one.task for one in store.waiting_tasks(THERE).states] == [3]
            assert store.drop_superseded(HERE, before=1000.0) == 2
            assert store.drop_superseded(THERE, before=1000.0) == 1
            assert [one.revision for one in store.predictions(HERE, 7)] == ["r3"]
        assert version(redis_server) == VERSION == 3

    def test_none_of_its_examples_is_pinned_until_somebody_does(self, redis_server: RedisServer) -> None:
        example = StoredExample(ExampleInfo("k1", HERE, "Cat", 7, 70, "drawn", 5, "", 0.5), b"image", b"mask")
        with closing(RedisStore(redis_server.url)) as store:
            store.put_approval(Approval(HERE, 7, 70, "drawn", 5, "", "digest"), [example])
        with redis_server.client() as client:
            assert client.hdel(f"{PREFIX}example:k1", "pinned", "sequence", "frame") == 3
            client.set(f"{PREFIX}version", 2)
        with closing(RedisStore(redis_server.url)) as store:
            assert store.pool(HERE) == [example.info]
            store.pin_examples(["k1"], True)
            assert [info.pinned for info in store.pool(HERE)] == [True]
        assert version(redis_server) == VERSION

    def test_of_many_tasks_none_is_passed_over(self, redis_server: RedisServer) -> None:
        wanted = made_old(redis_server, fill_with_many)
        with closing(RedisStore(redis_server.url)) as store:
            assert indices_of(redis_server) == wanted
            assert len(store.waiting_tasks(HERE).states) == MANY // 2
            assert store.drop_superseded(HERE, before=1000.0) == MANY // 2 + 1

    def test_that_comes_late_is_brought_up_to_date_before_it_is_used(self, own_redis: RedisServer) -> None:
        made_old(own_redis)
        own_redis.kill()
        with closing(RedisStore(own_redis.url, patient=True)) as store:
            own_redis.start()
            assert store.waiting_tasks(HERE).states == (QUEUED, RUNNING)
        assert version(own_redis) == VERSION

    def test_is_copied_with_all_that_it_holds_and_copied_over(
        self, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        other = redis_server.url.removesuffix("0") + "1"
        wanted = made_old(redis_server)
        for source, target in [(redis_server.url, str(tmp_path / "copy.sqlite3")), (redis_server.url, other)]:
            with closing(place(source)) as old, closing(place(target, made=True)) as new:
                migrate(old, new)
        with closing(SqliteStore(tmp_path / "copy.sqlite3")) as copy, closing(RedisStore(other)) as again:
            for store in (copy, again):
                assert store.waiting_tasks(HERE) == WaitingTasks((QUEUED, RUNNING), DONE.at)
                assert store.drop_superseded(HERE, before=1000.0) == 2
        made_old(redis_server, lambda store: put_predictions(store, 99, "r1", "r2"))
        with (
            closing(place(str(tmp_path / "copy.sqlite3"))) as old,
            closing(place(redis_server.url, made=True)) as new,
        ):
            migrate(old, new, force=True)
        again_there = {key for key in wanted if b"predicted-again:12" not in key}
        assert indices_of(redis_server).keys() == again_there
        assert version(redis_server) == VERSION


class TestSeveralAtOnce:
    def test_processes_that_open_it_at_once_all_find_all(self, redis_server: RedisServer) -> None:
        wanted = made_old(redis_server, fill_with_many)
        openers = [
            subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-c", OPENER, redis_server.url], stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            for _ in range(3)
        ]
        assert [opener.communicate()[0] for opener in openers] == [f"{MANY // 2}\n"] * 3
        assert (indices_of(redis_server), version(redis_server)) == (wanted, VERSION)

    def test_what_one_that_is_done_writes_is_not_undone_by_one_that_is_late(
        self, redis_server: RedisServer
    ) -> None:
        """The other opens the store, works and closes it while this one has read names but put nothing right."""
        made_old(redis_server)

        class Late(RedisDatabase):
            def run(self, *arguments: Any) -> Any:
                if not others:
                    others.append(1)
                    with closing(RedisStore(redis_server.url)) as other:
                        other.set_task_states([state(7, "done", 7.0), state(9, "queued", 8.0)])
                        other.forget_tasks(HERE, [12])
                        other.drop_superseded(HERE, before=1000.0)
                        put_predictions(other, 8, "r2")
                        seen.update(indices_of(redis_server))
                return super().run(*arguments)

        others: list[int] = []
        seen: dict[bytes, Any] = {}
        with closing(Late(redis_server.url, STEPS)):
            assert others == [1]
        assert indices_of(redis_server) == seen
        with closing(RedisStore(redis_server.url)) as store:
            assert [one.task for one in store.waiting_tasks(HERE).states] == [9]

    def test_one_that_is_cut_off_leaves_the_store_to_the_next(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = made_old(redis_server)

        def cut_off(database: RedisDatabase) -> None:
            STEPS[0](database)
            with redis_server.client() as client:
                client.delete(f"{PREFIX}predicted-again:{HERE}")
            raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr(engine, "STEPS", (cut_off,))
            with pytest.raises(KeyboardInterrupt):
                RedisStore(redis_server.url)
        assert version(redis_server) == 1
        with closing(RedisStore(redis_server.url)):
            assert (indices_of(redis_server), version(redis_server)) == (wanted, VERSION)

    def test_one_that_is_overtaken_by_a_newer_backend_refuses_the_store(
        self, redis_server: RedisServer
    ) -> None:
        made_old(redis_server)

        def overtaken(database: RedisDatabase) -> None:
            with redis_server.client() as client:
                client.set(f"{PREFIX}version", 9)

        with pytest.raises(StoreError, match=r"version 9; .* up to 2"):
            RedisDatabase(redis_server.url, (overtaken,))
        assert version(redis_server) == 9
