"""Labeling configs with something wrong in them: targets, or a refusal in words; nothing else."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backend.errors import LabelConfigError
from backend.label_config import image_url, parse
from tests.backend.attacks.fuzzing import STRANGE, TEXTS, inputs, recorded, trying

RECORDED = sorted({body["label_config"] for body in recorded("/predict") if body.get("label_config")})
OURS = [
    '<View><Image name="a" value="$a"/><Image name="b" value="https://host/$b.c[0]"/><Brush name="m" toName="a,b"/>'
    '<Labels name="l" toName="a"><Label value="cell" alias="c"/><Label value="d"/></Labels></View>',
    '<?xml version="1.0" encoding="utf-8"?><View><!-- two --><Image name="i" valueList="$pages"/>'
    '<PolygonLabels name="p" toName="i" value="$labels"/><EllipseLabels name="e" toName="i"><Label value="$x"/>'
    "</EllipseLabels></View>",
    '<View><Text name="t" value="$t"/><Choices name="c" toName="t"><Choice value="&lt;a&gt;"/></Choices></View>',
]
CONFIGS = [*RECORDED, *OURS]
WORDS = sorted({word for config in CONFIGS for word in re.findall(r"[\w$.]+|[<>/=\"&;!-]+|\s+", config)})
TAGS = [
    "Image",
    "BrushLabels",
    "Brush",
    "PolygonLabels",
    "Labels",
    "Label",
    "Choices",
    "KeyPointLabels",
    "View",
    "Zzz",
]
NAMES = st.sampled_from(
    ["name", "toName", "value", "valueList", "alias", "whenTagName", "perRegion", "xmlns:x", "x"]
)


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """One of the configs with words of it changed, missing, doubled or from elsewhere."""
    words = re.findall(r"[\w$.]+|\W", draw(st.sampled_from(CONFIGS)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(words) - 1))
        words[place] = draw(st.one_of(st.just(""), st.just(words[place] * 2), st.sampled_from(WORDS), TEXTS))
    return "".join(words)


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> str:
    """Well-formed XML of our tags in any order, with any attributes."""
    quoted = st.sampled_from(
        ["a", "b", "a,b", "$a", "", "cell", "$a.b[0]", "&#0;", "&lt;", "true", "\u202e", "9" * 99]
    )
    given_here = draw(st.dictionaries(NAMES, quoted, max_size=4))
    attributes = "".join(f' {name}="{value}"' for name, value in given_here.items())
    inside = "".join(draw(st.lists(elements(depth=depth - 1), max_size=3))) if depth else ""
    tag = draw(st.sampled_from(TAGS))
    return f"<{tag}{attributes}>{inside}</{tag}>"


def read(config: str, data: Any) -> None:
    said = ""
    try:
        targets = parse(config).targets
    except LabelConfigError as error:
        said, targets = str(error), ()
    assert not said or (said.startswith("The labeling config") and len(said) < 3000)
    assert len({target.id for target in targets}) == len(targets)
    assert said or parse(config).fingerprint
    for target in targets:
        assert target.id.isascii()
        url = image_url(target, data)
        assert url is None or (isinstance(url, str) and url)


@inputs(800)
@given(
    config=spoiled(), data=st.dictionaries(st.sampled_from(["image", "a", "b", "b.c[0]", "pages"]), STRANGE)
)
def test_a_config_with_something_wrong_in_it_gives_targets_or_a_refusal(config: str, data: Any) -> None:
    with trying("label configs"):
        read(config, data)


@inputs(700)
@given(config=st.one_of(elements(), TEXTS), data=st.dictionaries(st.sampled_from(["a", "b"]), STRANGE))
def test_any_tags_in_any_order_give_targets_or_a_refusal(config: str, data: Any) -> None:
    with trying("label configs"):
        read(config, data)
