"""One pair of functions for each control: paint a region's value into a mask, and describe pixels as a value.

Knows percent and pixels, but neither labels nor which regions belong to whom.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backend import brush_rle
from backend.errors import RegionError
from backend.label_config import Kind as Name
from backend.regions.components import Runs
from backend.regions.filling import fill_ellipse, fill_polygon, fill_rectangle
from backend.regions.outlines import outline

ALPHA_THRESHOLD = 127

Value: TypeAlias = Mapping[str, Any]

_FARTHEST_PERCENT = 1e6
_DECIMALS = 4


@dataclass(frozen=True)
class Kind:
    """What one control does with pixels.

    Attributes:
        paint: (value, mask bool [H, W]) sets the value's pixels; a value without geometry, as drafts have, sets none.
            Raises RegionError where the geometry is there and cannot be read.
        describe: (runs, smallest area in pixels) gives the value of a region that covers them, without its label.
    """

    paint: Callable[[Value, NDArray[np.bool_]], None]
    describe: Callable[[Runs, float], dict[str, Any]]


def _paint_brush(value: Value, mask: NDArray[np.bool_]) -> None:
    if value.get("rle"):
        mask |= brush_rle.decode(value["rle"], *mask.shape) > ALPHA_THRESHOLD


def _describe_brush(runs: Runs, _: float) -> dict[str, Any]:
    return {"format": "rle", "rle": brush_rle.encode_runs(runs.starts, runs.ends, runs.height, runs.width)}


def _paint_polygon(value: Value, mask: NDArray[np.bool_]) -> None:
    points = value.get("points")
    if not points or value.get("closed") is False:
        return
    try:
        corners = np.array([[_percent(x), _percent(y)] for x, y in points])
    except (TypeError, ValueError) as error:
        raise RegionError("A polygon's points are pairs of numbers.") from error
    fill_polygon(mask, corners * mask.shape[::-1] / 100)


def _describe_polygon(runs: Runs, smallest: float) -> dict[str, Any]:
    top, left, bottom, right = box = runs.box()
    points = outline(runs.mask(box), smallest_hole=smallest) + np.array([left, top])
    percent = (100 * points / (runs.width, runs.height)).round(_DECIMALS)
    return {"points": percent.tolist(), "closed": True}


def _paint_rectangle(value: Value, mask: NDArray[np.bool_]) -> None:
    shape = _numbers(value, "x", "y", "width", "height")
    if shape:
        fill_rectangle(mask, *_pixels(shape, mask), _angle(value))


def _describe_rectangle(runs: Runs, _: float) -> dict[str, Any]:
    top, left, bottom, right = runs.box()
    return {
        "x": 100 * left / runs.width,
        "y": 100 * top / runs.height,
        "width": 100 * (right - left) / runs.width,
        "height": 100 * (bottom - top) / runs.height,
        "rotation": 0,
    }


def _paint_ellipse(value: Value, mask: NDArray[np.bool_]) -> None:
    shape = _numbers(value, "x", "y", "radiusX", "radiusY")
    if shape:
        fill_ellipse(mask, *_pixels(shape, mask), _angle(value))


def _describe_ellipse(runs: Runs, _: float) -> dict[str, Any]:
    """The axis-parallel ellipse with the same centre of gravity and spread along both axes."""
    lengths = (runs.ends - runs.starts).astype(np.float64)
    area = lengths.sum()
    middles, rows = (runs.firsts + runs.lasts) / 2, runs.rows + 0.5
    x, y = (lengths * middles).sum() / area, (lengths * rows).sum() / area
    spread_x = (lengths * ((middles - x) ** 2 + lengths**2 / 12)).sum() / area
    spread_y = (lengths * (rows - y) ** 2).sum() / area + 1 / 12
    return {
        "x": float(100 * x / runs.width),
        "y": float(100 * y / runs.height),
        "radiusX": float(200 * spread_x**0.5 / runs.width),
        "radiusY": float(200 * spread_y**0.5 / runs.height),
        "rotation": 0,
    }


KINDS: Mapping[Name, Kind] = {
    "brush": Kind(_paint_brush, _describe_brush),
    "polygon": Kind(_paint_polygon, _describe_polygon),
    "rectangle": Kind(_paint_rectangle, _describe_rectangle),
    "ellipse": Kind(_paint_ellipse, _describe_ellipse),
}


def _numbers(value: Value, *names: str) -> list[float] | None:
    """The named percentages; None where one is missing."""
    found = [value.get(name) for name in names]
    return None if None in found else [_percent(number) for number in found]


def _angle(value: Value) -> float:
    return _percent(value.get("rotation") or 0)


def _percent(number: object) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise RegionError(f"A region's coordinate is a number, not {number!r}.")
    if not abs(number) <= _FARTHEST_PERCENT:
        raise RegionError(f"A region's coordinate is beyond {_FARTHEST_PERCENT:.0f} percent of its image.")
    return float(number)


def _pixels(shape: list[float], mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    height, width = mask.shape
    x, y, across, down = shape
    return x * width / 100, y * height / 100, across * width / 100, down * height / 100
