"""`playground`: paint a mask on one picture, see it found in others; a page of Gradio's, without Label Studio."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape

from backend.cli import example_folder
from backend.cli.main import app, console, settings_with
from backend.errors import BackendError, BadRequest, Refused
from backend.settings import Settings

if TYPE_CHECKING:
    from model.segmenter import Segmenter

REQUIREMENTS = "requirements-playground.txt"
OPAQUE = 127
"""Above this alpha of a stroke a pixel is painted; strokes have soft edges."""

Editor = Mapping[str, Any]
"""What Gradio's image editor hands over: `background`, `[H, W, 4]` uint8 RGBA or None, and `layers`, a list of such."""

Found = tuple[list[tuple[NDArray[np.uint8], str]], list[str]]
"""Pictures `[H, W, 3]` uint8 with the mask painted over, each with its caption; paths of the masks."""


@app.command()
def playground(
    host: Annotated[str, typer.Option(help="Address to listen on; there is no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    checkpoint: Annotated[str | None, typer.Option(help="Instead of CHECKPOINT.")] = None,
    device: Annotated[str | None, typer.Option(help="Instead of DEVICE.")] = None,
) -> None:
    """Show a page on which to paint a mask on one picture and see it found in others.

    Needs Gradio: install requirements-playground.txt into a virtual environment of its own.
    """
    settings = settings_with({"checkpoint": checkpoint, "device": device})
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import; nothing is sent anywhere
    try:
        import gradio  # noqa: F401 - before the weights, which take longer
    except ImportError:
        raise Refused(
            "The playground needs Gradio, which is not installed here.",
            remedy=f"Install {REQUIREMENTS} as docs/playground.md says.",
        ) from None

    from backend.wiring import load_segmenter  # loads torch

    segmenter = load_segmenter(settings)
    with tempfile.TemporaryDirectory(prefix="playground-") as folder:
        # Gradio keeps what was uploaded and what is shown; it goes when the command ends.
        os.environ["GRADIO_TEMP_DIR"] = folder
        shown = page(lambda painted, others: find(segmenter, settings, painted, others, Path(folder)))
        shown.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=settings.max_image_bytes,
            footer_links=[],
            theme=_theme(),
        )
        console.print(
            f"The playground is at {escape(shown.local_url)}; Ctrl-C ends it.",
            highlight=False,
            soft_wrap=True,
        )
        _wait_for_the_end()
        shown.close()


def _wait_for_the_end() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


# -- what is found -------------------------------------------------------------------------------------------------
def read_painted(editor: Editor | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture under the strokes, and what was painted over.

    Args:
        editor: as Gradio hands it over; None where nothing was opened.

    Returns:
        `[H, W, 3]` uint8 RGB, and `[H, W]` bool of the same size.

    Raises:
        BadRequest: if there is no picture, or nothing is painted on it.
    """
    from model.canvas import to_rgb

    if not editor or editor.get("background") is None:
        raise BadRequest("Open a picture to paint on.")
    picture = to_rgb(np.asarray(editor["background"]))
    mask = np.zeros(picture.shape[:2], dtype=np.bool_)
    for layer in editor.get("layers") or ():
        mask |= np.asarray(layer)[:, :, 3] > OPAQUE
    if not mask.any():
        raise BadRequest("Paint over what is to be found.")
    return picture, mask


def find(
    segmenter: "Segmenter",
    settings: Settings,
    editor: Editor | None,
    others: Sequence[str] | None,
    folder: Path,
) -> Found:
    """What was painted on one picture, found in others.

    Args:
        segmenter: what finds it.
        settings: the threshold, the least area and the limits of images are taken from here.
        editor: as for `read_painted`.
        others: paths of the pictures to look in.
        folder: masks are written to a new folder in it: black and white, `NUMBER.NAME.mask.png`, of the picture's size.

    Raises:
        BackendError: if something is missing, or a picture cannot be read; it is named.
    """
    from backend.cli.predicting import read_picture, without_specks
    from model.example import Context, Example
    from model.segmenter import Query

    picture, mask = read_painted(editor)
    if not others:
        raise BadRequest("Add pictures to look in.")
    paths, targets = [Path(other) for other in others], []
    for path in paths:
        try:
            targets.append(read_picture(path, settings))
        except BackendError as error:
            raise BadRequest(f"{path.name}: {error}") from None
    context = Context((Example("painted", picture, mask),))
    maps = segmenter.maps([Query(target, context) for target in targets])
    out = Path(tempfile.mkdtemp(prefix="masks-", dir=folder))
    colour = np.array(example_folder.colours(1)[0], np.uint8)
    shown, files = [], []
    for number, (path, target, probability) in enumerate(zip(paths, targets, maps, strict=True), start=1):
        found = without_specks(probability.mask(settings.threshold), settings.min_area)
        overlay = target.copy()
        overlay[found] = overlay[found] // 2 + colour // 2
        share = f"{100 * found.mean():.1f} %" if found.any() else "not found"
        shown.append((overlay, f"{number}. {path.name}: {share}"))
        file = out / f"{number}.{path.stem}.mask.png"
        file.write_bytes(example_folder.black_and_white(found))
        files.append(str(file))
    return shown, files


# -- the page ------------------------------------------------------------------------------------------------------
def page(search: Callable[[Editor | None, list[str] | None], Found]) -> Any:
    """Gradio's page.

    Args:
        search: from what was painted and the paths of other pictures to what is shown.

    Returns:
        A `gradio.Blocks`, not launched.
    """
    import gradio

    def searched(editor: Editor | None, others: list[str] | None) -> Found:
        try:
            return search(editor, others)
        except (BackendError, ValueError, OSError) as error:
            raise gradio.Error(str(error), print_exception=False) from None

    with gradio.Blocks(title="Playground", analytics_enabled=False) as blocks:
        gradio.Markdown("# Playground\nPaint over a thing on one picture, and see its like found in others.")
        with gradio.Row():
            editor = gradio.ImageEditor(
                label="1. Paint",
                elem_id="painted",
                sources=["upload", "clipboard"],
                image_mode="RGBA",
                format="png",
                transforms=[],
                brush=gradio.Brush(colors=["#ff2a6d"], color_mode="fixed"),
            )
            with gradio.Column():
                others = gradio.File(
                    label="2. Pictures to look in",
                    elem_id="others",
                    file_count="multiple",
                    file_types=["image"],
                )
                button = gradio.Button("Find", variant="primary")
        gallery = gradio.Gallery(label="Found", format="png", object_fit="contain", interactive=False)
        masks = gradio.File(label="Masks", file_count="multiple", interactive=False)
        button.click(searched, [editor, others], [gallery, masks], concurrency_limit=1, api_name="find")
    return blocks


def _theme() -> Any:
    """Gradio's own, with the fonts of the machine: the page asks nobody else for any."""
    import gradio

    return gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
