"""Serving: `/predict` of 1 and 25 tasks, and how long health, setup and webhooks take while a batch is computed.

Starts a real server with its worker on the embedded checkpoint, sends it drawn pictures as `data:` addresses, and
prints a table of ratios. Figures belong to one run on one machine: compare the ratios, not the seconds.

    PYTHONPATH=. .venv/bin/python benchmarks/serving.py [--rounds 5] [--side 512]
"""

import argparse
import base64
import io
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from PIL import Image
from rich.table import Table

from backend import brush_rle
from benchmarks.tables import Console

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image"><Label value="disc"/>'
    "</BrushLabels></View>"
)
PROJECT = {"id": 1, "created_at": "2026-01-01T00:00:00Z", "label_config": CONFIG}
KEY = "1.1767225600"


def picture(seed: int, side: int) -> tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """A disc on a noisy ground, as a `data:` address, and its mask."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    x, y = random.uniform(0.3, 0.7, 2) * side
    mask = (columns - x) ** 2 + (rows - y) ** 2 < (side * random.uniform(0.1, 0.25)) ** 2
    pixels = random.integers(20, 90, (side, side, 3), dtype=np.uint8)
    pixels[mask] += np.array([140, 110, 30], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), mask


def event(number: int, side: int) -> dict[str, Any]:
    """An approval, as Label Studio's webhook tells of it."""
    address, mask = picture(number, side)
    region = {
        "id": f"r{number}",
        "from_name": "tag",
        "to_name": "image",
        "type": "brushlabels",
        "origin": "manual",
        "original_width": side,
        "original_height": side,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": ["disc"]},
    }
    moment = f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}Z"
    annotation = {"id": number, "task": number, "result": [region], "updated_at": moment, "lead_time": 1.0}
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation,
        "task": {"id": number, "data": {"image": address}},
        "project": PROJECT,
    }


@contextmanager
def server() -> Iterator[httpx.Client]:
    """A real `serve` with its worker, on a free port and an empty data folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "backend", "serve", "--port", str(port), "--data-dir", folder]
        environment = {**os.environ, "LOG_LEVEL": "ERROR", "LABEL_STUDIO_URL": ""}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603  # our own
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                wait(lambda: up(client), 60)
                yield client
        finally:
            process.terminate()
            process.wait()


def up(client: httpx.Client) -> bool:
    """Whether the server answers."""
    try:
        return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False


def wait(ready: Callable[[], bool], seconds: float) -> float:
    """Wait until `ready`; returns the seconds it took."""
    began = time.perf_counter()
    while not ready():
        if time.perf_counter() - began > seconds:
            raise SystemExit("the server did not get ready")
        time.sleep(0.01)
    return time.perf_counter() - began


def timed(call: Callable[[], httpx.Response]) -> float:
    """Seconds of one request that must succeed."""
    began = time.perf_counter()
    call().raise_for_status()
    return time.perf_counter() - began


def main() -> None:
    """Run everything once and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--side", type=int, default=512)
    given = arguments.parse_args()
    with server() as client:
        figures = measure(client, given.rounds, given.side)
    show(figures, given.side)


def measure(client: httpx.Client, rounds: int, side: int) -> dict[str, list[float]]:
    """All figures in seconds, interleaved, by name."""

    def approvals() -> int:
        answer = client.get(f"/api/projects/{KEY}")
        return int(answer.json()["approvals"]) if answer.status_code == 200 else 0

    def predict(first: int, count: int) -> httpx.Response:
        tasks = [{"id": first + i, "data": {"image": picture(first + i, side)[0]}} for i in range(count)]
        return client.post("/predict", json={"tasks": tasks, "project": KEY, "label_config": CONFIG})

    setup = {"project": KEY, "schema": CONFIG, "hostname": "", "access_token": ""}
    client.post("/setup", json=setup).raise_for_status()
    client.post("/webhook", json=event(1, side)).raise_for_status()
    wait(lambda: approvals() == 1, 60)  # the worker has started
    figures: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(2, 9):
        client.post("/webhook", json=event(number, side)).raise_for_status()
        figures["approval usable"].append(wait(lambda number=number: approvals() == number, 30))  # type: ignore[misc]
    predict(1000, 1).raise_for_status()
    for turn in range(rounds):
        base = 2000 + 100 * turn
        figures["predict 1"].append(timed(lambda base=base: predict(base, 1)))  # type: ignore[misc]
        figures["health, idle"].append(timed(lambda: client.get("/health")))
        figures["setup, idle"].append(timed(lambda: client.post("/setup", json=setup)))
        figures["webhook, idle"].append(
            timed(lambda turn=turn: client.post("/webhook", json=event(100 + turn, side)))
        )  # type: ignore[misc]
        time.sleep(1.0)  # the worker has dealt with it
        batch = threading.Thread(
            target=lambda base=base: figures["predict 25"].append(timed(lambda: predict(base + 10, 25)))  # type: ignore[misc]
        )
        batch.start()
        time.sleep(0.3)
        number = 200 + turn
        while batch.is_alive():
            figures["health, busy"].append(timed(lambda: client.get("/health")))
            figures["setup, busy"].append(timed(lambda: client.post("/setup", json=setup)))
            payload = event(number, side)
            figures["webhook, busy"].append(
                timed(lambda payload=payload: client.post("/webhook", json=payload))
            )  # type: ignore[misc]
            number += 100
            time.sleep(0.2)
    return figures


NAMES = (
    "approval usable",
    "predict 1",
    "predict 25",
    "health, idle",
    "health, busy",
    "setup, idle",
    "setup, busy",
    "webhook, idle",
    "webhook, busy",
)


def show(figures: dict[str, list[float]], side: int) -> None:
    """Print medians, worst cases, and each as a ratio to its base."""
    base = {
        "predict 25": ("predict 1", 25.0),
        "health, busy": ("health, idle", 1.0),
        "setup, busy": ("setup, idle", 1.0),
        "webhook, busy": ("webhook, idle", 1.0),
    }
    table = Table(title=f"serving, {side} px pictures, {os.cpu_count()} cores, {platform.machine()}")
    for heading in ("what", "median s", "worst s", "ratio", "against"):
        table.add_column(heading, justify="left" if heading in ("what", "against") else "right")
    for name, seconds in figures.items():
        median, worst = statistics.median(seconds), max(seconds)
        against, factor = base.get(name, ("", 0.0))
        ratio = f"{median / (factor * statistics.median(figures[against])):.2f}" if against else ""
        said = f"{int(factor)} x {against}" if factor > 1 else against
        table.add_row(name, f"{median:.3f}", f"{worst:.3f}", ratio, said)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
