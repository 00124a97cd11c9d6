"""Edges: masks of drawn photographs with and without the image's edges, and what five labels of a large one cost.

    PYTHONPATH=. .venv/bin/python benchmarks/edges.py [--megapixels 12] [--request 24]

First table: IoU and boundary F (`model.measures`; as DAVIS, and with a tenth of its tolerance) of maps that the embedded
checkpoint makes of drawn pictures, and of ideal maps, which are the known masks at the network's size; seconds a mask.
Second table: one task with five labels through the predictor, from the JPEG file to the regions, with empty caches: its
seconds outside the network (CPU: of all cores together, which a busy machine does not stretch), and the most memory
that the process ever had. Figures belong to one machine.
"""

import argparse
import base64
import math
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table

from backend import brush_rle, revision, wiring
from backend.settings import Settings
from backend.store import Event
from benchmarks.tables import Console
from model.edges import Guide, ProbabilityMap
from model.evaluation import iou
from model.example import Context, Example, Mask, Picture
from model.measures import TOLERANCE, boundary_f
from model.segmenter import Query, Segmenter

LABELS = ("red", "green", "blue", "yellow", "violet")
COLOURS = ((150, 80, 70), (70, 120, 70), (70, 85, 140), (150, 140, 80), (120, 75, 135))
EXAMPLES = 4
EXAMPLE_SIDE = 640
WIDE = 120  # characters
PROJECT = "1.1767225600"
SHAPE = (3, 4)  # of all pictures, height to width


def size_of(megapixels: float) -> tuple[int, int]:
    """Height and width of a picture of so many megapixels."""
    unit = math.sqrt(megapixels * 1e6 / (SHAPE[0] * SHAPE[1]))
    return round(SHAPE[0] * unit), round(SHAPE[1] * unit)


def scene(seed: int, height: int, width: int) -> tuple[Picture, list[Mask]]:
    """Five ragged things on a mottled ground, out of focus by a thousandth of the height, with a camera's noise."""
    random = np.random.default_rng(seed)
    mottle = random.integers(90, 150, (12, 16, 3), dtype=np.uint8)
    picture = cv2.resize(mottle, (width, height), interpolation=cv2.INTER_CUBIC)
    masks = []
    for place, colour in enumerate(COLOURS):
        mask = np.zeros((height, width), dtype=np.uint8)
        cv2.fillPoly(mask, [_outline(random, place, height, width)], 1)
        for other in masks:
            mask[other] = 0
        masks.append(mask.astype(np.bool_))
        picture[masks[-1]] = picture[masks[-1]] // 2 + np.array(colour, np.uint8) // 2
    picture = cv2.GaussianBlur(picture, (0, 0), height / 1000)
    grain = random.integers(0, 17, (512, 512, 3), dtype=np.uint8)
    for top in range(0, height, 512):
        for left in range(0, width, 512):
            part = picture[top : top + 512, left : left + 512]
            part[:] = cv2.add(part, grain[: part.shape[0], : part.shape[1]])
    return picture, masks


def _outline(random: np.random.Generator, place: int, height: int, width: int) -> NDArray[np.int32]:
    """A closed curve with bays of all sizes, as points x, y."""
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    radius = np.full_like(angle, height * random.uniform(0.11, 0.17))
    for waves in (2, 3, 5, 9, 17, 40):
        radius *= 1 + 0.5 / waves * random.uniform(0.3, 1) * np.sin(
            waves * angle + random.uniform(0, 2 * np.pi)
        )
    x = (place + 0.5) / len(COLOURS) * width + random.uniform(-0.03, 0.03) * width
    y = random.uniform(0.25, 0.75) * height
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1).round().astype(np.int32)


def examples(place: int) -> tuple[Example, ...]:
    """Small pictures with the mask of one of the five."""
    height, width = EXAMPLE_SIDE * SHAPE[0] // SHAPE[1], EXAMPLE_SIDE
    found = []
    for seed in range(EXAMPLES):
        picture, masks = scene(100 + seed, height, width)
        found.append(Example(f"{place}/{seed}", picture, masks[place]))
    return tuple(found)


def quality(megapixels: float, pictures: int) -> None:
    """Print the first table."""
    segmenter = Segmenter.load("embedded", "cpu", guided=True)
    height, width = size_of(megapixels)
    figures: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for seed in range(pictures):
        picture, masks = scene(seed, height, width)
        for place, mask in enumerate(masks):
            (made,) = segmenter.maps([Query(picture, Context(examples(place)))])
            side = made.values.shape
            ideal = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(side, Image.Resampling.BOX))
            for map_name, values in (("the checkpoint's", made.values), ("ideal", ideal)):
                for edges, guide in (("off", None), ("guided", Guide(picture))):
                    began = time.perf_counter()
                    found = ProbabilityMap(values, height, width, guide).mask(0.5)
                    seconds = time.perf_counter() - began
                    fine = boundary_f(found, mask, TOLERANCE / 10)
                    row = (iou(found, mask), boundary_f(found, mask), fine, seconds)
                    figures.setdefault((map_name, edges), []).append(row)
    table = Table(title=f"masks of {pictures * len(LABELS)} drawn objects, {width} x {height} px")
    for heading in ("map", "EDGES", "IoU", "boundary F", "F, a tenth of the tolerance", "s / mask"):
        table.add_column(heading, justify="left" if heading in ("map", "EDGES") else "right")
    for (map_name, edges), rows in figures.items():
        means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
        table.add_row(map_name, edges, *(f"{mean:.3f}" for mean in means))
    Console(width=WIDE).print(table)


def request(megapixels: float, edges: str) -> None:
    """Print the second table: runs in a process of its own, whose memory nothing else has touched."""
    torch.set_num_threads(2)
    height, width = size_of(megapixels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.jpg")
        drawing = multiprocessing.get_context("spawn").Process(target=_draw, args=(path, height, width))
        drawing.start()
        drawing.join()
        backend = wiring.build(Settings(data_dir=Path(folder), edges=edges, device="cpu", _env_file=None))
        _approve(backend)
        network = _Stopwatch(backend.segmenter)
        small = _task(2, *_small(7))
        snapshot = revision.take(backend.store, PROJECT, backend.checkpoint)
        backend.predictor.predict(snapshot, [small])  # warm, as a server is
        before, network.seconds, network.computed = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            0.0,
            0.0,
        )
        task = _task(1, path.read_bytes())
        began, computed = time.perf_counter(), time.process_time()
        predictions = backend.predictor.predict(snapshot, [task])
        seconds, computed = time.perf_counter() - began, time.process_time() - computed
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        backend.close()
    labels = {label for region in predictions.done[1].result for label in region["value"]["brushlabels"]}
    table = Table(
        title=f"one task, {len(LABELS)} labels, {width} x {height} px, EDGES={edges}; {platform.machine()}"
    )
    for heading in (
        "labels found",
        "seconds",
        "in the network",
        "outside",
        "outside, CPU",
        "memory before",
        "at most",
    ):
        table.add_column(heading, justify="right")
    outside = seconds - network.seconds
    table.add_row(
        str(len(labels)),
        *(f"{value:.2f}" for value in (seconds, network.seconds, outside, computed - network.computed)),
        *(f"{kilobytes / 1e6:.2f} GB" for kilobytes in (before, peak)),
    )
    Console(width=WIDE).print(table)


class _Stopwatch:
    """Adds up the seconds, and those of all cores together, that a segmenter's network computes."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.seconds = self.computed = 0.0
        self._began = (0.0, 0.0)
        segmenter.model.register_forward_pre_hook(self._begin)
        segmenter.model.register_forward_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter(), time.process_time()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._began[0]
        self.computed += time.process_time() - self._began[1]


def _draw(path: Path, height: int, width: int) -> None:
    Image.fromarray(scene(5, height, width)[0]).save(path, quality=90)


def _small(seed: int) -> tuple[bytes]:
    picture, _ = scene(seed, EXAMPLE_SIDE * SHAPE[0] // SHAPE[1], EXAMPLE_SIDE)
    return (cv2.imencode(".jpg", picture[:, :, ::-1])[1].tobytes(),)


def _task(number: int, jpeg: bytes) -> dict[str, Any]:
    return {"id": number, "data": {"image": "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()}}


def _approve(backend: wiring.Backend) -> None:
    """Teach all five labels, as webhooks do."""
    values = "".join(f'<Label value="{label}"/>' for label in LABELS)
    config = '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">'
    project = {
        "id": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "label_config": f"{config}{values}</BrushLabels></View>",
    }
    for number in range(EXAMPLES):
        height, width = EXAMPLE_SIDE * SHAPE[0] // SHAPE[1], EXAMPLE_SIDE
        picture, masks = scene(100 + number, height, width)
        common = {
            "from_name": "tag",
            "to_name": "image",
            "type": "brushlabels",
            "origin": "manual",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
        }
        regions = [
            {
                **common,
                "id": label,
                "value": {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": [label]},
            }
            for label, mask in zip(LABELS, masks, strict=True)
        ]
        task = _task(100 + number, cv2.imencode(".jpg", picture[:, :, ::-1])[1].tobytes())
        annotation = {"id": number + 1, "result": regions, "updated_at": f"2026-01-01T00:00:0{number}Z"}
        body = {"annotation": {**annotation, "task": task["id"]}, "task": task, "project": project}
        backend.learner.apply(Event(number + 1, PROJECT, "ANNOTATION_CREATED", body, time.time()))


def main() -> None:
    """Run both and print."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--megapixels", type=float, default=12, help="of the pictures in the first table")
    arguments.add_argument("--pictures", type=int, default=3, help="in the first table")
    arguments.add_argument("--request", type=float, default=24, help="megapixels of the task in the second")
    given = arguments.parse_args()
    for edges in ("off", "guided"):
        process = multiprocessing.get_context("spawn").Process(target=request, args=(given.request, edges))
        process.start()
        process.join()
    quality(given.megapixels, given.pictures)


if __name__ == "__main__":
    main()
