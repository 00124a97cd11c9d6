"""The training loop: steps, averaged weights, checkpoints that resume exactly; knows shards, not how they were made."""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from model.attention import attend_halves_folded
from model.pretraining.batches import draw, varied
from model.pretraining.recipes import Recipe
from model.pretraining.shards import Shard
from model.pretraining.starts import give_jobs
from model.pretraining.stream import Ring
from model.seggpt import SegGPT, SegGPTConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Length:
    """How long to train: by the clock or by steps; the first that is set counts.

    Attributes:
        steps: optimiser steps, 0 for none set.
        minutes: of training, over all resumptions.
    """

    steps: int = 0
    minutes: float = 0.0


@dataclass
class Tally:
    """What has been done so far."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    def progress(self, length: Length) -> float:
        """Share of the training that is over."""
        return self.step / length.steps if length.steps else self.seconds / (60 * length.minutes)


class Training:
    """A network in training.

    Args:
        config: sizes of the network.
        recipe: how to train it.
        stock: what it learns from: shards on disk, or a ring that is being filled. A ring's device is where the
            network is trained.
        length: how long.
        seed: of weights and of samples.
        autocast: bf16 in the forward pass.
        workers: threads that share a step, on a CPU.
    """

    def __init__(
        self,
        config: SegGPTConfig,
        recipe: Recipe,
        stock: list[Shard] | Ring,
        length: Length,
        seed: int,
        autocast: bool = True,
        workers: int = 2,
    ) -> None:
        torch.manual_seed(seed)
        self.network = SegGPT(config)
        if recipe.jobs:
            give_jobs(self.network)
        self.device = stock.device if isinstance(stock, Ring) else torch.device("cpu")
        self.network.to(self.device)
        if self.device.type != "cpu":
            self.network.use(attend_halves_folded)
        self.recipe, self.stock, self.length, self.autocast = recipe, stock, length, autocast
        self.optimisers = recipe.optimisers(self.network)
        self.base_rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in self.optimisers]
        self.average = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.rng = np.random.default_rng(seed)
        self.workers = workers if self.device.type == "cpu" else 1
        self._threads = ThreadPoolExecutor(self.workers, initializer=lambda: torch.set_num_threads(1))
        self.tally = Tally()

    @property
    def done(self) -> bool:
        """Whether the length is reached."""
        return self.tally.progress(self.length) >= 1

    def step(self) -> float:
        """One step; returns its loss."""
        started = time.monotonic()
        progress = self.tally.progress(self.length)
        phase, prompts = self.recipe.phase(progress), self.recipe.prompts(progress, self.rng)
        size = phase.size or self.network.config.image_size
        share = max(1, phase.batch * 2 // (prompts + 1) // self.workers)
        seeds = [int(seed) for seed in self.rng.integers(2**62, size=self.workers)]
        parts = list(self._threads.map(lambda seed: self._gradients(seed, share, prompts, size), seeds))
        loss = float(np.mean([part[0] for part in parts]))
        for position, parameter in enumerate(self.network.parameters()):
            known = [grads[position] for _, grads in parts if grads[position] is not None]
            parameter.grad = torch.stack(known).mean(dim=0) if known else None  # type: ignore[arg-type]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 3.0)
        rate = self.recipe.rate(progress) * min(1.0, (self.tally.step + 1) / 50)
        for optimiser, base in zip(self.optimisers, self.base_rates, strict=True):
            for group, lr in zip(optimiser.param_groups, base, strict=True):
                group["lr"] = lr * rate
            optimiser.step()
        self._follow()
        self.tally.step += 1
        self.tally.samples += share * self.workers
        self.tally.seconds += time.monotonic() - started
        self.tally.losses = [*self.tally.losses[-99:], loss]
        return loss

    def _gradients(
        self, seed: int, samples: int, prompts: int, size: int
    ) -> tuple[float, tuple[Tensor | None, ...]]:
        """Loss and gradients of one thread's share: two threads with a core each beat two cores inside every operation."""
        rng, paper = np.random.default_rng(seed), self.recipe.paper
        if isinstance(self.stock, Ring):
            batch = varied(*self.stock.take(samples, prompts + 1, rng), size, rng, paper)
        else:
            batch = draw(self.stock, samples, prompts, size, rng, paper)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            painted = self.network(batch.prompt_images, batch.prompt_masks, batch.query)
        loss = self.recipe.loss(painted.float(), batch)
        return loss.item(), torch.autograd.grad(loss, list(self.network.parameters()), allow_unused=True)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights; a short memory at first."""
        keep = min(self.recipe.decay, (self.tally.step + 1) / (self.tally.step + 10))
        for name, tensor in self.network.state_dict().items():
            self.average[name].lerp_(tensor, 1 - keep)

    def save(self, path: Path) -> None:
        """Write all that `resume` needs, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "rng": json.dumps(self.rng.bit_generator.state),
            "tally": asdict(self.tally),
            "config": asdict(self.network.config),
            "recipe": self.recipe.name,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on where `save` stood.

        Args:
            path: of the checkpoint.

        Raises:
            ValueError: if it is of another network or recipe.
        """
        state = torch.load(path, weights_only=True, map_location=self.device)
        config = SegGPTConfig(**state["config"])
        if config != self.network.config or state["recipe"] != self.recipe.name:
            raise ValueError(f"{path} is of another network or recipe: remove it, or drop --resume")
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.tally = Tally(**state["tally"])

    def run(
        self, checkpoint: Path, every: int = 200, watch: Callable[["Training"], None] | None = None
    ) -> None:
        """Train to the end.

        Args:
            checkpoint: where the state is kept.
            every: steps between two checkpoints.
            watch: called after each checkpoint.
        """
        while not self.done:
            self.step()
            if self.tally.step % 20 == 0:
                self._report()
            if self.tally.step % every == 0 or self.done:
                self.save(checkpoint)
                if watch is not None:
                    watch(self)

    def _report(self) -> None:
        tally = self.tally
        progress = tally.progress(self.length)
        size = self.recipe.phase(progress).size or self.network.config.image_size
        loss, speed = float(np.mean(tally.losses)), tally.samples / max(tally.seconds, 1e-9)
        log.info(
            "step %d  %d px  %.1f %%  loss %.3f  %d samples, %.1f a second",
            tally.step,
            size,
            100 * progress,
            loss,
            tally.samples,
            speed,
        )


def export(average: dict[str, Tensor], config: SegGPTConfig, path: Path, size: int | None = None) -> None:
    """Write weights in half precision, with the sizes in the metadata, whole or not at all.

    Args:
        average: weights by name.
        config: sizes of the network that was trained.
        path: of the safetensors file.
        size: side in pixels at which the file's network works; the trained one where None. The tables of
            relative positions are brought to it just as the network would do on the way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    config = replace(config, image_size=size or config.image_size)
    rows = {"rel_pos_h": 4 * config.side - 1, "rel_pos_w": 2 * config.side - 1}
    tensors = {}
    for name, tensor in average.items():
        wanted = rows.get(name.rsplit(".", 1)[-1], len(tensor))
        fitted = (
            tensor
            if wanted == len(tensor)
            else F.interpolate(tensor.t()[None], size=wanted, mode="linear")[0].t()
        )
        tensors[name] = fitted.half().cpu().contiguous()
    partial = path.with_suffix(".partial")
    save_file(tensors, str(partial), metadata={"config": json.dumps(asdict(config))})
    partial.chmod(0o644)  # it is written for its owner alone
    partial.replace(path)
