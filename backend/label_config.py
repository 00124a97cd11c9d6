"""Labeling config to targets: which label is drawn with which control on which image; knows no regions and no masks."""

import re
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote
from xml.parsers import expat

from backend.errors import LabelConfigError

if TYPE_CHECKING:
    from label_studio_sdk.label_interface.control_tags import ControlTag
    from label_studio_sdk.label_interface.interface import LabelInterface

Kind = Literal["brush", "polygon", "rectangle", "ellipse"]

MAX_TARGETS = 2000
"""Targets of one labeling config: every label once for each control that draws it and each image that it is drawn on."""

_KINDS: tuple[Kind, ...] = get_args(Kind)
_LABELLED: Mapping[str, Kind] = {f"{kind}labels": kind for kind in _KINDS}
_BARE: Mapping[str, Kind] = {kind: kind for kind in _KINDS}
_DECLARATION = re.compile(r"^\s*<\?xml\b.*?\?>", re.DOTALL)
_DYNAMIC_LABEL = re.compile(r"\$[A-Za-z_][\w.\[\]]*")
_VARIABLE = re.compile(r"\$[\w[\].{}]+")
_STEP = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True)
class Target:
    """One label, drawn with one control on one image tag; what a pool of examples belongs to.

    Attributes:
        control: name of the tag that holds the geometry.
        image: name of the Image tag that is drawn on.
        label: the label as results spell it (a label's alias where it has one).
        kind: the geometry.
        value: the Image tag's value without its "$" ("image", "pages[0].url"), or the whole expression where it is
            more than one variable.
        labels_control: name of the separate Labels tag, where geometry and label are two tags.
    """

    control: str
    image: str
    label: str
    kind: Kind
    value: str
    labels_control: str | None = None

    @property
    def id(self) -> str:
        """ASCII text without spaces, different for different (control, image, label, labels control)."""
        parts = [self.control, self.image, self.label]
        if self.labels_control is not None:
            parts.append(self.labels_control)
        return "/".join(quote(part, safe="") for part in parts)


@dataclass(frozen=True)
class LabelConfig:
    """What a labeling config holds for us.

    Attributes:
        targets: in the config's order; empty where there is nothing for us.
    """

    targets: tuple[Target, ...]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change exactly when the set of targets changes, whatever their order."""
        lines = sorted(repr(astuple(target)) for target in self.targets)
        return sha256("\n".join(lines).encode()).hexdigest()[:16]

    def images(self) -> tuple[tuple[str, str], ...]:
        """The distinct (image tag, value) pairs of the targets, in the config's order."""
        return tuple(dict.fromkeys((target.image, target.value) for target in self.targets))


@lru_cache(maxsize=256)
def parse(label_config: str) -> LabelConfig:
    """Read a labeling config; the same text is read once.

    Labels that each task names for itself (a control's or a label's `value="$field"`) have no target: there is
    nothing stable to learn. Nor have those of a rectangle with `smart="true"` that another control of the image has too:
    such boxes are clicks, so to say, and no masks.

    Args:
        label_config: the XML as Label Studio stores it; blank means a project that was not set up yet.

    Raises:
        LabelConfigError: not well-formed, a name used twice, a document type (entities are never expanded), or more
            than `MAX_TARGETS` targets.
    """
    # lxml refuses a declared encoding in text; the line breaks stay, so that errors name the right line.
    text = _DECLARATION.sub(lambda match: "\n" * match[0].count("\n"), label_config.removeprefix("\ufeff"))
    if not text.strip():
        return LabelConfig(())
    _refuse_what_must_not_be_parsed(text)
    return LabelConfig(tuple(dict.fromkeys(_targets(_interface(text)))))


def image_url(target_or_value: Target | str, data: Mapping[str, Any]) -> str | None:
    """The address of a target's image in one task, as Label Studio's editor would resolve it.

    Args:
        target_or_value: a target, or its `value` ("image", "$image", "pages[0].url", "https://host/$name").
        data: the task's `data`.

    Returns:
        The address; of a list of pages the first. None where the task has none.
    """
    value = target_or_value.value if isinstance(target_or_value, Target) else target_or_value
    found = _look_up(data, value.removeprefix("$"))
    if found is None:
        found = _fill_in(value, data)
    if isinstance(found, list | tuple):
        found = found[0] if found else None
    return found if isinstance(found, str) and found else None


def _look_up(data: Mapping[str, Any], path: str) -> object:
    if path in data:
        return data[path]
    found: object = data
    for step in _STEP.findall(path):
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list | tuple) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def _fill_in(value: str, data: Mapping[str, Any]) -> str | None:
    variables = _VARIABLE.findall(value)
    if value in variables or not re.search(r"[/:]", value):
        return None
    found = {name: _look_up(data, name.removeprefix("$")) for name in variables}
    if not all(isinstance(part, str | int) for part in found.values()):
        return None
    return _VARIABLE.sub(lambda match: str(found[match[0]]), value)


def _refuse_what_must_not_be_parsed(text: str) -> None:
    names: set[str] = set()
    parser = expat.ParserCreate()

    def document_type(*_: object) -> None:
        raise LabelConfigError(
            f"The labeling config declares a document type in line {parser.CurrentLineNumber}.",
            remedy="Remove <!DOCTYPE ...>; entities are not expanded.",
        )

    def element(_: str, attributes: dict[str, str]) -> None:
        name = attributes.get("name")
        if name and name in names:
            raise LabelConfigError(
                f"The labeling config uses the name {name!r} twice, again in line {parser.CurrentLineNumber}.",
                remedy="Give every tag its own name.",
            )
        names.add(name or "")

    parser.StartDoctypeDeclHandler = document_type
    parser.StartElementHandler = element
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise LabelConfigError(
            f"The labeling config is not well-formed XML: {reason}, line {error.lineno}, column {error.offset + 1}."
        ) from error
    except UnicodeEncodeError as error:
        raise LabelConfigError("The labeling config holds half a character (a lone surrogate).") from error


def _interface(text: str) -> "LabelInterface":
    # Importing this takes 0.6 s, which commands without a labeling config need not pay.
    from label_studio_sdk.label_interface.interface import LabelInterface

    try:
        return LabelInterface(text)
    except Exception as error:  # whatever a tag's class raises
        raise LabelConfigError(f"The labeling config cannot be read: {error}") from error


def _targets(interface: "LabelInterface") -> list[Target]:
    values = {
        str(tag.name): _value(str(tag.value))
        for tag in interface.objects or ()
        if str(tag.tag).lower() == "image"
    }
    controls = list(interface.controls or ())
    named: dict[str, list[tuple[str, str]]] = {image: [] for image in values}
    for control in controls:
        if str(control.tag).lower() == "labels":
            for image in _images(control, values):
                more = [(str(control.name), label) for label in _labels(control)]
                named[image] = (named[image] + more)[: MAX_TARGETS + 1]  # what is too many is told below
    found: list[Target] = []
    for control in controls:
        tag, name = str(control.tag).lower(), str(control.name)
        for image in _images(control, values):
            make = _maker(name, image, values[image])
            if tag in _LABELLED:
                found += [make(label, _LABELLED[tag], None) for label in _labels(control)]
            elif tag in _BARE:
                found += [make(label, _BARE[tag], labels) for labels, label in named[image]]
            if len(found) > MAX_TARGETS:
                raise _too_many()
    return _without_tools(found, {str(control.name) for control in controls if _is_smart(control)})


def _is_smart(control: "ControlTag") -> bool:
    attributes = {str(name).lower(): str(value).lower() for name, value in (control.attr or {}).items()}
    return attributes.get("smart") == "true"


def _without_tools(found: list[Target], smart: set[str]) -> list[Target]:
    """The targets without boxes that only point at what another control draws: they ask for a mask, and teach nothing."""
    boxes = {target for target in found if target.kind == "rectangle" and target.control in smart}
    drawn = {(target.image, target.label) for target in found if target not in boxes}
    return [target for target in found if target not in boxes or (target.image, target.label) not in drawn]


def _too_many() -> LabelConfigError:
    return LabelConfigError(
        f"The labeling config has more than {MAX_TARGETS} labels to segment, each counted once for every control that"
        " draws it and every image that it is drawn on.",
        remedy="Use fewer labels or controls, or split the project.",
    )


def _maker(control: str, image: str, value: str) -> Callable[[str, Kind, str | None], Target]:
    return lambda label, kind, labels_control: Target(control, image, label, kind, value, labels_control)


def _value(expression: str) -> str:
    return expression[1:] if _VARIABLE.fullmatch(expression) else expression


def _images(control: "ControlTag", values: Mapping[str, str]) -> list[str]:
    wanted = [name.strip() for name in control.to_name or ()]
    return [name for name in dict.fromkeys(wanted) if name in values]


def _labels(control: "ControlTag") -> list[str]:
    tags = (control.labels_attrs or {}).values()
    labels = [str(tag.value) for tag in tags if tag.tag == "Label"]
    return [label for label in labels if label and not _DYNAMIC_LABEL.fullmatch(label)]
