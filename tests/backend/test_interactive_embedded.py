"""Smart tools with the embedded weights, on drawn smears: what one click or one box is worth."""

from collections.abc import Callable
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.demo.pictures import LABELS, Picture, draw
from model.checkpoint import EMBEDDED
from model.frames import around
from tests.backend.stage import Stage, brush, iou, mask_of
from tests.backend.test_interactive import ask
from tests.backend.test_interactive_hints import box, point

pytestmark = pytest.mark.slow

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="tag" toName="image"><Label value="red cell"/><Label value="white cell"/></BrushLabels>
<KeyPointLabels name="point" toName="image" smart="true"><Label value="red cell"/><Label value="white cell"/></KeyPointLabels>
<RectangleLabels name="box" toName="image" smart="true"><Label value="red cell"/><Label value="white cell"/></RectangleLabels>
</View>"""


@pytest.fixture
def embedded(staging: Callable[..., Stage], missing: Callable[[str], NoReturn]) -> Stage:
    if not EMBEDDED.exists():
        missing("the embedded checkpoint is not here")
    stage = staging(checkpoint="embedded", min_area=0.0002)
    stage.label_studio.projects[stage.project]["label_config"] = CONFIG
    stage.setup()
    return stage


def cells(picture: Picture, label: str, count: int) -> list[NDArray[np.bool_]]:
    """The largest cells of a picture."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(picture.masks[label].astype(np.uint8))
    largest = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:count] + 1
    return [np.asarray(parts == part) for part in largest]


def pointed(mask: NDArray[np.bool_], label: str) -> dict[str, Any]:
    """A click in the middle of a cell."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return point("a", 100 * columns.mean() / width, 100 * rows.mean() / height, label=label)


def outlined(mask: NDArray[np.bool_], label: str) -> dict[str, Any]:
    frame, (height, width) = around(mask), mask.shape
    region = box(
        "a",
        100 * (frame.left - 2) / width,
        100 * (frame.top - 2) / height,
        100 * (frame.width + 4) / width,
        100 * (frame.height + 4) / height,
    )
    region["value"]["rectanglelabels"] = [label]
    return region


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("pointing", [pointed, outlined])
def test_with_one_approved_picture_a_click_or_a_box_gives_the_cell(
    embedded: Stage, pointing: Callable[[NDArray[np.bool_], str], dict[str, Any]], label: str
) -> None:
    taught = draw(1)
    embedded.submit(embedded.upload(taught.image), brush(taught.masks[label], label))
    embedded.work()
    found = []
    for number in (2, 3):
        picture = draw(number)
        task = embedded.upload(picture.image)
        for cell in cells(picture, label, 2):
            (region,) = ask(embedded, task, pointing(cell, label))["result"]
            found.append(iou(mask_of(region), cell))
    assert min(found) > 0.8, found
    assert np.mean(found) > 0.9, found


@pytest.mark.parametrize("label", LABELS)
def test_without_any_outlining_one_cell_finds_the_others_of_its_kind(embedded: Stage, label: str) -> None:
    picture = draw(2)
    (cell,) = cells(picture, label, 1)
    mine, *likes = ask(embedded, embedded.upload(picture.image), outlined(cell, label))["result"]
    assert iou(mask_of(mine), cell) > 0.93
    everything = mask_of(mine)
    for region in likes:
        everything |= mask_of(region)
    assert iou(everything, picture.masks[label]) > 0.85
