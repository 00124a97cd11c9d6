"""Pictures and masks to tensors and back, and a cheap description of a picture; knows neither network nor files.

All the forms in which pictures and masks arrive (grey, transparent, 16-bit, 0/1, 0/255 ...) are told apart here only.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.example import Mask, Picture

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MASK_THRESHOLD = 127  # of 255; above it a pixel of an 8-bit mask is foreground
DESCRIBED_SIZE = 64  # side in pixels at which a picture is described


def to_rgb(picture: NDArray[Any]) -> Picture:
    """Bring a picture to RGB.

    Args:
        picture: `[H, W]`, or `[H, W, C]` with C of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). uint8 is taken as
            it is; bool as black and white; wider integers are stretched from their least to their greatest value
            (all colour channels together); floats are 0 to 1 where none exceeds 1, else 0 to 255. Transparent parts
            are laid over white.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: if the shape or type is none of these.
    """
    picture = np.asarray(picture)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 2, 3, 4) or 0 in picture.shape:
        raise ValueError(f"a picture is [H, W] or [H, W, 1 to 4 channels] and not empty, not {picture.shape}")
    opaque = picture.shape[2] % 2 == 1
    colours = _to_bytes(picture if opaque else picture[:, :, :-1])
    if not opaque:
        alpha = _alpha(picture[:, :, -1:])
        over_white = np.float32(255) + (colours.astype(np.float32) - 255) * alpha
        colours = np.rint(over_white).astype(np.uint8)
    if colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    return np.ascontiguousarray(colours)


def _to_bytes(values: NDArray[Any]) -> Picture:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(values.dtype, np.integer):
        low, high = int(values.min()), int(values.max())
        stretched = (values.astype(np.float64) - low) * (255 / max(high - low, 1))
    elif np.issubdtype(values.dtype, np.floating):
        known = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=255.0, neginf=0.0)
        stretched = np.clip(known * np.float32(255) if known.max() <= 1 else known, 0, 255)
    else:
        raise ValueError(f"a picture holds integers, floats or bools, not {values.dtype}")
    return np.rint(stretched).astype(np.uint8)


def _alpha(values: NDArray[Any]) -> NDArray[np.float32]:
    """Opacity 0 to 1; full opacity is the type's own, as no picture is stretched in its alpha."""
    if values.dtype == np.bool_:
        return values.astype(np.float32)
    full = 255.0 if values.max() <= 255 else 65535.0
    if np.issubdtype(values.dtype, np.floating) and values.max() <= 1:
        full = 1.0
    return np.clip(values.astype(np.float32) / np.float32(full), 0, 1)


def to_mask(mask: NDArray[Any], size: tuple[int, int] | None = None) -> Mask:
    """Bring the mask of one target to bool.

    Args:
        mask: `[H, W]`, `[H, W, C]` or `[C, H, W]` with C of 1 or 3. Bool; or 0 and 1; or 0 to 255, foreground above
            `MASK_THRESHOLD`; or float, 0 to 1 where none exceeds 1 (foreground above 0.5), else 0 to 255. Of three
            channels, the greatest counts.
        size: `(H, W)` of its picture, where known. Shapes such as `[3, N, 3]` need it to be read without doubt;
            without it, the axis along which three channels are equal is taken for the channels'.

    Returns:
        `[H, W]` bool, True on the target.

    Raises:
        ValueError: if the shape is none of these, or if the values look like several classes' indices.
    """
    mask = np.asarray(mask)
    if mask.ndim == 3:
        mask = np.asarray(mask.max(axis=_channel_axis(mask, size)))
    if mask.ndim != 2 or 0 in mask.shape or (size is not None and mask.shape != size):
        wanted = size or "[H, W] with 0, 1 or 3 channels, not empty"
        raise ValueError(f"a mask is {wanted}, not {mask.shape}")
    if mask.dtype == np.bool_:
        return mask
    greatest = mask.max()
    if greatest <= 1:
        return np.asarray(mask > 0.5)
    if greatest <= MASK_THRESHOLD:
        raise ValueError(f"mask values up to {greatest} look like class indices: pass `mask == index`")
    return np.asarray(mask > MASK_THRESHOLD)


def _channel_axis(mask: NDArray[Any], size: tuple[int, int] | None) -> int:
    """0 or 2; where both could be, the one that leaves `size`, then the one of three equal channels, then of one."""
    sizes = {2: mask.shape[:2], 0: mask.shape[1:]}
    axes = [axis for axis in sizes if mask.shape[axis] in (1, 3)]
    axes = [axis for axis in axes if sizes[axis] == size] or axes
    if not axes:
        raise ValueError(f"a mask is [H, W] with 0, 1 or 3 channels, not {mask.shape}")
    alike = [axis for axis in axes if mask.shape[axis] == 3 and (mask == mask.take([0], axis)).all()]
    return (alike or [axis for axis in axes if mask.shape[axis] == 1] or axes)[0]


def resize_picture(picture: Picture, height: int, width: int) -> Picture:
    """`[H, W, 3]` uint8 to `[height, width, 3]` uint8, antialiased; proportions are not kept, as in the paper."""
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(resized)


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """`[H, W]` bool to `[height, width]` bool: True where at least half of the pixel's area is.

    A target too small or thin to fill half of any pixel keeps the pixels that it fills most, so a mask never vanishes.
    """
    levels = np.asarray(
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize((width, height), Image.Resampling.BOX)
    )
    threshold = min(128, int(levels.max()))
    return np.asarray(levels >= threshold) if threshold else np.zeros((height, width), dtype=np.bool_)


def normalise(pixels: Tensor) -> Tensor:
    """`[..., 3, H, W]` uint8 or float, 0 to 255, to float32 with `MEAN` and `STD` taken out."""
    mean, std = _channel_statistics(pixels)
    return (pixels.float() / 255 - mean) / std


def paint(mask: Tensor) -> Tensor:
    """`[..., H, W]` bool or float 0 to 1 to a normalised white-on-black painting `[..., 3, H, W]` float32."""
    mean, std = _channel_statistics(mask)
    return (mask.float().unsqueeze(-3) - mean) / std


def _channel_statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(MEAN, device=like.device).reshape(3, 1, 1)
    std = torch.tensor(STD, device=like.device).reshape(3, 1, 1)
    return mean, std


def image_tensor(picture: NDArray[Any], size: int) -> Tensor:
    """Whatever `to_rgb` takes, to `[3, size, size]` float32, normalised."""
    resized = resize_picture(to_rgb(picture), size, size)
    return normalise(torch.from_numpy(resized.copy()).permute(2, 0, 1))


def mask_tensor(mask: NDArray[Any], size: int) -> Tensor:
    """Whatever `to_mask` takes, to its painting: `[3, size, size]` float32, normalised."""
    return paint(torch.from_numpy(resize_mask(to_mask(mask), size, size).copy()))


def probability(painted: Tensor) -> Tensor:
    """Read a painting: its brightness.

    Args:
        painted: `[B, 3, S, S]`, any float type, the network's output.

    Returns:
        `[B, S, S]` float32, 0 (black, background) to 1 (white, target).
    """
    mean, std = _channel_statistics(painted)
    return (painted.float() * std + mean).mean(dim=1).clamp(0, 1)


def describe(picture: NDArray[Any]) -> NDArray[np.float32]:
    """Describe a picture by its colours, their layout and its edges, for finding similar ones.

    Args:
        picture: whatever `to_rgb` takes.

    Returns:
        `[D]` float32 of unit length. Two pictures' similarity is the scalar product.
    """
    size = DESCRIBED_SIZE
    pixels = resize_picture(to_rgb(picture), size, size).astype(np.float32) / 255
    light = pixels.mean(axis=2)
    red_green = pixels[..., 0] - pixels[..., 1]
    blue_yellow = pixels[..., 2] - pixels[..., :2].mean(axis=2)
    opponent = np.stack([light - 0.5, red_green, blue_yellow], axis=2)

    bins = np.minimum((pixels * 4).astype(np.int64), 3) @ np.array([16, 4, 1])
    colours = np.sqrt(np.bincount(bins.ravel(), minlength=64) / bins.size)

    cell = size // 4
    layout = opponent.reshape(4, cell, 4, cell, 3).mean(axis=(1, 3)).ravel()

    down, right = np.gradient(light)
    strength = np.hypot(down, right)
    direction = np.minimum((np.mod(np.arctan2(down, right), np.pi) * (8 / np.pi)).astype(np.int64), 7)
    edges = np.sqrt(np.bincount(direction.ravel(), weights=strength.ravel(), minlength=8) / strength.size)

    parts = [colours, layout, 2 * edges, 2 * opponent.std(axis=(0, 1))]
    described = np.concatenate([part.ravel() for part in parts]).astype(np.float32)
    return np.asarray(described / max(float(np.linalg.norm(described)), 1e-8), dtype=np.float32)
