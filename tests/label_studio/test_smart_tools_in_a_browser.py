"""The demo's smart tools in a real browser: the suggestion is on the image where it belongs, and is what is submitted."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import pytest
from playwright.sync_api import Page

from backend.demo.pictures import LABELS
from backend.demo.server import Login
from backend.protocol import SUGGESTED
from model.frames import around
from tests.backend.browser import opened_browser
from tests.label_studio.conftest import MakeStage
from tests.label_studio.stage import ANSWER_SECONDS, Mask, Stage, eventually
from tests.label_studio.test_smart_tools import cell, iou

pytestmark = [pytest.mark.browser]

RED, WHITE = LABELS
BRUSH, POINT, BOX = range(3)  # whose labels: controls in the order of the labeling config
ROOT = "window.Htx.annotationStore.selected"


@pytest.fixture(scope="module")
def page(missing: Callable[[str], NoReturn]) -> Iterator[Page]:
    """A page of a browser that reaches this machine only."""
    with opened_browser(missing) as browser:
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(1000 * ANSWER_SECONDS)
        yield opened


class Editor:
    """Label Studio's editor with one task, as an annotator uses it."""

    def __init__(self, page: Page, stage: Stage, task: int) -> None:
        self.page = page
        self.stage = stage
        self.task = task
        self._log_in(stage.session.url, Login())
        page.goto(f"{stage.session.url}/projects/{stage.id}/data?task={task}", wait_until="domcontentloaded")
        page.wait_for_function(f"window.Htx?.isLoading === false && {ROOT}?.objects?.[0]?.imageIsLoaded")
        page.wait_for_selector(".konvajs-content canvas")
        eventually(self._stays_where_it_is, "the picture at its place")

    def _log_in(self, url: str, login: Login) -> None:
        self.page.goto(f"{url}/user/login/")
        if "/user/login" in self.page.url:
            self.page.fill("input[name=email]", login.email)
            self.page.fill("input[name=password]", login.password)
            self.page.click("button[type=submit]")
            self.page.wait_for_url(lambda now: "/user/login" not in now)

    def clear(self) -> None:
        """Delete what is predicted as soon as it is there, as the button of that name does after asking."""
        eventually(lambda: self.page.evaluate(f"{ROOT}.areas.size > 0"), "what is predicted")
        self.page.evaluate(f"{ROOT}.deleteAllRegions()")
        eventually(lambda: self.page.evaluate(f"{ROOT}.areas.size === 0"), "nothing")

    def auto_annotate(self) -> None:
        toggle = self.page.locator("[data-testid=bottombar-auto-annotation-toggle]")
        toggle.wait_for(state="attached")
        if not toggle.is_checked():
            self.page.get_by_text("Auto-Annotation", exact=True).click()
        eventually(toggle.is_checked, "Auto-Annotation is on")

    def choose_label(self, control: int, label: str) -> None:
        """A label of a control; it is forgotten with every click."""
        self.page.keyboard.press("Escape")
        self.page.locator(".lsf-label", has_text=label).nth(control).click()
        self.page.locator(".lsf-label_selected", has_text=label).wait_for()

    def choose(self, control: int, label: str, tool: str) -> None:
        """A smart tool and a label of its control."""
        self.choose_label(control, label)
        self.page.locator(".lsf-tool_smart").first.hover()
        self.page.locator(f".lsf-toolbar__smart [aria-label={tool}]").click()

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the picture is on the screen."""
        height, width = self.stage.pictures[self.task].image.shape[:2]
        content = self.page.locator(".konvajs-content").first.bounding_box()
        assert content is not None
        shown: dict[str, float] = self.page.evaluate(
            f"(() => {{ const o = {ROOT}.objects[0]; return {{x: o.zoomingPositionX, y: o.zoomingPositionY,"
            " w: o.stageWidth * o.zoomScale, h: o.stageHeight * o.zoomScale}; })()"
        )
        return (
            content["x"] + shown["x"] + x / width * shown["w"],
            content["y"] + shown["y"] + y / height * shown["h"],
        )

    def _stays_where_it_is(self) -> bool:
        """Whether the picture is where it was a while ago: its size changes again when all of the editor is there."""
        before = self._at(0, 0), self._at(1, 1)
        self.pause(750)
        return (self._at(0, 0), self._at(1, 1)) == before

    def pause(self, milliseconds: int) -> None:
        """Wait by the page's own clock, however slow it is: what it had to do before that is done then."""
        self.page.evaluate(
            f"new Promise(done => setTimeout(() => requestAnimationFrame(() => done(0)), {milliseconds}))"
        )

    def click(self, x: float, y: float, *, outside: bool = False) -> None:
        if outside:
            self.page.keyboard.down("Alt")
        self.page.mouse.move(*self._at(x, y))
        self.page.mouse.down()
        self.page.mouse.up()
        if outside:
            self.page.keyboard.up("Alt")

    def drag(self, left: float, top: float, right: float, bottom: float) -> None:
        self.page.mouse.move(*self._at(left, top))
        self.page.mouse.down()
        self.page.mouse.move(*self._at(right, bottom), steps=12)
        self.pause(100)
        self.page.mouse.up()

    def suggestions(self) -> list[str]:
        """The ids of what is suggested now."""
        found: list[str] = self.page.evaluate(f"Array.from({ROOT}.suggestions.values()).map(s => s.id)")
        return found

    def wait_for_others(self, before: list[str]) -> list[str]:
        return eventually(
            lambda: now if (now := self.suggestions()) and now != before else [], "another suggestion"
        )

    def accept(self) -> None:
        self.page.click("[data-testid=bottombar-accept-suggestions-button]")
        eventually(lambda: not self.suggestions(), "the suggestion is accepted")

    def submit(self) -> list[dict[str, Any]]:
        """Submit; returns the annotation's regions."""
        self.page.click('button[aria-label="Submit current annotation"]')
        (annotation,) = eventually(lambda: self.stage.session.annotations(self.task), "an annotation")
        result: list[dict[str, Any]] = annotation["result"]
        return result


def middle(mask: Mask) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def test_a_click_is_answered_on_the_image_and_its_mask_is_what_is_submitted(
    page: Page, make_stage: MakeStage
) -> None:
    stage = make_stage(2)
    taught, task = stage.pictures
    annotation = stage.approve(taught)
    stage.wait_taught((annotation, RED), (annotation, WHITE))
    stage.wait_predicted(task)
    wanted = cell(stage, task, WHITE)
    editor = Editor(page, stage, task)
    editor.clear()  # where a mask is already, a click selects it
    editor.auto_annotate()
    editor.choose(POINT, WHITE, "key-point-tool")
    editor.click(*middle(wanted))
    first = editor.wait_for_others([])
    editor.choose_label(POINT, WHITE)
    editor.click(20, 20, outside=True)
    editor.wait_for_others(first)
    editor.accept()
    (region,) = [each for each in editor.submit() if each.get("meta")]
    assert region["origin"] == "prediction"
    assert region["meta"][SUGGESTED]["by"] == "context"
    assert iou(stage.mask(task, [region], WHITE), wanted) > 0.75


def test_a_box_on_the_first_image_gives_its_object_and_its_likes(page: Page, make_stage: MakeStage) -> None:
    stage = make_stage(1)
    (task,) = stage.pictures
    wanted = cell(stage, task, RED)
    editor = Editor(page, stage, task)
    editor.auto_annotate()
    editor.choose(BOX, RED, "rectangle-tool")
    frame = around(wanted)
    editor.drag(frame.left - 2, frame.top - 2, frame.right + 2, frame.bottom + 2)
    editor.wait_for_others([])
    editor.accept()
    result = editor.submit()
    by = {region["meta"][SUGGESTED]["by"]: region for region in result}
    assert set(by) == {"edges", "outlined"}, "and the box itself is gone"
    assert iou(stage.mask(task, [by["edges"]], RED), wanted) > 0.75
    assert iou(stage.mask(task, result, RED), stage.pictures[task].masks[RED]) > 0.75
