"""Sample groups made beforehand, by several processes, into memory-mapped files; knows no tensors."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from model.pretraining import composed, drawn, pools
from model.pretraining.composed import Group
from model.pretraining.drawing import SIDE, Random
from model.pretraining.pools import Pools, Split

Maker = Callable[[Pools, Random, int], Group]

MEMBERS = 5  # images a group
LEAST, MOST = 0.002, 0.85  # of the image, the mask of a usable sample
_TRIES = 8


@dataclass(frozen=True)
class Task:
    """A family of concepts and how often training draws from it; share 0 means for validation only."""

    name: str
    make: Maker
    share: float


TASKS = (
    Task("objects", composed.objects, 0.27),
    Task("regions", composed.regions, 0.20),
    Task("parts", composed.parts, 0.05),
    Task("textures", composed.textures, 0.07),
    Task("scenes", composed.scenes, 0.10),
    Task("blobs", drawn.blobs, 0.09),
    Task("thin", drawn.thin, 0.13),
    Task("spots", drawn.spots, 0.09),
    Task("mosaics", drawn.mosaics, 0.0),
    Task("gems", drawn.gems, 0.0),
)


@dataclass(frozen=True, eq=False)
class Shard:
    """Groups on disk.

    Attributes:
        images: `[G, 5, 128, 128, 3]` uint8.
        masks: `[G, 5, 128, 128]` uint8, 0 or 255.
        tasks: `[G]`, index into `TASKS`.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    tasks: NDArray[np.uint8]


def group(material: Pools, task: Task, seed: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make one group; the same seed gives the same group.

    Args:
        material: pictures to make it from.
        task: which family.
        seed: numbers that name the group.

    Returns:
        `[5, 128, 128, 3]` uint8 and `[5, 128, 128]` uint8, 0 or 255.

    Raises:
        RuntimeError: if no usable group came out in several tries.
    """
    rng = np.random.default_rng(seed)
    images: list[NDArray[np.uint8]] = []
    masks: list[NDArray[np.uint8]] = []
    for _ in range(_TRIES):
        for image, mask in zip(*task.make(material, rng, MEMBERS), strict=True):
            if LEAST < mask.mean() < MOST and len(images) < MEMBERS:
                images.append(image)
                masks.append(mask.astype(np.uint8) * 255)
        if len(images) == MEMBERS:
            return np.stack(images), np.stack(masks)
        if len(images) < 3:  # a concept that hardly shows: try another one
            images.clear()
            masks.clear()
        else:  # top up by repeating: rare, and harmless
            images = (images * 2)[:MEMBERS]
            masks = (masks * 2)[:MEMBERS]
            return np.stack(images), np.stack(masks)
    raise RuntimeError(f"no usable group of {task.name} from seed {seed}")


def write(
    folder: Path,
    pool_folder: Path,
    split: Split,
    groups: int,
    seed: int,
    processes: int = 2,
    copyleft: bool = True,
) -> None:
    """Make a shard; skipped where it is complete.

    Args:
        folder: of this shard.
        pool_folder: where `pools.build` wrote.
        split: which pictures; validation also draws the tasks that training never sees.
        groups: how many.
        seed: makes the shard reproducible.
        processes: how many make it.
        copyleft: False leaves out copyleft images.
    """
    if (folder / "shard.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    _open(folder, groups, "w+")
    bounds = np.linspace(0, groups, processes * 4 + 1).astype(int)
    pieces = [
        (folder, pool_folder, split, groups, seed, copyleft, int(a), int(b)) for a, b in pairwise(bounds)
    ]
    if processes == 1:
        for piece in pieces:
            _fill(*piece)
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as workers:
            workers.starmap(_fill, pieces, chunksize=1)
    (folder / "shard.json").write_text(
        json.dumps({"groups": groups, "seed": seed, "split": split, "copyleft": copyleft})
    )


def _fill(
    folder: Path,
    pool_folder: Path,
    split: Split,
    groups: int,
    seed: int,
    copyleft: bool,
    start: int,
    stop: int,
) -> None:
    material, shard = pools.load(pool_folder, split, copyleft), _open(folder, groups, "r+")
    shares = np.array([task.share for task in TASKS])
    if split == "validation":
        shares = np.ones(len(TASKS))
    for index in range(start, stop):
        task = int(np.random.default_rng((seed, index)).choice(len(TASKS), p=shares / shares.sum()))
        shard.images[index], shard.masks[index] = group(material, TASKS[task], (seed, index, task))
        shard.tasks[index] = task


def read(folder: Path) -> Shard:
    """Open a complete shard for reading.

    Args:
        folder: where `write` put it.

    Raises:
        FileNotFoundError: if it is not complete.
    """
    groups = json.loads((folder / "shard.json").read_text())["groups"]
    return _open(folder, groups, "r")


def _open(folder: Path, groups: int, mode: Literal["r", "r+", "w+"]) -> Shard:
    shapes: dict[str, tuple[int, ...]] = {
        "images": (groups, MEMBERS, SIDE, SIDE, 3),
        "masks": (groups, MEMBERS, SIDE, SIDE),
        "tasks": (groups,),
    }
    opened = {}
    for name, shape in shapes.items():
        path = str(folder / f"{name}.npy")
        if mode == "w+":
            opened[name] = open_memmap(path, mode, np.uint8, shape)  # type: ignore[no-untyped-call]
        else:
            opened[name] = np.load(path, mmap_mode=mode)
    return Shard(opened["images"], opened["masks"], opened["tasks"])
