"""One `/predict` request, part by part: how much of its time the network takes, and where the rest goes.

The web application is asked within the process, as a server would be: from the body's bytes to the answer's. Drawn
pictures come as `data:` addresses, each for the first time, with all examples of a context in use. Parts that another
part contains count for the inner one only. Processor seconds of all cores together: a busy machine does not stretch
them.

    PYTHONPATH=. .venv/bin/python benchmarks/request.py [--sides 512 1024] [--rounds 5]
"""

import argparse
import functools
import platform
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from rich.table import Table

from backend import regions, wiring
from backend.app import create_app
from backend.images import ImageLoader
from backend.jobs import Jobs
from backend.predictor.contexts import Contexts
from backend.settings import Settings
from backend.store import Event
from backend.store.sqlite import SqliteStore
from benchmarks.serving import CONFIG, KEY, event, picture
from benchmarks.tables import Console
from model import canvas
from model.edges import ProbabilityMap
from model.segmenter import Segmenter

APPROVALS = 12
COUNTS = (1, 25)  # tasks of a request
REST = "the rest: HTTP, JSON, checks"
PARTS: tuple[tuple[str, Any, str], ...] = (
    ("reading pictures", ImageLoader, "open"),
    ("choosing examples", Contexts, "choose"),
    ("choosing examples", Contexts, "is_familiar"),
    ("to the network's size", Segmenter, "_prompts"),
    ("to the network's size", canvas, "image_tensor"),
    ("from the map to the mask", ProbabilityMap, "mask"),
    ("regions", regions, "encode"),
    ("regions", regions, "decode"),
    ("the store", SqliteStore, "put_prediction"),
)


class Parts:
    """Adds up processor seconds by part: each thread's own, and all cores' in the network."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._within = threading.local()
        network = segmenter._compute
        segmenter._compute = self._timed("the network", network, time.process_time)  # type: ignore[assignment]
        for part, owner, name in PARTS:
            setattr(owner, name, self._timed(part, getattr(owner, name), time.thread_time))

    def _timed(self, part: str, call: Callable[..., Any], clock: Callable[[], float]) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*given: Any, **named: Any) -> Any:
            outer = getattr(self._within, "inner", 0.0)
            self._within.inner = 0.0
            began = clock()
            try:
                return call(*given, **named)
            finally:
                took = clock() - began
                self.seconds[part] += took - self._within.inner
                self._within.inner = outer + took

        return timed


def measure(side: int, counts: tuple[int, ...], rounds: int) -> dict[int, list[dict[str, float]]]:
    """Seconds by part of each round, by the number of tasks of the request, interleaved."""
    found: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), device="cpu", _env_file=None)
        backend = wiring.build(settings)
        client = TestClient(create_app(backend, Jobs(settings)))
        client.post("/setup", json={"project": KEY, "schema": CONFIG}).raise_for_status()
        for number in range(1, APPROVALS + 1):
            body = event(number, side)
            backend.learner.apply(Event(number, KEY, body["action"], body, time.time()))
        parts = Parts(backend.segmenter)
        first = 1000
        for turn in range(rounds + 1):
            for count in counts:
                tasks = [
                    {"id": first + i, "data": {"image": picture(first + i, side)[0]}} for i in range(count)
                ]
                body = {"tasks": tasks, "project": KEY, "label_config": CONFIG}
                parts.seconds.clear()
                began, computed = time.perf_counter(), time.process_time()
                answer = client.post("/predict", json=body)
                clock, computed = time.perf_counter() - began, time.process_time() - computed
                answer.raise_for_status()
                if not all(result["result"] for result in answer.json()["results"]):
                    raise SystemExit("something was not found: these figures would mean little")
                if turn:  # the first one warms up
                    known = sum(parts.seconds.values())
                    found[count].append(
                        {**parts.seconds, REST: computed - known, "all": computed, "clock": clock}
                    )
                first += count
        backend.close()
    return found


def show(side: int, found: dict[int, list[dict[str, float]]]) -> dict[int, float]:
    """Print medians a task, and each as a share of the whole; returns the share outside the network, by tasks."""
    title = f"/predict, {side} px, embedded checkpoint, EDGES and ZOOM as by default; {platform.machine()}"
    table = Table(title=title)
    table.add_column("part")
    for count in found:
        table.add_column(f"{count} {'task' if count == 1 else 'tasks'}: ms a task", justify="right")
        table.add_column("share", justify="right")
    names = [*dict.fromkeys(["the network", *(part for part, _, _ in PARTS), REST])]
    medians = {
        count: {
            name: statistics.median(round_.get(name, 0.0) for round_ in rounds) / count
            for name in (*names, "all", "clock")
        }
        for count, rounds in found.items()
    }

    def row(name: str, value: Callable[[dict[str, float]], float]) -> None:
        cells = []
        for one in medians.values():
            cells += [f"{1000 * value(one):.1f}", f"{value(one) / one['all']:.0%}"]
        table.add_row(name, *cells)

    for name in names:
        row(name, lambda one, name=name: one[name])  # type: ignore[misc]
    row("outside the network", lambda one: one["all"] - one["the network"])
    row("all, by the clock", lambda one: one["clock"])
    Console(width=110).print(table)
    return {count: 1 - one["the network"] / one["all"] for count, one in medians.items()}


def main() -> None:
    """Measure and print, one table a size."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--sides", type=int, nargs="+", default=[512, 1024], help="of the pictures, in pixels"
    )
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    summary = Table(title="outside the network")
    for heading in ("picture", "tasks", "ratio to all"):
        summary.add_column(heading, justify="right")
    for side in given.sides:
        for count, outside in show(side, measure(side, COUNTS, given.rounds)).items():
            summary.add_row(f"{side} px", str(count), f"{outside:.0%}")
    Console(width=110).print(summary)


if __name__ == "__main__":
    main()
