"""Brush streams and regions with something wrong in them: a mask, or a refusal in words; nothing else."""

from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backend import brush_rle, regions
from backend.errors import RegionError
from backend.label_config import Kind, LabelConfig, Target
from backend.learner import annotations
from backend.lost_labels import LostLabel, LostLabels
from tests.backend.attacks.fuzzing import STRANGE, inputs, recorded, trying, wrong

HEIGHT, WIDTH = 12, 17
KINDS: tuple[Kind, ...] = ("brush", "polygon", "rectangle", "ellipse")
TARGETS = [Target("tag", "image", "cell", kind, "image") for kind in KINDS]
TARGETS += [Target("tag", "image", "cell", kind, "image", "names") for kind in KINDS]
VALUES: dict[Kind, dict[str, Any]] = {
    "brush": {"format": "rle", "rle": brush_rle.encode(np.eye(HEIGHT, WIDTH, dtype=np.bool_))},
    "polygon": {"points": [[10, 10], [90, 15], [50, 80]], "closed": True},
    "rectangle": {"x": 10, "y": 10, "width": 50, "height": 40, "rotation": 30},
    "ellipse": {"x": 50, "y": 50, "radiusX": 30, "radiusY": 20, "rotation": 30},
}


def items(kind: Kind, *, apart: bool) -> list[dict[str, Any]]:
    """A region as the editor submits it; `apart`: its name by a separate Labels tag."""
    common = {
        "id": "r1",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
    }
    if apart:
        named = {**VALUES[kind], "labels": ["cell"]}
        return [
            {**common, "from_name": "tag", "type": kind, "value": VALUES[kind]},
            {**common, "from_name": "names", "type": "labels", "value": named},
        ]
    value = {**VALUES[kind], f"{kind}labels": ["cell"]}
    return [{**common, "from_name": "tag", "type": f"{kind}labels", "origin": "manual", "value": value}]


RESULTS = [items(kind, apart=apart) + items(kind, apart=False) for kind in KINDS for apart in (False, True)]
ANNOTATIONS = [
    body["annotation"] for body in recorded("/webhook") if isinstance(body.get("annotation"), dict)
]
masks = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0, 1))


def mask_of(height: int, width: int, seed: int, share: float) -> Any:
    return np.random.default_rng(seed).random((height, width)) < share


@inputs(1500)
@given(mask=masks, change=st.sampled_from(["none", "cut", "bits", "more", "size"]), draw=st.data())
def test_a_brush_stream_with_something_wrong_in_it_is_decoded_or_refused(
    mask: tuple[int, int, int, float], change: str, draw: Any
) -> None:
    with trying("brush streams"):
        height, width = mask[:2]
        rle = brush_rle.encode(mask_of(*mask))
        match change:
            case "cut":
                del rle[draw.draw(st.integers(0, len(rle) - 1)) :]
            case "bits":
                for _ in range(draw.draw(st.integers(1, 5))):
                    rle[draw.draw(st.integers(0, len(rle) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
            case "more":
                rle += draw.draw(st.lists(st.integers(0, 255), min_size=1, max_size=9))
            case "size":
                height, width = draw.draw(st.integers(-1, 60)), draw.draw(st.integers(-1, 60))
        try:
            alpha = brush_rle.decode(rle, height, width)
        except RegionError:
            assert change != "none"
        else:
            assert alpha.shape == (height, width)
            assert alpha.dtype == np.uint8
            assert change != "none" or np.array_equal(alpha == 255, mask_of(*mask))


@inputs(500)
@given(rle=st.one_of(STRANGE, st.lists(st.one_of(st.integers(-2, 300), STRANGE), max_size=40)))
def test_what_is_no_brush_stream_at_all_is_refused(rle: Any) -> None:
    with trying("brush streams"), suppress(RegionError):
        assert brush_rle.decode(rle, HEIGHT, WIDTH).shape == (HEIGHT, WIDTH)


@inputs(2000)
@given(result=wrong(RESULTS, most=5))
def test_regions_with_something_wrong_in_them_are_painted_or_refused(result: Any) -> None:
    with trying("regions"):
        annotation = {"id": 1, "result": result}
        annotations.kind(annotation, LabelConfig(tuple(TARGETS)))
        annotations.made_in_bulk(annotation)
        for target in TARGETS:
            with suppress(RegionError):
                for mask in annotations.masks(annotation, [target]).values():
                    assert mask.dtype == np.bool_
                    assert mask.any()
        if isinstance(result, list):
            assert all(isinstance(label, str) for label in regions.approved_labels(result))


@inputs(700)
@given(annotation=wrong(ANNOTATIONS))
def test_an_annotation_with_something_wrong_in_it_counts_or_does_not(annotation: Any) -> None:
    with trying("annotations"):
        if not isinstance(annotation, dict) or not annotations.counts(annotation, "submitted", True):
            return
        config = LabelConfig(tuple(TARGETS))
        gone = Target("gone", "image", "cell", "brush", "image")
        lost = LostLabels(config, [LostLabel(gone, 0.0, "move", TARGETS[0].id)])
        approval = annotations.approval("1.1", {"id": 1}, annotation, config, lost)
        assert len(approval.digest) == 32
        assert approval.kind in ("drawn", "corrected", "accepted")
