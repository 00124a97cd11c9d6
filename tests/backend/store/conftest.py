"""The engines: each test of the contract runs once for every one of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from backend.store.contract import PromptStore, Store
from backend.store.redis import RedisStore
from backend.store.sqlite import SqliteStore
from tests.backend.redis_server import RedisServer

OpenStore = Callable[[], Store]


@pytest.fixture(scope="session")
def started_redis(tmp_path_factory: pytest.TempPathFactory, redis_installed: None) -> Iterator[RedisServer]:
    """A Redis server for all tests."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(started_redis: RedisServer) -> RedisServer:
    """The server, empty."""
    started_redis.flush()
    return started_redis


@pytest.fixture
def own_redis(started_redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill; `started_redis` is asked for, since it says where there is none."""
    with RedisServer(tmp_path / "own_redis") as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the test's own store, once more with every call, as another process would."""
    with ExitStack() as stores:
        if request.param == "sqlite":
            yield lambda: stores.enter_context(closing(SqliteStore(tmp_path / "store.sqlite3")))
        else:
            server: RedisServer = request.getfixturevalue("redis_server")
            yield lambda: stores.enter_context(closing(RedisStore(server.url)))


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()


@pytest.fixture
def prompts(store: Store) -> PromptStore:
    return store.prompts
