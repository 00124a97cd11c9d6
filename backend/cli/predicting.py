"""`predict`: pictures of a folder segmented without Label Studio, by whatever examples there are."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from backend.cli import example_folder
from backend.cli.main import app, console, settings_with
from backend.cli.projects import DataDir, built
from backend.errors import BackendError, BadRequest, ImageError, NotFound
from backend.settings import Settings

if TYPE_CHECKING:
    from model.edges import ProbabilityMap
    from model.example import Context
    from model.segmenter import Segmenter

PREVIEW = ".preview.jpg"

_NOBODY_S = -1  # a task id that no task has, so that no example is the picture's own


@dataclass(frozen=True)
class _Source:
    """What pictures are segmented by.

    Attributes:
        segmenter: with the checkpoint that it is meant for.
        labels: in the order of their colours.
        contexts: a picture to the contexts of those labels that have one.
        said: for people, such as "8 examples".
        is_shown: whether a label, by its map and its context, is taken to be there.
        whole: labels for which a nearer look was found not to pay.
    """

    segmenter: "Segmenter"
    labels: tuple[str, ...]
    contexts: Callable[[NDArray[np.uint8]], Mapping[str, "Context"]]
    said: str
    is_shown: Callable[[str, "ProbabilityMap", "Context"], bool] = lambda *_: True
    whole: frozenset[str] = frozenset()


@app.command()
def predict(
    pictures: Annotated[Path, typer.Argument(help="A picture or a folder of pictures.")],
    examples: Annotated[
        Path | None,
        typer.Option(help="Folder with images/ and masks/*.png, or one that `examples export` wrote."),
    ] = None,
    project: Annotated[
        int | None, typer.Option(help="Project whose examples and active prompts are used.")
    ] = None,
    prompt: Annotated[
        list[Path] | None, typer.Option(help="File that `prompts export` wrote; may be given again.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Label to look for; may be given again. None: all.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for masks and previews.")] = Path("predictions"),
    checkpoint: Annotated[str | None, typer.Option(help="Instead of CHECKPOINT.")] = None,
    device: Annotated[str | None, typer.Option(help="Instead of DEVICE.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Segment pictures without Label Studio; writes a mask for each label and a preview of each picture.

    By one of three: a folder of examples, a project of this backend's store, or exported prompts. Exit code 1 where a
    picture could not be read; the others are done.
    """
    if sum(given is not None for given in (examples, project, prompt or None)) != 1:
        raise BadRequest(
            "By what?", remedy="Give one of --examples FOLDER, --project NUMBER and --prompt FILE."
        )
    found = _pictures(pictures, out)
    overrides = {"checkpoint": checkpoint, "device": device}
    settings = settings_with(overrides)
    by = _of_project(data_dir, project, overrides) if project is not None else None
    with by or _of_files(settings, examples, prompt or []) as source:
        labels = _wanted(source.labels, label or [])
        counts, failed, others = _segment_all(source, labels, found, out, settings)
    table = Table("label", "found on")
    for name in labels:
        table.add_row(escape(name), f"{counts[name]} of {len(found) - failed}")
    console.print(table)
    console.print(
        f"{len(found) - failed} pictures segmented by {source.said}; masks and previews are in {escape(str(out))}.",
        highlight=False,
        soft_wrap=True,
    )
    if others:
        console.print(f"{others} other files lie there from before.", highlight=False)
    if failed:
        raise typer.Exit(1)


def _segment_all(
    source: _Source, labels: tuple[str, ...], found: Mapping[str, Path], out: Path, settings: Settings
) -> tuple[dict[str, int], int, int]:
    """Write masks and previews.

    Returns:
        On how many pictures each label was found, how many could not be read, and how many other files lie there.
    """
    from model import zoom
    from model.segmenter import Query

    files = example_folder.file_names(labels)
    colours = dict(zip(labels, example_folder.colours(len(labels)), strict=True))
    counts, failed = dict.fromkeys(labels, 0), 0
    out.mkdir(parents=True, exist_ok=True)
    others = {file for file in out.glob("[!.]*") if file.is_file()}
    for name, path in track(found.items(), "segmenting", console=console, transient=True):
        try:
            image = read_picture(path, settings)
        except (ImageError, OSError) as error:
            failed += 1
            Console(stderr=True).print(
                f"[red]{escape(path.name)}:[/red] {escape(str(error))}", highlight=False, soft_wrap=True
            )
            continue
        contexts = source.contexts(image)
        asked = [name for name in labels if name in contexts]
        queries = [Query(image, contexts[label]) for label in asked]
        nearer = [settings.zoom == "auto" and label not in source.whole for label in asked]
        maps = zoom.maps(source.segmenter, queries, nearer)
        masks = {
            label: without_specks(
                found.mask(settings.threshold) & source.is_shown(label, found, contexts[label]),
                contexts[label].least_area(settings.min_area),
            )
            for label, found in zip(asked, maps, strict=True)
        }
        preview = image.copy()
        for label, mask in masks.items():
            counts[label] += bool(mask.any())
            file = out / f"{name}.{files[label]}.png"
            file.write_bytes(example_folder.black_and_white(mask))
            others.discard(file)
            preview[mask] = preview[mask] // 2 + np.array(colours[label], np.uint8) // 2
        Image.fromarray(preview).save(out / f"{name}{PREVIEW}", quality=90)
        others.discard(out / f"{name}{PREVIEW}")
    return counts, failed, len(others)


def without_specks(mask: NDArray[np.bool_], min_area: float) -> NDArray[np.bool_]:
    """What a brush region in Label Studio would show; `min_area` is a share of the picture."""
    from backend.regions import components  # loads torch

    height, width = mask.shape
    runs = components.without_specks(components.runs_of(mask), min_area * mask.size)
    return runs.mask((0, 0, height, width))


# -- pictures ------------------------------------------------------------------------------------------------------
def _pictures(given: Path, out: Path) -> dict[str, Path]:
    """Files by the name that their masks get: without ending, where that is enough to tell them apart.

    Raises:
        BadRequest: if there is none, or the masks would lie among them.
    """
    if given.is_dir() and out.resolve() == given.resolve():
        raise BadRequest("Masks would lie among the pictures.", remedy="Choose another folder with --out.")
    files = [given] if given.is_file() else sorted(given.glob("[!.]*"))
    files = [file for file in files if file.is_file()]
    if not files:
        raise BadRequest(f"There is no picture at {given}.")
    stems = [file.stem for file in files]
    return {file.stem if stems.count(file.stem) == 1 else file.name: file for file in files}


def read_picture(path: Path, settings: Settings) -> NDArray[np.uint8]:
    """A picture, `[H, W, 3]` uint8, read-only.

    Raises:
        ImageError: if it is none, or beyond the limits.
        OSError: if the file cannot be read.
    """
    from backend.images.decoding import decode

    if path.stat().st_size > settings.max_image_bytes:
        raise ImageError("The file is too large.", remedy="Raise MAX_IMAGE_BYTES.")
    return decode(path.read_bytes(), settings.max_image_pixels)


# -- what they are segmented by ------------------------------------------------------------------------------------
@contextmanager
def _of_files(settings: Settings, examples: Path | None, prompts: list[Path]) -> Iterator[_Source]:
    """A folder of examples, or exported prompts; looked at before the checkpoint is loaded, which takes longer."""
    pairs = example_folder.pairs(examples) if examples is not None else {}

    from backend.wiring import load_segmenter  # loads torch

    segmenter = load_segmenter(settings)
    yield _of_folder(pairs, segmenter, settings) if pairs else _of_prompts(prompts, segmenter)


@contextmanager
def _of_project(data_dir: Path | None, project: int, overrides: Mapping[str, object]) -> Iterator[_Source]:
    """A project's pools and active prompts, chosen for each picture as the server chooses and shows."""
    from backend.calibrations import Fitted, read_fitted
    from backend.predictor.drawing import expected  # loads torch
    from backend.revision import take

    with built(data_dir, project, **overrides) as (backend, key):
        snapshot = take(backend.store, key, backend.checkpoint)
        by_label = {target.label: target for target in reversed(snapshot.ready)}
        if not by_label:
            raise NotFound(f"Nothing has been approved in project {project} yet.")

        def contexts(image: NDArray[np.uint8]) -> dict[str, "Context"]:
            chosen = {
                label: backend.predictor.contexts.choose(snapshot, target, _NOBODY_S, image)
                for label, target in by_label.items()
            }
            return {label: context for label, context in chosen.items() if len(context)}

        fitted = read_fitted(backend.store, key, backend.checkpoint) or Fitted()

        def is_shown(label: str, found: "ProbabilityMap", context: "Context") -> bool:
            return expected(found, by_label[label], context, fitted, backend.settings)[1]

        whole = frozenset(label for label, target in by_label.items() if target.id in fitted.whole)
        examples = sum(len(snapshot.pool.get(target.id, ())) for target in by_label.values())
        said = f"{examples} examples and {len(snapshot.prompts)} prompts of project {project}"
        yield _Source(backend.segmenter, tuple(reversed(by_label)), contexts, said, is_shown, whole)


def _of_folder(
    pairs: Mapping[str, list[example_folder.Pair]], segmenter: "Segmenter", settings: Settings
) -> _Source:
    """A folder's pairs; where a label has more than SHOTS, those that suit a picture."""
    from model.example import Context, Example
    from model.retrieval import choose

    images = {
        pair.image: read_picture(pair.image, settings) for of_label in pairs.values() for pair in of_label
    }
    described = {path: segmenter.describe(image) for path, image in images.items()}
    known: dict[str, list[Example]] = {}
    for label, of_label in pairs.items():
        for pair in of_label:
            image, mask = images[pair.image], pair.read_mask()
            if mask.shape != image.shape[:2]:
                raise BadRequest(
                    f"{pair.mask}: the mask is {mask.shape[1]} x {mask.shape[0]} pixels, "
                    f"its picture {image.shape[1]} x {image.shape[0]}."
                )
            known.setdefault(label, []).append(Example(f"{label}/{pair.name}", image, mask))

    def contexts(image: NDArray[np.uint8]) -> dict[str, Context]:
        query = segmenter.describe(image)
        chosen = {}
        for label, of_label in pairs.items():
            descriptors = np.stack([described[pair.image] for pair in of_label])
            picked = choose(query, descriptors, [None] * len(of_label), settings.shots)
            chosen[label] = Context(tuple(known[label][index] for index in picked))
        return chosen

    return _Source(segmenter, tuple(pairs), contexts, f"{sum(map(len, pairs.values()))} examples")


def _of_prompts(files: list[Path], segmenter: "Segmenter") -> _Source:
    """Exported prompts, one of each label.

    Raises:
        BackendError: if a file is damaged, of another checkpoint, or of a label that another file has.
    """
    from backend.store.tensors import LIMIT_BYTES, unpack_prompt
    from backend.unpacking import prompt_of
    from model.example import Context

    known: dict[str, Context] = {}
    for path in files:
        with path.open("rb") as stream:
            file = unpack_prompt(stream.read(LIMIT_BYTES + 1))
        card = file.card
        if card.checkpoint != segmenter.identity or file.image.shape[-1] != segmenter.image_size:
            raise BackendError(
                f"{path}: the prompt was tuned for the checkpoint {card.checkpoint}; this is {segmenter.identity}.",
                remedy="Name its own with --checkpoint.",
            )
        if card.label in known:
            raise BadRequest(f"{path}: there is a prompt of '{card.label}' already.")
        if card.uses == "both":
            console.print(
                f"[yellow]{escape(card.label)}:[/yellow] this prompt was measured beside examples; alone it may do worse.",
                highlight=False,
                soft_wrap=True,
            )
        known[card.label] = Context(prompt=prompt_of(str(path), file))
    return _Source(segmenter, tuple(known), lambda _: known, f"{len(known)} prompts")


def _wanted(known: tuple[str, ...], named: list[str]) -> tuple[str, ...]:
    for name in named:
        if name not in known:
            there = ", ".join(f"'{label}'" for label in known)
            raise NotFound(f"There is no label '{name}'; there is: {there}.")
    return tuple(label for label in known if not named or label in named)
