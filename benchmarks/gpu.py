"""CUDA: images a second, memory, share of the card's rate and numerics, against Hugging Face in the same run.

ViT-L size with random weights at 448 px, and the embedded checkpoint. Sections come in the order of their worth and
each is printed as soon as it is known; what no longer fits into `--seconds` is left out and named. `--output` (or
the folder that OUT names) gets the same as `gpu.md` and `gpu.json`.

    PYTHONPATH=. python3 benchmarks/gpu.py [--seconds 170] [--output FOLDER]
    PYTHONPATH=. python3 benchmarks/gpu.py --device cpu --tiny     # does it run? no figures worth reading
"""

import argparse
import copy
import functools
import os
import platform
import statistics
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import pictures, vit_large
from benchmarks.measuring import Run, Work
from model import attention, device
from model.checkpoint import load
from model.example import Context, Example
from model.graphs import Graphs
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter

HALF, SINGLE, NONE = torch.bfloat16, torch.float32, float("nan")


class CudaRun(Run):
    """A run with both networks, of the same weights.

    Attributes:
        tiny: whether only small sizes are asked for.
        config: the networks' sizes.
        pictures: folders of real pictures.
        rate: operations a second of a large matrix product.
        network: ours, bfloat16.
        form: the name of its form of attention.
        peer: Hugging Face's, bfloat16, or None.
        single_peer: the same in float32.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Make the networks."""
        on = torch.device(arguments.device)
        super().__init__(on, arguments.seconds, 1 if arguments.tiny else 3, arguments.output, "gpu")
        self.tiny: bool = arguments.tiny
        self.config = vit_large.TINY if self.tiny else vit_large.PUBLISHED
        self.pictures: list[str] = arguments.pictures
        self.rate = float("nan")
        self.single_peer: Any = vit_large.hugging_face(self.config, on)
        self.network: SegGPT = vit_large.ours(self.config, on, self.single_peer).to(HALF)
        self.peer: Any = None if self.single_peer is None else copy.deepcopy(self.single_peer).to(HALF)
        self.form = self.use_half_form()

    def use_half_form(self) -> str:
        """Let our network compute as `Segmenter` lets it on this device; the name of the form of attention."""
        config = self.config
        grid, channels = (config.side, config.side), config.embed_dim // config.num_heads
        form = device.choose_attention(self.device, HALF, grid, config.num_heads, channels)
        self.network.use(form, fused_mlp=form is not attention.attend_halves)
        return getattr(form, "__name__", str(form))


def card(run: CudaRun) -> None:
    """Name the card and measure what a matrix product reaches on it."""
    name = torch.cuda.get_device_name() if run.device.type == "cuda" else platform.processor() or "CPU"
    side = 256 if run.tiny else 8192
    first, second = (torch.randn(side, side, device=run.device).to(HALF) for _ in range(2))
    run.interleaved({"matrix product": lambda: first @ second})
    times = [run.seconds(lambda: first @ second, 4) for _ in range(10)]
    run.rate = 2 * side**3 / statistics.median(times)
    run.found["card"] = {"name": name, "torch": torch.__version__, "matmul_tflops": run.rate / 1e12}
    run.say(f"{name}, torch {torch.__version__}, Python {platform.python_version()}")
    run.say(f"bfloat16 product of {side} x {side}: {run.rate / 1e12:.0f} TFLOP/s, the median of ten")


def heads(run: CudaRun, batch: int, prompts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random inputs of attention."""
    config = run.config
    channels, side = config.embed_dim // config.num_heads, config.side
    generator = torch.Generator(run.device).manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, channels, device=run.device, generator=generator)

    qkv = numbers(batch, prompts + 1, side**2, 3, config.num_heads).to(HALF)
    rows, columns = (numbers(count) * channels**-0.5 for count in (4 * side - 1, 2 * side - 1))
    return qkv, rows.to(HALF), columns.to(HALF)


def forms(run: CudaRun) -> None:
    """Each form of attention: right, and how fast."""
    config, side = run.config, run.config.side
    contestants: dict[str, Any] = {
        "fused, bias kept": attention.attend_halves,
        "folded": attention.attend_halves_folded,
    }
    try:
        from model.attention_kernel import attend_halves_kernel

        if run.device.type == "cuda":
            contestants["kernel"] = attend_halves_kernel
    except ImportError as error:
        run.say(f"no kernel: {error}")
    run.say("\n| attention, bfloat16 | batch | prompts | error | ms | TFLOP/s |\n|---|---|---|---|---|---|")
    for batch, prompts in ((2, 1),) if run.tiny else ((8, 1), (4, 8)):
        qkv, rows, columns = heads(run, batch, prompts)
        with torch.inference_mode():
            wanted = attention.attend_halves(qkv[:2].float(), rows.float(), columns.float(), (side, side))
            works = {
                name: functools.partial(form, qkv, rows, columns, (side, side))
                for name, form in contestants.items()
            }
            times = run.interleaved(works)
            for name, taken in times.items():
                error = float((works[name]()[:2].float() - wanted).norm() / wanted.norm())
                rate = 4 * config.embed_dim * side**4 * (3 * prompts + 1) * batch / taken / 1e12
                run.found[f"attention/{name}/{batch}/{prompts}"] = {"error": error, "tflops": rate}
                run.say(f"| {name} | {batch} | {prompts} | {error:.1e} | {taken * 1e3:.2f} | {rate:.0f} |")


COLUMNS = (
    "prompts",
    "batch",
    "ours, images/s",
    "ours as a graph",
    "of the card's rate",
    "ours, GB",
    "HF bfloat16, images/s",
    "HF float32, images/s",
    "HF bfloat16, GB",
    "ours / HF bfloat16",
)


def table(run: CudaRun) -> None:
    """Images a second over batches and prompts, with memory and share of the card's rate."""
    graphs = Graphs(run.network, limit=1, largest=2**40) if run.device.type == "cuda" else None
    with torch.inference_mode():
        run.say(f"\nNetwork, bfloat16, attention: {run.form}. Memory is beyond the weights.")
        run.say("Hugging Face (HF), eager: many queries with one prompt, or one query with many prompts.")
        run.say(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for batch in (1, 2) if run.tiny else (1, 8, 32, 4, 16, 2):
            for prompts in (1, 4, 8):
                if run.left < 20:
                    run.say(f"batch {batch}, {prompts} prompts: left out, no time")
                    continue
                row(run, graphs, batch, prompts)


def row(run: CudaRun, graphs: Graphs | None, batch: int, prompts: int) -> None:
    """One size of `table`."""
    given = vit_large.inputs(run.config, run.device, HALF, batch, prompts)
    works: dict[str, Work] = {"ours": lambda: run.network(*given)}
    if graphs is not None and batch * prompts <= 32:
        graphs.clear()
        graphs(*given, "semantic")
        works["graph"] = lambda: graphs(*given, "semantic")
    if run.peer is not None and (prompts == 1 or batch == 1):
        works["peer"] = functools.partial(vit_large.ask_hugging_face, run.peer, *given)
        if batch in (1, 8):
            single = tuple(part.float() for part in given)
            works["single peer"] = functools.partial(vit_large.ask_hugging_face, run.single_peer, *single)
    times = run.interleaved(works)
    rates = {name: batch / taken for name, taken in times.items()}
    memory = {name: run.memory(works[name]) for name in times if name != "graph"}
    best = max(rates.get("ours", 0), rates.get("graph", 0))
    share = vit_large.operations(run.config, 1, prompts) * best / run.rate
    run.found[f"table/{prompts}/{batch}"] = {"images a second": rates, "share": share, "gigabytes": memory}
    alone = run.found.get(f"table/{prompts}/1", {}).get("images a second", {})  # one query at a time
    told = [f"{prompts} | {batch}"]
    told += [f"{rates.get(name, NONE):.1f}" for name in ("ours", "graph")]
    told += [f"{share:.0%}", f"{memory.get('ours', NONE):.2f}"]
    peer = rates.get("peer", alone.get("peer", NONE))
    told += [f"{peer:.1f}", f"{rates.get('single peer', NONE):.1f}", f"{memory.get('peer', NONE):.2f}"]
    run.say(f"| {' | '.join(told)} | {best / peer:.1f} |")


def numerics(run: CudaRun) -> None:
    """Differences of both networks' formats from our float32, at the published size."""
    exact = vit_large.ours(run.config, run.device, run.single_peer)
    for prompts in (1, 4):
        given = vit_large.inputs(run.config, run.device, SINGLE, 1, prompts)
        halved = tuple(part.to(HALF) for part in given)
        with torch.inference_mode():
            wanted, parts = exact(*given), {"ours, bfloat16": run.network(*halved)}
            if run.single_peer is None:
                exact.load_state_dict({key: part.float() for key, part in run.network.state_dict().items()})
                wanted = exact(*given)
            run.network.use(attention.attend_halves)
            parts["ours, bfloat16, plain forms"] = run.network(*halved)
            run.use_half_form()
            if run.peer is not None and prompts == 1:
                parts["Hugging Face, bfloat16"] = vit_large.ask_hugging_face(run.peer, *halved)
                parts["Hugging Face, float32"] = vit_large.ask_hugging_face(run.single_peer, *given)
        for name, part in parts.items():
            error = (part.float() - wanted).abs()
            found = {"max": float(error.max()), "mean": float(error.mean()), "deviation": float(wanted.std())}
            run.found[f"numerics/{prompts}/{name}"] = found
            run.say(
                f"{prompts} prompts, {name} and our float32: largest difference {found['max']:.6f}, mean "
                f"{found['mean']:.6f} (the painting's own deviation is {found['deviation']:.3f})"
            )


def embedded(run: CudaRun) -> None:
    """The embedded checkpoint: masks of formats and devices compared, and how long predictions take."""
    pools = {"drawn": [pictures.drawn(number) for number in range(10 if run.tiny else 24)]}
    pools |= {Path(folder).name: pictures.real(folder) for folder in run.pictures}
    on = str(run.device)
    segmenters = {
        "bfloat16": Segmenter(load("embedded"), device=on, dtype=HALF),
        "float32": Segmenter(load("embedded"), device=on, dtype=SINGLE),
        "float32 on the CPU": Segmenter(load("embedded"), device="cpu", dtype=SINGLE),
    }
    for name, pool in pools.items():
        if run.left < 30 and not run.tiny:
            run.say(f"IoU of formats on {name}: left out, no time")
            continue
        agreement(run, name, pool, segmenters)
    context = Context(tuple(pools["drawn"][:8]))
    queries = [Query(example.image, context) for example in pools["drawn"][8:]] * 2
    segmenters["bfloat16, batches of 200"] = Segmenter(
        load("embedded"), device=on, dtype=HALF, batch_size=200
    )
    del segmenters["float32 on the CPU"]
    for number in (1, 2 if run.tiny else 25):
        works: dict[str, Work] = {
            name: functools.partial(segmenter.segment, queries[:number])
            for name, segmenter in segmenters.items()
        }
        for name, taken in run.interleaved(works).items():
            run.found[f"segment/{name}/{number}"] = taken
            run.say(
                f"Segmenter.segment, {number} queries of 480 px, 8 examples, {name}: {taken * 1e3:.1f} ms"
            )


def agreement(run: CudaRun, name: str, pool: list[Example], segmenters: dict[str, Segmenter]) -> None:
    """IoU between the masks that formats and devices give, and with the truth; the first pictures are the examples."""
    shots = min(8, len(pool) // 2)
    queries = [Query(example.image, Context(tuple(pool[:shots]))) for example in pool[shots : shots + 16]]
    masks = {
        which: [probability > 0.5 for probability in segmenter.segment(queries)]
        for which, segmenter in segmenters.items()
    }
    masks["the truth"] = [example.mask for example in pool[shots : shots + 16]]
    half, single, cpu, truth = masks
    for first, second in ((half, single), (half, cpu), (single, cpu), (cpu, truth)):
        found = [
            float((one & two).sum() / max(1, (one | two).sum()))
            for one, two in zip(masks[first], masks[second], strict=True)
        ]
        run.found[f"iou/{name}/{first}/{second}"] = found
        run.say(f"{name}, IoU of {first} and {second}: mean {np.mean(found):.4f}, least {np.min(found):.4f}")


def profile(run: CudaRun) -> None:
    """Which kernels the time goes to, at 4 prompts and batch 8."""
    if run.device.type != "cuda":
        return
    given = vit_large.inputs(run.config, run.device, HALF, 8, 4)
    with torch.inference_mode():
        run.network(*given)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            run.network(*given)
            run.settle()
    kernels = sorted(seen.key_averages(), key=lambda event: -event.self_device_time_total)[:16]
    whole = sum(event.self_device_time_total for event in seen.key_averages()) or 1
    for event in kernels:
        if event.self_device_time_total:
            part = event.self_device_time_total
            run.say(f"{part / whole:6.1%} {part / 1e3:8.2f} ms {event.count:5d} x {event.key[:90]}")


def tilings(run: CudaRun) -> None:
    """The kernel's tilings, attention alone, at 4 prompts and batch 8."""
    if run.device.type != "cuda":
        return
    from model.attention_kernel import Tiling, attend_halves_kernel

    side = run.config.side
    qkv, rows, columns = heads(run, 8, 4)
    for sizes in TILINGS:
        if run.left < 10:
            run.say(f"tilings from {sizes} on: left out, no time")
            return
        work = functools.partial(attend_halves_kernel, qkv, rows, columns, (side, side), Tiling(*sizes))
        for taken in run.interleaved({f"tiling {sizes}": work}).values():
            rate = 4 * run.config.embed_dim * side**4 * 13 * 8 / taken / 1e12
            run.found[f"tiling/{sizes}"] = rate
            run.say(
                f"tiling (queries, key rows, warps, stages) {sizes}: {taken * 1e3:.2f} ms, {rate:.0f} TFLOP/s"
            )


TILINGS = (
    (64, 2, 4, 3),
    (64, 2, 4, 2),
    (64, 1, 4, 3),
    (128, 2, 8, 3),
    (128, 1, 8, 3),
    (128, 1, 4, 3),
    (64, 1, 4, 2),
)


def compiled(run: CudaRun) -> None:
    """PyTorch's compiler on Hugging Face's layers: what it costs and what it brings; ours are not compiled."""
    if run.peer is None:
        return
    for batch, prompts in ((1, 1),) if run.tiny else ((8, 1), (1, 4)):
        if run.left < 25 and not run.tiny:
            run.say(f"Hugging Face compiled, {prompts} prompts, batch {batch}: left out, no time")
            continue
        given = vit_large.inputs(run.config, run.device, HALF, batch, prompts)
        work = functools.partial(vit_large.ask_hugging_face, run.peer, *given)
        with torch.inference_mode():
            eager = run.interleaved({"ours": functools.partial(run.network, *given), "eager": work})
            for layer in run.peer.model.encoder.layers:
                layer.compile(dynamic=False)
            first = run.seconds(work)
            after = run.interleaved({"compiled": work})
            for layer in run.peer.model.encoder.layers:
                layer._compiled_call_impl = None
        run.found[f"compiled/{prompts}/{batch}"] = {"first": first, **eager, **after}
        rates = {name: batch / taken for name, taken in {**eager, **after}.items()}
        run.say(
            f"Hugging Face, {prompts} prompts, batch {batch}: {rates['eager']:.1f} images/s, compiled "
            f"{rates['compiled']:.1f} (first call {first:.1f} s); ours {rates['ours']:.1f}"
        )


SECTIONS = (card, forms, table, embedded, numerics, profile, tilings, compiled)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=170, help="stop to begin new measurements after these"
    )
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--tiny", action="store_true", help="small sizes: only whether it runs")
    parser.add_argument("--pictures", nargs="*", default=[], help="folders as `evaluate` takes them")
    parser.add_argument("--output", default=os.environ.get("OUT"), help="folder for gpu.md and gpu.json")
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, help="these sections; card goes first"
    )
    arguments = parser.parse_args()
    run = CudaRun(arguments)
    if run.peer is None:
        run.say(vit_large.NO_PEER)
    for section in SECTIONS:
        if section.__name__ not in ("card", *arguments.only):
            continue
        if run.left < 8 and not run.tiny:
            run.say(f"{section.__name__}: left out, no time")
            continue
        start = time.monotonic()
        try:
            section(run)
        except Exception:  # noqa: BLE001 - one section's failure must not lose the others
            run.say(traceback.format_exc(limit=-3))
            device.release(run.device)
        run.say(f"({section.__name__}: {time.monotonic() - start:.1f} s, {run.left:.0f} s left)")


if __name__ == "__main__":
    main()
