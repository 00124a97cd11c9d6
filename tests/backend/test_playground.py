"""`playground`: strokes become a mask, and what is like it is found in other pictures; with Gradio the real page too."""

import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Error as PageError
from playwright.sync_api import Page

from backend.cli import playground
from backend.demo.process import LOOPBACK, ManagedProcess, free_port
from backend.errors import BadRequest
from backend.settings import Settings
from model.segmenter import Segmenter
from tests.backend.browser import Watched, opened_browser
from tests.backend.documented import ROOT
from tests.backend.stage import Run

Pixels = NDArray[np.uint8]
SMALL, WIDE = (48, 64), (60, 100)  # heights and widths


def disc(height: int, width: int, down: float, right: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(np.hypot(rows - down * height, columns - right * width) < 0.2 * height)


def picture(mask: NDArray[np.bool_]) -> Pixels:
    shown = np.full((*mask.shape, 3), 210, dtype=np.uint8)
    shown[mask] = (180, 30, 40)
    return shown


def strokes(mask: NDArray[np.bool_], alpha: int = 255) -> Pixels:
    """A layer of Gradio's editor."""
    layer = np.zeros((*mask.shape, 4), dtype=np.uint8)
    layer[mask] = (255, 42, 109, alpha)
    return layer


def opaque(shown: Pixels) -> Pixels:
    return np.dstack([shown, np.full(shown.shape[:2], 255, dtype=np.uint8)])


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


# -- strokes -------------------------------------------------------------------------------------------------------
def test_what_any_layer_paints_is_the_mask_and_soft_edges_end_at_the_half() -> None:
    first, second = disc(*SMALL, 0.3, 0.3), disc(*SMALL, 0.7, 0.7)
    layers = [strokes(first), strokes(second, 128), strokes(np.ones(SMALL, dtype=np.bool_), 127)]
    shown, mask = playground.read_painted({"background": opaque(picture(first)), "layers": layers})
    assert (mask == (first | second)).all()
    assert (shown == picture(first)).all()


@pytest.mark.parametrize(
    ("editor", "said"),
    [
        (None, "Open a picture"),
        ({"background": None, "layers": [strokes(disc(*SMALL, 0.5, 0.5))]}, "Open a picture"),
        ({"background": opaque(picture(disc(*SMALL, 0.5, 0.5))), "layers": []}, "Paint over"),
        ({"background": opaque(picture(disc(*SMALL, 0.5, 0.5))), "layers": [strokes(np.zeros(SMALL, np.bool_))]}, "Paint over"),
    ],
)  # fmt: skip
def test_without_picture_or_strokes_it_says_what_to_do(editor: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        playground.read_painted(editor)


# -- what is found -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def embedded() -> Segmenter:
    return Segmenter.load("embedded", "cpu")


@pytest.fixture
def painted() -> dict[str, Any]:
    mask = disc(*SMALL, 0.4, 0.35)
    return {"background": opaque(picture(mask)), "layers": [strokes(mask)], "composite": None}


def saved(path: Path, mask: NDArray[np.bool_]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(mask)).save(path)
    return str(path)


def read_mask(file: str | Path | io.BytesIO) -> NDArray[np.bool_]:
    with Image.open(file) as opened:
        values = np.asarray(opened)
    assert set(np.unique(values).tolist()) <= {0, 255}
    return np.asarray(values == 255)


def test_what_is_painted_is_found_in_the_others_at_their_own_sizes(
    embedded: Segmenter, painted: dict[str, Any], tmp_path: Path
) -> None:
    """Both files have one name, as uploads from two folders can have."""
    truths = [disc(*SMALL, 0.6, 0.7), disc(*WIDE, 0.5, 0.3)]
    others = [saved(tmp_path / f"{number}" / "cells.png", truth) for number, truth in enumerate(truths)]
    shown, files = playground.find(embedded, Settings(), painted, others, tmp_path)
    assert len(set(files)) == 2
    for truth, file, (overlay, caption) in zip(truths, files, shown, strict=True):
        found = read_mask(file)
        assert iou(found, truth) > 0.7
        assert (overlay[~found] == picture(truth)[~found]).all()
        assert (overlay[found] != picture(truth)[found]).any(axis=1).all()
        assert f"cells.png: {100 * found.mean():.1f} %" in caption


def test_what_is_missing_or_no_picture_is_named(
    embedded: Segmenter, painted: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match="Add pictures"):
        playground.find(embedded, Settings(), painted, None, tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(BadRequest, match=r"notes\.txt: "):
        playground.find(embedded, Settings(), painted, [str(tmp_path / "notes.txt")], tmp_path)


# -- the command ---------------------------------------------------------------------------------------------------
def test_without_gradio_the_command_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")  # so that it is put back
    code, _, err = run("playground")
    assert code == 1
    assert "requirements-playground.txt" in err
    assert len(err.strip().splitlines()) == 1


def test_the_playground_s_versions_are_the_backend_s_but_for_what_gradio_cannot_use() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text().splitlines()
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    ours, theirs = pins("requirements.txt"), pins("requirements-playground.txt")
    assert set(theirs) - set(ours) == {"gradio"}
    assert {name for name, version in ours.items() if theirs.get(name) != version} == {"pillow"}


# -- the page, where Gradio is installed ---------------------------------------------------------------------------
@contextmanager
def running_playground(folder: Path) -> Iterator[str]:
    """A real playground's address; it ends well when asked to, and leaves nothing behind in the folder."""
    port = free_port()
    command = [sys.executable, "-m", "backend", "playground", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = ManagedProcess(command, env=environment, cwd=ROOT, log=folder / "playground.log")
    process.start()
    address = f"http://{LOOPBACK}:{port}"
    try:
        process.wait_until_healthy(address, "The playground", 300)
        yield address
    finally:
        process.stop(grace=60)
    assert process.exit_code == 0
    assert list(folder.glob("playground-*")) == []


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="no Gradio; docs/playground.md says why"
)
def test_a_mask_painted_on_the_real_page_is_found_in_two_pictures(
    missing: Callable[[str], NoReturn], tmp_path: Path
) -> None:
    """Where to paint is read off the screen: the thing is red there."""
    truths = [disc(300, 400, 0.4, 0.35), disc(300, 400, 0.6, 0.7), disc(450, 600, 0.5, 0.3)]
    files = [saved(tmp_path / f"cells {number}.png", truth) for number, truth in enumerate(truths)]
    with running_playground(tmp_path) as url, opened_browser(missing) as browser:
        watched = Watched(browser)
        page = watched.page
        page.set_default_timeout(300_000)  # without a GPU the editor draws slowly
        page.goto(url)
        find_until(page, "Open a picture to paint on.")  # so the page is alive, and says what is missing
        open_to_paint_on(page, files[0])
        paint(page, *_on_screen(page))
        look_in(page, files[1:])
        found = []
        for number in (1, 2):
            link = page.locator(f"a[download='{number}.cells {number}.mask.png']").first
            address = link.get_attribute("href")
            assert address is not None
            found.append(read_mask(io.BytesIO(page.request.get(address).body())))
        watched.close()
    for mask, truth in zip(found, truths[1:], strict=True):
        assert iou(mask, truth) > 0.6


def open_to_paint_on(page: Page, file: str) -> None:
    """Open a picture in the editor."""
    page.locator("#painted input[type=file]").first.set_input_files(file)


def paint(page: Page, middle: tuple[float, float], radius: float) -> None:
    """Paint over a round thing, given in the page's pixels, in one stroke: a dab in the middle, then a ring."""
    page.mouse.move(*middle)
    page.mouse.down()
    for turn in np.linspace(0, 2 * np.pi, 16):  # few, since each is drawn
        reach = 0.55 * radius
        page.mouse.move(middle[0] + reach * np.cos(turn), middle[1] + reach * np.sin(turn))
    page.mouse.up()


def look_in(page: Page, files: list[str]) -> None:
    """Add pictures, and find in them what is painted."""
    page.locator("#others input[type=file]").set_input_files(files)
    last = Path(files[-1]).name
    page.locator("#others").get_by_label(last).wait_for()  # not its text, which is in two parts
    find_until(page, f"{len(files)}. {last}: ")


def find_until(page: Page, text: str) -> None:
    """Press *Find* until the page says something: what was painted or added may still be on its way."""
    for _ in range(20):
        page.get_by_role("button", name="Find").click()
        with suppress(PageError):
            page.get_by_text(text).first.wait_for(timeout=30_000)
            return
    raise AssertionError(f"the page does not say '{text}'")


def _on_screen(page: Page) -> tuple[tuple[float, float], float]:
    """Middle and radius of what is red in the editor, in the page's pixels; waits until the picture is there.

    Not in the whole page: what Gradio says of an error comes up in nearly the same red, and goes after some seconds.
    """
    for _ in range(600):
        frame = page.locator("#painted").bounding_box()
        assert frame is not None
        with Image.open(io.BytesIO(page.screenshot(clip=frame))) as screen:
            values = np.asarray(screen.convert("RGB")).astype(int)
        rows, columns = np.nonzero((abs(values - (180, 30, 40)) < 12).all(axis=2))
        if len(rows) > 500:
            middle = frame["x"] + float(columns.mean()), frame["y"] + float(rows.mean())
            return middle, float((columns.max() - columns.min()) / 2)
        page.wait_for_timeout(500)
    raise AssertionError("the picture does not come up in the editor")
