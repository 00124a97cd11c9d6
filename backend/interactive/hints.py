"""What an annotator points at: the regions of an interactive request to clicks and boxes; knows no pictures and no network.

What browsers send is less than it seems (recorded from Label Studio 1.23): all points, or all boxes, of one label, among
them those that a submitted annotation holds, those whose suggestion was accepted, and boxes that are annotations or
predictions themselves; `is_positive` only on points that are new; labels under one key or another.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backend.answered import Answered, is_at, is_number, is_ours, place
from backend.errors import RegionError
from backend.label_config import LabelConfig, Target
from backend.protocol import is_text
from backend.regions.kinds import KINDS

MOST = 64
"""Hints that are answered at once, the newest."""

_Region = Mapping[str, Any]
_Type = Literal["keypoint", "rectangle"]
_TYPES: Mapping[str, _Type] = {
    "keypointlabels": "keypoint", "keypoint": "keypoint", "rectanglelabels": "rectangle", "rectangle": "rectangle"
}  # fmt: skip
_NEAR = 1.0  # percent
_OUTLINES = ("ellipse", "rectangle")  # kinds that say less of an object than its pixels


@dataclass(frozen=True, eq=False)
class Hint:
    """One click or box.

    Attributes:
        id: Label Studio's id of its region, "" where it has none.
        type: click or box.
        value: its geometry, in percent of the image.
        wanted: whether it is on what is wanted; None where the request does not say.
        label: "" where the request does not say.
        image: name of the image tag.
        control: name of the tag that it was drawn with.
    """

    id: str
    type: _Type
    value: Mapping[str, Any]
    wanted: bool | None
    label: str
    image: str
    control: str

    @property
    def place(self) -> list[float]:
        """Where it is, as `backend.answered` notes it."""
        return place(self.value, box=self.type == "rectangle")


@dataclass(frozen=True)
class Hints:
    """What is pointed at in one request, and for which target.

    Attributes:
        target: whose mask is wanted.
        all: in the order in which they were given.
    """

    target: Target
    all: tuple[Hint, ...]

    @property
    def ids(self) -> list[str]:
        """Label Studio's ids of them."""
        return [hint.id for hint in self.all if hint.id]

    @property
    def places(self) -> list[list[float]]:
        """Where those are that have an id."""
        return [hint.place for hint in self.all if hint.id]

    @property
    def boxes(self) -> bool:
        """Whether something is outlined."""
        return any(hint.type == "rectangle" for hint in self.all)

    def points(self, shape: tuple[int, int], *, wanted: bool) -> NDArray[np.float64]:
        """`[N, 2]`: x and y in pixels of the clicks on what is wanted, or on what is not; those beside the image left out.

        Args:
            shape: height and width of the image.
            wanted: which clicks; one that does not say is on what is wanted.
        """
        height, width = shape
        found = [
            (hint.value["x"] * width / 100, hint.value["y"] * height / 100)
            for hint in self.all
            if hint.type == "keypoint" and (hint.wanted is not False) == wanted and _is_on_image(hint.value)
        ]
        points = np.array(found, dtype=np.float64).reshape(-1, 2)
        return np.clip(points, 0, (width - 0.5, height - 0.5))

    def areas(self, shape: tuple[int, int]) -> Iterator[NDArray[np.bool_]]:
        """`[H, W]` bool for each box, turned ones as they are turned; those without a pixel are left out.

        One at a time: all of them at once take a gigabyte on a large image.

        Args:
            shape: height and width of the image.
        """
        for hint in self.all:
            if hint.type == "rectangle" and hint.wanted is not False:
                area = np.zeros(shape, dtype=np.bool_)
                KINDS["rectangle"].paint(_upright(hint.value), area)
                if area.any():
                    yield area


def read(
    interaction: Sequence[_Region],
    task: Mapping[str, Any],
    config: LabelConfig,
    ready: Sequence[Target],
) -> Hints:
    """The hints that a request still wants answered.

    Args:
        interaction: the regions of its context.
        task: Label Studio's task, with its annotations and drafts.
        config: targets of the project.
        ready: those that something is known of.

    Raises:
        RegionError: nothing in it can be read, or its label is none of ours; the message says why.
    """
    hints, wrong = _readable(interaction)
    if not hints:
        raise RegionError(wrong or "An interactive request needs a keypoint or a rectangle.")
    newest = hints[-1]
    target = _target(newest, config, ready)
    same = [hint for hint in hints if (hint.label, hint.image) == (newest.label, newest.image)]
    fresh = _unsettled(same, task)
    if any(hint.wanted is not None for hint in fresh):
        # A point that does not say is left over from an annotation, or an ordinary keypoint.
        fresh = [hint for hint in fresh if hint.wanted is not None or hint.type != "keypoint"]
    drawn = {(one.control, one.label, one.image) for one in config.targets}
    tools = [hint for hint in fresh if (hint.control, hint.label, hint.image) not in drawn]
    if any(hint.type == "rectangle" for hint in tools):
        # A box of a control whose boxes are annotations is one, where a control that only asks has boxes.
        fresh = tools
    return Hints(target, tuple(fresh[-MOST:]))


# -- what a region says --------------------------------------------------------------------------------------------
def _readable(interaction: Sequence[_Region]) -> tuple[list[Hint], str]:
    """The clicks and boxes among regions, and what is wrong with the last other one."""
    labels = {
        str(region.get("id")): label
        for region in interaction
        if (label := _label(region)) and region.get("id")
    }
    found, wrong = [], ""
    for region in interaction:
        try:
            hint = _hint(region, labels)
        except RegionError as error:
            wrong = str(error)
            continue
        if hint is not None:
            found.append(hint)
    return found, wrong


def _hint(region: _Region, labels: Mapping[str, str]) -> Hint | None:
    """A region as a hint; None where it is of another type, as the label beside a bare point is, or one of ours.

    Raises:
        RegionError: it cannot be read.
    """
    kind = _TYPES.get(str(region.get("type")))
    if kind is None or is_ours(region):
        return None
    if region.get("item_index"):
        raise RegionError("Of a list of pages only the first one is segmented.")
    value = region.get("value")
    names = ("x", "y") if kind == "keypoint" else ("x", "y", "width", "height")
    if not isinstance(value, Mapping) or not all(is_number(value.get(name)) for name in names):
        raise RegionError(f"A {kind} needs {', '.join(names)} as numbers.")
    if not is_number(value.get("rotation") or 0):
        raise RegionError("A rectangle's rotation is a number of degrees.")
    wanted = region.get("is_positive")
    number = str(region.get("id") or "")
    return Hint(
        id=number if is_text(number) else "",
        type=kind,
        value=value,
        wanted=wanted if isinstance(wanted, bool) else None,
        label=_label(region) or labels.get(number, ""),
        image=str(region.get("to_name") or ""),
        control=str(region.get("from_name") or ""),
    )


def _label(region: _Region) -> str:
    value = region.get("value")
    for key in ("keypointlabels", "rectanglelabels", "labels"):
        labels = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(labels, list) and labels and isinstance(labels[0], str):
            return labels[0]
    return ""


def _is_on_image(value: Mapping[str, Any]) -> bool:
    """Whether a point is on the image, or so near its edge that its pixel was meant."""
    return all(-_NEAR <= value[name] <= 100 + _NEAR for name in ("x", "y"))


def _upright(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A box with sides of positive length: one that was drawn to the left or upwards may have negative ones."""
    turned = {**value}
    if value.get("rotation"):
        return turned
    for start, side in (("x", "width"), ("y", "height")):
        if value[side] < 0:
            turned[start], turned[side] = value[start] + value[side], -value[side]
    return turned


# -- which target, and what is answered already --------------------------------------------------------------------
def _target(hint: Hint, config: LabelConfig, ready: Sequence[Target]) -> Target:
    """The target that a hint asks for: one that gives pixels rather than an outline, and one that something is known of.

    Raises:
        RegionError: there is none.
    """
    on_image = [target for target in config.targets if hint.image in ("", target.image)]
    if not hint.label and len({target.label for target in on_image}) > 1:
        raise RegionError("An interactive request names no label, and the labeling config has several.")
    fitting = [target for target in on_image if hint.label in ("", target.label)]
    if not fitting:
        raise RegionError(
            f"No brush, polygon, rectangle or ellipse on '{hint.image}' has the label '{hint.label}' of the request.",
            remedy="Give the smart tool the labels of a control that holds masks.",
        )
    known = {target.id for target in ready}
    return min(fitting, key=lambda target: (target.kind in _OUTLINES, target.id not in known))


def _unsettled(hints: Sequence[Hint], task: Mapping[str, Any]) -> list[Hint]:
    """Those that, where they are now, no accepted suggestion answers and no submitted annotation holds; never none."""
    submitted = {str(region.get("id") or ""): region.get("value") for region in _regions(task, "annotations")}
    answered = Answered([*_regions(task, "annotations"), *_regions(task, "drafts")])
    kept = [
        hint
        for hint in hints
        if not answered.holds(hint.id, hint.value) and not _is_there(hint, submitted.get(hint.id))
    ]
    return kept or [hints[-1]]


def _is_there(hint: Hint, value: object) -> bool:
    return bool(hint.id) and isinstance(value, Mapping) and is_at(value, hint.place)


def _regions(task: Mapping[str, Any], name: str) -> Iterator[_Region]:
    """The regions of a task's annotations or drafts."""
    rows = task.get(name)
    for row in rows if isinstance(rows, list) else ():
        result = row.get("result") if isinstance(row, Mapping) else None
        yield from (
            (region for region in result if isinstance(region, Mapping)) if isinstance(result, list) else ()
        )
