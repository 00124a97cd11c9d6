"""Pictures for the demo and the tests: drawn blood smears with their exact masks; knows nothing of Label Studio."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

LABELS = ("red cell", "white cell")
WIDTH, HEIGHT = 480, 360
DEMO_SEED = 1905

_Float = npt.NDArray[np.float32]

# How strongly each stained thing swallows red, green and blue light; colour is background * exp(-absorption).
_RED_CELL = np.array([0.10, 0.58, 0.52], np.float32)
_CYTOPLASM = np.array([0.34, 0.46, 0.14], np.float32)
_NUCLEUS = np.array([0.95, 1.55, 0.55], np.float32)
_PLATELET = np.array([0.45, 0.80, 0.25], np.float32)


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn picture and the truth about it.

    Attributes:
        name: file name, `smear-01.png`.
        image: uint8 [H, W, 3], RGB.
        masks: bool [H, W] for each of `LABELS`; they never overlap.
    """

    name: str
    image: npt.NDArray[np.uint8]
    masks: Mapping[str, npt.NDArray[np.bool_]]

    def png(self) -> bytes:
        """The picture as a PNG file."""
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, "PNG")
        return buffer.getvalue()


def demo_pictures(count: int = 12) -> list[Picture]:
    """The demo's pictures: always the same ones."""
    return [draw(number) for number in range(1, count + 1)]


def draw(number: int, *, width: int = WIDTH, height: int = HEIGHT, seed: int = DEMO_SEED) -> Picture:
    """Draw one smear: red cells, one to three white cells, platelets on an unevenly lit, faintly textured slide.

    Args:
        number: which one; equal numbers, sizes and seeds give equal pictures.
        width: px.
        height: px.
        seed: another seed is another set of pictures.
    """
    rng = np.random.default_rng([seed, number])
    canvas = _Smear(rng, width, height)
    scale = min(width / WIDTH, height / HEIGHT)
    for _ in range(int(rng.integers(1, 4))):
        canvas.add_white_cell(rng.uniform(44, 56) * scale)
    for _ in range(int(rng.integers(9, 17))):
        canvas.add_red_cell(rng.uniform(24, 32) * scale)
    for _ in range(int(rng.integers(2, 7))):
        canvas.add_platelet(rng.uniform(4, 7) * scale)
    return Picture(
        f"smear-{number:02d}.png", canvas.develop(), dict(zip(LABELS, canvas.masks(), strict=True))
    )


class _Smear:
    """A slide in the making: absorption per pixel and colour, and where each kind of cell lies."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self._rng = rng
        self._size = (height, width)
        self._rows, self._columns = np.mgrid[0:height, 0:width].astype(np.float32)
        self._absorption = np.zeros((height, width, 3), np.float32)
        self._red = np.zeros((height, width), np.bool_)
        self._white = np.zeros((height, width), np.bool_)
        self._taken: list[tuple[float, float, float]] = []

    def add_red_cell(self, radius: float) -> None:
        """A disc, a little out of round, paler in its middle; dropped where there is no room."""
        place = self._find_room(radius, gap=-0.04 * radius)
        if place is None:
            return
        cover, depth = self._blob(*place, radius, wobble=0.035, stretch=0.12)
        hollow = self._rng.uniform(0.35, 0.65)
        thickness = 1 - np.float32(hollow) * np.exp(-((depth / np.float32(0.42)) ** 2))
        free = cover * (1 - _soften(self._white | self._red))
        self._stain(free * thickness, _RED_CELL * self._rng.uniform(0.85, 1.15))
        self._red |= (cover > 0.5) & ~self._white

    def add_white_cell(self, radius: float) -> None:
        """A large pale cell with a dark nucleus, round or in lobes, to one side of its middle."""
        place = self._find_room(radius, gap=0.1 * radius)
        if place is None:
            return
        row, column = place
        cover, _ = self._blob(row, column, radius, wobble=0.05, stretch=0.1)
        grain = self._noise(9)
        self._stain(cover * (1 + 0.25 * grain), _CYTOPLASM)
        nucleus = self._round_nucleus(row, column, radius)
        if self._rng.random() < 0.6:
            nucleus = self._lobed_nucleus(row, column, radius)
        self._stain(np.minimum(nucleus, cover) * (1 + 0.18 * grain + 0.12 * self._noise(4)), _NUCLEUS)
        self._white |= cover > 0.5

    def add_platelet(self, radius: float) -> None:
        """A small purple speck that belongs to no label."""
        place = self._find_room(radius, gap=2.0)
        if place is not None:
            cover, depth = self._blob(*place, radius, wobble=0.15, stretch=0.3)
            self._stain((cover * (1.1 - 0.4 * np.minimum(depth, 1))).astype(np.float32), _PLATELET)

    def masks(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Where red cells and white cells are, in the order of `LABELS`."""
        return self._red, self._white

    def develop(self) -> npt.NDArray[np.uint8]:
        """The picture as a camera on the microscope would take it: uint8 [H, W, 3]."""
        rng = self._rng
        tint = np.array([0.945, 0.915, 0.885], np.float32) * rng.uniform(0.94, 1.02, 3).astype(np.float32)
        height, width = self._size
        across = (self._columns / width - rng.uniform(0.3, 0.7)) ** 2 + (
            self._rows / height - rng.uniform(0.3, 0.7)
        ) ** 2
        light = (1.02 - 0.28 * across)[..., None]
        plasma = (0.035 + 0.02 * self._noise(60) + 0.010 * self._noise(6))[..., None]
        plasma = plasma * np.array([0.35, 1.0, 0.7], np.float32)
        strength = rng.uniform(0.85, 1.15)
        clear = tint * light * np.exp(-strength * self._absorption - plasma)
        sharp = Image.fromarray((clear.clip(0, 1) * 255).astype(np.uint8))
        seen = np.asarray(sharp.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 0.9)))), np.float32)
        noisy = seen + rng.normal(0, 2.2, seen.shape)
        return noisy.round().clip(0, 255).astype(np.uint8)

    def _round_nucleus(self, row: float, column: float, radius: float) -> _Float:
        shift = self._rng.uniform(-0.16, 0.16, 2) * radius
        cover, _ = self._blob(row + shift[0], column + shift[1], 0.68 * radius, wobble=0.06, stretch=0.15)
        return cover

    def _lobed_nucleus(self, row: float, column: float, radius: float) -> _Float:
        lobes = int(self._rng.integers(3, 5))
        start = self._rng.uniform(0, 2 * np.pi)
        cover: _Float = np.zeros(self._size, np.float32)
        for lobe in range(lobes):
            angle = start + lobe * self._rng.uniform(1.15, 1.45)
            distance = self._rng.uniform(0.34, 0.42) * radius
            part, _ = self._blob(
                row + distance * np.sin(angle),
                column + distance * np.cos(angle),
                self._rng.uniform(0.27, 0.35) * radius,
                wobble=0.06,
                stretch=0.25,
            )
            cover = np.maximum(cover, part)
        return cover

    def _stain(self, amount: _Float, absorption: npt.NDArray[np.float32]) -> None:
        self._absorption += amount[..., None] * absorption

    def _blob(
        self, row: float, column: float, radius: float, *, wobble: float, stretch: float
    ) -> tuple[_Float, _Float]:
        """A closed shape: how far each pixel is covered (0 to 1), and its distance from the middle in radii."""
        rng = self._rng
        turn, longer = rng.uniform(0, np.pi), 1 + rng.uniform(0, stretch)
        near = self._window(row, column, 2 * radius + 2)
        down, right = self._rows[near] - np.float32(row), self._columns[near] - np.float32(column)
        along = (right * np.cos(turn) + down * np.sin(turn)) / np.sqrt(longer)
        aside = (down * np.cos(turn) - right * np.sin(turn)) * np.sqrt(longer)
        distance, angle = np.hypot(along, aside), np.arctan2(aside, along)
        outline = np.ones_like(distance)
        for wave in range(2, 6):
            outline += wobble / wave * rng.normal() * 1.6 * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
        edge = radius * outline
        cover, depth = np.zeros(self._size, np.float32), np.full(self._size, 9, np.float32)
        cover[near] = (edge - distance + 0.5).clip(0, 1)
        depth[near] = distance / edge
        return cover, depth

    def _window(self, row: float, column: float, reach: float) -> tuple[slice, slice]:
        """The part of the picture that lies within `reach` px of a place."""
        first = (max(0, int(row - reach)), max(0, int(column - reach)))
        return slice(first[0], max(0, int(row + reach))), slice(first[1], max(0, int(column + reach)))

    def _find_room(self, radius: float, *, gap: float) -> tuple[float, float] | None:
        """A place (row, column) that keeps `gap` px to all that lies there already; None after many tries."""
        height, width = self._size
        for _ in range(200):
            row = self._rng.uniform(-0.3 * radius, height + 0.3 * radius)
            column = self._rng.uniform(-0.3 * radius, width + 0.3 * radius)
            if all(np.hypot(row - r, column - c) > radius + other + gap for r, c, other in self._taken):
                self._taken.append((row, column, radius))
                return row, column
        return None

    def _noise(self, grain: int) -> _Float:
        """Smooth noise, mean 0, spread about 1, with patches of about `grain` px."""
        height, width = self._size
        coarse = self._rng.normal(0, 1.4, (height // grain + 4, width // grain + 4)).astype(np.float32)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        return np.array(smooth, np.float32)


def _soften(mask: npt.NDArray[np.bool_]) -> _Float:
    """A mask with an edge about a pixel wide: float32 0..1."""
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.6))
    return np.asarray(blurred, np.float32) / np.float32(255)
