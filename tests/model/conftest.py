"""A small random SegGPT whose every parameter counts, and drawn examples for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.example import Example
from model.seggpt import SegGPT, SegGPTConfig
from model.segmenter import Segmenter
from model.tuning import Tuned, Tuning
from tests.model.learning import Recorder

FIXTURES = Path(__file__).parent.parent / "fixtures"
SMALL = SegGPTConfig(
    image_size=32,
    patch_size=8,
    embed_dim=32,
    depth=4,
    num_heads=4,
    decoder_embed_dim=8,
    pretrain_image_size=24,
    merge_index=1,
    intermediate_indices=(1, 2, 3),
)


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter, tokens and tables too, a value that shows in the result, and examples a strong effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            scale = 2 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 and "pos" not in name else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture
def small_model() -> SegGPT:
    model = SegGPT(SMALL)
    randomise(model)
    return model.eval()


@pytest.fixture
def segmenter(small_model: SegGPT) -> Segmenter:
    return Segmenter(small_model, dtype=torch.float32)


@pytest.fixture
def draw() -> Callable[..., Example]:
    """Draw an example: a disc on noise, another one for every number."""

    def drawn(number: int, height: int = 40, width: int = 56) -> Example:
        random = np.random.default_rng(number)
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        down, right = random.uniform(0.3, 0.7, 2)
        rows, columns = np.mgrid[:height, :width]
        mask = np.hypot(rows / height - down, columns / width - right) < 0.25
        image[mask] //= 2
        return Example(f"drawn/{number}/{height}x{width}", image, mask)

    return drawn


@pytest.fixture
def recorder(small_model: SegGPT) -> Recorder:
    return Recorder(small_model)


@pytest.fixture
def tuned_seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, Tuned]:
    """What tunings result in from here on, by the identity of the learned image."""
    seen: dict[int, Tuned] = {}
    real = Tuning.result

    def result(self: Tuning) -> Tuned:
        tuned = real(self)
        seen[id(tuned.image)] = tuned
        return tuned

    monkeypatch.setattr(Tuning, "result", result)
    return seen
