"""Makes the pictures label-studio-*.jpg: `make run`'s demo in a browser, as the annotator and the admin see it.

PYTHONPATH=. .venv/bin/python docs/images/label_studio.py
"""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from playwright.sync_api import Browser, FloatRect, Page

from backend.demo.pictures import LABELS, demo_pictures
from backend.demo.process import LOOPBACK, ManagedProcess, free_port
from backend.demo.run import PROJECT
from backend.demo.server import REPOSITORY, Login
from backend.demo.session import Session, name_of_upload
from model.frames import around
from tests.backend.browser import opened_browser
from tests.label_studio.stage import RunningBackend, Stage, eventually
from tests.label_studio.test_brush_in_a_browser import LabelStream
from tests.label_studio.test_smart_tools import cell
from tests.label_studio.test_smart_tools_in_a_browser import BOX, Editor

PORT = 9090  # it is to be seen, so it is the one of the docs
STARTING_SECONDS, PATIENCE_SECONDS = 900.0, 120.0
WIDTH, HEIGHT = 1200, 800
HEADER, LIST = 48, 240  # pixels above and to the left of what is shown
BY_HAND = 6  # the task whose cells are found with a box
QUALITY = 80
DRAWN_MS = 1500  # until what the editor knows is painted
RED, _ = LABELS
log = logging.getLogger(__name__)


def missing(reason: str) -> NoReturn:
    """There is no browser."""
    raise SystemExit(reason)


@contextmanager
def demo(folder: Path) -> Iterator[Stage]:
    """The demo from an empty folder, when it has told its login: three pictures approved, the others predicted."""
    port = free_port()
    command = [sys.executable, "-m", "backend.demo", "--dir", str(folder / "demo")]
    command += ["--port", str(PORT), "--label-studio-port", str(port)]
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}
    process = ManagedProcess(command, env=variables, cwd=folder, log=folder / "demo.log")
    try:
        process.start()
        eventually(
            lambda: Login().password in process.log.read_text() or not process.running,
            "the demo's login",
            STARTING_SECONDS,
        )
        if not process.running:
            raise SystemExit(process.tail())
        backend = RunningBackend(f"http://{LOOPBACK}:{PORT}", process)
        session = Session(f"http://{LOOPBACK}:{port}", Login())
        yield staged(session, backend)
        session.close()
    finally:
        process.stop(60)  # it stops two servers first


def staged(session: Session, backend: RunningBackend) -> Stage:
    """The demo's project, its tasks with their pictures."""
    project = session.find_project(PROJECT)
    if project is None:
        raise SystemExit("The demo has made no project.")
    stage = Stage(session, backend, project)
    pictures = {picture.name: picture for picture in demo_pictures()}
    stage.pictures = {int(task["id"]): pictures[name_of_upload(task)] for task in session.tasks(stage.id)}
    return stage


def keep(name: str, page: Page, left: int, top: int, right: int, bottom: int) -> None:
    """Save a part of what the page shows now."""
    target = Path(__file__).with_name(f"label-studio-{name}.jpg")
    clip = FloatRect(x=left, y=top, width=right - left, height=bottom - top)
    page.screenshot(path=target, clip=clip, type="jpeg", quality=QUALITY, animations="disabled")
    log.info("%s: %d KB", target.name, target.stat().st_size // 1024)


def take(browser: Browser, stage: Stage) -> None:
    """All pictures, in the order in which people come to see them."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(1000 * PATIENCE_SECONDS)
    approved, *_ = stage.pictures

    editor = Editor(page, stage, approved)
    keep("approved", page, LIST, HEADER, WIDTH, HEIGHT)

    page.goto(f"{stage.session.url}/projects/{stage.id}/settings/ml")
    page.get_by_text("Connected", exact=True).wait_for()
    page.get_by_text("Configuration", exact=True).wait_for()
    keep("model", page, 0, HEADER, 960, 460)

    stream = LabelStream(page, stage, Path())
    stream.wait_for_regions()
    page.wait_for_timeout(DRAWN_MS)
    keep("next", page, 0, HEADER, WIDTH, HEIGHT)

    editor = Editor(page, stage, BY_HAND)
    editor.clear()
    editor.auto_annotate()
    editor.choose(BOX, RED, "rectangle-tool")
    frame = around(cell(stage, BY_HAND, RED))
    editor.drag(frame.left - 2, frame.top - 2, frame.right + 2, frame.bottom + 2)
    editor.wait_for_others([])
    page.mouse.move(0, 0)
    page.wait_for_timeout(DRAWN_MS)
    keep("box", page, LIST, HEADER, WIDTH, HEIGHT)


if __name__ == "__main__":
    logging.basicConfig(level="WARNING", format="%(message)s")
    log.setLevel("INFO")
    with (
        tempfile.TemporaryDirectory() as name,
        demo(Path(name)) as running,
        opened_browser(missing) as opened,
    ):
        take(opened, running)
