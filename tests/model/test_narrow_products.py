"""Linear layers that multiply in bfloat16 while all else is float32: nearly the same masks, in less time."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from model import checkpoint
from model import device as devices
from model.evaluation import iou
from model.example import Context, Example
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter

Draw = Callable[..., Example]
BATCH, PROMPTS = 2, 3


def numbers(seed: int, prompts: int = PROMPTS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the small network is given."""
    generator = torch.Generator().manual_seed(seed)
    images, masks = (torch.randn(BATCH, prompts, 3, 32, 32, generator=generator) for _ in range(2))
    return images, masks, torch.randn(BATCH, 3, 32, 32, generator=generator)


@pytest.fixture
def narrowed(small_model: SegGPT) -> SegGPT:
    network = copy.deepcopy(small_model)
    network.narrow()
    return network


def off(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def test_only_the_linear_layers_are_narrow(narrowed: SegGPT) -> None:
    narrow = {name for name, numbers in narrowed.named_parameters() if numbers.dtype == torch.bfloat16}
    others = {numbers.dtype for name, numbers in narrowed.named_parameters() if name not in narrow}
    assert {name.split(".")[-2] for name in narrow} == {"qkv", "proj", "fc1", "fc2", "decoder_embed"}
    assert others == {torch.float32}


def test_it_paints_nearly_alike(small_model: SegGPT, narrowed: SegGPT) -> None:
    given = numbers(1)
    with torch.inference_mode():
        wanted, got = small_model(*given), narrowed(*given)
    assert got.dtype == torch.float32
    assert 0 < off(got, wanted) < 0.02


def test_prompts_learn_through_it(small_model: SegGPT, narrowed: SegGPT) -> None:
    images, masks, query = numbers(2, prompts=1)
    images.requires_grad_()
    wanted, got = (
        torch.autograd.grad(network(images, masks, query).square().mean(), images)[0]
        for network in (small_model, narrowed)
    )
    assert 0 < off(got, wanted) < 0.05


def test_wide_again_it_paints_as_the_rounded_numbers_do(small_model: SegGPT, narrowed: SegGPT) -> None:
    """As where two segmenters take the same network."""
    given = numbers(3)
    with torch.inference_mode():
        wide = narrowed.float()(*given)
        assert 0 < off(wide, small_model(*given)) < 0.02


@pytest.mark.parametrize("narrows", [True, False])
def test_a_segmenter_narrows_where_the_device_has_units_for_it(
    narrows: bool, monkeypatch: pytest.MonkeyPatch, draw: Draw
) -> None:
    monkeypatch.setattr(devices, "narrows", lambda _: narrows)
    exact = Segmenter(checkpoint.load("embedded"), name="embedded", dtype=torch.float32)
    chosen = Segmenter.load("embedded", "cpu")
    query = Query(draw(9).image, Context((draw(1), draw(2), draw(3))))

    (wanted,), (got,) = exact.segment([query]), chosen.segment([query])

    assert (chosen.narrowed, chosen.dtype) == (narrows, torch.float32)
    assert not exact.narrowed
    assert chosen.identity == exact.identity
    assert np.array_equal(got, wanted) != narrows
    assert iou(got > 0.5, wanted > 0.5) > 0.99
