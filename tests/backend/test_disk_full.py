"""A disk that is full, and a Redis whose memory is: what could not be kept is refused, and found by comparing."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from backend.store import Store
from backend.store.redis import RedisStore
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.redis_server import RedisServer
from tests.backend.served import COMPARED, Served, until
from tests.backend.stage import Stage, blob, brush, now, png

pytestmark = pytest.mark.slow

LARGE = 6_000_000  # bytes of an event; more than the log of any database here has room for
SPOOLED = "seggpt_spooled_events"


class Disk(Protocol):
    """The disk with the backend's data, full or not."""

    def fill(self, served: Served) -> None: ...

    def free(self, served: Served) -> None: ...


class Limit:
    """No process may write any file beyond its first byte; SQLite hears of a failing disk."""

    def fill(self, served: Served) -> None:
        self._limit(served, 1)

    def free(self, served: Served) -> None:
        self._limit(served, resource.RLIM_INFINITY)

    @staticmethod
    def _limit(served: Served, size: int) -> None:
        for process in (served.process.pid, *served.workers()):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Tmpfs:
    """A file system of its own, filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:  # noqa: S603 - our own words
            pytest.skip("no file system may be mounted here")

    def fill(self, served: Served) -> None:
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            for size in (2**20, 2**12, 1):
                with suppress(OSError):
                    while True:
                        filler.write(b"\0" * size)

    def free(self, served: Served) -> None:
        (self.folder / "filler").unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)  # noqa: S603, S607 - our own words


@pytest.fixture(params=["limit", "full file system"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "limit":
        yield Limit()
        return
    tmpfs = Tmpfs(tmp_path / "data")
    yield tmpfs
    tmpfs.unmount()


class Studio:
    """People who annotate, and a Label Studio that tells each event once."""

    def __init__(
        self, label_studio: FakeLabelStudio, folder: Path, checkpoint: Path, **settings: str
    ) -> None:
        self.label_studio = label_studio
        self.project = label_studio.add_project()
        self.key = f"{self.project}.1767225601"
        given = {
            "LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.legacy_token,
            "RECONCILE_EVERY": "5", "PRE_ANNOTATE": "off", "TUNE_EVERY": "0", "COLUMNS": "400",
        }  # fmt: skip
        self.served = Served(folder, checkpoint, **given, **settings)

    def approve(self, padding: int = 0) -> tuple[int, Any]:
        """Submit a mask; returns the annotation, and how its event was answered."""
        seed = len(self.label_studio.annotations) + 1
        image, mask = blob(seed)
        task = self.label_studio.add_task(self.project, png(image))
        annotation = self.label_studio.annotate(task, [brush(mask)], updated_at=now())
        told = {**self.label_studio.tasks[task], "padding": "x" * padding}
        body = {
            "action": "ANNOTATION_CREATED", "annotation": self.label_studio.annotations[annotation], "task": told,
            "project": self.label_studio.projects[self.project],
        }  # fmt: skip
        return annotation, self.served.client.post("/webhook", json=body)

    def taught(self) -> set[int]:
        answer = self.served.client.get(f"/api/projects/{self.key}/examples")
        return {int(row["annotation"]) for row in answer.json()} if answer.status_code == 200 else set()


def reconciled(store: Store, project: str) -> bool:
    record = store.project(project)
    return record is not None and record.reconciled > 0


@pytest.fixture
def studio(
    fake_label_studio: FakeLabelStudio, tmp_path: Path, checkpoint_file: Path
) -> Iterator[Callable[..., Studio]]:
    with ExitStack() as made:

        def make(**settings: str) -> Studio:
            studio = Studio(fake_label_studio, tmp_path, checkpoint_file, **settings)
            made.callback(studio.served.stop)
            return studio

        yield make


def test_an_event_that_cannot_be_kept_is_refused_and_found_by_comparing(
    disk: Disk, studio: Callable[..., Studio]
) -> None:
    people = studio()
    known = {people.approve()[0] for _ in range(3)}
    until(lambda: people.taught() == known)
    until(people.served.workers)
    disk.fill(people.served)
    refused = [people.approve(LARGE) for _ in range(4)]
    for _, answer in refused:
        assert answer.status_code == 503
        assert "disk" in answer.json()["detail"]
    assert people.served.client.get("/health").status_code == 200
    body = {"tasks": [people.label_studio.tasks[1]], "project": people.key}
    assert people.served.client.post("/predict", json=body).status_code == 200

    disk.free(people.served)
    until(lambda: people.taught() == {*known, *(annotation for annotation, _ in refused)}, COMPARED)
    last, answer = people.approve()
    assert answer.status_code == 201
    until(lambda: last in people.taught())
    assert "Traceback" not in people.served.said


@pytest.mark.redis
def test_events_that_neither_redis_nor_the_disk_can_keep_are_refused_and_found_by_comparing(
    disk: Disk, studio: Callable[..., Studio], tmp_path: Path, redis_installed: None
) -> None:
    """What waited on a full disk was delivered every two seconds anew, and what came meanwhile was refused."""
    with RedisServer(tmp_path / "redis") as redis:
        people = studio(REDIS_URL=redis.url)
        known = {people.approve()[0]}
        until(lambda: people.taught() == known)
        with closing(RedisStore(redis.url)) as store:  # nobody is in the middle of anything
            until(lambda: not any(map(store.held, ("learn", "reconcile"))) and reconciled(store, people.key))
        redis.kill()
        waiting, answer = people.approve()
        assert answer.status_code == 201
        disk.fill(people.served)
        lost, answer = people.approve(LARGE)
        assert answer.status_code == 503
        assert people.served.client.get("/health").json()["store"] == "away"

        redis.start()  # while the disk is full, so that what was delivered cannot be removed from it
        until(lambda: waiting in people.taught(), COMPARED)
        until(lambda: people.served.client.get("/health").json()["store"] == "here")
        later, answer = people.approve()
        assert answer.status_code == 201
        until(lambda: people.taught() == {*known, waiting, lost, later}, COMPARED)
        with redis.client() as client:
            assert int(client.get("seggpt:last-event")) == 3, "each was delivered once"

        disk.free(people.served)
        until(lambda: f"{SPOOLED} 0.0" in people.served.client.get("/metrics").text)
    assert "Traceback" not in people.served.said


@pytest.mark.redis
def test_a_redis_whose_memory_is_full_is_as_one_that_is_away(
    staging: Callable[..., Stage], tmp_path: Path, redis_installed: None
) -> None:
    with RedisServer(tmp_path / "redis", maxmemory_policy="noeviction") as redis:
        stage = staging(redis_url=redis.url)
        first = stage.approve(1)
        with redis.client() as client:
            client.config_set("maxmemory", 1)
        image, mask = blob(2)
        task = stage.upload(image)
        later = stage.submit(task, brush(mask))  # acknowledged, see `Stage.event`
        assert stage.ask(task).json()["results"] == [[]]
        delivery = stage.app.state.delivery
        for _ in range(3):
            assert delivery.look() == 0
            assert delivery.away
        assert stage.client.get("/health").json()["store"] == "away"
        assert stage.pool == [first]

        with redis.client() as client:
            client.config_set("maxmemory", 0)
        assert delivery.look() == 1
        stage.work()
        assert stage.pool == [first, later]
        assert stage.client.get("/health").json()["store"] == "here"


def test_the_limit_of_these_tests_is_what_they_think(tmp_path: Path) -> None:
    """A process under the limit can write nothing into a file, wherever the file was."""
    code = "import os, sys; os.write(os.open(sys.argv[1], os.O_RDWR), b'12')"
    file = tmp_path / "file"
    file.write_bytes(b"0000")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))  # noqa: E731
    command = [sys.executable, "-c", code, str(file)]
    subprocess.run(command, preexec_fn=limit, check=False)  # noqa: S603 - our own words
    assert file.read_bytes() == b"1000"
