"""How far a training is: IoU on kept-apart concepts and pictures, and a preview to look at."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.canvas import MEAN, STD
from model.pretraining.batches import Batch, brightness, draw
from model.pretraining.shards import MEMBERS, TASKS, Shard
from model.seggpt import SegGPT

_AT_ONCE = 16


@torch.no_grad()
def validation(network: SegGPT, shard: Shard, size: int, prompts: int = 1, seed: int = 0) -> dict[str, float]:
    """Mean IoU of each task of a validation shard.

    Args:
        network: with the weights to judge.
        shard: made with the split "validation".
        size: side in pixels.
        prompts: examples a query.
        seed: which member of a group is the query.

    Returns:
        IoU, 0 to 1, by the task's name, and "mean" over the tasks.
    """
    if not 1 <= prompts < MEMBERS:
        raise ValueError(f"prompts must be 1 to {MEMBERS - 1}, not {prompts}")
    scores: dict[str, float] = {}
    for index, task in enumerate(TASKS):
        rows = np.flatnonzero(np.asarray(shard.tasks) == index)
        if not len(rows):
            continue
        chosen = Shard(shard.images[rows], shard.masks[rows], shard.tasks[rows])
        rng, device = np.random.default_rng(seed), network.mask_token.device
        found: list[float] = []
        while len(found) < len(rows):
            batch = draw([chosen], _AT_ONCE, prompts, size, rng, gentle=True).to(device)
            found += _overlap(network(batch.prompt_images, batch.prompt_masks, batch.query), batch.target)
        scores[task.name] = float(np.mean(found))
    scores["mean"] = float(np.mean(list(scores.values())))
    return scores


def _overlap(painted: Tensor, target: Tensor) -> list[float]:
    found, wanted = brightness(painted) > 0.5, target > 0.5
    union = (found | wanted).sum((1, 2)).clamp(min=1)
    values: list[float] = ((found & wanted).sum((1, 2)) / union).tolist()
    return values


@torch.no_grad()
def preview(network: SegGPT, shard: Shard, size: int, path: Path, rows: int = 12, seed: int = 0) -> None:
    """Write a picture: one line a sample, with prompt, its mask, query, wanted mask and painted mask.

    Args:
        network: with the weights to show.
        shard: where the samples come from; always the same ones for one seed.
        size: side in pixels.
        path: of the PNG.
        rows: lines.
        seed: which samples.
    """
    batch = draw([shard], rows, 1, size, np.random.default_rng(seed), gentle=True)
    painted = network(batch.prompt_images, batch.prompt_masks, batch.query)
    lines = np.concatenate([_line(batch, painted, row) for row in range(rows)])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(lines).save(path)


def _line(batch: Batch, painted: Tensor, row: int) -> NDArray[np.uint8]:
    tiles = (
        batch.prompt_images[row, 0],
        batch.prompt_masks[row, 0],
        batch.query[row],
        batch.painted[row],
        painted[row],
    )
    deviation, mean = painted.new_tensor(STD)[:, None, None], painted.new_tensor(MEAN)[:, None, None]
    strip = torch.cat([tile * deviation + mean for tile in tiles], dim=2).clamp(0, 1)
    pixels: NDArray[np.uint8] = (strip.permute(1, 2, 0) * 255).round().byte().numpy()
    return pixels
