"""`python -m model.pretraining`: one command from packages to weights and their card; every step skips what is there."""

import argparse
import json
import logging
import os
import platform
from pathlib import Path

import torch

from model.checkpoint import load
from model.evaluation import evaluate_folder
from model.pretraining import card, pools, shards, sources, watching
from model.pretraining.recipes import NETWORKS, RECIPES
from model.pretraining.stream import Ring, Stream
from model.pretraining.training import Length, Training, export
from model.segmenter import Segmenter

log = logging.getLogger("model.pretraining")

WEIGHTS = Path(__file__).parent.parent / "weights"
_SHARD = 3000  # groups a file
_VALIDATION = 400  # groups


def main(arguments: list[str] | None = None) -> None:
    """Fetch, make samples, train, write weights and card.

    Args:
        arguments: of the command line; the process's own where None.
    """
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    fetched(options)
    if options.device != "cpu" and not options.samples_only:
        with_stream(options)
        return
    train, validation = prepare(options)
    if not options.samples_only:
        _train(options, train, validation)


def with_stream(options: argparse.Namespace) -> None:
    """Train on an accelerator, on groups that are made meanwhile: a card wants more than a disk holds.

    Args:
        options: of the command line.
    """
    material = pools.load(options.cache / "pools", "train", not options.permissive)
    stream = Stream(material, options.workers, options.seed)
    try:
        ring = Ring(options.groups, torch.device(options.device))
        stream.fill(ring, least=min(options.groups, 2000))
        _train(options, ring, _validation(options))
        log.info("%d groups were made", ring.made)
    finally:
        stream.close()


def _train(options: argparse.Namespace, stock: list[shards.Shard] | Ring, validation: shards.Shard) -> None:
    training = Training(
        NETWORKS[options.network],
        RECIPES[options.recipe],
        stock,
        Length(options.steps, options.minutes),
        options.seed,
        autocast=not options.fp32,
        workers=options.workers,
    )
    run = (
        options.cache
        / "runs"
        / f"{options.recipe}-{options.network}-{options.seed}{'-permissive' * options.permissive}"
    )
    run.mkdir(parents=True, exist_ok=True)
    state = run / "state.pt"
    if options.resume and state.exists():
        training.resume(state)
        log.info("going on at step %d", training.tally.step)
    weights = options.output / "embedded.safetensors"

    def watch(training: Training) -> None:
        export(training.average, training.network.config, run / "latest.safetensors", options.size)
        network = load(run / "latest.safetensors")
        watching.preview(network, validation, options.size, run / "preview.png")
        if training.tally.step % (10 * options.every) == 0 or training.done:
            network.to(training.device)
            log.info("validation %s", json.dumps(watching.validation(network, validation, options.size)))

    training.run(state, options.every, watch)
    export(training.average, training.network.config, weights, options.size)
    card.write(options.output / "README.md", _facts(options, training, validation, weights))
    log.info("%s, %.1f MB; look at %s", weights, weights.stat().st_size / 1e6, run / "preview.png")


def fetched(options: argparse.Namespace) -> None:
    """Fetch packages and make pools of them where they are missing.

    Args:
        options: of the command line.
    """
    cache: Path = options.cache
    cache.mkdir(parents=True, exist_ok=True)
    log.info("packages and pictures in %s", cache)
    if not pools.built(cache / "pools"):
        sources.fetch(cache)
        pools.build(cache, cache / "pools")


def prepare(options: argparse.Namespace) -> tuple[list[shards.Shard], shards.Shard]:
    """Make samples where they are missing.

    Args:
        options: of the command line.

    Returns:
        Training shards, and the validation shard.
    """
    cache: Path = options.cache
    kind = "permissive" if options.permissive else "all"
    folders = [
        cache / "shards" / f"{kind}-{options.seed}-{number}" for number in range(-(-options.groups // _SHARD))
    ]
    for number, folder in enumerate(folders):
        groups = min(_SHARD, options.groups - number * _SHARD)
        log.info("samples %d of %d", number + 1, len(folders))
        seed = 1000 * options.seed + number
        shards.write(folder, cache / "pools", "train", groups, seed, options.workers, not options.permissive)
    return [shards.read(folder) for folder in folders], _validation(options)


def _validation(options: argparse.Namespace) -> shards.Shard:
    aside = options.cache / "shards" / "validation"
    shards.write(aside, options.cache / "pools", "validation", _VALIDATION, 999, options.workers)
    return shards.read(aside)


def _facts(
    options: argparse.Namespace, training: Training, validation: shards.Shard, weights: Path
) -> card.Facts:
    network = load(weights).to(training.device)
    segmenter = Segmenter.load(weights, guided=True)
    reports = [evaluate_folder(folder, segmenter, (1, 4, 8)) for folder in options.evaluate]
    return card.Facts(
        recipe=options.recipe,
        config=network.config,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        seed=options.seed,
        hours=training.tally.seconds / 3600,
        samples=training.tally.samples,
        groups=training.stock.made if isinstance(training.stock, Ring) else options.groups,
        machine=_machine(training.device, options.workers),
        copyleft=not options.permissive,
        validation=watching.validation(network, validation, options.size),
        sets={report.dataset: {row.shots: row.miou for row in report.rows} for report in reports},
    )


def _machine(device: torch.device, workers: int) -> str:
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}, with {workers} processes that make samples"
    return f"{workers} threads of {platform.machine()}"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m model.pretraining", description=__doc__)
    add = parser.add_argument
    add(
        "--recipe",
        choices=sorted(RECIPES),
        default="small",
        help="small: for a CPU in hours; accelerated: for a GPU in minutes; paper: as published",
    )
    add("--network", choices=sorted(NETWORKS), default="small", help="sizes of the network")
    add(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "seggpt-pretraining",
        help="packages, samples, runs",
    )
    add("--output", type=Path, default=WEIGHTS, help="folder of embedded.safetensors and its card")
    add("--minutes", type=float, default=90.0, help="of training, over all resumptions")
    add("--steps", type=int, default=0, help="of training, instead of minutes")
    add(
        "--resume",
        action="store_true",
        help="go on where the last run of this recipe, network and seed stood",
    )
    add("--device", default="cpu", help="cpu, or cuda: groups are made while it trains, the latest are kept")
    add(
        "--groups",
        type=int,
        default=15_000,
        help="groups of five images to make, or to keep with --device cuda",
    )
    add("--seed", type=int, default=0)
    add("--size", type=int, default=96, help="side in pixels at which the weights work")
    add("--every", type=int, default=200, help="steps between two checkpoints and previews")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads and processes")
    add("--permissive", action="store_true", help="leave out images under copyleft licences")
    add("--fp32", action="store_true", help="no bf16 (faster on processors without it)")
    add("--samples-only", action="store_true", help="fetch and make samples, then stop")
    add(
        "--evaluate",
        type=Path,
        nargs="*",
        default=[],
        metavar="FOLDER",
        help="evaluation sets whose figures go into the card",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
