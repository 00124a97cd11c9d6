"""Drawing primitives: noise, free shapes, curves, warps, layers; knows arrays and a random generator only."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

Field = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Random = np.random.Generator

SIDE = 128  # of every sample, in pixels


def noise(rng: Random, cells: int, octaves: int = 2, side: int = SIDE) -> Field:
    """Smooth noise `[side, side]`, about standard normal.

    Args:
        rng: source of chance.
        cells: bumps along a side.
        octaves: how many finer layers, each half as strong.
        side: in pixels.
    """
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        grid = rng.standard_normal((cells * 2**octave + 1,) * 2).astype(np.float32)
        layer = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
        total += np.asarray(layer) * 0.5**octave
    standard: Field = (total - total.mean()) / (total.std() + 1e-6)
    return standard


def radial_shape(
    rng: Random, center: tuple[float, float], radius: float, rough: float, stretch: float = 1.0
) -> Field:
    """A star-shaped blob as a soft mask `[SIDE, SIDE]`, 0 to 1.

    Args:
        rng: source of chance.
        center: x and y in pixels.
        radius: mean radius in pixels.
        rough: relative deviation of the radius, 0 to 1.
        stretch: ratio of the axes.
    """
    count = 48
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radii: NDArray[np.float64] = np.ones(count)
    for order in range(1, 6):
        radii += rough * rng.normal() / order * np.cos(order * angles + rng.uniform(0, 6.3))
    radii = radius * np.clip(radii, 0.25, 2.0)
    turn = rng.uniform(0, 2 * np.pi)
    x, y = radii * np.cos(angles) * stretch**0.5, radii * np.sin(angles) / stretch**0.5
    points = np.stack(
        [center[0] + x * np.cos(turn) - y * np.sin(turn), center[1] + x * np.sin(turn) + y * np.cos(turn)], 1
    )
    return polygon(points)


def polygon(points: NDArray[np.float64]) -> Field:
    """A filled polygon with smooth edges, `[SIDE, SIDE]`, 0 to 1; points are `[N, 2]` x and y."""
    drawn = Image.new("L", (2 * SIDE, 2 * SIDE), 0)
    ImageDraw.Draw(drawn).polygon([(2 * x, 2 * y) for x, y in points], fill=255)
    return _halved(drawn)


def polyline(points: NDArray[np.float64], width: float) -> Field:
    """A line through points `[N, 2]`, `width` pixels wide, `[SIDE, SIDE]`, 0 to 1."""
    drawn = Image.new("L", (2 * SIDE, 2 * SIDE), 0)
    ImageDraw.Draw(drawn).line(
        [(2 * x, 2 * y) for x, y in points], fill=255, width=max(2, round(2 * width)), joint="curve"
    )
    return _halved(drawn)


def _halved(drawn: Image.Image) -> Field:
    return opacity(np.asarray(drawn.resize((SIDE, SIDE), Image.Resampling.BOX)))


def opacity(alpha: Pixels) -> Field:
    """uint8 to 0 to 1."""
    return alpha.astype(np.float32) / np.float32(255)


def softened(field: Field, sigma: float) -> Field:
    """Gaussian blur of `[H, W]`, or of each channel of `[H, W, C]`."""
    sigmas = (sigma, sigma, 0)[: field.ndim]
    blurred: Field = gaussian_filter(field, sigmas).astype(np.float32)
    return blurred


def shown(pixels: "Field | NDArray[np.float64]") -> Field:
    """Pixels brought to 0 to 255, float32."""
    clipped: Field = np.clip(pixels, 0, 255).astype(np.float32)
    return clipped


def empty() -> Field:
    """A mask `[SIDE, SIDE]` of nothing."""
    return np.zeros((SIDE, SIDE), np.float32)


def free_shape(rng: Random, cover: float) -> Field:
    """A mask of any form, `[SIDE, SIDE]`, 0 to 1, covering about the share `cover`."""
    form = rng.integers(4)
    if form == 0:
        field = noise(rng, int(rng.integers(2, 6)))
        return soft_step(field - np.quantile(field, 1 - cover), 0.05)
    center = (rng.uniform(0.2, 0.8) * SIDE, rng.uniform(0.2, 0.8) * SIDE)
    radius = SIDE * (cover / np.pi) ** 0.5
    if form == 1:
        return radial_shape(rng, center, radius, 0.25, rng.uniform(1, 2.5))
    if form == 2:
        corners = int(rng.integers(3, 7))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = radius * rng.uniform(0.9, 1.7, corners)
        return polygon(np.stack([center[0] + reach * np.cos(angles), center[1] + reach * np.sin(angles)], 1))
    turn, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * SIDE
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - SIDE / 2
    distance = np.abs(x * np.cos(turn) + y * np.sin(turn) - offset + 6 * noise(rng, 3, 1))
    return soft_step(cover * SIDE / 2 - distance, 1.0)


def soft_step(field: Field, width: float) -> Field:
    """0 below zero, 1 above, with a ramp of `width`."""
    return np.clip(field / width + 0.5, 0, 1).astype(np.float32)


def curve(
    rng: Random, start: NDArray[np.float64], heading: float, length: float, wiggle: float
) -> NDArray[np.float64]:
    """A random walk of smooth turns, `[N, 2]`; `wiggle` is the turn a step of 4 pixels, in radians."""
    steps = max(3, int(length / 4))
    turns = np.cumsum(gaussian_filter(rng.normal(0, 1, steps), 2) * 3 * wiggle)
    headings = heading + turns
    path = np.cumsum(4 * np.stack([np.cos(headings), np.sin(headings)], 1), axis=0)
    return np.concatenate([start[None], start + path])


def blend(below: Field, above: Field | Pixels, alpha: Field) -> Field:
    """Lay `above` (`[SIDE, SIDE, 3]` or a colour) over `below` where `alpha` `[SIDE, SIDE]` says."""
    return (below + (np.asarray(above, np.float32) - below) * alpha[..., None]).astype(np.float32)


def colour(rng: Random) -> Field:
    """A random RGB colour, 0 to 255."""
    return rng.uniform(0, 255, 3).astype(np.float32)


def tint(rng: Random, around: Field, spread: float) -> Field:
    """A colour near another one."""
    return np.clip(around + rng.normal(0, spread, 3), 0, 255).astype(np.float32)


def placed(tile: Pixels, inverse: NDArray[np.float64], nearest: bool = False) -> Pixels:
    """Warp a tile onto a SIDE canvas.

    Args:
        tile: `[H, W]` or `[H, W, C]` uint8.
        inverse: 6 numbers, from canvas to tile, as PIL's affine transform takes them.
        nearest: for label maps.
    """
    resampling = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(
        Image.fromarray(tile).transform((SIDE, SIDE), Image.Transform.AFFINE, tuple(inverse), resampling)
    )


def affine(
    rng: Random,
    tile_side: int,
    center: tuple[float, float],
    size: float,
    turn: float,
    flip: bool,
    shear: float = 0.1,
) -> NDArray[np.float64]:
    """Inverse transform that puts a tile's middle at `center` with side `size` (canvas pixels).

    Args:
        rng: source of chance, for the shear.
        tile_side: side of the tile in pixels.
        center: x and y on the canvas.
        size: side of the tile on the canvas.
        turn: rotation in radians.
        flip: mirror it.
        shear: spread of shear and aspect.
    """
    scale = tile_side / size
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    slant = np.array(
        [[np.exp(rng.normal(0, shear)), rng.normal(0, shear)], [0, np.exp(rng.normal(0, shear))]]
    )
    matrix = scale * slant @ rotation
    if flip:
        matrix[0] *= -1
    shift = tile_side / 2 - matrix @ np.asarray(center)
    return np.array([matrix[0, 0], matrix[0, 1], shift[0], matrix[1, 0], matrix[1, 1], shift[1]])


def finish(rng: Random, picture: Field) -> Pixels:
    """Camera faults of one image: light, blur, grain; back to `[SIDE, SIDE, 3]` uint8."""
    if rng.random() < 0.3:
        picture = picture * (1 + 0.12 * noise(rng, 1, 1)[..., None])
    if rng.random() < 0.25:
        picture = softened(picture, rng.uniform(0.3, 1.1))
    if rng.random() < 0.35:
        picture = picture + rng.normal(0, rng.uniform(1, 10), picture.shape).astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)
