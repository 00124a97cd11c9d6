"""Makes docs/images/playground.jpg: a white cell painted on one drawn blood smear, and found on two others.

PYTHONPATH=. .venv-playground/bin/python docs/images/playground.py (with pytest and playwright installed there, too)
"""

import io
import re
import tempfile
from pathlib import Path
from typing import NoReturn

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page

from backend.demo.pictures import LABELS, draw
from model.frames import Frame, around
from tests.backend.browser import Watched, opened_browser
from tests.backend.test_playground import find_until, look_in, open_to_paint_on, paint, running_playground

PAINTED, OTHERS = 1, (6, 8)  # the first has one white cell
WIDTH, HEIGHT, MARGIN, SIDE = 1200, 1200, 16, 100


def missing(reason: str) -> NoReturn:
    """There is no browser."""
    raise SystemExit(reason)


def box_of(element: Locator) -> FloatRect:
    """Where an element is on the page."""
    box = element.bounding_box()
    if box is None:
        raise SystemExit(f"{element} is not to be seen.")
    return box


def on_screen(page: Page, frame: Frame, size: tuple[int, int]) -> tuple[tuple[float, float], float]:
    """Middle and radius, in the page's pixels, of what a frame holds of a picture of this height and width.

    The editor shows the picture in its middle, and says how large.
    """
    percent = page.locator("#painted").get_by_text(re.compile(r"^\d+%$"))
    percent.wait_for()
    page.wait_for_timeout(3000)  # it may still grow
    scale = float(percent.inner_text().rstrip("%")) / 100
    box = box_of(page.locator("#painted"))
    right = (frame.left + frame.right - size[1]) / 2
    down = (frame.top + frame.bottom - size[0]) / 2
    middle = (box["x"] + box["width"] / 2 + scale * right, box["y"] + box["height"] / 2 + scale * down)
    return middle, scale * (frame.right - frame.left) / 2


with tempfile.TemporaryDirectory() as name:
    files = [Path(name) / draw(number).name for number in (PAINTED, *OTHERS)]
    for file, number in zip(files, (PAINTED, *OTHERS), strict=True):
        file.write_bytes(draw(number).png())
    with running_playground(Path(name)) as url, opened_browser(missing) as browser:
        page = Watched(browser).page
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(300_000)
        page.goto(url)
        find_until(page, "Open a picture to paint on.")  # so the page is alive
        open_to_paint_on(page, str(files[0]))
        white = draw(PAINTED).masks[LABELS[1]]
        paint(page, *on_screen(page, around(white), white.shape))
        look_in(page, [str(file) for file in files[1:]])
        page.wait_for_timeout(3000)  # the pictures fade in
        page.mouse.move(0, 0)
        below = int(box_of(page.get_by_text("Masks", exact=True))["y"]) - MARGIN
        screen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    part = screen.crop((SIDE, 0, WIDTH - SIDE, below))
    part.save(Path(__file__).with_name("playground.jpg"), quality=85)
