"""ViT-L size on a CPU, against Hugging Face's eager network: time, peak memory, share of plain matrix products' rate.

The networks take turns, each call in a process of its own, so that its peak memory is known; random weights, the same
for both where paintings are compared. Seconds are on the clock and, for a busy machine, of the processor. Figures
belong to one run on one machine: compare the ratios. "narrow" is ours with products in bfloat16, as `Segmenter` lets it
compute on CPUs with units for that.

    PYTHONPATH=. python3 benchmarks/vit_large_cpu.py [--prompts 1 4 8] [--threads 2] [--rounds 1]
    PYTHONPATH=. python3 benchmarks/vit_large_cpu.py --tiny     # does it run? no figures worth reading

`pip install transformers` for Hugging Face's network; without it only ours is measured.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from rich.table import Table
from torch import Tensor

from benchmarks import vit_large
from benchmarks.tables import Console
from model import device
from model.seggpt import SegGPT, SegGPTConfig

CPU = torch.device("cpu")
Found = dict[str, float]
Product = tuple[int, int, int, int]


def products(config: SegGPTConfig, prompts: int) -> Iterator[Product]:
    """The matrix products of one prediction of ours: rows, inner size, columns, how often."""
    tokens, width, heads = config.side**2, config.embed_dim, config.num_heads
    hidden, channels = round(width * config.mlp_ratio), config.embed_dim // config.num_heads
    double = config.merge_index + 1  # layers with two stacks
    seen = (config.side + 1) * config.side  # tokens that the decoder reads: all that the last layer keeps
    behind = ((width, width), (width, hidden), (hidden, width))  # the attention
    yield from ((seen, inner, columns, 1) for inner, columns in behind)
    for stacks, layers in ((2, double), (1, config.depth - double)):
        rows = stacks * (prompts + 1) * tokens
        yield rows, width, 3 * width, layers
        kept = layers - (stacks == 1)
        yield from ((rows, inner, columns, kept) for inner, columns in behind)
        above, below = stacks * layers * heads * prompts, stacks * layers * heads * (prompts + 1)
        yield tokens, channels, 2 * tokens, above
        yield tokens, 2 * tokens, channels, above
        yield tokens, channels, tokens, below
        yield tokens, tokens, channels, below
    patch, painted = config.patch_size**2, config.decoder_embed_dim
    yield (2 * prompts + 1) * tokens, 3 * patch, width, 1
    yield seen, len(config.intermediate_indices) * width, patch * painted, 1
    yield seen * patch, 9 * painted, painted, 1
    yield seen * patch, painted, 3, 1


def timed(work: Callable[[], object], times: int = 1) -> tuple[float, float]:
    """Seconds of one call on the clock, and of the processor in all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    return (time.perf_counter() - clock) / times, (time.process_time() - processor) / times


def least(config: SegGPTConfig, prompts: int) -> tuple[float, float]:
    """Seconds that the plain matrix products of a prediction take, as `timed`."""
    clock = processor = 0.0
    for rows, inner, columns, count in products(config, prompts):
        first, second = torch.randn(rows, inner), torch.randn(columns, inner)
        out = torch.empty(rows, columns)

        def product(first: Tensor = first, second: Tensor = second, out: Tensor = out) -> None:
            torch.mm(first, second.t(), out=out)

        product()
        seconds = timed(product, min(count, 3 if rows * inner * columns > 1e9 else 50))
        clock, processor = clock + count * seconds[0], processor + count * seconds[1]
    return clock, processor


def ours(config: SegGPTConfig, peer: object = None) -> SegGPT:
    """Our network, computing as `Segmenter` lets it on a CPU."""
    network = vit_large.ours(config, CPU, peer)
    grid, channels = (config.side, config.side), config.embed_dim // config.num_heads
    network.use(device.choose_attention(CPU, torch.float32, grid, config.num_heads, channels))
    return network


def measure(which: str, config: SegGPTConfig, prompts: int) -> Found:
    """One call of one network in this process."""
    given = vit_large.inputs(config, CPU, torch.float32, 1, prompts)
    peer = vit_large.hugging_face(config, CPU) if which == "peer" else None
    network = ours(config) if peer is None else None
    if network and which == "narrow":
        network.narrow()

    def paint() -> Tensor:
        result: Tensor = network(*given) if network else vit_large.ask_hugging_face(peer, *given)
        return result

    with torch.inference_mode():
        torch.randn(512, 512) @ torch.randn(512, 512)  # threads and libraries are awake
        painted: list[Tensor] = []
        clock, processor = timed(lambda: painted.append(paint()))
        found = {"clock": clock, "processor": processor}
        found["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        if which == "ours":
            found["least clock"], found["least processor"] = least(config, prompts)
        elif which == "peer" and prompts == 1:
            found["difference"] = float((ours(config, peer)(*given) - painted[0]).abs().max())
    return found


def ask(which: str, prompts: int, given: argparse.Namespace) -> Found:
    """`measure` in a process of its own, whose idle threads do not count as work."""
    command = [sys.executable, __file__, "--measure", which, "--prompts", str(prompts)]
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command += ["--tiny"] if given.tiny else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    print(f"{prompts} prompts, {which}: {found}; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return found


def middle(founds: list[Found]) -> Found:
    """Medians."""
    return {name: statistics.median(found[name] for found in founds) for name in founds[0]}


def show(figures: dict[int, dict[str, Found]], threads: int, load: float) -> None:
    """Print the table of ratios."""
    table = Table(
        "prompts", "ours, s", "HF / ours, clock", "HF / ours, processor", "of plain products' rate, clock",
        "of plain products' rate, processor", "ours, GB", "HF, GB", "ours / HF, memory",
        "narrow, s", "HF / narrow, clock", "HF / narrow, processor", "narrow, GB",
        title=f"ViT-L size, one query, float32, {threads} threads, load {load:.1f} at the start",
    )  # fmt: skip
    for prompts, found in figures.items():
        mine, peer = found["ours"], found.get("peer")
        told = [str(prompts), f"{mine['clock']:.1f}"]
        told += [f"{peer[kind] / mine[kind]:.2f}" if peer else "-" for kind in ("clock", "processor")]
        told += [f"{mine[f'least {kind}'] / mine[kind]:.0%}" for kind in ("clock", "processor")]
        told += [f"{mine['gigabytes']:.2f}"]
        told += (
            [f"{peer['gigabytes']:.2f}", f"{mine['gigabytes'] / peer['gigabytes']:.2f}"]
            if peer
            else ["-", "-"]
        )
        told += narrowly(found.get("narrow"), peer)
        table.add_row(*told)
    table.caption = None if all("peer" in found for found in figures.values()) else vit_large.NO_PEER
    difference = figures.get(1, {}).get("peer", {}).get("difference")
    if difference is not None:
        table.caption = f"One prompt: the largest difference of the paintings is {difference:.1e}."
    Console(width=200).print(table)


def narrowly(narrow: Found | None, peer: Found | None) -> list[str]:
    """What the table says of the network with narrow products."""
    if narrow is None:
        return ["-"] * 4
    ratios = [f"{peer[kind] / narrow[kind]:.2f}" if peer else "-" for kind in ("clock", "processor")]
    return [f"{narrow['clock']:.1f}", *ratios, f"{narrow['gigabytes']:.2f}"]


def main() -> None:
    """Read the command line, let the networks take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="small sizes: only whether it runs")
    parser.add_argument("--measure", choices=["ours", "narrow", "peer"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    config = vit_large.TINY if given.tiny else vit_large.PUBLISHED
    if given.measure:
        print(json.dumps(measure(given.measure, config, given.prompts[0])))
        return
    contestants = ["ours", *(["narrow"] if device.narrows(CPU) else []), "peer"]
    if importlib.util.find_spec("transformers") is None:
        print(vit_large.NO_PEER)
        contestants.remove("peer")
    load = os.getloadavg()[0]
    figures = {}
    for prompts in given.prompts:
        founds: dict[str, list[Found]] = {which: [] for which in contestants}
        for _ in range(given.rounds):
            for which in contestants:
                founds[which].append(ask(which, prompts, given))
        figures[prompts] = {which: middle(found) for which, found in founds.items()}
    show(figures, given.threads, load)


if __name__ == "__main__":
    main()
