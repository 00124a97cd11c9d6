"""Tuning: how long a gated tuning takes, and what an image costs with what comes of it.

Draws pictures of discs, tunes a prompt with its gate on the embedded checkpoint, then segments further pictures by the
prompt alone, by the prompt with its companions and by a context of eight, in turns. Figures belong to one run on one
machine: compare the ratios, not the seconds.

    PYTHONPATH=. .venv/bin/python benchmarks/tuning.py [--examples 16] [--rounds 10] [--side 512] [--threads 0]
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch
from rich.table import Table

from benchmarks.tables import Console
from model.example import Context, Example
from model.gate import COMPANIONS, GatedTuning, Judged
from model.segmenter import Query, Segmenter

SHOTS = 8


def drawn(number: int, side: int) -> Example:
    """A disc on a noisy ground."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:side, :side]
    x, y = random.uniform(0.3, 0.7, 2) * side
    mask = (columns - x) ** 2 + (rows - y) ** 2 < (side * random.uniform(0.1, 0.25)) ** 2
    image = random.integers(20, 90, (side, side, 3), dtype=np.uint8)
    image[mask] += np.array([140, 110, 30], np.uint8)
    return Example(f"disc {number}", image, mask)


def timed(segmenter: Segmenter, query: Query) -> float:
    """Seconds of one picture."""
    began = time.perf_counter()
    segmenter.segment([query])
    return time.perf_counter() - began


def main() -> None:
    """Tune once, segment in turns, print both."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--examples", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--side", type=int, default=512)
    arguments.add_argument("--threads", type=int, default=0, help="0: as many as PyTorch chooses")
    given = arguments.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    segmenter = Segmenter.load("embedded")
    examples = [drawn(number, given.side) for number in range(given.examples)]
    began = time.perf_counter()
    judged = GatedTuning(segmenter, examples, shots=SHOTS).run()
    seconds = time.perf_counter() - began
    if judged is None:
        raise SystemExit("the tuning was stopped")
    figures = measure(segmenter, examples, judged, given.rounds, given.side)
    show(judged, seconds, figures, given.examples)


def measure(
    segmenter: Segmenter, examples: list[Example], judged: Judged, rounds: int, side: int
) -> dict[str, list[float]]:
    """Seconds an image of every way, interleaved."""
    prompt = judged.tuned.prompt("tuned")
    contexts = {
        f"{SHOTS} examples": Context(tuple(examples[:SHOTS])),
        "prompt alone": Context(prompt=prompt),
        f"prompt and {COMPANIONS} examples": Context(tuple(examples[:COMPANIONS]), prompt),
    }
    figures: dict[str, list[float]] = {name: [] for name in contexts}
    for context in contexts.values():
        timed(segmenter, Query(drawn(999, side).image, context))  # the examples are prepared once
    for turn in range(rounds):
        image = drawn(1000 + turn, side).image
        for name, context in contexts.items():
            figures[name].append(timed(segmenter, Query(image, context)))
    return figures


def show(judged: Judged, seconds: float, figures: dict[str, list[float]], examples: int) -> None:
    """Print the tuning's figures, and medians as ratios to the context's."""
    verdict = judged.verdict
    threads = f"{torch.get_num_threads()} threads, {platform.machine()}"
    table = Table(
        title=f"gated tuning with {examples} examples: {seconds:.0f} s, {threads}",
        caption=f"judged by {verdict.masks} masks: examples {verdict.context_iou:.3f}, "
        f"prompt {verdict.prompt_iou:.3f}, both {verdict.both_iou:.3f}",
    )
    for heading in ("an image by", "median s", "worst s", "ratio"):
        table.add_column(heading, justify="left" if heading == "an image by" else "right")
    base = statistics.median(figures[f"{SHOTS} examples"])
    for name, times in figures.items():
        median = statistics.median(times)
        table.add_row(name, f"{median:.3f}", f"{max(times):.3f}", f"{median / base:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
