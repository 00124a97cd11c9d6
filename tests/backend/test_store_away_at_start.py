"""A server and a worker that are started while Redis is away: they start, say so, and heal when it comes."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend.errors import StoreError
from backend.store.redis import RedisStore
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.redis_server import RedisServer
from tests.backend.served import KEY, Served, until
from tests.backend.stage import Run

pytestmark = [pytest.mark.slow, pytest.mark.redis]


@pytest.fixture
def redis(tmp_path: Path, redis_installed: None) -> Iterator[RedisServer]:
    """One that is not there yet."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


@pytest.mark.parametrize("worker", ["on", "inside"])
def test_a_server_that_starts_before_redis_says_so_and_heals_when_it_comes(
    serve: Callable[..., Served], redis: RedisServer, worker: str
) -> None:
    """It ended with one line, so after a power cut everything depended on what started first."""
    served = serve(REDIS_URL=redis.url, WORKER=worker, RECONCILE_EVERY="5", COLUMNS="400")
    health = until(lambda: (told := served.client.get("/health").json())["store"] == "away" and told)
    assert health["status"] == "UP"
    served.approve(1)  # acknowledged
    assert served.predict(9) == []
    assert served.client.post("/setup", json={"project": KEY, "schema": LABEL_CONFIG}).status_code == 503
    workers = until(served.workers) if worker == "on" else []

    redis.start()
    until(lambda: served.approvals() == 1)
    until(lambda: served.client.get("/health").json()["store"] == "here")  # once all that waited is delivered
    served.predict_as("-r1", 9)
    assert served.workers() == workers, "the worker waited, too"
    assert served.said.count("the store is away") == 1
    assert f"Redis at {redis.url}" in served.said
    assert "Traceback" not in served.said


def test_a_password_that_is_refused_is_told_at_once_and_not_waited_for(
    run: Run, tmp_path: Path, redis_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path / "redis", requirepass="right") as redis:
        monkeypatch.setenv("REDIS_URL", redis.url.replace("redis://", "redis://:wrong@"))
        for command in ("serve", "worker"):
            code, _, said = run(command, "--data-dir", str(tmp_path / "data"))
            assert code == 1
            assert "refused the user or the password" in said
            assert "wrong" not in said


def test_a_store_that_came_late_is_looked_at_before_it_is_used(redis: RedisServer) -> None:
    with closing(RedisStore(redis.url, patient=True)) as store:
        with pytest.raises(StoreError, match="cannot be reached"):
            store.projects()
        redis.start()
        with redis.client() as client:
            client.set("seggpt:version", "99")
        for _ in range(2):
            with pytest.raises(StoreError, match="has version 99"):
                store.set_note("a", "b")
        with redis.client() as client:
            client.delete("seggpt:version")
        store.set_note("a", "b")
        assert store.note("a") == "b"


def test_commands_do_not_wait_for_a_store(redis: RedisServer) -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        RedisStore(redis.url)
