"""Groups of images made from pictures: things, regions, parts, textures, scenes; one concept a group."""

import numpy as np
from numpy.typing import NDArray

from model.pretraining.drawing import (
    SIDE,
    Field,
    Pixels,
    Random,
    affine,
    blend,
    colour,
    empty,
    finish,
    free_shape,
    noise,
    opacity,
    placed,
    radial_shape,
    shown,
    softened,
    tint,
)
from model.pretraining.pools import CUTOUT, PHOTO, SEGMENTS, TEXTURE, Pools

Mask = NDArray[np.bool_]
Group = tuple[list[Pixels], list[Mask]]


def one_of(rng: Random, items: Pixels) -> Pixels:
    """A random row."""
    row: Pixels = items[rng.integers(len(items))]
    return row


def texture_field(pools: Pools, rng: Random, tile: Pixels | None = None) -> Field:
    """A texture or a close look at a photograph filling the canvas, `[SIDE, SIDE, 3]`."""
    if tile is None:
        tile = one_of(rng, pools.textures)
    size = rng.uniform(1.05, 1.6) * SIDE
    spare = (size - SIDE) / 2
    center = (SIDE / 2 + rng.uniform(-spare, spare), SIDE / 2 + rng.uniform(-spare, spare))
    return placed(tile, affine(rng, tile.shape[0], center, size, 0.0, rng.random() < 0.5, 0.0)).astype(
        np.float32
    )


def backdrop(pools: Pools, rng: Random) -> Field:
    """Something to stand on: photograph, texture, gradient or plain colour."""
    kind = rng.random()
    if kind < 0.6:
        photo = one_of(rng, pools.photos)
        return texture_field(pools, rng, photo)
    if kind < 0.8:
        return texture_field(pools, rng)
    first, second = colour(rng), colour(rng)
    ramp = np.clip(0.5 + 0.3 * noise(rng, 1, 1), 0, 1)
    flat = np.broadcast_to(first, (SIDE, SIDE, 3)).astype(np.float32)
    return flat if kind < 0.88 else blend(flat, second, ramp)


def _shaded(rng: Random, pixels: Field, strength: float) -> Field:
    """Change gain, contrast and colour balance of a thing a little."""
    gains = np.exp(rng.normal(0, strength, 3) * 0.5 + rng.normal(0, strength))
    return shown(
        (pixels - 128) * np.exp(rng.normal(0, strength)) * gains + 128 + rng.normal(0, 40 * strength)
    )


def _lay(
    rng: Random, canvas: Field, mask: Field, tile: Pixels, size: float, jitter: float, is_target: bool
) -> tuple[Field, Field]:
    """Put a cut-out on the canvas; it hides what the mask held below it."""
    center = (
        (rng.uniform(0.05, 0.95) * SIDE, rng.uniform(0.05, 0.95) * SIDE)
        if size < 0.6 * SIDE
        else (SIDE * rng.uniform(0.3, 0.7), SIDE * rng.uniform(0.3, 0.7))
    )
    turn = rng.normal(0, 0.3) if rng.random() < 0.75 else rng.uniform(0, 6.3)
    warped = placed(tile, affine(rng, CUTOUT, center, size, turn, rng.random() < 0.5))
    alpha = opacity(warped[..., 3])
    canvas = blend(canvas, _shaded(rng, warped[..., :3].astype(np.float32), jitter), alpha)
    return canvas, np.maximum(mask, alpha) if is_target else mask * (1 - alpha)


def _thing(pools: Pools, rng: Random) -> int:
    return int(rng.integers(len(pools.cutouts)))


def _segment_thing(pools: Pools, rng: Random) -> Pixels:
    """A free shape filled with a photograph or texture, as a cut-out: a thing nobody has a word for."""
    side = CUTOUT
    field = one_of(rng, pools.textures if rng.random() < 0.5 else pools.photos)
    top, left = rng.integers(0, field.shape[0] - side, 2)
    shape = radial_shape(rng, (SIDE / 2, SIDE / 2), SIDE * 0.36, 0.3, rng.uniform(1, 2.2))
    alpha = placed((shape * 255).astype(np.uint8), np.array([SIDE / side, 0, 0, 0, SIDE / side, 0]))
    grown = np.zeros((side, side), np.uint8)
    grown[:SIDE, :SIDE] = alpha
    whole = np.roll(grown, (side - SIDE) // 2, (0, 1))
    return np.dstack([field[top : top + side, left : left + side], whole])


def objects(pools: Pools, rng: Random, count: int) -> Group:
    """The same thing, or others of its kind, elsewhere and otherwise lit, among other things."""
    first = _thing(pools, rng)
    made = _segment_thing(pools, rng) if rng.random() < 0.1 else None
    kin, use_kin = pools.kin[first], rng.random() < 0.5
    several, jitter = rng.random() < 0.35, rng.uniform(0.05, 0.35)
    same_place = backdrop(pools, rng) if rng.random() < 0.15 else None
    distractors = [_thing(pools, rng) for _ in range(int(rng.integers(1, 4)))]
    scale = rng.uniform(0.25, 0.95) * SIDE
    images, masks = [], []
    for _ in range(count):
        canvas = same_place.copy() if same_place is not None else backdrop(pools, rng)
        mask = empty()
        amount = int(rng.integers(1, 6)) if several else 1
        near = scale * np.exp(rng.normal(0, 0.25)) / (1 + 0.3 * (amount - 1))
        plan = [True] * amount + [False] * int(rng.integers(0, 4))
        plan = [plan[i] for i in rng.permutation(len(plan))]
        for is_target in plan:
            other = int(rng.choice(distractors)) if rng.random() < 0.6 else _thing(pools, rng)
            member = int(rng.choice(kin)) if use_kin else first
            tile = (
                (made if made is not None else pools.cutouts[member]) if is_target else pools.cutouts[other]
            )
            size = near * rng.uniform(0.8, 1.2) if is_target else scale * rng.uniform(0.4, 1.0)
            canvas, mask = _lay(rng, canvas, mask, tile, max(size, 14), jitter, is_target)
        images.append(finish(rng, canvas))
        masks.append(mask > 0.5)
    return images, masks


def parts(pools: Pools, rng: Random, count: int) -> Group:
    """The part of a thing that shares a colour, or one side of it."""
    tile = np.array(pools.cutouts[_thing(pools, rng)])
    inside = tile[..., 3] > 127
    if rng.random() < 0.6:
        blurred = softened(tile[..., :3].astype(np.float32), 2)
        rows, columns = np.nonzero(inside)
        pick = rng.integers(len(rows))
        distance = np.abs(blurred - blurred[rows[pick], columns[pick]]).sum(2)
        part = inside & (distance < np.quantile(distance[inside], rng.uniform(0.25, 0.6)))
    else:
        y, x = np.mgrid[:CUTOUT, :CUTOUT] - CUTOUT / 2
        turn = rng.uniform(0, 6.3)
        along = x * np.cos(turn) + y * np.sin(turn)
        part = inside & (along > np.quantile(along[inside], rng.uniform(0.4, 0.75)))
    labelled = np.dstack([(part * 255).astype(np.uint8)] * 3)
    scale, jitter = rng.uniform(0.55, 1.1) * SIDE, rng.uniform(0.05, 0.25)
    images, masks = [], []
    for _ in range(count):
        canvas = backdrop(pools, rng)
        center = (SIDE * rng.uniform(0.35, 0.65), SIDE * rng.uniform(0.35, 0.65))
        where = affine(
            rng, CUTOUT, center, scale * np.exp(rng.normal(0, 0.2)), rng.normal(0, 0.35), rng.random() < 0.5
        )
        warped, mask = placed(tile, where), placed(labelled, where)[..., 0]
        canvas = blend(
            canvas,
            _shaded(rng, warped[..., :3].astype(np.float32), jitter),
            opacity(warped[..., 3]),
        )
        images.append(finish(rng, canvas))
        masks.append(mask > 127)
    return images, masks


def regions(pools: Pools, rng: Random, count: int) -> Group:
    """A segment of one photograph under several crops and lights."""
    index = int(rng.integers(len(pools.photos)))
    level = int(rng.choice(3, p=[0.25, 0.4, 0.35]))
    labels = pools.segments[index, level]
    values, sizes = np.unique(labels, return_counts=True)
    fit = (sizes > 0.01 * labels.size) & (sizes < 0.7 * labels.size)
    if not fit.any():
        return textures(pools, rng, count)
    whole = softened((labels == rng.choice(values[fit])).astype(np.float32), 0.7)
    target = (whole * 255).astype(np.uint8)
    rows, columns = np.nonzero(whole > 0.5)
    if len(rows) < 50:
        return textures(pools, rng, count)
    zoom, jitter = rng.uniform(1.0, 2.6), rng.uniform(0.05, 0.3)
    images, masks = [], []
    for _ in range(count):
        pick = rng.integers(len(rows))
        size = SIDE * zoom * np.exp(rng.normal(0, 0.2))  # side of the whole photograph on the canvas
        size = max(size, 1.02 * SIDE)
        aim = np.array([columns[pick], rows[pick]]) / SEGMENTS
        lowest, highest = SIDE - size / 2, size / 2
        center = np.clip(SIDE / 2 + size * (0.5 - aim) + rng.normal(0, 0.2 * SIDE, 2), lowest, highest)
        where = affine(
            rng, PHOTO, (center[0], center[1]), size, rng.normal(0, 0.08), rng.random() < 0.5, 0.04
        )
        picture = placed(pools.photos[index], where).astype(np.float32)
        scaled = where * (SEGMENTS / PHOTO)
        images.append(finish(rng, _shaded(rng, picture, jitter)))
        masks.append(placed(target, scaled) > 127)
    return images, masks


def textures(pools: Pools, rng: Random, count: int) -> Group:
    """One texture in free shapes among other textures."""
    tile = one_of(rng, pools.textures if rng.random() < 0.7 else pools.photos[:, :TEXTURE, :TEXTURE])
    others = [one_of(rng, pools.textures) for _ in range(4)]
    jitter = rng.uniform(0.02, 0.2)
    images, masks = [], []
    for _ in range(count):
        canvas = texture_field(pools, rng, others[rng.integers(4)])
        for _ in range(int(rng.integers(0, 3))):
            canvas = blend(
                canvas,
                texture_field(pools, rng, others[rng.integers(4)]),
                free_shape(rng, rng.uniform(0.1, 0.4)),
            )
        mask = free_shape(rng, rng.uniform(0.08, 0.5))
        canvas = blend(canvas, _shaded(rng, texture_field(pools, rng, tile), jitter), mask)
        if rng.random() < 0.4:
            cover = free_shape(rng, rng.uniform(0.05, 0.15))
            canvas, mask = (
                blend(canvas, texture_field(pools, rng, others[rng.integers(4)]), cover),
                mask * (1 - cover),
            )
        images.append(finish(rng, canvas))
        masks.append(mask > 0.5)
    return images, masks


def scenes(pools: Pools, rng: Random, count: int) -> Group:
    """Layouts of layers that come back from image to image: far, middle, ground, boxes, posts, things."""
    kinds = int(rng.integers(4, 8))
    looks = [
        (one_of(rng, pools.textures), colour(rng), rng.uniform(0, 0.8), int(rng.integers(4)))
        for _ in range(kinds)
    ]
    things = [pools.cutouts[_thing(pools, rng)] for _ in range(2)]
    wanted = int(rng.integers(kinds + len(things)))
    images, masks = [], []
    for _ in range(count):
        canvas, owner = backdrop(pools, rng), np.full((SIDE, SIDE), -1)
        for index, (tile, base, strength, role) in enumerate(looks):
            shape = _layer(rng, role, index)
            surface = texture_field(pools, rng, tile) * (1 - strength) + tint(rng, base, 15) * strength
            canvas = blend(canvas, _shaded(rng, surface, 0.12), shape)
            owner[shape > 0.5] = index
        for index, tile in enumerate(things):
            for _ in range(int(rng.integers(1, 4))):
                canvas, alpha = _lay(
                    rng,
                    canvas,
                    empty(),
                    tile,
                    rng.uniform(0.12, 0.4) * SIDE,
                    0.15,
                    True,
                )
                owner[alpha > 0.5] = kinds + index
        images.append(finish(rng, canvas))
        masks.append(owner == wanted)
    return images, masks


def _layer(rng: Random, role: int, index: int) -> Field:
    """A mask `[SIDE, SIDE]`: a wall or plane (0), boxes (1), posts (2), a free shape (3)."""
    y, x = (np.mgrid[:SIDE, :SIDE] / SIDE).astype(np.float32)
    if role == 0:
        edge = (
            0.35 + 0.12 * index + 0.08 * rng.normal() + 0.2 * rng.normal() * (x - 0.5) + 0.02 * noise(rng, 4)
        )
        below: Field = (y > edge).astype(np.float32)
        return below
    if role == 3:
        return free_shape(rng, rng.uniform(0.05, 0.3))
    shape = empty()
    for _ in range(int(rng.integers(1, 5))):
        wide, high = (
            (rng.uniform(0.08, 0.35), rng.uniform(0.08, 0.4))
            if role == 1
            else (rng.uniform(0.015, 0.05), rng.uniform(0.3, 0.8))
        )
        left, top = rng.uniform(-0.05, 0.95), rng.uniform(0.0, 0.8)
        slope = rng.normal(0, 0.15) if role == 1 else rng.normal(0, 0.03)
        inside = (np.abs(x - left - wide / 2 - slope * (y - top)) < wide / 2) & (y > top) & (y < top + high)
        shape[inside] = 1
    return shape
