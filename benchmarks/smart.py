"""Smart tools: how long a click or a box takes, with and without approved examples, on small and on large images.

Starts a real server with its worker on the embedded checkpoint, teaches it eight drawn smears, and asks as Label Studio
does: the first click on a new image, further clicks, and boxes. Every answer that is not the first on its image should
come within 2 s on two cores; the exit code says whether it did.

    PYTHONPATH=. .venv/bin/python benchmarks/smart.py [--rounds 5] [--examples 8]
"""

import argparse
import base64
import io
import os
import platform
import statistics
import time
from collections import defaultdict
from typing import Any

import cv2
import httpx
import numpy as np
from PIL import Image
from rich.table import Table

from backend import brush_rle
from backend.demo.pictures import Picture, draw
from benchmarks.serving import server, wait
from benchmarks.tables import Console

LIMIT = 2.0  # seconds
LABEL, OTHER = "white cell", "red cell"  # one that is taught, one that is not
SIZES = {"0.2 megapixels": (480, 360), "12 megapixels": (4000, 3000)}
_LABELS = f'<Label value="{LABEL}"/><Label value="{OTHER}"/>'
CONFIG = (
    f'<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">{_LABELS}</BrushLabels>'
    f'<KeyPointLabels name="point" toName="image" smart="true">{_LABELS}</KeyPointLabels>'
    f'<RectangleLabels name="box" toName="image" smart="true">{_LABELS}</RectangleLabels></View>'
)
PROJECT = {"id": 1, "created_at": "2026-01-01T00:00:00Z", "label_config": CONFIG}
KEY = "1.1767225600"


def address(picture: Picture, size: tuple[int, int]) -> str:
    """The picture at a size (width, height), as a `data:` address of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture.image).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def approval(number: int) -> dict[str, Any]:
    """Somebody has approved the cells of one smear."""
    picture = draw(number)
    height, width = picture.image.shape[:2]
    region = {
        "id": f"r{number}", "from_name": "mask", "to_name": "image", "type": "brushlabels", "origin": "manual",
        "original_width": width, "original_height": height, "image_rotation": 0,
        "value": {"format": "rle", "rle": brush_rle.encode(picture.masks[LABEL]), "brushlabels": [LABEL]},
    }  # fmt: skip
    moment = f"2026-01-01T00:00:{number:02d}Z"
    annotation = {"id": number, "task": number, "result": [region], "updated_at": moment, "lead_time": 1.0}
    task = {"id": number, "data": {"image": address(picture, (width, height))}}
    return {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task, "project": PROJECT}


def cell(picture: Picture, label: str) -> tuple[dict[str, float], dict[str, float]]:
    """The middle of a picture's largest cell, and the box around it, in percent."""
    _, _, stats, middles = cv2.connectedComponentsWithStats(picture.masks[label].astype(np.uint8))
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    height, width = picture.image.shape[:2]
    left, top, wide, high = (int(value) for value in stats[largest][:4])
    x, y = middles[largest]
    point = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.3}
    box = {"x": 100 * (left - 2) / width, "y": 100 * (top - 2) / height}
    return point, {
        **box,
        "width": 100 * (wide + 4) / width,
        "height": 100 * (high + 4) / height,
        "rotation": 0,
    }


def hint(
    number: int, kind: str, label: str, value: dict[str, float], *, positive: bool = True
) -> dict[str, Any]:
    """A click ("keypoint") or a box ("rectangle") as a browser sends it."""
    region = {
        "id": f"h{number}", "from_name": "point" if kind == "keypoint" else "box", "to_name": "image",
        "type": f"{kind}labels", "origin": "manual", "value": {**value, f"{kind}labels": [label]},
    }  # fmt: skip
    return {**region, "is_positive": positive} if kind == "keypoint" else region


def ask(client: httpx.Client, task: int, image: str, hints: list[dict[str, Any]]) -> float:
    """Seconds of one interactive request, which must be answered with a mask."""
    body = {
        "tasks": [{"id": task, "data": {"image": image}, "annotations": [], "drafts": [], "predictions": []}],
        "project": KEY, "label_config": CONFIG, "params": {"context": {"result": hints}},
    }  # fmt: skip
    began = time.perf_counter()
    answer = client.post("/predict", json=body)
    seconds = time.perf_counter() - began
    answer.raise_for_status()
    if not answer.json()["results"][0]:
        raise SystemExit(f"task {task} got nothing for {hints}")
    return seconds


def measure(client: httpx.Client, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by what was asked and the size of the image."""
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    for turn in range(rounds):
        picture = draw(100 + turn)
        away = {"x": 1.0, "y": 1.0, "width": 0.3}
        for number, (size, pixels) in enumerate(SIZES.items()):
            image = address(picture, pixels)
            for label, known in ((LABEL, "examples"), (OTHER, "no examples")):
                point, box = cell(picture, label)
                task = 1000 + 10 * turn + number
                clicked = hint(1, "keypoint", label, point)
                taken_away = hint(2, "keypoint", label, away, positive=False)
                boxed = hint(3, "rectangle", label, box)
                first = "first click on an image" if label == LABEL else "click"
                figures[f"{known}: {first}", size].append(ask(client, task, image, [clicked]))
                figures[f"{known}: click again", size].append(ask(client, task, image, [clicked]))
                figures[f"{known}: click outside", size].append(
                    ask(client, task, image, [clicked, taken_away])
                )
                what = "box" if label == LABEL else "box, and its likes"
                figures[f"{known}: {what}", size].append(ask(client, task, image, [boxed]))
                if label == OTHER:
                    figures[f"{known}: same box again", size].append(ask(client, task, image, [boxed]))
    return figures


def main() -> None:
    """Teach, ask, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--examples", type=int, default=8)
    given = arguments.parse_args()
    with server() as client:
        setup = {"project": KEY, "schema": CONFIG, "hostname": "", "access_token": ""}
        client.post("/setup", json=setup).raise_for_status()
        for number in range(1, given.examples + 1):
            client.post("/webhook", json=approval(number)).raise_for_status()
        wait(lambda: approved(client) == given.examples, 120)
        warm_up = draw(99)
        ask(client, 999, address(warm_up, (480, 360)), [hint(1, "keypoint", LABEL, cell(warm_up, LABEL)[0])])
        figures = measure(client, given.rounds)
    show(figures, given.examples)


def approved(client: httpx.Client) -> int:
    """How many approvals the project has."""
    answer = client.get(f"/api/projects/{KEY}")
    return int(answer.json()["approvals"]) if answer.status_code == 200 else 0


def show(figures: dict[tuple[str, str], list[float]], examples: int) -> None:
    """Print medians and worst cases; leave with 1 where a warm answer takes too long."""
    title = f"smart tools, {examples} examples, {os.cpu_count()} cores, {platform.machine()}"
    table = Table(title=title)
    for heading in ("what", "image", "median s", "worst s", f"within {LIMIT:.0f} s"):
        table.add_column(heading, justify="left" if heading in ("what", "image") else "right")
    late = 0
    for (what, size), seconds in sorted(figures.items(), key=lambda item: (item[0][1], item[0][0])):
        median, worst = statistics.median(seconds), max(seconds)
        warm = "first" not in what
        late += warm and median > LIMIT
        within = ("yes" if median <= LIMIT else "NO") if warm else "(cold)"
        table.add_row(what, size, f"{median:.2f}", f"{worst:.2f}", within)
    Console(width=100).print(table)
    raise SystemExit(1 if late else 0)


if __name__ == "__main__":
    main()
