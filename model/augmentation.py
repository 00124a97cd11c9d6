"""One example becomes many: crops, mirrors and changed colours, for learning from few."""

import numpy as np
import torch
from torch import Tensor

from model import canvas
from model.example import Example

LEAST_SIDE = 0.5  # of the picture's sides, that a crop keeps


def augmented(example: Example, size: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A crop of the example, perhaps mirrored, its brightness, contrast and colours changed a little.

    Args:
        example: of any size.
        size: side of the result in pixels.
        random: what is drawn from.

    Returns:
        Image and painted mask, both `[3, size, size]` float32, normalised.
    """
    height, width = example.mask.shape
    share = random.uniform(LEAST_SIDE, 1.0)
    high, wide = max(1, round(height * share)), max(1, round(width * share))
    top, left = random.integers(height - high + 1), random.integers(width - wide + 1)
    image = example.image[top : top + high, left : left + wide]
    mask = example.mask[top : top + high, left : left + wide]
    if random.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    small = canvas.resize_picture(np.ascontiguousarray(image), size, size).astype(np.float32)
    contrast = random.uniform(0.85, 1.15) * random.uniform(0.95, 1.05, 3)
    changed = np.clip(small * contrast + random.uniform(-15, 15) + random.uniform(-6, 6, 3), 0, 255)
    query = canvas.normalise(torch.from_numpy(changed.astype(np.float32)).permute(2, 0, 1))
    return query, canvas.mask_tensor(np.ascontiguousarray(mask), size)
