"""The site of a benchmark: a real Redis, `serve` and `worker` processes, and the tests' stand-in for Label Studio."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from backend.jobs import Jobs
from backend.settings import Settings
from backend.store.redis import RedisStore
from benchmarks import pictures
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.redis_server import RedisServer
from tests.backend.stage import brush, encoded, now


@dataclass
class Site:
    """All that runs, and the projects in which masks are approved."""

    label_studio: FakeLabelStudio
    redis: RedisServer
    store: RedisStore
    settings: Settings
    side: int
    serve: "Process"
    drawn: int = 0
    projects: list[int] = field(default_factory=list)
    elsewhere: int = 0

    def key(self, project: int) -> str:
        """Label Studio's name for a project."""
        return f"{project}.{1767225600 + project}"

    def add_task(self, project: int) -> int:
        """A task with a picture that nobody has seen."""
        self.drawn += 1
        picture = pictures.drawn(self.drawn, self.side)
        return self.label_studio.add_task(project, encoded(Image.fromarray(picture.image), "JPEG"))

    def approve(self, project: int) -> dict[str, Any]:
        """Somebody submits a mask; the event's body."""
        task = self.add_task(project)
        region = brush(pictures.drawn(self.drawn, self.side).mask)
        annotation = self.label_studio.annotate(task, [region], updated_at=now())
        row = self.label_studio.annotations[annotation]
        return {
            "action": "ANNOTATION_CREATED",
            "annotation": row,
            "task": self.label_studio.tasks[task],
            "project": self.label_studio.projects[project],
        }

    def forget_tasks(self) -> None:
        """Open tasks are gone: the next measurement has its own."""
        labeled = {row["task"] for row in self.label_studio.annotations.values()}
        open_ = [task for task in self.label_studio.tasks if task not in labeled]
        self.label_studio.add_task(self.elsewhere)  # the stand-in gives the number after its highest
        for task in open_:
            self.label_studio.delete_task(task)

    def memory(self) -> int:
        """Bytes that Redis holds."""
        with self.redis.client() as client:
            return int(client.info("memory")["used_memory"])

    def processor(self) -> float:
        """Seconds of processor time that Redis has had."""
        with self.redis.client() as client:
            said = client.info("cpu")
        return float(said["used_cpu_user"]) + float(said["used_cpu_sys"])


class Process:
    """A `serve` or a `worker`, and the port on which it tells its figures."""

    def __init__(self, word: str, port: int, environment: dict[str, str]) -> None:
        self.port = port
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        where = ["--port", str(port)] if word == "serve" else []
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "backend", word, *where],
            env={**os.environ, **environment},
            stdout=sys.stderr,
        )

    def figures(self) -> dict[tuple[str, ...], float]:
        """What it has counted; empty while it starts."""
        try:
            text = self._client.get("/metrics").text
        except httpx.TransportError:
            return {}
        families = text_string_to_metric_families(text)
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}

    def resident(self) -> float:
        """Memory in RAM, bytes."""
        return self.figures()[("process_resident_memory_bytes",)]

    def processor(self) -> float:
        """Seconds of processor time that it has had."""
        return self.figures()[("process_cpu_seconds_total",)]

    def stop(self) -> None:
        """Let it end."""
        self._client.close()
        self.process.terminate()
        self.process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(ready: Callable[[], Any], seconds: float = 600) -> float:
    """Wait until something is so; the seconds it took."""
    began = time.perf_counter()
    while not ready():
        if time.perf_counter() - began > seconds:
            raise SystemExit("it did not come about")
        time.sleep(0.02)
    return time.perf_counter() - began


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Settings as the processes read them; a worker has one thread, as beside a server on two cores."""
    return {
        "REDIS_URL": settings.redis_url.get_secret_value(), "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": settings.label_studio_api_key.get_secret_value(), "LOG_LEVEL": "ERROR",
        "DATA_DIR": str(settings.data_dir), "OMP_NUM_THREADS": "1", "TUNE_EVERY": "0",
        "RECONCILE_EVERY": "3600", **more,
    }  # fmt: skip


@contextmanager
def site(side: int) -> Iterator[Site]:
    """Redis, Label Studio's stand-in and a `serve` without a worker."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        redis = running.enter_context(RedisServer(folder / "redis", appendfsync="everysec"))
        label_studio = running.enter_context(FakeLabelStudio())
        settings = Settings(
            data_dir=folder / "data",
            redis_url=SecretStr(redis.url),
            label_studio_url=label_studio.url,
            label_studio_api_key=SecretStr(label_studio.legacy_token),
        )
        store = RedisStore(redis.url)
        running.callback(store.close)
        serve = Process("serve", free_port(), environment(settings, WORKER="off"))
        running.callback(serve.stop)
        wait(serve.figures)
        yield Site(label_studio, redis, store, settings, side, serve)


@contextmanager
def workers(place: Site, count: int) -> Iterator[list[Process]]:
    """So many workers that have started and have predicted something."""
    with ExitStack() as running:
        started = []
        for _ in range(count):
            port = free_port()
            more = {"WORKER_METRICS_PORT": str(port)}
            started.append(Process("worker", port, environment(place.settings, **more)))
            running.callback(started[-1].stop)
        for one in started:
            wait(one.figures)
        while place.projects and not all(
            map(pushed, started)
        ):  # the first prediction of a process takes longer
            left_over(place, [place.add_task(place.projects[0]) for _ in range(4 * count)])
        settle(place)
        yield started


def pushed(worker: Process) -> float:
    """Predictions that a worker has pushed."""
    found = worker.figures()
    return sum(value for name, value in found.items() if name[0] == "seggpt_pushed_predictions_total")


def left_over(place: Site, tasks: list[int]) -> None:
    """Queue tasks one by one, as requests do that did not reach them, and let them be done."""
    jobs = Jobs(place.settings)
    for task in tasks:
        jobs.left_overs(place.key(place.projects[0]), [task])
    wait(lambda: done(place, tasks))


def done(place: Site, tasks: list[int]) -> bool:
    """Whether Label Studio holds a prediction of each task."""
    held = {row["task"] for row in list(place.label_studio.stored_predictions.values())}
    return held.issuperset(tasks)


def settle(place: Site) -> None:
    """Wait until nothing is queued, and forget open tasks."""
    jobs = Jobs(place.settings)
    wait(lambda: not any(jobs.depths().values()))
    time.sleep(1.0)
    place.forget_tasks()
