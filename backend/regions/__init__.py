"""Masks to regions and back, for all four controls; knows no network, no store and no HTTP."""

from backend.regions.kinds import ALPHA_THRESHOLD
from backend.regions.outlines import MAX_POINTS
from backend.regions.reading import MAX_PIXELS, approved_labels, decode, original_size
from backend.regions.writing import MAX_REGIONS, MIN_AREA, encode

__all__ = [
    "ALPHA_THRESHOLD",
    "MAX_PIXELS",
    "MAX_POINTS",
    "MAX_REGIONS",
    "MIN_AREA",
    "approved_labels",
    "decode",
    "encode",
    "original_size",
]
