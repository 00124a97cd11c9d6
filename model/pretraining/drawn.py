"""Groups of images drawn by code: cells, thin structures, spots, mosaics; one concept a group."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.pretraining.composed import Group, backdrop, texture_field
from model.pretraining.drawing import (
    SIDE,
    Field,
    Random,
    blend,
    colour,
    curve,
    empty,
    finish,
    noise,
    polygon,
    polyline,
    radial_shape,
    shown,
    soft_step,
    softened,
    tint,
)
from model.pretraining.pools import Pools


@dataclass(frozen=True)
class Cell:
    """How one kind of cell looks; lengths in pixels."""

    radius: float
    rough: float
    stretch: float
    tone: Field
    rim: float
    soft: float


def _cell(rng: Random) -> Cell:
    radius = float(np.exp(rng.uniform(np.log(3), np.log(17))))
    return Cell(
        radius,
        rng.uniform(0.02, 0.25),
        rng.uniform(1, 2.2),
        colour(rng),
        rng.uniform(-0.5, 0.5),
        rng.uniform(0.3, 1.4),
    )


def _ground(pools: Pools, rng: Random) -> Field:
    """A calm ground: plain with noise, a washed-out texture, now and then anything."""
    kind = rng.random()
    base = colour(rng)
    if kind < 0.45:
        dark = base * rng.uniform(0, 1)
        return shown(dark + noise(rng, int(rng.integers(1, 8)))[..., None] * rng.uniform(1, 18, 3))
    if kind < 0.85:
        field = texture_field(pools, rng)
        return shown(base + (field - field.mean((0, 1))) * rng.uniform(0.1, 0.9))
    return backdrop(pools, rng)


def _regrounded(rng: Random, ground: Field) -> Field:
    """The same ground elsewhere: rolled, flipped, slightly other light."""
    moved = np.roll(ground, rng.integers(0, SIDE, 2), (0, 1))
    if rng.random() < 0.5:
        moved = moved[:, ::-1]
    return shown(moved * np.exp(rng.normal(0, 0.1)) + rng.normal(0, 8))


def _apart(rng: Random, ground: Field, tone: Field) -> Field:
    """Move a colour away from the ground's mean until it can be seen."""
    mean = ground.mean((0, 1))
    gap = tone - mean
    distance = float(np.abs(gap).mean())
    least = rng.uniform(14, 70)
    if distance >= least:
        return tone
    direction = -1.0 if mean.mean() > 128 else 1.0
    return shown(mean + direction * least * rng.uniform(0.5, 1.5, 3))


def _box(shape: Field, margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold a shape, and a margin: filters cost less there."""
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return slice(top, rows[-1] + margin + 1), slice(left, columns[-1] + margin + 1)


def blobs(pools: Pools, rng: Random, count: int) -> Group:
    """Many cells of one kind, others beside them."""
    ground, kind, other = _ground(pools, rng), _cell(rng), _cell(rng)
    kind = Cell(kind.radius, kind.rough, kind.stretch, _apart(rng, ground, kind.tone), kind.rim, kind.soft)
    others, amount = rng.random() < 0.5, rng.uniform(0.03, 0.35)
    tones, sizes = rng.uniform(4, 35), rng.uniform(0.05, 0.35)
    images, masks = [], []
    for _ in range(count):
        canvas, mask = _regrounded(rng, ground), empty()
        number = int(np.clip(amount * np.exp(rng.normal(0, 0.4)) * SIDE**2 / (np.pi * kind.radius**2), 1, 45))
        plan = [True] * number + [False] * (int(rng.integers(1, 9)) if others else 0)
        for is_target in (plan[i] for i in rng.permutation(len(plan))):
            cell = kind if is_target else other
            center = (rng.uniform(0, SIDE), rng.uniform(0, SIDE))
            shape = radial_shape(
                rng, center, cell.radius * np.exp(rng.normal(0, sizes)), cell.rough, cell.stretch
            )
            if shape.max() == 0:
                continue
            box = _box(shape, 4)
            soft = softened(shape[box], cell.soft)
            inner = softened(shape[box], max(1.0, cell.radius / 3))
            surface = shown(tint(rng, cell.tone, tones) * (1 + cell.rim * (inner[..., None] - 0.6)))
            canvas[box] = blend(canvas[box], surface, soft)
            mask = np.maximum(mask, shape) if is_target else mask * (1 - shape)
        images.append(finish(rng, canvas))
        masks.append(mask > 0.5)
    return images, masks


def _vessels(rng: Random, width: float, wiggle: float) -> Field:
    """A branching tree of narrowing lines."""
    drawn = empty()
    todo = [(rng.uniform(0, SIDE, 2), rng.uniform(0, 6.3), rng.uniform(80, 160), width)]
    while todo:
        start, heading, length, wide = todo.pop()
        path = curve(rng, start, heading, length, wiggle)
        drawn = np.maximum(drawn, polyline(path, wide))
        if wide > 1.0 and len(todo) < 10:
            for _ in range(int(rng.integers(1, 4))):
                at = path[rng.integers(len(path) // 4, len(path))]
                todo.append(
                    (
                        at,
                        heading + rng.normal(0, 1.0),
                        length * rng.uniform(0.4, 0.8),
                        wide * rng.uniform(0.5, 0.85),
                    )
                )
    return drawn


def _lines(rng: Random, width: float, wiggle: float) -> Field:
    """Separate curves: hairs, cracks, scratches, fibres."""
    drawn = empty()
    for _ in range(int(rng.integers(1, 6))):
        path = curve(rng, rng.uniform(0, SIDE, 2), rng.uniform(0, 6.3), rng.uniform(30, 150), wiggle)
        drawn = np.maximum(drawn, polyline(path, width * rng.uniform(0.7, 1.3)))
    return drawn


def _net(rng: Random, width: float, wiggle: float) -> Field:
    """Borders between cells: membranes, cracked ground, meshes."""
    seeds = rng.uniform(-8, SIDE + 8, (int(rng.integers(8, 45)), 2))
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    x, y = x + wiggle * 12 * noise(rng, 5, 1), y + wiggle * 12 * noise(rng, 5, 1)
    distances = np.sort(np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1]), axis=2)
    return soft_step(width - (distances[..., 1] - distances[..., 0]), 1.0)


def _rings(rng: Random, width: float, wiggle: float) -> Field:
    """Arcs, rings and outlines."""
    drawn = empty()
    for _ in range(int(rng.integers(1, 5))):
        center, radius = rng.uniform(0.1, 0.9, 2) * SIDE, rng.uniform(0.08, 0.45) * SIDE
        angles = rng.uniform(0, 6.3) + np.linspace(0, rng.uniform(1.5, 6.3), 40)
        radii = radius * (1 + wiggle * np.cos(angles * rng.integers(1, 5)))
        path = np.stack([center[0] + radii * np.cos(angles), center[1] + radii * np.sin(angles)], 1)
        drawn = np.maximum(drawn, polyline(path, width))
    return drawn


def _bars(rng: Random, width: float, wiggle: float) -> Field:
    """Straight parallel or crossing bars: rails, fences, lanes, wires."""
    drawn, turn = empty(), rng.uniform(0, 3.2)
    for _ in range(int(rng.integers(1, 7))):
        tilt = turn + rng.normal(0, 0.3 * wiggle) + (np.pi / 2 if rng.random() < 0.15 else 0)
        along, across = np.array([np.cos(tilt), np.sin(tilt)]), np.array([-np.sin(tilt), np.cos(tilt)])
        middle = np.full(2, SIDE / 2) + across * rng.uniform(-0.5, 0.5) * SIDE
        drawn = np.maximum(drawn, polyline(np.stack([middle - along * SIDE, middle + along * SIDE]), width))
    return drawn


_THIN = (_vessels, _lines, _net, _rings, _bars)


def thin(pools: Pools, rng: Random, count: int) -> Group:
    """Lines of one family, width and colour; lines of others may cross."""
    ground = _ground(pools, rng)
    draw, width, wiggle = (
        _THIN[rng.integers(len(_THIN))],
        float(np.exp(rng.uniform(0.3, 1.9))),
        rng.uniform(0.02, 0.3),
    )
    tone, other_tone = _apart(rng, ground, colour(rng)), _apart(rng, ground, colour(rng))
    other, crossed = _THIN[rng.integers(len(_THIN))], rng.random() < 0.35 or None
    strength, soft = rng.uniform(0.5, 1.0), rng.uniform(0, 1.0)
    if crossed and other is draw and np.abs(tone - other_tone).mean() < 40:
        crossed = None
    images, masks = [], []
    for _ in range(count):
        canvas = _regrounded(rng, ground)
        if crossed:
            canvas = blend(
                canvas, tint(rng, other_tone, 8), softened(other(rng, width, wiggle), soft) * strength
            )
        shape = draw(rng, width * np.exp(rng.normal(0, 0.1)), wiggle)
        canvas = blend(canvas, tint(rng, tone, 8), softened(shape, soft) * strength)
        images.append(finish(rng, canvas))
        masks.append(shape > 0.5)
    return images, masks


def _hairs(rng: Random, canvas: Field) -> Field:
    tone = np.full(3, rng.uniform(0, 80), np.float32)
    for _ in range(int(rng.integers(2, 10))):
        path = curve(rng, rng.uniform(0, SIDE, 2), rng.uniform(0, 6.3), rng.uniform(30, 110), 0.08)
        canvas = blend(canvas, tone, polyline(path, rng.uniform(0.6, 1.6)) * 0.8)
    return canvas


def spots(pools: Pools, rng: Random, count: int) -> Group:
    """Irregular soft lesions, stains, dents: a change of the ground itself."""
    ground = _ground(pools, rng)
    tone = _apart(
        rng, ground, colour(rng) if rng.random() < 0.5 else ground.mean((0, 1)) * rng.uniform(0.3, 0.8)
    )
    radius, rough = float(np.exp(rng.uniform(np.log(6), np.log(46)))), rng.uniform(0.05, 0.35)
    strength, soft = rng.uniform(0.35, 1.0), rng.uniform(0.5, 5)
    hairy, dark_corners, several, mottled = (
        rng.random() < 0.3,
        rng.random() < 0.3,
        rng.random() < 0.3,
        rng.uniform(0, 0.35),
    )
    images, masks = [], []
    y, x = (np.mgrid[:SIDE, :SIDE] / SIDE - 0.5).astype(np.float32)
    for _ in range(count):
        canvas, mask = _regrounded(rng, ground), empty()
        for _ in range(int(rng.integers(2, 6)) if several else 1):
            center = (rng.normal(0.5, 0.18) * SIDE, rng.normal(0.5, 0.18) * SIDE)
            shape = radial_shape(rng, center, radius * np.exp(rng.normal(0, 0.3)), rough, rng.uniform(1, 1.8))
            edge = softened(shape + 0.25 * noise(rng, 10) * softened(shape * (1 - shape), 2), soft)
            surface = shown(tint(rng, tone, 10) * (1 + mottled * noise(rng, 7)[..., None]))
            canvas = blend(canvas, surface, np.clip(edge, 0, 1) * strength)
            mask = np.maximum(mask, shape)
        if hairy:
            canvas = _hairs(rng, canvas)
        if dark_corners:
            canvas = canvas * soft_step(rng.uniform(0.5, 0.65) - np.hypot(x, y), 0.15)[..., None]
        images.append(finish(rng, canvas))
        masks.append(mask > 0.5)
    return images, masks


def mosaics(pools: Pools, rng: Random, count: int) -> Group:
    """Tiles of a few colours; kept for validation, no training image is made so."""
    palette = [colour(rng) for _ in range(int(rng.integers(3, 6)))]
    images, masks = [], []
    for _ in range(count):
        seeds: NDArray[np.float64] = rng.uniform(0, SIDE, (int(rng.integers(8, 22)), 2))
        y, x = np.mgrid[:SIDE, :SIDE]
        nearest = np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1]).argmin(2)
        kinds = rng.integers(len(palette), size=len(seeds))
        kinds[0] = 0
        canvas = np.stack(palette)[kinds[nearest]].astype(np.float32) + 9 * noise(rng, 12)[..., None]
        images.append(finish(rng, canvas))
        masks.append(kinds[nearest] == 0)
    return images, masks


def gems(pools: Pools, rng: Random, count: int) -> Group:
    """Regular polygons with a number of corners in common; colours differ."""
    corners = int(rng.integers(3, 7))
    images, masks = [], []
    for _ in range(count):
        canvas, mask = backdrop(pools, rng), empty()
        for is_target in (False, True, False, True):
            number = corners if is_target else corners + int(rng.integers(2, 5))
            angles = rng.uniform(0, 6.3) + np.arange(number) * 2 * np.pi / number
            radius, center = rng.uniform(10, 26), rng.uniform(15, SIDE - 15, 2)
            shape = polygon(center + radius * np.stack([np.cos(angles), np.sin(angles)], 1))
            canvas = blend(canvas, colour(rng), shape)
            mask = np.maximum(mask, shape) if is_target else mask * (1 - shape)
        images.append(finish(rng, canvas))
        masks.append(mask > 0.5)
    return images, masks
