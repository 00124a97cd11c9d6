"""What the paper's loss lacks where a target is small: by how much two masks overlap. Knows no network."""

import torch
from torch import Tensor

from model import canvas
from model.evaluation import THRESHOLD

_SHARPNESS = 8.0  # of the step from background to target, a unit of brightness
_FORGIVEN = 0.01  # of the pixels; so little found where nothing is wanted hardly counts


def overlap_loss(painted: Tensor, target: Tensor) -> Tensor:
    """One minus the Dice coefficient, mean over the batch: what the paper's loss lacks where a target is small.

    Smooth-L1 asks for the median: where the network is unsure of a small target, that is background everywhere.

    Args:
        painted: `[B, 3, H, W]`, the network's output.
        target: `[B, 3, H, W]`, the painted masks, normalised.

    Returns:
        A scalar, 0 to 1.
    """
    mean, std = (
        torch.tensor(part, device=painted.device)[:, None, None] for part in (canvas.MEAN, canvas.STD)
    )
    brightness = (painted.float() * std + mean).mean(dim=1)
    found = torch.sigmoid((brightness - THRESHOLD) * _SHARPNESS).flatten(1)
    wanted = canvas.probability(target).flatten(1)
    forgiven = _FORGIVEN * wanted.shape[1]
    dice = (2 * (found * wanted).sum(1) + forgiven) / (found.sum(1) + wanted.sum(1) + forgiven)
    return 1 - dice.mean()
