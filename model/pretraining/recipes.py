"""Recipes: sizes, rates, schedule and loss of a training; knows no files."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.canvas import STD
from model.pretraining.batches import Batch, brightness
from model.pretraining.muon import Muon
from model.seggpt import SegGPT, SegGPTConfig, painting_loss

SMALL = SegGPTConfig(
    image_size=128,
    patch_size=8,
    embed_dim=192,
    depth=6,
    num_heads=4,
    decoder_embed_dim=16,
    pretrain_image_size=128,
    merge_index=0,
    intermediate_indices=(1, 3, 5),
)

MEDIUM = replace(SMALL, embed_dim=256, depth=8, intermediate_indices=(1, 3, 5, 7))

NETWORKS = {"small": SMALL, "medium": MEDIUM, "vit-large": SegGPTConfig()}

STEEPNESS = 6.0  # from brightness about one half to logits


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one image size.

    Attributes:
        until: share of the training at which it ends.
        size: side in pixels; 0 for the network's own.
        batch: samples a step with one prompt.
    """

    until: float
    size: int
    batch: int


@dataclass(frozen=True, eq=False)
class Recipe:
    """How to train.

    Attributes:
        name: as given on the command line.
        phases: image sizes, small ones first.
        several: share of steps with several prompts, once `several_from` of the training is over.
        several_from: share of the training.
        paper: random colours and mixed contexts instead of black and white (`batches.draw`).
        jobs: heads start with jobs.
        decay: of the averaged weights.
        loss: of the painted query and the batch.
        rate: multiple of the base rates at a share of the training, 0 to 1.
        optimisers: for a network.
    """

    name: str
    phases: tuple[Phase, ...]
    several: float
    several_from: float
    paper: bool
    jobs: bool
    decay: float
    loss: Callable[[Tensor, Batch], Tensor]
    rate: Callable[[float], float]
    optimisers: Callable[[SegGPT], list[torch.optim.Optimizer]]

    def phase(self, progress: float) -> Phase:
        """The phase at a share of the training."""
        return next((phase for phase in self.phases if progress < phase.until), self.phases[-1])

    def prompts(self, progress: float, rng: np.random.Generator) -> int:
        """How many prompts this step has."""
        if progress < self.several_from or rng.random() >= self.several:
            return 1
        return int(rng.integers(2, 5))


def balanced_loss(painted: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy on brightness with rare pixels counting more, Dice, and a small pull of the channels together.

    Args:
        painted: `[B, 3, H, W]`, the network's output.
        batch: with the target.
    """
    target = batch.target
    logits = STEEPNESS * (brightness(painted) - 0.5)
    cover = target.mean((1, 2), keepdim=True).clamp(0.004, 0.996)
    weight = target * (0.5 / cover).sqrt() + (1 - target) * (0.5 / (1 - cover)).sqrt()
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight)
    chance = logits.sigmoid()
    overlap, total = (chance * target).sum((1, 2)), (chance + target).sum((1, 2))
    dice = 1 - ((2 * overlap + 1) / (total + 1)).mean()
    shades = painted * painted.new_tensor(STD)[:, None, None]
    apart = shades.var(dim=1).mean()
    return entropy + dice + 0.5 * apart


def _paper_loss(painted: Tensor, batch: Batch) -> Tensor:
    return painting_loss(painted, batch.painted, torch.ones_like(batch.target)[:, None])


def _constant_then_down(progress: float) -> float:
    return 1.0 if progress < 0.6 else max(0.02, (1 - progress) / 0.4)


def _cosine(progress: float) -> float:
    warm = 0.05
    if progress < warm:
        return max(progress / warm, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))


def _muon(network: SegGPT) -> list[torch.optim.Optimizer]:
    stacked, single, tables, rest = [], [], [], []
    for name, parameter in network.named_parameters():
        if name.endswith("qkv.weight"):
            stacked.append(parameter)
        elif parameter.dim() == 2 and "rel_pos" not in name:
            single.append(parameter)
        elif parameter.dim() > 2 and "token" not in name and "pos" not in name:
            rest.append(parameter)
        else:
            tables.append(parameter)
    return [
        Muon([{"params": stacked, "parts": 3}, {"params": single}], lr=0.01),
        torch.optim.AdamW(
            [{"params": rest, "weight_decay": 0.01}, {"params": tables, "weight_decay": 0.0}],
            lr=1e-3,
            betas=(0.9, 0.98),
            fused=True,
        ),
    ]


def _adamw(network: SegGPT) -> list[torch.optim.Optimizer]:
    decayed = [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.dim() == 2 and "rel_pos" not in name
    ]
    kept = {id(parameter) for parameter in decayed}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in kept]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), fused=True)]


# Sizes in turns, so that the network works at either; the last turn is at the smaller one.
_TURNS = tuple(Phase(0.7 + 0.02 * turn, *((96, 448) if turn % 2 else (128, 224))) for turn in range(1, 16))

_SMALL = Recipe(
    name="small",
    phases=(Phase(0.15, 48, 64), Phase(0.75, 64, 48), Phase(1.0, 96, 32)),
    several=0.25,
    several_from=0.3,
    paper=False,
    jobs=True,
    decay=0.998,
    loss=balanced_loss,
    rate=_constant_then_down,
    optimisers=_muon,
)

RECIPES = {
    "small": _SMALL,
    "accelerated": replace(
        _SMALL,
        name="accelerated",
        phases=(Phase(0.3, 64, 640), Phase(0.7, 96, 448), *_TURNS),
        several=0.3,
    ),
    "paper": Recipe(
        name="paper",
        phases=(Phase(1.0, 0, 32),),
        several=0.0,
        several_from=1.0,
        paper=True,
        jobs=False,
        decay=0.9995,
        loss=_paper_loss,
        rate=_cosine,
        optimisers=_adamw,
    ),
}
