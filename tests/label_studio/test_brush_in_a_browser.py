"""An annotator's work in a real browser: what is predicted is shown where it belongs, accepted, corrected, and goes on.

Everything waits for what it needs; nothing depends on how fast the machine is. Screenshots are in pytest's cache.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from backend.demo.pictures import LABELS
from backend.demo.server import Login
from backend.protocol import BEHIND
from tests.backend.browser import opened_browser
from tests.label_studio.conftest import MakeStage
from tests.label_studio.stage import Mask, Stage, eventually
from tests.label_studio.test_smart_tools import iou
from tests.label_studio.test_smart_tools_in_a_browser import ROOT, Editor

pytestmark = [pytest.mark.browser]

RED, _ = LABELS
PATIENCE = 240.0  # seconds for what a browser has to load, or Label Studio to answer
TOOL = ".lsf-tool:not(.lsf-tool_smart)"
CHANGED = 20  # sum of three channels, from which on a pixel of the screen differs


@pytest.fixture(scope="module")
def page(missing: Callable[[str], NoReturn]) -> Iterator[Page]:
    """A page of a browser that reaches this machine only."""
    with opened_browser(missing) as browser:
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(1000 * PATIENCE)
        yield opened


class LabelStream(Editor):
    """Label Studio's *Label All Tasks*: one task after the other, as they come."""

    def __init__(self, page: Page, stage: Stage, screenshots: Path) -> None:
        self.page, self.stage, self.screenshots = page, stage, screenshots
        self._log_in(stage.session.url, Login())
        page.goto(f"{stage.session.url}/projects/{stage.id}/data?labeling=1", wait_until="domcontentloaded")
        self.task = self.next_task()

    def next_task(self, after: int = 0) -> int:
        """Wait until a task that is not `after` is there, with its picture; returns it."""

        def opened() -> int:
            task = self.page.evaluate("window.Htx?.task?.id ?? 0")
            ready = self.page.evaluate(f"{ROOT}?.objects?.[0]?.imageIsLoaded ?? false") if task else False
            return int(task) if ready and int(task) != after else 0

        self.task = eventually(opened, f"a task after {after} in the label stream", PATIENCE)
        return self.task

    def regions(self) -> list[dict[str, Any]]:
        """What the editor would submit now."""
        found: list[dict[str, Any]] = self.page.evaluate(f"{ROOT}?.serializeAnnotation() ?? []")
        return found

    def wait_for_regions(self) -> list[dict[str, Any]]:
        return eventually(self.regions, f"regions on task {self.task}", PATIENCE)

    def shown(self, name: str) -> Mask:
        """What the page paints over the picture, at the picture's own pixels; a screenshot of it is kept."""
        with_regions = self._screen(name)
        self.page.click('button[aria-label="Hide all regions"]')
        self.page.wait_for_selector('button[aria-label="Show all regions"]')
        without = self._screen(f"{name}-hidden")
        self.page.click('button[aria-label="Show all regions"]')
        self.page.wait_for_selector('button[aria-label="Hide all regions"]')
        height, width = self.stage.pictures[self.task].image.shape[:2]
        left, top = self._at(0.5, 0.5)
        right, bottom = self._at(width - 0.5, height - 0.5)
        columns = np.linspace(left, right, width).astype(int)
        rows = np.linspace(top, bottom, height).astype(int)
        changed = np.abs(with_regions - without).sum(axis=2) > CHANGED
        return np.asarray(changed[np.ix_(rows, columns)])

    def _screen(self, name: str) -> Any:
        content = self.page.screenshot(path=self.screenshots / f"{name}.png")
        with Image.open(io.BytesIO(content)) as opened:
            return np.asarray(opened.convert("RGB")).astype(int)

    def wait_shown(self, mask: Mask, name: str) -> None:
        """Wait until the page shows this mask, and nothing else, on the picture."""
        eventually(lambda: iou(self.shown(name), mask) > 0.95, f"{name}: the mask on the picture", PATIENCE)

    def select(self, mask: Mask) -> None:
        """Click on a region where it is thickest."""
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        self.page.keyboard.press("Escape")
        self.page.locator(f"{TOOL}[aria-label=move-tool]").click()
        self.click(float(column) + 0.5, float(row) + 0.5)
        selected = f"Array.from({ROOT}.areas.values()).some(area => area.inSelection || area.selected)"
        eventually(lambda: self.page.evaluate(selected), "the region is selected", PATIENCE)

    def stroke(self, *points: tuple[float, float]) -> None:
        """Paint with the brush from point to point of the picture; it adds to the selected region."""
        self.page.locator(f"{TOOL}[aria-label=brush-tool]").click()
        self.page.mouse.move(*self._at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self._at(*point), steps=8)
        self.page.mouse.up()

    def submit_and_go_on(self) -> tuple[int, dict[str, Any]]:
        """Submit; returns the next task, which opens by itself, and the annotation that came of this one."""
        task = self.task
        self.page.click('button[aria-label="Submit current annotation"]')
        (annotation,) = eventually(
            lambda: self.stage.session.annotations(task), f"an annotation of task {task}", PATIENCE
        )
        return self.next_task(task), annotation


def test_masks_are_shown_accepted_corrected_and_the_next_task_has_one(
    page: Page, make_stage: MakeStage, pytestconfig: pytest.Config
) -> None:
    stage = make_stage(4)
    first, *others = stage.pictures
    drawn = stage.approve(first, [RED])
    stage.wait_taught((drawn, RED))
    stage.wait_predicted(*others)

    # Shown where it belongs, and accepted as it is.
    stream = LabelStream(page, stage, pytestconfig.cache.mkdir("brush-in-a-browser"))
    accepted = stream.task
    assert accepted in others
    predicted = stage.mask(accepted, stream.wait_for_regions(), RED)
    assert iou(predicted, stage.pictures[accepted].masks[RED]) > 0.5
    stream.wait_shown(predicted, "1-predicted")
    corrected, annotation = stream.submit_and_go_on()
    assert annotation["parent_prediction"], "Label Studio says which prediction it was made from"
    assert iou(stage.mask(accepted, annotation["result"], RED), predicted) == 1
    assert {tuple(region["meta"][BEHIND]["tasks"]) for region in annotation["result"]} == {(first,)}
    stage.wait_taught((drawn, RED), (int(annotation["id"]), RED))

    # Corrected with the brush.
    regions = stream.wait_for_regions()
    predicted = stage.mask(corrected, regions, RED)
    stream.wait_shown(predicted, "2-predicted")
    stream.select(predicted)
    stream.stroke((30, 20), (200, 20), (200, 60))
    eventually(
        lambda: bool((stage.mask(corrected, stream.regions(), RED) & ~predicted).any()),
        "the stroke is part of what would be submitted",
    )
    painted = stage.mask(corrected, stream.regions(), RED)
    stream.wait_shown(painted, "3-corrected")
    last, correction = stream.submit_and_go_on()
    submitted = stage.mask(corrected, correction["result"], RED)
    assert correction["parent_prediction"]
    assert iou(submitted, painted) > 0.98
    assert not (predicted & ~submitted).any(), "what was predicted is still in it"
    assert 0.1 < iou(submitted, predicted) < 0.95

    # The backend knows both, how they came about, and what was kept.
    both = int(annotation["id"]), int(correction["id"])
    stage.wait_taught((drawn, RED), *((each, RED) for each in both))
    kinds = {example["annotation"]: example["kind"] for example in stage.examples()}
    assert [kinds[each] for each in both] == ["accepted", "corrected"]
    # Not to the pixel: a prediction of the next revision may have taken the place of the one that was open.
    assert stage.wait_kept(2)["mean"] == pytest.approx((1 + iou(submitted, predicted)) / 2, abs=0.05)

    # And the next one has a prediction.
    assert last in set(others) - {accepted, corrected}
    regions = stream.wait_for_regions()
    stream.wait_shown(stage.mask(last, regions, RED), "4-next")
    assert all(region["origin"] == "prediction" for region in regions)
