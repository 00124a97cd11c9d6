"""What the Redis store makes of a server: versions, settings, memory, and the keys that it keeps there."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import StoreError
from backend.store import (
    Approval,
    Change,
    ExampleInfo,
    KeptIoU,
    PredictedFrame,
    PredictionRecord,
    PromptRecord,
    StoredExample,
    TaskState,
)
from backend.store.redis import RedisStore
from backend.store.redis_database import PREFIX
from backend.store.redis_steps import VERSION
from tests.backend.redis_server import RedisServer

pytestmark = pytest.mark.redis

PROJECT = "12.1700000000"
AT = "2026-03-01T12:00:00Z"
AN_APPROVAL = Approval(PROJECT, 7, 70, "drawn", None, AT, "digest")


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    with closing(RedisStore(redis_server.url)) as opened:
        yield opened


def an_example(key: str, target: str = "Cat", annotation: int = 70, size: int = 10) -> StoredExample:
    info = ExampleInfo(key, PROJECT, target, 7, annotation, "drawn", None, AT, 0.5)
    return StoredExample(info, bytes(size), bytes(size))


class TestServer:
    def test_a_newer_store_is_refused(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.set(f"{PREFIX}version", VERSION + 1)
        with pytest.raises(StoreError, match=f"version {VERSION + 1}.* newer backend"):
            RedisStore(redis_server.url)

    def test_keys_that_only_look_like_ours_are_refused(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.set(f"{PREFIX}version", "theirs")
        with pytest.raises(StoreError, match="no store of this backend"):
            RedisStore(redis_server.url)

    def test_databases_of_one_server_are_stores_of_their_own(self, redis_server: RedisServer) -> None:
        other = redis_server.url.removesuffix("0") + "1"
        with closing(RedisStore(redis_server.url)) as one, closing(RedisStore(other)) as two:
            one.set_note("whose", "one's")
            assert two.note("whose") is None

    def test_where_memory_is_full_nothing_is_kept_by_half_and_what_was_there_stays(
        self, own_redis: RedisServer
    ) -> None:
        with closing(RedisStore(own_redis.url)) as store, own_redis.client() as client:
            store.put_approval(AN_APPROVAL, [an_example("k1")])
            client.config_set("maxmemory", client.info("memory")["used_memory"] - 1)
            late = Approval(PROJECT, 7, 71, "drawn", None, AT, "digest")
            with pytest.raises(StoreError, match=r"memory .* is full.*maxmemory"):
                store.put_approval(late, [an_example("k2", annotation=71, size=100_000)])
            with pytest.raises(StoreError, match="is full"):
                store.set_note("seen", "yes")
            assert store.approvals(PROJECT) == [AN_APPROVAL]
            assert store.warnings() == []
            client.config_set("maxmemory", 0)
            assert store.put_approval(late, []) is Change.NEW

    def test_a_disk_that_fails_is_named_and_nothing_is_kept_by_half(
        self, started_redis: RedisServer, tmp_path: Path
    ) -> None:
        """A folder lies where the snapshot must be put: Redis then takes no writes."""
        (tmp_path / "redis" / "dump.rdb").mkdir(parents=True)
        with (
            RedisServer(tmp_path / "redis", save="3600 1") as server,
            closing(RedisStore(server.url)) as store,
            server.client() as client,
        ):
            store.put_approval(AN_APPROVAL, [])
            client.bgsave()
            while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
                time.sleep(0.02)
            for write in (lambda: store.add_event(PROJECT, "A", {}, 1.0), lambda: store.set_note("a", "b")):
                with pytest.raises(StoreError, match=r"cannot write to its disk.*Free space"):
                    write()
            assert (store.approvals(PROJECT), store.pending_events()) == ([AN_APPROVAL], [])
            assert any("could not write to its disk" in warning for warning in store.warnings())

    @pytest.mark.parametrize(
        ("settings", "warned"),
        [
            ({"maxmemory-policy": "allkeys-lru"}, "throws keys away .*allkeys-lru.* noeviction"),
            ({"appendonly": "no"}, "appendonly no.* Set appendonly yes"),
            ({"maxmemory-policy": "volatile-ttl"}, None),
        ],
    )
    def test_settings_that_put_the_store_at_risk_are_named(
        self, own_redis: RedisServer, settings: dict[str, str], warned: str | None
    ) -> None:
        with closing(RedisStore(own_redis.url)) as store, own_redis.client() as client:
            assert store.warnings() == []
            for name, value in settings.items():
                client.config_set(name, value)
            said = store.warnings()
            assert len(said) == (warned is not None)
            if warned:
                assert re.search(warned, said[0])


def fill(store: RedisStore) -> None:
    """Something of everything."""
    store.put_label_config(PROJECT, "<View/>", "f1")
    store.add_event(PROJECT, "A", {}, 1.0)
    store.put_approval(AN_APPROVAL, [an_example("k1"), an_example("k2", "a:b%3A")])
    store.put_prediction(PredictionRecord(PROJECT, 7, "r:1", 1.0, 0.5, {}, {"Cat": b"mask"}, 43))
    store.put_frames(
        PROJECT, 7, [PredictedFrame(PROJECT, "a:b", 7, "c:d", 1.0, 0.5, 1.0, b"image", b"mask")], 9
    )
    store.add_kept([KeptIoU(PROJECT, 7, 70, "Cat", "r1", 0.5, 1.0)])
    store.set_task_states([TaskState(PROJECT, 7, "done", "", "r1", 1.0)])
    store.set_note("seen", "yes")
    store.acquire("learn:1", "me", 1000)
    tuning = store.prompts.add_tuning(PROJECT, "Cat", "by hand", 1.0)
    assert tuning is not None
    store.prompts.put_tuning(tuning, b"state")
    prompt = PromptRecord(PROJECT, 0, "Cat", "Cat", "e-1", "candidate", "both", "tuned", 1.0)
    store.prompts.add_prompt(prompt, b"content", activate=True)


def keys(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {name.decode() for name in client.keys("*")}


class TestKeys:
    def test_no_key_expires_so_no_policy_for_those_that_do_takes_any(
        self, redis_server: RedisServer, store: RedisStore
    ) -> None:
        fill(store)
        with redis_server.client() as client:
            assert {client.ttl(name) for name in keys(redis_server)} == {-1}

    def test_all_keys_begin_alike(self, redis_server: RedisServer, store: RedisStore) -> None:
        fill(store)
        assert {name for name in keys(redis_server) if not name.startswith(PREFIX)} == set()

    def test_lists_do_not_touch_what_is_large(self, redis_server: RedisServer, store: RedisStore) -> None:
        """They are the same where pictures, tensors and masks are gone, so they cannot have been read."""
        fill(store)

        def lists() -> list[Any]:
            of_prompts = (store.prompts.prompts(PROJECT), store.prompts.tunings())
            return [store.pool(PROJECT), store.pushed(PROJECT), store.pool(PROJECT, "Cat"), *of_prompts]

        before, large = lists(), ("arrays:", "masks:", "content:", "state:")
        gone = [name for name in keys(redis_server) if name.removeprefix(PREFIX).startswith(large)]
        assert len(gone) == 5
        with redis_server.client() as client:
            client.delete(*gone)
        assert lists() == before

    def test_what_is_withdrawn_and_forgotten_leaves_no_key(
        self, redis_server: RedisServer, store: RedisStore
    ) -> None:
        store.put_label_config(PROJECT, "<View/>", "f1")
        before = keys(redis_server)
        fill(store)
        store.withdraw(PROJECT, [70])
        store.forget_tasks(PROJECT, [7])
        store.finish_event(1)
        store.release("learn:1", "me")
        words = {name.removeprefix(PREFIX).split(":")[0] for name in keys(redis_server) - before}
        assert words == {
            *("last-event", "last-prediction", "last-tuning", "kept", "kept-times", "notes"),
            *("tuning", "tunings", "open-tuning", "state", "prompt", "prompts", "content"),
        }

    def test_a_target_never_has_two_open_tunings_whatever_is_put(self, store: RedisStore) -> None:
        prompts = store.prompts
        stopped = prompts.add_tuning(PROJECT, "Cat", "by hand", 1.0)
        assert stopped is not None
        prompts.put_tuning(replace(stopped, status="stopped"))
        opened = prompts.add_tuning(PROJECT, "Cat", "by hand", 2.0)
        assert opened is not None
        running = replace(stopped, status="running")
        prompt = PromptRecord(PROJECT, 0, "Cat", "Cat", "e-1", "candidate", "both", "tuned", 1.0)
        with pytest.raises(StoreError, match="another tuning of the target is open"):
            prompts.put_tuning(running, b"state")
        with pytest.raises(StoreError, match="another tuning of the target is open"):
            prompts.add_prompt(prompt, b"content", tuning=running)
        with pytest.raises(StoreError, match="no such tuning"):
            prompts.put_tuning(replace(stopped, id=99), b"state")
        assert prompts.tunings() == [opened, replace(stopped, status="stopped")]
        assert (prompts.prompts(PROJECT), prompts.tuning_state(stopped.id)) == ([], None)

    @pytest.mark.parametrize("name", ["half a character \ud800"])
    def test_a_name_that_cannot_be_kept_is_an_error_of_the_store(self, store: RedisStore, name: str) -> None:
        for use in (lambda: store.set_note(name, ""), lambda: store.acquire(name, "me", 1.0)):
            with pytest.raises(StoreError, match="cannot be kept"):
                use()

    def test_a_limit_is_a_limit_at_its_ends_too(self, store: RedisStore) -> None:
        for _ in range(3):
            store.add_event(PROJECT, "A", {}, 1.0)
        assert [len(store.pending_events(limit)) for limit in (0, 1, 3, 9, -1)] == [
            0,
            1,
            3,
            3,
            3,
        ]  # as in SQLite

    def test_names_that_hold_the_sign_between_a_key_s_parts_do_not_meet(self, store: RedisStore) -> None:
        for number, (project, target) in enumerate(
            [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c"), ("a:b", "c%")]
        ):
            info = ExampleInfo(f"k{number}", project, target, 7, number, "drawn", None, AT, 0.5)
            approval = Approval(project, 7, number, "drawn", None, AT, "digest")
            store.put_approval(approval, [StoredExample(info, b"", b"")])
        found = [len(store.pool(project)) for project in ("a:b", "a", "a%3Ab", "a%3Ab:c")]
        assert found == [2, 1, 1, 0]
        assert [info.key for info in store.pool("a:b", "c")] == ["k0"]
        assert [info.key for info in store.pool("a:b", "c%")] == ["k3"]
