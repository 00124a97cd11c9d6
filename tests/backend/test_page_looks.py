"""The page's style can be read: contrast in light and dark, computed from the style sheet; and no markup carries style."""

import re
from pathlib import Path

import pytest

import backend.page

ROOM = Path(backend.page.__file__).parent
CSS = (ROOM / "static" / "page.css").read_text(encoding="utf-8")
TEXT, SHAPE = 4.5, 3.0  # least contrast, WCAG 2.2 AA
PAIRS = [
    *((name, ground, TEXT) for name in ("text", "quiet", "link", "warning", "error", "good") for ground in ("ground", "raised")),
    ("on-button", "button", TEXT), ("prompt", "raised", TEXT),
    *((name, "raised", SHAPE) for name in ("mean", "point", "line")), ("line", "ground", SHAPE), ("button", "ground", SHAPE),
]  # fmt: skip


def colours(scheme: str) -> dict[str, str]:
    light, _, rest = CSS.partition("@media (prefers-color-scheme: dark)")
    dark = rest.partition("\n}")[0]
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    if scheme == "dark":
        found |= dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark))
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_is_the_known_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_stands_out_enough(scheme: str) -> None:
    known = colours(scheme)
    assert len(known) == 14
    faint = {
        f"{name} on {ground}": round(contrast(known[name], known[ground]), 2)
        for name, ground, least in PAIRS
        if contrast(known[name], known[ground]) < least
    }
    assert faint == {}


def test_dark_names_every_colour_that_light_has() -> None:
    dark = CSS.partition("@media (prefers-color-scheme: dark)")[2].partition("\n}")[0]
    assert set(re.findall(r"--([a-z-]+):", dark)) == set(colours("light"))
    used = set(re.findall(r"var\(--([a-z-]+)\)", CSS))
    assert used == set(colours("light"))


def test_no_colour_is_named_beside_the_table() -> None:
    rules = CSS.partition("* { box-sizing")[2]
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", rules)) <= {"#000000"}  # behind pictures


@pytest.mark.parametrize("path", sorted((ROOM / "templates").iterdir()), ids=lambda path: path.name)
def test_templates_carry_no_style_no_script_and_trust_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe|autoescape", text) == []
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert re.findall(r"https?://", text) == [], "it works offline"


def test_the_script_writes_no_markup() -> None:
    script = (ROOM / "static" / "page.js").read_text(encoding="utf-8")
    assert (
        re.findall(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|https?://", script) == []
    )
