"""What the tests of learning share: a pool of drawn examples, and a segmenter that tells what it was asked."""

from collections.abc import Sequence

import numpy as np
import torch

from model.edges import ProbabilityMap
from model.example import Example
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter


def pool(count: int) -> list[Example]:
    """Bright discs on a dark ground."""
    random = np.random.default_rng(11)
    examples = []
    for number in range(count):
        rows, columns = np.mgrid[:40, :50]
        y, x = random.uniform(12, 28), random.uniform(12, 38)
        mask = (rows - y) ** 2 + (columns - x) ** 2 < 80
        image = random.integers(0, 60, (40, 50, 3), dtype=np.uint8)
        image[mask] += 150
        examples.append(Example(f"disc {number:02}", image, mask))
    return examples


class Recorder(Segmenter):
    """Keeps what it was asked."""

    def __init__(self, model: SegGPT) -> None:
        super().__init__(model, dtype=torch.float32)
        self.asked: list[Query] = []

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        self.asked += queries
        return super().maps(queries)
