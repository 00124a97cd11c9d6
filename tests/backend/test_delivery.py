"""A store that goes away and comes back: Label Studio notices nothing, and no event is lost. On a real Redis."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.delivery import Delivery
from backend.errors import StoreError
from backend.store.sqlite import SqliteStore
from tests.backend.redis_server import RedisServer
from tests.backend.stage import Stage, blob, brush

pytestmark = pytest.mark.redis
Staging = Callable[..., Stage]
CREATED = "ANNOTATION_CREATED"


@pytest.fixture
def redis(tmp_path: Path, redis_installed: None) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def shared(staging: Staging, redis: RedisServer) -> Stage:
    """A stage whose store and queue are in Redis."""
    return staging(redis_url=redis.url)


def delivery(stage: Stage) -> Delivery:
    """That of the app, whose thread is not started in tests."""
    found: Delivery = stage.app.state.delivery
    return found


def test_the_whole_loop_runs_on_redis(shared: Stage) -> None:
    annotation = shared.approve(1)
    assert shared.pool == [annotation]
    (answer,) = shared.predict(shared.upload(blob(2)[0]))
    assert answer["model_version"] == shared.setup()
    assert shared.client.get("/health").json()["store"] == "here"


def test_two_replicas_show_one_revision_and_use_each_other_s_approvals(
    staging: Staging, redis: RedisServer, tmp_path: Path
) -> None:
    one = staging(redis_url=redis.url, folder=tmp_path / "one")
    other = staging(redis_url=redis.url, folder=tmp_path / "other")
    image, mask = blob(1)
    one.submit(one.upload(image), brush(mask))
    other.work()  # the job went to whoever was free
    assert one.setup() == other.setup()
    task = one.upload(blob(2)[0])
    assert one.predict(task) == other.predict(task)
    assert one.predict(task) != [[]]


def test_while_redis_is_away_nobody_is_kept_waiting_and_nothing_is_lost(
    shared: Stage, redis: RedisServer
) -> None:
    first = shared.approve(1)
    version = shared.setup()
    redis.kill()
    image, mask = blob(2)
    task = shared.upload(image)
    later = shared.submit(task, brush(mask))  # acknowledged, see `Stage.event`
    answer = shared.ask(task).json()
    assert answer == {"results": [[]], "model_version": version}
    assert shared.setup() == version
    assert shared.client.get("/health").json() == {"status": "UP", "model_class": "SegGPT", "store": "away"}
    assert "seggpt_store_away 1.0" in shared.client.get("/metrics").text
    assert "seggpt_spooled_events 1.0" in shared.client.get("/metrics").text
    assert delivery(shared).look() == 0
    redis.start()
    assert delivery(shared).look() == 1
    shared.work()
    assert shared.pool == [first, later]
    assert shared.client.get("/health").json()["store"] == "here"


def test_events_that_came_meanwhile_do_not_overtake_those_that_wait(
    shared: Stage, redis: RedisServer
) -> None:
    shared.approve(1)
    redis.kill()
    image, mask = blob(2)
    task = shared.upload(image)
    annotation = shared.submit(task, brush(mask))
    redis.start()
    shared.delete(annotation)  # the store is there again, but the creation still waits on the disk
    assert delivery(shared).look() == 2
    actions = [event.action for event in shared.backend.store.pending_events()]
    assert actions == [CREATED, "ANNOTATIONS_DELETED"]
    shared.work()
    assert annotation not in shared.pool


def test_what_waits_on_the_disk_survives_a_restart_of_the_server(
    staging: Staging, redis: RedisServer
) -> None:
    first = staging(redis_url=redis.url)
    first.approve(1)
    redis.kill()
    image, mask = blob(2)
    annotation = first.submit(first.upload(image), brush(mask))
    first.close()
    redis.start()
    second = staging(redis_url=redis.url)
    assert delivery(second).look() == 1
    second.work()
    assert annotation in second.pool


def test_without_a_disk_to_wait_on_the_sender_is_told(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.sqlite3")
    alone = Delivery(store, None, lambda _body: None, lambda _key: None)
    assert alone.keep("1.1", CREATED, {}, 1.0) is True
    store.close()
    with pytest.raises(StoreError):
        alone.keep("1.1", CREATED, {}, 2.0)
    assert alone.look() == 0


def test_an_event_of_a_project_that_nobody_knows_does_not_stop_the_others(tmp_path: Path) -> None:
    store, spool = SqliteStore(tmp_path / "store.sqlite3"), SqliteStore(tmp_path / "spool.sqlite3")
    told: list[str] = []
    found = Delivery(store, spool, lambda body: body.get("key"), told.append)
    spool.add_event("", CREATED, {"from": "nowhere"}, 1.0)
    spool.add_event("", CREATED, {"key": "1.1"}, 2.0)
    assert found.look() == 1
    assert told == ["1.1"]
    assert spool.pending_events() == []
    assert [event.project for event in store.pending_events()] == ["1.1"]
    for each in (store, spool):
        each.close()
