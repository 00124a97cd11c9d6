"""`store info` and `store migrate`, as people run them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend.settings import Settings
from backend.store.engines import open_engine
from backend.store.redis import RedisStore
from backend.store.sqlite import SqliteStore
from tests.backend.redis_server import RedisServer
from tests.backend.stage import Run

PASSWORD = "s3cret-4711"  # noqa: S105 - of a server that lives as long as a test


@pytest.fixture
def server(tmp_path: Path, redis_installed: None) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", requirepass=PASSWORD) as started:
        yield started


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with closing(SqliteStore(tmp_path / "data" / "store.sqlite3")) as store:
        store.put_label_config("12.1700000000", "<View/>", "f1")
        store.set_note("whose", "ours")
    return tmp_path / "data"


def address(server: RedisServer) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"


def test_without_redis_url_the_store_is_a_file_and_info_counts_what_it_holds(
    run: Run, data_dir: Path
) -> None:
    code, out, _ = run("store", "info", "--data-dir", str(data_dir))
    assert (code, f"The store is {data_dir / 'store.sqlite3'}." in out) == (0, True)
    rows = {words[1]: words[3] for line in out.splitlines() if len(words := line.split()) == 5}
    assert (rows["projects"], rows["notes"], rows["approvals"]) == ("1", "1", "0")
    assert "warning" not in out


def test_a_folder_without_a_store_is_said_to_have_none_and_none_is_made(run: Run, tmp_path: Path) -> None:
    code, _, err = run("store", "info", "--data-dir", str(tmp_path))
    assert (code, "There is no store" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.redis
class TestRedis:
    def test_redis_url_is_where_the_store_is(self, server: RedisServer, data_dir: Path) -> None:
        settings = Settings(data_dir=data_dir, redis_url=address(server))
        with closing(open_engine(settings)) as store, closing(RedisStore(address(server))) as same:
            assert isinstance(store, RedisStore)
            store.set_note("whose", "Redis'")
            assert same.note("whose") == "Redis'"
        with closing(open_engine(Settings(data_dir=data_dir))) as store:
            assert store.note("whose") == "ours"

    def test_there_and_back_with_the_password_in_the_environment(
        self, run: Run, server: RedisServer, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", address(server))
        code, out, err = run("store", "migrate", "--from", str(data_dir))
        assert (code, err) == (0, "")
        assert f"{data_dir / 'store.sqlite3'} is copied to redis://127.0.0.1:{server.port}/0" in out
        assert PASSWORD not in out
        code, out, err = run("store", "migrate", "--to", str(tmp_path / "back"))
        assert (code, err) == (0, "")
        with closing(SqliteStore(tmp_path / "back" / "store.sqlite3")) as store:
            assert store.note("whose") == "ours"

    def test_info_names_what_puts_the_store_at_risk(
        self, run: Run, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", address(server))
        code, out, _ = run("store", "info")
        assert (code, "warning" in out, PASSWORD in out) == (0, False, False)
        with server.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        code, out, _ = run("store", "info")
        assert (code, "warning Redis throws keys away" in out) == (0, True)

    def test_a_target_in_use_is_refused_unless_it_may_go(
        self, run: Run, server: RedisServer, data_dir: Path
    ) -> None:
        with closing(RedisStore(address(server))) as store:
            store.set_note("whose", "Redis'")
        command = ("store", "migrate", "--from", str(data_dir), "--to", address(server))
        code, out, err = run(*command)
        assert (code, "is not empty (1 notes)" in err, PASSWORD in out + err) == (1, True, False)
        code, _, err = run(*command, "--force")
        assert (code, err) == (0, "")
        with closing(RedisStore(address(server))) as store:
            assert store.note("whose") == "ours"

    def test_what_cannot_be_reached_is_one_line_without_the_password(
        self, run: Run, server: RedisServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.kill()
        monkeypatch.setenv("REDIS_URL", address(server))
        code, out, err = run("store", "info")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"127.0.0.1:{server.port}/0 cannot be reached" in err
        assert PASSWORD not in err
