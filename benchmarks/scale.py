"""Scale: throughput against number of workers, service times, memory, and what follows for more annotators and tasks.

Real processes on a real Redis (`redis-server` must be installed): a `serve`, one and then two `worker`s on the embedded
checkpoint with one thread each, in turns. Label Studio is the tests' stand-in, so its own time is not in the figures.
Figures belong to one run on one machine: compare the ratios.

    PYTHONPATH=. .venv/bin/python benchmarks/scale.py [--rounds 3] [--tasks 24] [--side 512] [--filled 20000]
"""

import argparse
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import httpx
from rich.table import Table

from backend.jobs import Jobs
from backend.store import TaskState
from benchmarks.processes import Process, Site, done, settle, site, wait, workers
from benchmarks.tables import Console
from tests.backend.fake_label_studio import LABEL_CONFIG

EXAMPLES = 8
BUSY = 0.7  # share of its time in which a process works, so that who comes does not wait for long
MILLION = 1_000_000
SCENES = ("left-overs of one project", "two projects ahead", "one project ahead")
Figures = dict[str, list[float]]


def prepare(place: Site, found: Figures) -> None:
    """Two projects with eight approvals each; how long until an approval is used."""
    place.projects = [place.label_studio.add_project(LABEL_CONFIG) for _ in range(2)]
    place.elsewhere = place.label_studio.add_project(LABEL_CONFIG)
    for project in place.projects:
        for number in range(1, EXAMPLES + 1):
            body = place.approve(project)
            httpx.post(f"http://127.0.0.1:{place.serve.port}/webhook", json=body).raise_for_status()
            key = place.key(project)
            took = wait(lambda key=key, number=number: len(place.store.pool(key)) == number)  # type: ignore[misc]
            if number > 1:
                found.setdefault("approval usable", []).append(took)


def throughput(place: Site, tasks: int, found: Figures) -> None:
    """Tasks a second, with one and two workers, in turns; and what Redis and Label Studio had to do for a task."""
    first, second = place.projects
    for count in (1, 2):
        with workers(place, count) as running:
            for name, projects in zip(SCENES, ([first], [first, second], [first]), strict=True):
                each = {
                    project: [place.add_task(project) for _ in range(tasks // len(projects))]
                    for project in projects
                }
                asked, used = len(place.label_studio.requests), place.processor()
                before = sum(one.processor() for one in running)
                jobs = Jobs(place.settings)
                began = time.perf_counter()
                for project, some in each.items():
                    if name != SCENES[0]:
                        jobs.pre_annotate(place.key(project))
                    else:
                        jobs.left_overs(place.key(project), some)
                wait(lambda each=each: all(done(place, some) for some in each.values()))  # type: ignore[misc]
                seconds = time.perf_counter() - began
                found.setdefault(f"{name}, {count}", []).append(seconds / tasks)
                spent = sum(one.processor() for one in running) - before
                found.setdefault(f"{name}, {count}, processor", []).append(spent / tasks)
                found.setdefault("redis a task", []).append((place.processor() - used) / tasks)
                found.setdefault("asked a task", []).append(
                    (len(place.label_studio.requests) - asked) / tasks
                )
                settle(place)


def service(place: Site, rounds: int, found: Figures) -> None:
    """What a server and a worker need for one thing, while nothing else of ours happens."""
    project, serve = place.projects[0], place.serve
    key = place.key(project)
    with (
        workers(place, 1) as (worker,),
        httpx.Client(base_url=f"http://127.0.0.1:{serve.port}", timeout=120) as client,
    ):

        def setup() -> httpx.Response:
            body = {"project": key, "schema": LABEL_CONFIG, "hostname": "", "access_token": ""}
            return client.post("/setup", json=body)

        def predict() -> httpx.Response:
            task = place.label_studio.tasks[place.add_task(project)]
            body = {"tasks": [task], "project": key, "label_config": LABEL_CONFIG}
            return client.post("/predict", json=body)

        def webhook() -> httpx.Response:
            return client.post("/webhook", json=place.approve(project))

        predict()
        many(found, "setup", serve, setup, rounds * 25)
        many(found, "predict", serve, predict, rounds * 5)
        settle(place)
        before, used = worker.figures(), worker.processor()
        many(found, "webhook", serve, webhook, rounds * 5)
        settle(place)
        after = worker.figures()
        seconds, count = (after[name, "learn"] - before.get((name, "learn"), 0.0) for name in LEARN)
        found["learn"] = [seconds / count]
        found["learn, processor"] = [(worker.processor() - used) / (rounds * 5)]
        found["serve memory"] = [serve.resident()]
        found["worker memory"] = [worker.resident()]


LEARN = ("seggpt_job_seconds_sum", "seggpt_job_seconds_count")


def many(found: Figures, name: str, process: Process, call: Callable[[], httpx.Response], count: int) -> None:
    """Seconds of requests that must succeed, and the processor time that one takes."""
    used = process.processor()
    for _ in range(count):
        began = time.perf_counter()
        call().raise_for_status()
        found.setdefault(name, []).append(time.perf_counter() - began)
    found[f"{name}, processor"] = [(process.processor() - used) / count]


def store(place: Site, filled: int, found: Figures) -> None:
    """What tasks cost in Redis' memory, and what a look at them costs in time."""
    key = place.key(place.projects[0])
    (state,) = place.store.task_states(key)[-1:]
    (record,) = place.store.predictions(key, state.task)[:1]
    before = place.memory()
    for task in range(10**9, 10**9 + filled // 10):
        place.store.put_prediction(replace(record, task=task, pushed=task))
    found["bytes of a prediction"] = [(place.memory() - before) / (filled // 10)]
    before = place.memory()
    for start in range(10**9, 10**9 + filled, 1000):
        place.store.set_task_states(
            TaskState(key, task, "done", "pushed", state.revision, 1.0) for task in range(start, start + 1000)
        )
    found["filled"] = [float(filled)]
    found["bytes of a state"] = [(place.memory() - before) / filled]
    (example,) = place.store.examples([place.store.pool(key)[0].key]).values()
    found["bytes of an example"] = [float(len(example.image) + len(example.mask))]
    for _ in range(5):
        began = time.perf_counter()
        place.store.waiting_tasks(key)
        found.setdefault("look", []).append(time.perf_counter() - began)
        began = time.perf_counter()
        place.store.task_states(key, range(10**9, 10**9 + 100))
        found.setdefault("look at a page", []).append(time.perf_counter() - began)


def main() -> None:
    """Run everything once and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--tasks", type=int, default=24, help="predicted in one measurement of throughput")
    arguments.add_argument("--side", type=int, default=512, help="of a picture, in pixels")
    arguments.add_argument("--filled", type=int, default=20_000, help="tasks put into the store")
    arguments.add_argument(
        "--each", type=float, default=20.0, help="seconds that an annotator needs for a task"
    )
    given = arguments.parse_args()
    found: Figures = {}
    with site(given.side) as place:
        with workers(place, 1):
            prepare(place, found)
            settle(place)
        for _ in range(given.rounds):
            throughput(place, given.tasks, found)
        service(place, given.rounds, found)
        store(place, given.filled, found)
    show({name: statistics.median(values) for name, values in found.items()}, given)


def show(found: dict[str, float], given: argparse.Namespace) -> None:
    """Print what was measured, and what follows from it."""
    console = Console(width=110)
    load = f"load {os.getloadavg()[1]:.0f}"
    machine = f"{os.cpu_count()} cores ({load}), {platform.machine()}, {given.side} px, {EXAMPLES} examples"
    table = Table(title=f"predicting ahead, one thread a worker; {machine}")
    columns(table, "what", "tasks/min, 1", "2 workers", "ratio", "core s a task, 1", "2 workers", "ratio")
    for name in SCENES:
        row = [name]
        one, two = found[f"{name}, 1"], found[f"{name}, 2"]
        row += [f"{60 / one:.0f}", f"{60 / two:.0f}", f"{one / two:.2f}"]
        one, two = found[f"{name}, 1, processor"], found[f"{name}, 2, processor"]
        table.add_row(*row, f"{one:.2f}", f"{two:.2f}", f"{two / one:.2f}")
    console.print(table)
    task = found[f"{SCENES[0]}, 1, processor"]
    table = Table(title="one thing at a time, as share of the processor time of a task predicted ahead")
    columns(table, "what", "who", "ms", "core ms", "ratio")
    for what, who, seconds, spent in (
        ("a task predicted ahead", "worker", found[f"{SCENES[0]}, 1"], task),
        ("/predict of one task", "serve", found["predict"], found["predict, processor"]),
        ("/setup", "serve", found["setup"], found["setup, processor"]),
        ("a webhook with a mask", "serve", found["webhook"], found["webhook, processor"]),
        ("an approval learned", "worker", found["learn"], found["learn, processor"]),
        ("a task predicted ahead", "Redis", float("nan"), found["redis a task"]),
        ("a page of 100 tasks looked up", "store", found["look at a page"], float("nan")),
    ):
        times = f"{1000 * seconds:.1f}", f"{1000 * spent:.1f}", f"{spent / task:.4f}"
        table.add_row(what, who, *("" if text == "nan" else text for text in times))
    console.print(table)
    show_people(console, found, task, given.each)
    show_million(console, found, task)


def show_people(console: Console, found: dict[str, float], task: float, each: float) -> None:
    """Print what annotators need: each asks for a task that was not predicted ahead, and submits a mask."""
    table = Table(
        title=f"needed, one core busy {BUSY:.0%} at most; a task every {each:g} s from each annotator"
    )
    columns(
        table, "annotators", "tasks/h", "cores, serve", "cores, worker", "servers", "workers", "Redis, share"
    )
    for people in (1, 10, 100):
        rate = people / each
        server = rate * sum(found[f"{name}, processor"] for name in ("setup", "predict", "webhook"))
        worker = rate * (task + found["learn, processor"])
        needed = [str(math.ceil(share / BUSY)) for share in (server, worker)]
        redis = f"{rate * 2 * found['redis a task']:.4f}"
        table.add_row(str(people), f"{3600 * rate:.0f}", f"{server:.2f}", f"{worker:.2f}", *needed, redis)
    console.print(table)


def show_million(console: Console, found: dict[str, float], task: float) -> None:
    """Print what a million tasks need."""
    table = Table(title="a million tasks, one label, one core a worker")
    columns(table, "what", "figure")
    days = MILLION * task / 86_400
    held = found["bytes of a prediction"] + found["bytes of a state"]
    for what, figure in (
        ("one worker predicts all of them once in", f"{days:.1f} days"),
        ("workers for once a week", str(math.ceil(days / 7))),
        ("workers for once a day", str(math.ceil(days))),
        ("workers that keep Redis' one thread busy", f"{task / found['redis a task']:.0f}"),
        ("requests to Label Studio for a task", f"{found['asked a task']:.1f}"),
        ("Redis: bytes of a task with its prediction", f"{held:.0f}"),
        ("Redis: a million of them", f"{held * MILLION / 1e9:.1f} GB"),
        ("Redis: a pool of 64 examples", f"{64 * found['bytes of an example'] / 1e6:.0f} MB"),
        ("a look for tasks that nobody works on", f"{1000 * found['look']:.1f} ms of {found['filled']:.0f}"),
        ("memory of a server", f"{found['serve memory'] / 1e6:.0f} MB"),
        ("memory of a worker", f"{found['worker memory'] / 1e6:.0f} MB"),
    ):
        table.add_row(what, figure)
    console.print(table)


def columns(table: Table, *headings: str) -> None:
    """Texts to the left, figures to the right."""
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("what", "who") else "right")


if __name__ == "__main__":
    main()
