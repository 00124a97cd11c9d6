"""All forms of attention equal the plain one: grids, prompts, formats, gradients."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model import attention, device
from model.graphs import Graphs
from model.seggpt import SegGPT

ROOT = Path(__file__).parents[2]
SHAPES = [  # batch, prompts, grid, heads, channels
    pytest.param(1, 1, (4, 4), 2, 8, id="one prompt"),
    pytest.param(2, 3, (3, 5), 3, 12, id="a broad grid, channels that no unit fits"),
    pytest.param(1, 8, (7, 2), 1, 16, id="a high grid, many prompts"),
    pytest.param(1, 2, (14, 14), 2, 64, id="the published channels"),
]


def inputs(
    batch: int, prompts: int, grid: tuple[int, int], heads: int, channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    high, wide = grid
    shapes = (
        (batch, prompts + 1, high * wide, 3, heads, channels),
        (4 * high - 1, channels),
        (2 * wide + 3, channels),  # made for another size
    )
    qkv, rows, columns = (torch.randn(shape, generator=generator) for shape in shapes)
    return qkv, rows / 2, columns / 2


def by_hand(qkv: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]) -> Tensor:
    """Canvas by canvas and head by head, with the bias of every pair of places looked up."""
    batch, halves, count, _, heads, channels = qkv.shape
    high, wide = grid
    columns = attention.resized_table(columns, wide)
    place = torch.arange(2 * count)
    row, column = place // wide, place % wide
    by_row = rows[row[:, None] - row[None, :] + 2 * high - 1]
    by_column = columns[column[:, None] - column[None, :] + wide - 1]
    out = torch.zeros(batch, halves, count, heads, channels)
    for query in range(batch):
        for prompt in range(halves - 1):
            for head in range(heads):
                q, k, v = torch.cat([qkv[query, prompt], qkv[query, -1]])[:, :, head].unbind(1)
                scores = q @ k.t() * channels**-0.5
                scores = scores + torch.einsum("qd,qkd->qk", q, by_row + by_column)
                result = scores.softmax(-1) @ v
                out[query, prompt, :, head] = result[:count]
                out[query, -1, :, head] += result[count:] / (halves - 1)
    return out.flatten(3)


@pytest.mark.parametrize(("batch", "prompts", "grid", "heads", "channels"), SHAPES)
def test_halves_attend_as_canvases_do(
    batch: int, prompts: int, grid: tuple[int, int], heads: int, channels: int
) -> None:
    given = inputs(batch, prompts, grid, heads, channels)
    wanted = by_hand(*given, grid)
    torch.testing.assert_close(attention.attend_halves(*given, grid), wanted, atol=1e-5, rtol=0)
    without = attention.attend_halves(given[0], 0 * given[1], 0 * given[2], grid)
    assert (without - wanted).abs().max() > 1e-2, "the bias must show, else the equality says nothing of it"


@pytest.mark.parametrize("scale", [1, 60])
@pytest.mark.parametrize(("batch", "prompts", "grid", "heads", "channels"), SHAPES)
def test_the_form_by_heads_equals_the_plain_one(
    scale: int, batch: int, prompts: int, grid: tuple[int, int], heads: int, channels: int
) -> None:
    """Also where scores are so far apart that most weights are zero."""
    qkv, rows, columns = inputs(batch, prompts, grid, heads, channels)
    wanted = attention.attend_halves(scale * qkv, rows, columns, grid, core=attention.attend_plain)
    got = attention.attend_halves_by_heads(scale * qkv, rows, columns, grid)
    torch.testing.assert_close(got, wanted, atol=2e-5 * scale, rtol=2e-5)


@pytest.mark.parametrize("form", [attention.attend_halves_by_heads, attention.attend_halves_folded])
def test_a_fast_form_still_gives_gradients(form: attention.Form) -> None:
    gradients = []
    for chosen in (attention.attend_halves, form):
        given = [part.requires_grad_() for part in inputs(1, 2, (4, 4), 2, 8)]
        chosen(given[0], given[1], given[2], (4, 4)).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([part.grad for part in given])
    for plain, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("core", [attention.attend_fused, attention.attend_folded])
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize(("batch", "prompts", "grid", "heads", "channels"), SHAPES)
def test_the_fast_cores_equal_the_plain_one(
    core: attention.Core,
    dtype: torch.dtype,
    error: float,
    batch: int,
    prompts: int,
    grid: tuple[int, int],
    heads: int,
    channels: int,
) -> None:
    given = [part.to(dtype) for part in inputs(batch, prompts, grid, heads, channels)]
    exact = [part.float() for part in given]
    wanted = attention.attend_halves(exact[0], exact[1], exact[2], grid, core=attention.attend_plain)
    got = attention.attend_halves(given[0], given[1], given[2], grid, core=core).float()
    assert (got - wanted).norm() <= error * wanted.norm()


def test_the_folded_form_has_the_gradients_of_the_plain_one() -> None:
    gradients = []
    for core in (attention.attend_plain, attention.attend_folded):
        given = [part.requires_grad_() for part in inputs(2, 3, (3, 5), 2, 12)]
        result = attention.attend_halves(given[0], given[1], given[2], (3, 5), core=core)
        weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(2))
        gradients.append(torch.autograd.grad((result * weights).sum(), given))
    for plain, folded in zip(*gradients, strict=True):
        torch.testing.assert_close(folded, plain, atol=1e-5, rtol=0)
        assert plain.abs().max() > 1e-2


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton, which runs it on a CPU")
@pytest.mark.parametrize(("batch", "prompts", "grid", "heads", "channels"), SHAPES)
def test_the_kernel_equals_the_plain_form_in_tritons_interpreter(
    batch: int, prompts: int, grid: tuple[int, int], heads: int, channels: int
) -> None:
    """Both tilings. In a process of its own: Triton looks for the variable when it is imported."""
    code = (
        "from tests.model import test_attention\n"
        f"test_attention.interpret({batch}, {prompts}, {grid}, {heads}, {channels})"
    )
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)  # noqa: S603


def interpret(batch: int, prompts: int, grid: tuple[int, int], heads: int, channels: int) -> None:
    from model.attention_kernel import Tiling, attend_halves_kernel

    given = inputs(batch, prompts, grid, heads, channels)
    wanted = attention.attend_halves(*given, grid)
    for tiling in (Tiling(), Tiling(queries=16, key_rows=1)):
        got = attend_halves_kernel(*given, grid, tiling)
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("batch", "prompts", "grid", "heads", "channels"), SHAPES)
def test_the_kernel_equals_the_plain_form_on_cuda(
    dtype: torch.dtype, batch: int, prompts: int, grid: tuple[int, int], heads: int, channels: int
) -> None:
    from model.attention_kernel import attend_halves_kernel

    given = [part.to("cuda", dtype) for part in inputs(batch, prompts, grid, heads, channels)]
    wanted = attention.attend_halves(given[0].float(), given[1].float(), given[2].float(), grid)
    with torch.inference_mode():
        got = attend_halves_kernel(given[0], given[1], given[2], grid).float()
    assert (got - wanted).norm() <= 2e-2 * wanted.norm()
    given[0].requires_grad_()
    attend_halves_kernel(given[0], given[1], given[2], grid).float().sum().backward()  # type: ignore[no-untyped-call]
    assert given[0].grad is not None


def test_a_device_gets_a_form_that_it_can_compute() -> None:
    cpu = device.choose_attention(torch.device("cpu"), torch.bfloat16, (16, 16), 2, 8)
    assert cpu is attention.attend_halves
    single = device.choose_attention(torch.device("cuda"), torch.float32, (16, 16), 2, 8)
    assert single is attention.attend_halves
    for grid, wanted in (((4, 4), attention.attend_halves), ((16, 16), attention.attend_halves_by_heads)):
        assert device.choose_attention(torch.device("cpu"), torch.float32, grid, 2, 8) is wanted


def test_a_card_on_which_the_kernel_does_not_come_out_right_gets_the_folded_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here it cannot even be built: neither CUDA nor, mostly, Triton is there."""
    monkeypatch.setattr(device, "_is_right", lambda *_: False)
    chosen = device.choose_attention(torch.device("cuda"), torch.bfloat16, (4, 4), 2, 8)
    assert chosen is attention.attend_halves_folded


def test_a_wrong_form_is_found_out() -> None:
    def wrong(qkv: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]) -> Tensor:
        return attention.attend_halves(qkv, rows, columns.flip(0), grid)

    sizes = ((4, 4), 2, 8)
    cpu, single = torch.device("cpu"), torch.float32
    assert device._is_right(attention.attend_halves_folded, cpu, single, *sizes)
    assert not device._is_right(wrong, cpu, single, *sizes)


class OnCpu(Graphs):
    """Graphs whose recordings are the network itself: what is recorded when, without a card."""

    recorded = 0

    def _record(self, prompt_images: Tensor, prompt_masks: Tensor, query: Tensor, kind: str) -> object:  # type: ignore[override]
        self.recorded += 1
        return lambda *given: self._model(*given, kind)


def pictures(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    numbers = torch.randn(3, batch, 1, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
    return numbers[0], numbers[1], numbers[2, :, 0]


def test_a_shape_is_recorded_when_it_comes_again_and_the_oldest_goes(small_model: SegGPT) -> None:
    graphs = OnCpu(small_model, limit=2)
    with torch.inference_mode():
        for batch, recorded in ((1, 0), (1, 1), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (2, 3), (1, 4)):
            torch.testing.assert_close(
                graphs(*pictures(batch), "semantic"), small_model(*pictures(batch), "semantic")
            )
            assert graphs.recorded == recorded
        graphs.clear()
        graphs(*pictures(2), "semantic")
        assert graphs.recorded == 4


def test_a_shape_whose_kernels_are_long_is_not_recorded(small_model: SegGPT) -> None:
    config = small_model.config
    graphs = OnCpu(small_model, largest=2 * 2 * (32 // config.patch_size) ** 2 * config.embed_dim)
    with torch.inference_mode():
        for batch, recorded in ((3, 0), (3, 0), (3, 0), (2, 0), (2, 1)):
            torch.testing.assert_close(
                graphs(*pictures(batch), "semantic"), small_model(*pictures(batch), "semantic")
            )
            assert graphs.recorded == recorded


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_graph_paints_as_the_network_does(small_model: SegGPT) -> None:
    network = small_model.to("cuda")
    graphs = Graphs(network)
    with torch.inference_mode():
        for seed in range(4):
            torch.manual_seed(seed)
            given = [part.to("cuda") + torch.randn(1, device="cuda") for part in pictures(2)]
            wanted = network(given[0], given[1], given[2], "instance")
            got = graphs(given[0], given[1], given[2], "instance")
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", [attention.attend_halves_folded, attention.attend_halves_by_heads])
@pytest.mark.parametrize("fused", [False, True])
def test_a_network_paints_alike_by_every_form(small_model: SegGPT, form: attention.Form, fused: bool) -> None:
    with torch.inference_mode():
        plain = small_model(*pictures(2))
        small_model.use(form, fused_mlp=fused)
        torch.testing.assert_close(small_model(*pictures(2)), plain, atol=1e-4, rtol=0)


def test_a_network_that_fuses_still_gives_gradients(small_model: SegGPT) -> None:
    """The fused matrix product has none."""
    small_model.use(attention.attend_halves_folded, fused_mlp=True)
    images, masks, queries = pictures(1)
    small_model(images, masks.requires_grad_(), queries).sum().backward()
    assert masks.grad is not None
    assert masks.grad.abs().max() > 0


@pytest.mark.slow
def test_the_benchmark_for_cards_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--output", str(tmp_path)]
    command += ["--only", "forms", "table", "numerics"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "gpu.md").read_text()
    assert "Traceback" not in written
    assert "| 8 | 2 |" in written
    assert "largest difference" in written
