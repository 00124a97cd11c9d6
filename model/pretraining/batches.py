"""Groups on disk to batches of normalised tensors, with the changes that cost nothing to make afresh."""

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.canvas import MEAN, STD
from model.pretraining.shards import Shard

CONTESTED = 0.5  # share of samples with a second thing in the picture that might be meant
ECHOED = 0.3  # share of samples whose first prompt is the query's own picture


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    Attributes:
        prompt_images: `[B, P, 3, s, s]`, normalised.
        prompt_masks: `[B, P, 3, s, s]`, painted and normalised.
        query: `[B, 3, s, s]`, normalised.
        target: `[B, s, s]`, the query's mask, 0 to 1.
        painted: `[B, 3, s, s]`, the query's painted mask, normalised.
    """

    prompt_images: Tensor
    prompt_masks: Tensor
    query: Tensor
    target: Tensor
    painted: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(*(getattr(self, part.name).to(device) for part in fields(self)))


def normalised(pixels: Tensor) -> Tensor:
    """`[..., 3, H, W]` in 0 to 1, to mean 0 and deviation 1 by channel."""
    return (pixels - pixels.new_tensor(MEAN)[:, None, None]) / pixels.new_tensor(STD)[:, None, None]


def brightness(painted: Tensor) -> Tensor:
    """`[B, 3, H, W]` normalised, to the mean of the un-normalised channels `[B, H, W]`: about 0 to 1, not clipped."""
    pixels = painted * painted.new_tensor(STD)[:, None, None] + painted.new_tensor(MEAN)[:, None, None]
    return pixels.mean(dim=1)


def draw(
    shards: list[Shard],
    batch: int,
    prompts: int,
    size: int,
    rng: np.random.Generator,
    paper: bool = False,
    gentle: bool = False,
) -> Batch:
    """Draw groups, choose prompts and query from each, and vary place, light and colour.

    Args:
        shards: to draw from, in proportion to their sizes.
        batch: samples.
        prompts: examples a query, at most the members of a group less one.
        size: side in pixels.
        rng: source of chance.
        paper: paint with random colours instead of black and white, and mix contexts: some images are two members
            of the group stitched together, then cropped.
        gentle: no variation at all, for validation.
    """
    sizes = np.array([len(shard.tasks) for shard in shards])
    images, masks = [], []
    for _ in range(batch):
        shard = shards[int(rng.choice(len(shards), p=sizes / sizes.sum()))]
        index = int(rng.integers(len(shard.tasks)))
        chosen = rng.permutation(shard.images.shape[1])[: prompts + 1]
        images.append(np.asarray(shard.images[index])[chosen])
        masks.append(np.asarray(shard.masks[index])[chosen])
    return varied(
        torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), size, rng, paper, gentle
    )


def varied(
    images: Tensor,
    masks: Tensor,
    size: int,
    rng: np.random.Generator,
    paper: bool = False,
    gentle: bool = False,
) -> Batch:
    """Make a batch of members of groups, on the device where they lie; the first of each is the query.

    Args:
        images: `[B, 1 + P, S, S, 3]` uint8.
        masks: `[B, 1 + P, S, S]` uint8, 0 or 255.
        size: as for `draw`.
        rng: as for `draw`.
        paper: as for `draw`.
        gentle: as for `draw`.
    """
    pixels = images.permute(0, 1, 4, 2, 3).float() / 255
    drawn = masks[:, :, None].float() / 255
    stack = torch.cat([pixels, drawn], dim=2)
    if paper:
        stack = _mixed(stack, rng)
    elif not gentle:
        stack = echoed(contested(stack, rng), rng)
    moved = _resized(stack, size) if gentle else _moved(stack, size, rng)
    pixels, drawn = moved[:, :, :3].clamp(0, 1), moved[:, :, 3:].clamp(0, 1)
    if not gentle:
        pixels = _recoloured(pixels, rng)
        drawn = torch.where(_chance(rng, drawn, 1 / 7), 1 - drawn, drawn)
    painted = normalised(_painted(drawn, rng) if paper else drawn.expand(-1, -1, 3, -1, -1))
    shown = normalised(pixels)
    return Batch(shown[:, 1:], painted[:, 1:], shown[:, 0], drawn[:, 0, 0], painted[:, 0])


def _resized(stack: Tensor, size: int) -> Tensor:
    flat = F.interpolate(
        stack.flatten(0, 1), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return flat.reshape(*stack.shape[:3], size, size)


def contested(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """Paste another sample's targets into the images of about half of the samples; either may be what is wanted.

    Without it, what stands out is the right answer so often that a network learns to look for that, and never looks at
    the prompt: only the prompt tells which of the two is meant.

    Args:
        stack: `[B, P, 4, H, W]`, pictures with their masks as the fourth channel, 0 to 1.
        rng: source of chance.

    Returns:
        As `stack`. A sample in which either thing would be hidden somewhere stays as it is.
    """
    rival = stack.roll(1, 0)
    own, theirs = stack[:, :, 3:], rival[:, :, 3:]
    left = own * (1 - theirs)
    wanted = torch.where(_chance(rng, stack, 0.5), theirs, left)
    pasted = torch.cat([stack[:, :, :3] * (1 - theirs) + rival[:, :, :3] * theirs, wanted], dim=2)
    cover, before = left.mean((2, 3, 4)), own.mean((2, 3, 4))
    both_seen = ((cover > 0.3 * before) & (cover > 0.002)).all(dim=1)
    chosen = _chance(rng, stack, CONTESTED) & both_seen[:, None, None, None, None]
    return torch.where(chosen, pasted, stack)


def echoed(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """Let the first prompt of some samples be the query's own picture, before each is moved in its own way.

    Args:
        stack: `[B, P, 4, H, W]`, the query first.
        rng: source of chance.
    """
    echo = stack.clone()
    echo[:, 1] = stack[:, 0]
    return torch.where(_chance(rng, stack, ECHOED), echo, stack)


def _chance(rng: np.random.Generator, stack: Tensor, share: float) -> Tensor:
    """For each sample of a stack whether something happens to it, `[B, 1, 1, 1, 1]`."""
    return torch.from_numpy(rng.random(len(stack)) < share)[:, None, None, None, None].to(stack.device)


def _mixed(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """Stitch each image of some samples to another one of its sample, and crop a square from the pair."""
    mixed = stack.clone()
    B, P, _, side, _ = stack.shape
    for sample in np.flatnonzero(rng.random(B) < 0.3):
        for place in range(P):
            other = int(rng.integers(P))
            along = 1 + int(rng.integers(2))
            pair = torch.cat([stack[sample, place], stack[sample, other]], dim=along)
            mixed[sample, place] = pair.narrow(along, int(rng.integers(side // 4, 3 * side // 4)), side)
    return mixed


def _moved(stack: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Random crop, stretch, tilt and flip of each image; given up where the mask would be lost."""
    count = stack.shape[0] * stack.shape[1]
    flat = stack.flatten(0, 1)
    zoom = np.where(rng.random(count) < 0.5, rng.uniform(0.55, 1.0, count), 1.0)
    stretch = np.exp(rng.normal(0, 0.08, count))
    turn = np.where(rng.random(count) < 0.4, rng.normal(0, 0.2, count), 0.0)
    flip = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = flip * zoom * stretch * np.cos(turn), zoom * np.sin(turn)
    theta[:, 1, 0], theta[:, 1, 1] = -flip * zoom * np.sin(turn), zoom / stretch * np.cos(turn)
    theta[:, :, 2] = rng.uniform(-1, 1, (count, 2)) * (1 - zoom)[:, None]
    still = theta.copy()
    still[:, :, :2], still[:, :, 2] = np.eye(2), 0
    if size < flat.shape[-1] * 0.6:
        flat = F.avg_pool2d(flat, 2)
    warped = _warp(flat, torch.from_numpy(theta).to(flat), size)
    cover, before = warped[:, 3].mean((1, 2)), flat[:, 3].mean((1, 2))
    lost = (cover < 0.004) | (cover < 0.25 * before) | (cover > 0.95)
    if lost.any():
        warped[lost] = _warp(flat[lost], torch.from_numpy(still[lost.cpu().numpy()]).to(flat), size)
    return warped.reshape(*stack.shape[:3], size, size)


def _warp(flat: Tensor, theta: Tensor, size: int) -> Tensor:
    grid = F.affine_grid(theta, [len(flat), flat.shape[1], size, size], align_corners=False)
    return F.grid_sample(flat, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recoloured(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Colour changes that a group shares (mixing, permutation, inversion, grey), then a small one an image."""
    B, P = pixels.shape[:2]
    mixes, offsets = np.broadcast_to(np.eye(3), (B, 3, 3)).copy(), np.zeros((B, 3))
    permuted = rng.random(B) < 0.35
    mixes[permuted] = np.eye(3)[rng.random((B, 3)).argsort(axis=1)][permuted]
    share = (rng.uniform(0.2, 1, B) * (rng.random(B) < 0.2))[:, None, None]
    mixes = mixes * (1 - share) + share * rng.dirichlet(np.ones(3), (B, 3))
    grey = rng.random(B) < 0.15
    mixes[grey] = np.repeat(rng.dirichlet(np.ones(3) * 3, (B, 1)), 3, axis=1)[grey]
    inverted = rng.random(B) < 0.12
    mixes[inverted], offsets[inverted] = -mixes[inverted], 1

    def here(numbers: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(numbers).to(pixels)

    mixed = torch.einsum("bij,bpjhw->bpihw", here(mixes), pixels) + here(offsets)[:, None, :, None, None]
    gain = here(np.exp(rng.normal(0, 0.12, (B, P, 1, 1, 1)) + rng.normal(0, 0.04, (B, P, 3, 1, 1))))
    shift = here(rng.normal(0, 0.05, (B, P, 1, 1, 1)))
    gamma = here(np.exp(rng.normal(0, 0.15, (B, 1, 1, 1, 1))))
    return ((mixed - 0.5) * gain + 0.5 + shift).clamp(1e-4, 1).pow(gamma)


def _painted(drawn: Tensor, rng: np.random.Generator) -> Tensor:
    """Random colours for target and rest, the same in all images of a sample."""
    palette = torch.from_numpy(rng.random((2, drawn.shape[0], 1, 3, 1, 1))).to(drawn)
    return palette[0] * (1 - drawn) + palette[1] * drawn
