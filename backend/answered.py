"""The clicks and boxes that suggestions of a smart tool answer: written into their regions, and known again by them.

Knows no pictures, no store and no network.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any, TypeGuard

from backend.protocol import SUGGESTED

Region = Mapping[str, Any]

_PLACE = ("x", "y", "width", "height", "rotation")  # of a click the first two
_DIGITS = 3
_STILL = 2e-3  # percent of the image, or degrees: no drag is that small, but the editor's arithmetic is


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` can be a coordinate: JSON's true and false are numbers to Python, and of any size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6


def place(value: Mapping[str, Any], *, box: bool) -> list[float]:
    """Where a click or box is, for the `at` of its answer: x and y; of a box width, height and rotation too.

    Args:
        value: its geometry, in percent of the image.
        box: whether it is a box.
    """
    return [round(float(value.get(name) or 0), _DIGITS) for name in (_PLACE if box else _PLACE[:2])]


def is_at(value: object, there: object) -> bool:
    """Whether a geometry is at a `place`; anywhere is right where that is none, as in answers of earlier versions."""
    if not isinstance(there, list):
        return True
    return isinstance(value, Mapping) and all(
        _is_near(value.get(name) or 0, coordinate) for name, coordinate in zip(_PLACE, there, strict=False)
    )


def is_ours(region: Region) -> bool:
    """Whether we predicted or suggested a region, changed since or not: so it asks for nothing."""
    return str(region.get("origin")).startswith("prediction") or bool(_mark(region))


class Answered:
    """Which clicks and boxes are answered.

    Args:
        regions: with the suggestions that were accepted; all others are passed over.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        self._answers: dict[str, list[tuple[object, object]]] = defaultdict(list)
        for region in regions:
            mark = _mark(region)
            ids, places = mark.get("hints"), mark.get("at")
            if isinstance(ids, list):
                for hint, there in zip_longest(ids, places if isinstance(places, list) else ()):
                    if isinstance(hint, str) and hint:
                        self._answers[hint].append((region.get("from_name"), there))

    def holds(self, hint: str, value: object, by: str | None = None) -> bool:
        """Whether a click or box is answered where it is now.

        Args:
            hint: Label Studio's id of its region.
            value: its geometry.
            by: control that the suggestion is to be of; None: any.
        """
        answers = self._answers.get(hint, ())
        return any(by in (None, control) and is_at(value, there) for control, there in answers)


def _mark(region: Region) -> Mapping[str, Any]:
    """What a suggestion says of itself; nothing where the region is none."""
    meta = region.get("meta")
    mark = meta.get(SUGGESTED) if isinstance(meta, Mapping) else None
    return mark if isinstance(mark, Mapping) else {}


def _is_near(one: object, other: object) -> bool:
    return is_number(one) and is_number(other) and abs(one - other) <= _STILL
