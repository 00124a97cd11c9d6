"""The engines: each test of the contract runs once for every one of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from backend.store.contract import Store
from backend.store.sqlite import SqliteStore

OpenStore = Callable[[], Store]


@pytest.fixture(params=["sqlite"])
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the test's own store, once more with every call, as another process would."""
    with ExitStack() as stores:
        yield lambda: stores.enter_context(closing(SqliteStore(tmp_path / "store.sqlite3")))


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()
