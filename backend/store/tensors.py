"""Prompt tensors to the safetensors file that records hold and people exchange, and back; knows no network."""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from backend.errors import BadRequest
from backend.store.records import Use

FORMAT = "seggpt-prompt-1"
"""What a file says it is; the number moves when older backends could not read it."""

LIMIT_BYTES = 64 * 2**20
"""Size of the largest file that is written or read."""

SMALLEST_SIDE, LARGEST_SIDE = 8, 2048
"""Bounds of a tensor's height and width, in pixels."""

LARGEST_VALUE = 100.0
"""Bound of a tensor's absolute values; normalised pictures stay below 3, learned ones near that."""

LONGEST_TEXT = 200
"""Characters of the longest label or name of a checkpoint."""

MOST_FIGURES = 32

_HEADER_LIMIT_BYTES = 64 * 2**10
_TENSORS = ("image", "mask")
_FIELDS = ("format", "checkpoint", "label", "kind", "uses", "examples", "figures", "created")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_COUNT = re.compile(r"[0-9]{1,9}")
_NUMBERED = re.compile(r"seggpt-prompt-([0-9]{1,9})")
_TURNS_TEXT_ROUND = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_EXPORT = "Export the prompt again with `python -m backend prompts export` and use that file."
_NO_PROMPT = "Choose a file that `python -m backend prompts export` wrote."


@dataclass(frozen=True)
class PromptCard:
    """The model card in a file's metadata: no names of images or people, no project, no task.

    Attributes:
        checkpoint: identity of the checkpoint that the prompt was tuned for, such as "embedded-1a2b3c4d"; no path.
        label: of the target; 1 to `LONGEST_TEXT` characters without control characters.
        kind: geometry of the target's control: "brush", "polygon", ...
        uses: whether predictions use it alone or beside examples.
        examples: how many masks it learned from.
        figures: what was measured, by name (ASCII identifiers), finite; None where it was not measured.
        created: the day, YYYY-MM-DD.
    """

    checkpoint: str
    label: str
    kind: str
    uses: Use
    examples: int
    figures: Mapping[str, float | None]
    created: str


@dataclass(frozen=True, eq=False)
class PromptFile:
    """What a file holds.

    Attributes:
        image: `[3, S, S]` float32, normalised, finite, at most `LARGEST_VALUE` in magnitude; S is
            `SMALLEST_SIDE` to `LARGEST_SIDE`.
        mask: like `image`, with the same S.
        card: what the tensors are.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    card: PromptCard


def pack_prompt(file: PromptFile) -> bytes:
    """The file's bytes; equal content need not give equal bytes.

    The label is tidied (`tidy_label`), so that an odd one in a label config costs nobody a tuning.

    Raises:
        BadRequest: `unpack_prompt` would refuse the result.
    """
    _check_tensors(file.image, file.mask)
    fields = _fields(file.card)
    _card(fields)
    tensors = {"image": np.ascontiguousarray(file.image), "mask": np.ascontiguousarray(file.mask)}
    content = save(tensors, fields)
    _check_size(content)
    return content


def unpack_prompt(content: bytes) -> PromptFile:
    """Read a file that may come from anywhere; what comes back keeps to the bounds of `PromptFile`.

    Raises:
        BadRequest: it is no prompt file, or a damaged, newer or doctored one; the sentence says which.
    """
    _check_size(content)
    fields = _checked_fields(_header(content))
    card = _card(fields)
    try:
        tensors = load(content)
    except SafetensorError:
        _refuse("is cut short or damaged: its tensors do not fill it as its header says.")
    _check_tensors(tensors["image"], tensors["mask"])
    return PromptFile(tensors["image"], tensors["mask"], card)


def tidy_label(label: str) -> str:
    """A target's label as a file holds it: cut to `LONGEST_TEXT` characters, control characters to spaces."""
    return "".join(" " if _is_control(letter) else letter for letter in label[:LONGEST_TEXT])


def _refuse(what: str, remedy: str = _EXPORT) -> NoReturn:
    raise BadRequest(f"The prompt file {what}", remedy=remedy)


def _shown(value: object) -> str:
    """A stranger's value in a message: short, quoted, without line breaks; of anything but text, its type."""
    if not isinstance(value, str):
        return f"a value of type {type(value).__name__}"
    return ascii(value) if len(value) <= 60 else f"{value[:60]!a}..."


def _check_size(content: bytes) -> None:
    if len(content) > LIMIT_BYTES:
        _refuse(
            f"has {len(content)} bytes, more than {LIMIT_BYTES // 2**20} MiB.",
            "Prompts of common checkpoints have less than 10 MiB: see whether this is another file.",
        )


# -- the header ----------------------------------------------------------------------------------------------------
def _header(content: bytes) -> dict[str, Any]:
    """The JSON object at the file's beginning. Read here, since `load` leaves the metadata out."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        _refuse("is cut short, or no safetensors file.", _NO_PROMPT)
    if length > _HEADER_LIMIT_BYTES:
        _refuse(f"has a header of {length} bytes, far more than a prompt's.", _NO_PROMPT)
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        _refuse("is no safetensors file: its header cannot be read.", _NO_PROMPT)
    if not isinstance(header, dict):
        _refuse("is no safetensors file: its header is no JSON object.", _NO_PROMPT)
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without repeated names: two readers could take different ones for the right one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("repeated name")
    return found


def _checked_fields(header: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a header that holds a card and the two tensors, and nothing else.

    Extras are refused, not skipped: whoever keeps or passes on the bytes would pass them on too.
    """
    fields = header.get("__metadata__")
    if not isinstance(fields, dict) or "format" not in fields:
        _refuse("does not say that it is one: `format` is missing from its metadata.", _NO_PROMPT)
    _check_format(fields["format"])
    _check_entries(header)
    if missing := set(_FIELDS) - fields.keys():
        _refuse(f"has no `{min(missing)}` in its metadata.")
    if unknown := fields.keys() - set(_FIELDS):
        _refuse(f"has a field {_shown(min(unknown))} in its metadata that does not belong there.")
    for name, value in fields.items():
        if not isinstance(value, str):
            _refuse(f"has a `{name}` in its metadata that is no text.")
    return fields


def _check_entries(header: Mapping[str, Any]) -> None:
    """The header lists the two tensors and no other; `load` knows no names for some types, and overlooks extras."""
    for name in _TENSORS:
        entry = header.get(name)
        if not isinstance(entry, dict):
            _refuse(f"has no tensor `{name}`.")
        if entry.get("dtype") != "F32":
            _refuse(f"holds `{name}` as {_shown(entry.get('dtype'))} instead of F32.")
        if unknown := entry.keys() - {"dtype", "shape", "data_offsets"}:
            _refuse(f"says {_shown(min(unknown))} of `{name}`, which does not belong there.")
    if unknown := header.keys() - {*_TENSORS, "__metadata__"}:
        _refuse(f"holds a tensor {_shown(min(unknown))} that does not belong there.")


def _check_format(found: object) -> None:
    if found == FORMAT:
        return
    numbered = _NUMBERED.fullmatch(found) if isinstance(found, str) else None
    if numbered and int(numbered[1]) > int(FORMAT.rpartition("-")[2]):
        _refuse(
            f"was written by a newer backend: its format is {found}, this one reads {FORMAT}.",
            "Update this backend, or export the prompt with one of this version.",
        )
    _refuse(f"has the format {_shown(found)}; this backend reads {FORMAT}.", _NO_PROMPT)


# -- the card ------------------------------------------------------------------------------------------------------
def _fields(card: PromptCard) -> dict[str, str]:
    """A card as metadata. Field by field, so that nothing else can get into a file that people exchange."""
    figures = {name: None if value is None else float(value) for name, value in card.figures.items()}
    return {
        "format": FORMAT,
        "checkpoint": card.checkpoint,
        "label": tidy_label(card.label),
        "kind": card.kind,
        "uses": card.uses,
        "examples": str(card.examples),
        "figures": json.dumps(figures),
        "created": card.created,
    }


def _card(fields: Mapping[str, str]) -> PromptCard:
    """The card in a file's metadata, each field checked."""
    checkpoint, label = _text("checkpoint", fields), _text("label", fields)
    if "/" in checkpoint or "\\" in checkpoint:
        _refuse("names its checkpoint by a path instead of its identity.")
    if not _NAME.fullmatch(fields["kind"]):
        _refuse(f"has the kind {_shown(fields['kind'])}, which is no geometry's name.")
    uses: Use | None = next((use for use in get_args(Use) if use == fields["uses"]), None)
    if uses is None:
        _refuse(f"has {_shown(fields['uses'])} as `uses`, which is one of {', '.join(get_args(Use))}.")
    if not _COUNT.fullmatch(fields["examples"]):
        _refuse(f"has {_shown(fields['examples'])} as its number of examples.")
    if not _is_day(fields["created"]):
        _refuse(f"has {_shown(fields['created'])} as its day, which is YYYY-MM-DD.")
    figures = _figures(fields["figures"])
    return PromptCard(
        checkpoint, label, fields["kind"], uses, int(fields["examples"]), figures, fields["created"]
    )


def _text(name: str, fields: Mapping[str, str]) -> str:
    text = fields[name]
    if not text.strip():
        _refuse(f"has an empty `{name}`.")
    if len(text) > LONGEST_TEXT:
        _refuse(f"has a `{name}` of {len(text)} characters, more than {LONGEST_TEXT}.")
    if any(map(_is_control, text)):
        _refuse(f"has control characters in its `{name}`.")
    return text


def _is_control(letter: str) -> bool:
    """Whether a character breaks lines or logs, or turns text round; joiners (emoji, Persian) are none."""
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _TURNS_TEXT_ROUND


def _is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _figures(text: str) -> dict[str, float | None]:
    try:
        figures = json.loads(text, object_pairs_hook=_once, parse_int=float)
    except (ValueError, RecursionError):
        _refuse("has figures that are no JSON object.")
    if not isinstance(figures, dict) or len(figures) > MOST_FIGURES:
        _refuse(f"has figures that are no JSON object of {MOST_FIGURES} names at most.")
    for name, value in figures.items():
        if not _NAME.fullmatch(name):
            _refuse(f"has a figure with the name {_shown(name)}, which is no plain name.")
        if value is not None and not (isinstance(value, float) and math.isfinite(value)):
            _refuse(f"has a figure `{name}` that is neither a finite number nor null.")
    return figures


# -- the tensors ---------------------------------------------------------------------------------------------------
def _check_tensors(image: NDArray[Any], mask: NDArray[Any]) -> None:
    for name, tensor in (("image", image), ("mask", mask)):
        if tensor.dtype != np.float32:
            _refuse(f"holds `{name}` as {tensor.dtype} instead of float32.")
        if tensor.ndim != 3 or tensor.shape[0] != 3 or tensor.shape[1] != tensor.shape[2]:
            _refuse(f"holds `{name}` with the shape {list(tensor.shape)} instead of [3, S, S].")
        if not SMALLEST_SIDE <= tensor.shape[1] <= LARGEST_SIDE:
            _refuse(f"holds `{name}` at {tensor.shape[1]} px, not {SMALLEST_SIDE} to {LARGEST_SIDE}.")
    if image.shape != mask.shape:
        _refuse(f"holds an image of {image.shape[1]} px a side and a mask of {mask.shape[1]}.")
    for name, tensor in (("image", image), ("mask", mask)):
        if not np.isfinite(tensor).all():
            _refuse(f"holds numbers in `{name}` that are not finite.")
        if np.abs(tensor).max() > LARGEST_VALUE:
            _refuse(f"holds numbers in `{name}` beyond {LARGEST_VALUE:g}; normalised ones are below 3.")
