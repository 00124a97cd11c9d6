"""The network against the original implementation's numbers (`tests/fixtures/seggpt_reference_a.safetensors`)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from model import attention
from model.seggpt import Kind, SegGPT, SegGPTConfig, painting_loss


def assert_equal(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0.0)


KINDS: tuple[Kind, ...] = ("semantic", "instance")


class Reference:
    def __init__(self, path: Path) -> None:
        self.numbers = load_file(path)
        with safe_open(path, "pt") as file:
            sizes: dict[str, Any] = json.loads(file.metadata()["config"])
        sizes["image_size"] = sizes["image_width"]
        names = SegGPTConfig.__dataclass_fields__
        self.model = SegGPT(SegGPTConfig(**{name: value for name, value in sizes.items() if name in names}))
        weights = {name[8:]: tensor for name, tensor in self.numbers.items() if name.startswith("weights.")}
        self.model.load_state_dict(weights)
        self.model.eval()

    def paint(self, prompts: list[int], kind: Kind) -> Tensor:
        images, masks = self.numbers["inputs.prompt_images"], self.numbers["inputs.prompt_masks"]
        with torch.no_grad():
            painted: Tensor = self.model(
                images[None, prompts], masks[None, prompts], self.numbers["inputs.query_image"], kind
            )
        return painted


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(Path(__file__).parent.parent / "fixtures" / "seggpt_reference_a.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_one_prompt_paints_as_the_original_does(reference: Reference, kind: Kind) -> None:
    assert_equal(reference.paint([0], kind), reference.numbers[f"outputs.one_prompt.{kind}"])


@pytest.mark.parametrize("kind", KINDS)
def test_three_prompts_paint_as_the_original_ensemble_does(reference: Reference, kind: Kind) -> None:
    painted = reference.paint([0, 1, 2], kind)
    assert_equal(painted, reference.numbers[f"outputs.feature_ensemble.{kind}"])
    assert (painted - reference.paint([0], kind)).abs().max() > 1e-2, (
        "the ensemble must differ from one prompt"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_originals(reference: Reference, kind: Kind) -> None:
    target = reference.numbers["inputs.query_mask"]
    loss = painting_loss(reference.paint([0], kind), target, torch.ones(1))
    assert_equal(loss.reshape(1), reference.numbers[f"outputs.one_prompt.{kind}.loss"])


def test_the_kinds_differ(reference: Reference) -> None:
    assert (reference.paint([0], "semantic") - reference.paint([0], "instance")).abs().max() > 1e-3


def test_the_loss_counts_only_what_was_masked_and_is_valid() -> None:
    painted, target = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    target[..., 0, 0] = 100
    valid, masked = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    valid[..., 0, 0] = 0
    assert painting_loss(painted, target, valid) == pytest.approx(1 - 0.005)
    target[..., 1, 1] = 50
    masked[..., 1, 1] = 0
    assert painting_loss(painted, target, valid, masked) == pytest.approx(1 - 0.005)
    assert painting_loss(painted, target, torch.zeros(1)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_prompts_matters_only_in_the_row_that_reads_the_first(
    reference: Reference, kind: Kind
) -> None:
    """The published code returns the first prompt's canvas, and its decoder looks one pixel up, into that prompt."""
    straight = reference.paint([0, 1, 2], kind)
    assert_equal(reference.paint([0, 2, 1], kind), straight)
    turned = reference.paint([2, 0, 1], kind)
    assert_equal(turned[:, :, 1:], straight[:, :, 1:])
    assert (turned - straight)[:, :, 0].abs().max() > 1e-3


def test_each_query_of_a_batch_is_painted_by_its_own_prompts_and_by_nothing_else(
    reference: Reference,
) -> None:
    images, masks = reference.numbers["inputs.prompt_images"], reference.numbers["inputs.prompt_masks"]
    queries = torch.cat([reference.numbers["inputs.query_image"], images[1:2], images[2:3].flip(-1)])
    orders = torch.tensor([[0, 1], [2, 0], [1, 1]])
    with torch.no_grad():
        together = reference.model(images[orders], masks[orders], queries)
        for index in range(3):
            one = slice(index, index + 1)
            alone = reference.model(images[orders[one]], masks[orders[one]], queries[one])
            assert_equal(together[one], alone)
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_another_size_than_the_tables_is_taken(reference: Reference) -> None:
    numbers = torch.randn(1, 1, 3, 96, 80)
    with torch.no_grad():
        painted = reference.model(numbers, numbers, numbers[:, 0])
    assert painted.shape == (1, 3, 96, 80)
    assert painted.isfinite().all()


@pytest.mark.parametrize(
    ("images", "masks", "query", "kind"),
    [
        pytest.param(
            (1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64), "semantic", id="prompts without their axis"
        ),
        pytest.param((1, 0, 3, 64, 64), (1, 0, 3, 64, 64), (1, 3, 64, 64), "semantic", id="no prompt"),
        pytest.param((1, 1, 1, 64, 64), (1, 1, 1, 64, 64), (1, 1, 64, 64), "semantic", id="one channel"),
        pytest.param((1, 2, 3, 64, 64), (1, 1, 3, 64, 64), (1, 3, 64, 64), "semantic", id="fewer masks"),
        pytest.param((2, 1, 3, 64, 64), (2, 1, 3, 64, 64), (1, 3, 64, 64), "semantic", id="fewer queries"),
        pytest.param((1, 1, 3, 64, 64), (1, 1, 3, 64, 64), (1, 3, 64, 32), "semantic", id="narrower query"),
        pytest.param((1, 1, 3, 60, 64), (1, 1, 3, 60, 64), (1, 3, 60, 64), "semantic", id="broken patches"),
        pytest.param((1, 1, 3, 64, 64), (1, 1, 3, 64, 64), (1, 3, 64, 64), "panoptic", id="unknown kind"),
    ],
)
def test_what_does_not_fit_is_a_value_error(
    reference: Reference, images: tuple[int, ...], masks: tuple[int, ...], query: tuple[int, ...], kind: Any
) -> None:
    with pytest.raises(ValueError, match=r"must be|differ"):
        reference.model(torch.zeros(images), torch.zeros(masks), torch.zeros(query), kind)


@pytest.mark.parametrize(
    "sizes",
    [
        {"image_size": 100},
        {"embed_dim": 100, "num_heads": 3},
        {"intermediate_indices": (5, 24)},
        {"intermediate_indices": (1, 5), "merge_index": 2},
    ],
)
def test_sizes_that_cannot_be_are_a_value_error(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must lie|multiple"):
        SegGPTConfig(**sizes)


def test_the_published_sizes_are_the_default() -> None:
    with torch.device("meta"):
        model = SegGPT(SegGPTConfig())
    assert model.get_parameter("blocks.23.attn.rel_pos_h").shape == (111, 64)


def _attention_inputs() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 3, 24, 8)] * 3 + [(2, 3, 24, 6), (2, 3, 24, 4)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def test_fused_and_plain_attention_are_equal() -> None:
    inputs = _attention_inputs()
    plain, fused = attention.attend_plain(*inputs), attention.attend_fused(*inputs)
    assert_equal(plain, fused)
    unbiased = attention.attend_plain(*inputs[:3], *(torch.zeros_like(bias) for bias in inputs[3:]))
    assert (plain - unbiased).abs().max() > 1e-2, "the bias must show, else the equality says nothing of it"


def test_training_and_prediction_attend_alike_and_the_bias_learns() -> None:
    queries, keys, values, by_row, by_column = _attention_inputs()
    predicted = attention.attend(queries, keys, values, by_row, by_column)
    by_row.requires_grad_()
    learning = attention.attend(queries, keys, values, by_row, by_column)
    assert_equal(learning.detach(), predicted)
    torch.autograd.backward(learning.sum())
    assert by_row.grad is not None
    assert by_row.grad.abs().max() > 0


def test_a_relative_table_of_another_size_is_interpolated() -> None:
    table = torch.arange(7.0)[:, None].expand(7, 2)  # made for 4
    spread = attention.relative_table(table, 4)
    assert spread[0, 3, 0] == 0
    assert spread[3, 0, 0] == 6
    wider = attention.relative_table(table, 8)
    assert wider.shape == (8, 8, 2)
    assert wider[0, 0, 0] == pytest.approx(3)
