"""Pools of equally sized photographs, cut-outs and textures, split into training and validation by file."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.vq import kmeans2
from skimage.color import rgb2lab
from skimage.segmentation import felzenszwalb

from model.pretraining.sources import SOURCES, Source, pictures

Split = Literal["train", "validation"]
Pixels = NDArray[np.uint8]

PHOTO, CUTOUT, TEXTURE, SEGMENTS = 320, 160, 192, 160
# Folders whose images are of one kind; other folders are heaps.
_CATEGORIES = (
    "stamps/animals",
    "stamps/food",
    "stamps/plants",
    "stamps/vehicles",
    "stamps/people",
    "png/animals",
    "png/food",
    "png/plants",
    "png/transportation",
    "images/units/",
)
MAPS = 3  # label maps a photograph: fine segments, coarse segments, colour clusters


@dataclass(frozen=True, eq=False)
class Pools:
    """Image material of one split.

    Attributes:
        photos: `[N, 320, 320, 3]` uint8.
        segments: `[N, 3, 160, 160]` uint8, label maps of the photographs.
        cutouts: `[M, 160, 160, 4]` uint8 RGBA, the thing filling the frame.
        kin: for each cut-out the indices of those of its category (itself among them).
        textures: `[K, 192, 192, 3]` uint8.
    """

    photos: Pixels
    segments: Pixels
    cutouts: Pixels
    kin: tuple[NDArray[np.int64], ...]
    textures: Pixels


def split_of(name: str) -> Split:
    """Where a file belongs: one in twelve, by the hash of its name, is for validation.

    Args:
        name: `package/file`.
    """
    return "validation" if hashlib.sha256(name.encode()).digest()[0] % 12 == 0 else "train"


def load(folder: Path, split: Split, copyleft: bool = True) -> Pools:
    """Read the pools that `build` wrote, without copying them into memory.

    Args:
        folder: where they lie.
        split: which part.
        copyleft: False leaves out images whose licence is copyleft.
    """
    left_out = set() if copyleft else {source.folder for source in SOURCES if source.copyleft}

    def chosen(kind: str) -> tuple[Pixels, list[str], NDArray[np.int64]]:
        names: list[str] = json.loads((folder / f"{kind}.json").read_text())
        picks = [
            i
            for i, name in enumerate(names)
            if split_of(name) == split and name.split("/")[0] not in left_out
        ]
        return (
            np.load(folder / f"{kind}.npy", mmap_mode="r"),
            [names[i] for i in picks],
            np.asarray(picks, np.int64),
        )

    photos, _, photo_picks = chosen("photo")
    cutouts, cutout_names, cutout_picks = chosen("cutout")
    textures, _, texture_picks = chosen("texture")
    segments = np.load(folder / "segments.npy", mmap_mode="r")
    textures = textures[texture_picks] if len(texture_picks) else photos[photo_picks][:, :TEXTURE, :TEXTURE]
    return Pools(
        photos[photo_picks], segments[photo_picks], cutouts[cutout_picks], _kin(cutout_names), textures
    )


def _kin(names: list[str]) -> tuple[NDArray[np.int64], ...]:
    folders: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        folder = name.rsplit("/", 1)[0]
        folders.setdefault(folder if any(word in folder for word in _CATEGORIES) else name, []).append(index)
    members = {index: np.asarray(group) for group in folders.values() for index in group}
    return tuple(members[index] for index in range(len(names)))


def built(folder: Path) -> bool:
    """Whether `build` has finished there."""
    return (folder / "segments.npy").exists()


def build(cache: Path, folder: Path) -> None:
    """Bring all sources into arrays of equal size; skipped where they exist.

    Args:
        cache: where `sources.fetch` unpacked.
        folder: where the arrays go.
    """
    if built(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for kind, make in (("photo", _windows), ("cutout", _cutout), ("texture", _textures)):
        if (folder / f"{kind}.npy").exists():
            continue
        names: list[str] = []
        tiles: list[Pixels] = []
        for source in (entry for entry in SOURCES if entry.use == kind):
            _collect(cache, source, make, names, tiles)
        np.save(folder / f"{kind}.npy", np.stack(tiles))
        (folder / f"{kind}.json").write_text(json.dumps(names))
    photos = np.load(folder / "photo.npy")
    partial = folder / "partial.npy"
    with multiprocessing.get_context("spawn").Pool() as workers:
        np.save(partial, np.stack(workers.map(segment_maps, photos, chunksize=8)))
    partial.rename(folder / "segments.npy")


def _collect(
    cache: Path,
    source: Source,
    make: Callable[[Image.Image], list[Pixels]],
    names: list[str],
    tiles: list[Pixels],
) -> None:
    for name, image in pictures(cache, source):
        for tile in make(image):
            names.append(name)
            tiles.append(tile)


def _windows(image: Image.Image) -> list[Pixels]:
    """Square windows of a photograph: the whole height along its width, and closer looks."""
    rgb = image.convert("RGB")
    found = []
    for zoom in (1, 2):
        scale = PHOTO * zoom / min(rgb.size)
        if scale > 1.3:
            continue
        resized = rgb.resize(
            (round(rgb.width * scale), round(rgb.height * scale)),
            Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC,
        )
        pixels = np.asarray(resized)
        for top in _starts(pixels.shape[0], zoom):
            for left in _starts(pixels.shape[1], zoom):
                window = pixels[top : top + PHOTO, left : left + PHOTO]
                if window.shape == (PHOTO, PHOTO, 3) and window.std(axis=(0, 1)).mean() > 12:
                    found.append(window)
    return found


def _starts(length: int, zoom: int) -> list[int]:
    spare = length - PHOTO
    if spare < PHOTO // 3:
        return [max(spare, 0) // 2]
    return [int(spare * place) for place in ((0.0, 1.0) if zoom == 1 else (0.1, 0.9))]


def _cutout(image: Image.Image) -> list[Pixels]:
    rgba = image.convert("RGBA")
    box = rgba.getchannel("A").point(lambda value: 255 * (value > 40)).getbbox()
    if box is None:
        return []
    rgba = rgba.crop(box)
    scale = CUTOUT / max(rgba.size)
    size = (max(1, round(rgba.width * scale)), max(1, round(rgba.height * scale)))
    if min(size) < CUTOUT // 6 or scale > 2.6:
        return []
    framed = Image.new("RGBA", (CUTOUT, CUTOUT), (0, 0, 0, 0))
    framed.paste(
        rgba.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC),
        ((CUTOUT - size[0]) // 2, (CUTOUT - size[1]) // 2),
    )
    pixels = np.asarray(framed)
    cover = (pixels[..., 3] > 127).mean()
    return [pixels] if 0.08 < cover < 0.93 else []


def _textures(image: Image.Image) -> list[Pixels]:
    rgb = image.convert("RGB")
    if min(rgb.size) < 96 or max(rgb.size) > 4 * min(rgb.size):
        return []
    side = min(rgb.size)
    pixels = np.asarray(
        rgb.crop((0, 0, side, side)).resize(
            (TEXTURE, TEXTURE), Image.Resampling.BOX if side > 2 * TEXTURE else Image.Resampling.BICUBIC
        )
    )
    return [pixels] if pixels.std(axis=(0, 1)).mean() > 6 else []


def segment_maps(photo: Pixels) -> Pixels:
    """Classical segmentations of a photograph.

    Args:
        photo: `[320, 320, 3]` uint8.

    Returns:
        `[3, 160, 160]` uint8: fine segments, coarse segments, colour clusters.
    """
    small = np.asarray(Image.fromarray(photo).resize((SEGMENTS, SEGMENTS), Image.Resampling.BOX))
    lab = rgb2lab(small).astype(np.float32)
    fine = felzenszwalb(lab / 100, scale=60, sigma=0.8, min_size=60, channel_axis=2)
    coarse = felzenszwalb(lab / 100, scale=300, sigma=1.2, min_size=200, channel_axis=2)
    blurred = np.asarray(
        Image.fromarray(small)
        .resize((40, 40), Image.Resampling.BOX)
        .resize((SEGMENTS, SEGMENTS), Image.Resampling.BILINEAR)
    )
    features = np.concatenate([rgb2lab(blurred), 0.3 * lab], axis=2).reshape(-1, 6)
    _, clusters = kmeans2(features, 5, iter=8, minit="++", seed=0)
    maps = [np.minimum(fine, 255), np.minimum(coarse, 255), clusters.reshape(SEGMENTS, SEGMENTS)]
    return np.stack(maps).astype(np.uint8)
