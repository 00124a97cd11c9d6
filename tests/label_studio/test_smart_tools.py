"""Clicks and boxes of smart tools through a real Label Studio: what its editor gets."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from backend.demo.pictures import LABELS
from backend.protocol import SUGGESTED
from model.frames import around
from tests.label_studio.stage import Mask, Stage

RED, WHITE = LABELS


def cell(stage: Stage, task: int, label: str) -> Mask:
    """The roundest cell of a picture: one that neither touches another nor is cut off by the edge."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(stage.pictures[task].masks[label].astype(np.uint8))
    areas, sides = (
        stats[1:, cv2.CC_STAT_AREA],
        stats[1:, cv2.CC_STAT_WIDTH : cv2.CC_STAT_HEIGHT + 1].max(axis=1),
    )
    return np.asarray(parts == 1 + int(np.argmax(areas / sides**2 * (areas > 0.3 * areas.max()))))


def region(kind: str, control: str, label: str, shape: tuple[int, ...], **value: float) -> dict[str, Any]:
    return {
        "original_width": shape[1], "original_height": shape[0], "image_rotation": 0, "origin": "manual",
        "id": f"{kind}-{value['x']:.3f}", "from_name": control, "to_name": "image", "type": f"{kind}labels",
        "value": {**value, f"{kind}labels": [label]},
    }  # fmt: skip


def click(mask: Mask, label: str) -> dict[str, Any]:
    rows, columns = np.nonzero(mask)
    x, y = 100 * columns.mean() / mask.shape[1], 100 * rows.mean() / mask.shape[0]
    return {**region("keypoint", "point", label, mask.shape, x=x, y=y, width=0.3), "is_positive": True}


def outline(mask: Mask, label: str) -> dict[str, Any]:
    frame, (height, width) = around(mask), mask.shape
    x, y = 100 * (frame.left - 1) / width, 100 * (frame.top - 1) / height
    wide, high = 100 * (frame.width + 2) / width, 100 * (frame.height + 2) / height
    return region("rectangle", "box", label, mask.shape, x=x, y=y, width=wide, height=high, rotation=0.0)


def iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / (first | second).sum())


def suggested(stage: Stage, task: int, *hints: dict[str, Any]) -> Callable[[str], Mask]:
    """The suggested mask, by label."""
    before = stage.version()  # it moves a moment after an approval is learned
    answer = stage.session.point_at(stage.connection, task, hints)
    assert answer["model_version"] in {before, stage.version()}
    for found in answer["result"]:
        assert found["origin"] == "prediction"
        assert 0 <= found["score"] <= 1
        assert found["meta"][SUGGESTED]["hints"] == [hint["id"] for hint in hints]
    return lambda label: stage.mask(task, answer["result"], label)


def test_before_the_first_approval_an_outline_gives_its_object_and_its_likes(stage: Stage) -> None:
    task = next(iter(stage.pictures))
    mask = suggested(stage, task, outline(cell(stage, task, RED), RED))(RED)
    assert iou(mask, stage.pictures[task].masks[RED]) > 0.8


def test_after_an_approval_a_click_gives_the_cell_under_it(stage: Stage) -> None:
    first, second, *_ = stage.pictures
    annotation = stage.approve(first)
    stage.wait_taught((annotation, RED), (annotation, WHITE))
    for label in LABELS:
        wanted = cell(stage, second, label)
        assert iou(suggested(stage, second, click(wanted, label))(label), wanted) > 0.75, label


def test_a_submitted_suggestion_teaches_and_its_clicks_do_not(stage: Stage) -> None:
    task = next(iter(stage.pictures))
    asked = click(cell(stage, task, WHITE), WHITE)
    answer = stage.session.point_at(stage.connection, task, [asked])
    annotation = stage.session.submit(task, [*answer["result"], asked])
    stage.wait_taught((annotation, WHITE))


def test_what_cannot_be_answered_is_nothing_and_no_error(stage: Stage) -> None:
    task = next(iter(stage.pictures))
    stray = {**click(cell(stage, task, RED), RED), "from_name": "elsewhere", "to_name": "elsewhere"}
    assert stage.session.point_at(stage.connection, task, [stray]) == []
