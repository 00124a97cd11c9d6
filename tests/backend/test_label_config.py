"""Labeling configs to targets, read through the SDK's own interface."""

import json
from pathlib import Path

import pytest

from backend.errors import LabelConfigError
from backend.label_config import LabelConfig, Target, image_url, parse

FIXTURES = Path(__file__).parents[1] / "fixtures" / "label_studio"

IMAGE = '<Image name="image" value="$image"/>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def control(tag: str, name: str, *labels: str, to: str = "image") -> str:
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<{tag} name="{name}" toName="{to}">{inside}</{tag}>'


def spelled(config: LabelConfig) -> list[tuple[str, str, str, str]]:
    return [(target.control, target.image, target.label, target.kind) for target in config.targets]


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("BrushLabels", "brush"),
        ("PolygonLabels", "polygon"),
        ("RectangleLabels", "rectangle"),
        ("EllipseLabels", "ellipse"),
    ],
)
def test_each_label_of_the_four_controls_is_a_target(tag: str, kind: str) -> None:
    config = parse(view(IMAGE, control(tag, "tag", "cell", "debris")))
    assert spelled(config) == [("tag", "image", "cell", kind), ("tag", "image", "debris", kind)]
    assert {target.value for target in config.targets} == {"image"}


def test_a_recorded_config_gives_its_brush_labels_and_none_of_the_smart_tools() -> None:
    recorded = json.loads((FIXTURES / "50_browser_keypoint_first.json").read_text())
    config = parse(recorded["requests"][0]["body"]["label_config"])
    assert spelled(config) == [
        ("tag", "image", "cell", "brush"),
        ("tag", "image", "debris", "brush"),
    ]


def smart_box(*labels: str, **attributes: str) -> str:
    written = control("RectangleLabels", "box", *labels)
    return written.replace(
        " toName", "".join(f' {name}="{value}"' for name, value in attributes.items()) + " toName"
    )


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        (smart_box("cell", smart="true"), []),
        (smart_box("cell", Smart="True"), []),
        (smart_box("cell", "dust", smart="true"), ["dust"]),
        (smart_box("cell", smart="false"), ["cell"]),
        (smart_box("cell"), ["cell"]),
    ],
)
def test_smart_boxes_are_targets_only_of_labels_that_nothing_else_draws(box: str, kept: list[str]) -> None:
    config = parse(view(IMAGE, control("PolygonLabels", "outline", "cell"), box))
    assert [target.label for target in config.targets if target.kind == "rectangle"] == kept
    assert [target.label for target in config.targets if target.kind == "polygon"] == ["cell"]


def test_smart_boxes_of_another_image_or_alone_are_targets() -> None:
    alone = parse(view(IMAGE, smart_box("cell", smart="true")))
    assert spelled(alone) == [("box", "image", "cell", "rectangle")]
    other = '<Image name="other" value="$other"/>' + control("BrushLabels", "brush", "cell", to="other")
    assert len(parse(view(IMAGE, other, smart_box("cell", smart="true"))).targets) == 2


def test_several_controls_and_images_keep_apart() -> None:
    config = parse(
        view(
            '<Image name="left" value="$a"/><Image name="right" value="$b.url"/>',
            control("BrushLabels", "brush", "cell", to="left,right"),
            control("PolygonLabels", "polygon", "cell", to=" right "),
        )
    )
    assert spelled(config) == [
        ("brush", "left", "cell", "brush"),
        ("brush", "right", "cell", "brush"),
        ("polygon", "right", "cell", "polygon"),
    ]
    assert config.images() == (("left", "a"), ("right", "b.url"))
    assert len({target.id for target in config.targets}) == 3


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("Zelle größer", "Zelle größer"),
        ("细胞", "细胞"),
        ("say &quot;a&quot; &amp; 'b' &lt;c&gt;", "say \"a\" & 'b' <c>"),
        (" spaced  out ", " spaced  out "),
        ("a/b,c|d", "a/b,c|d"),
        ("$100", "$100"),
    ],
)
def test_labels_are_spelled_as_results_spell_them(written: str, label: str) -> None:
    (target,) = parse(view(IMAGE, control("BrushLabels", "tag", written))).targets
    assert target.label == label
    assert target.id.isascii()
    assert " " not in target.id


def test_an_alias_is_what_results_hold() -> None:
    labels = '<Label value="Cell" alias="c"/><Label alias="d"/><Label value="plain"/>'
    config = parse(view(IMAGE, f'<BrushLabels name="tag" toName="image">{labels}</BrushLabels>'))
    assert [target.label for target in config.targets] == ["c", "d", "plain"]


def test_labels_nested_in_views_are_found() -> None:
    nested = (
        '<BrushLabels name="tag" toName="image"><View style="x"><Label value="cell"/></View></BrushLabels>'
    )
    assert spelled(parse(view(f"<View>{IMAGE}</View>", nested))) == [("tag", "image", "cell", "brush")]


def test_a_label_written_twice_is_one_target() -> None:
    assert len(parse(view(IMAGE, control("BrushLabels", "tag", "cell", "cell"))).targets) == 1


def test_labels_that_each_task_names_have_no_target() -> None:
    by_control = '<BrushLabels name="b" toName="image" value="$labels"/>'
    by_label = control("PolygonLabels", "p", "$name", "$a.b[0]", "")
    choices = '<RectangleLabels name="r" toName="image"><Choice value="no label"/><Label/></RectangleLabels>'
    assert parse(view(IMAGE, by_control, by_label, choices)).targets == ()


@pytest.mark.parametrize(
    ("tag", "kind"),
    [("Brush", "brush"), ("Polygon", "polygon"), ("Rectangle", "rectangle"), ("Ellipse", "ellipse")],
)
def test_a_separate_labels_tag_names_what_a_bare_control_draws(tag: str, kind: str) -> None:
    config = parse(view(IMAGE, f'<{tag} name="g" toName="image"/>', control("Labels", "l", "cell", "debris")))
    assert spelled(config) == [("g", "image", "cell", kind), ("g", "image", "debris", kind)]
    assert {target.labels_control for target in config.targets} == {"l"}
    assert len({target.id for target in config.targets}) == 2


def test_a_labels_tag_of_another_object_names_nothing() -> None:
    text = '<Text name="text" value="$text"/>'
    brush = '<Brush name="b" toName="image"/>'
    assert parse(view(IMAGE, text, brush, control("Labels", "l", "cell", to="text"))).targets == ()


@pytest.mark.parametrize(
    "config",
    [
        "",
        " \n",
        "<View/>",
        view(IMAGE),
        view('<Text name="t" value="$t"/><Choices name="c" toName="t"><Choice value="x"/></Choices>'),
        view('<Video name="v" value="$v"/>', control("VideoRectangle", "r", "x", to="v")),
        view('<Text name="t" value="$t"/>', control("BrushLabels", "b", "cell", to="t")),
        view(control("BrushLabels", "b", "cell", to="nowhere")),
        view(IMAGE, control("KeyPointLabels", "k", "cell")),
        view(IMAGE, '<Brush name="b" toName="image"/>'),
        view(IMAGE, '<BrushLabels toName="image"><Label value="cell"/></BrushLabels>'),
        view(IMAGE, '<Whatever name="w" toName="image" x="1"><Label value="cell"/></Whatever>'),
        view("<Style>.a { color: red }</Style>", "<!-- {not json} -->", "<?pi x?>", "<Header value='x'/>"),
    ],
)
def test_a_config_with_nothing_for_us_gives_no_targets(config: str) -> None:
    assert parse(config).targets == ()


def test_a_declaration_and_a_byte_order_mark_do_no_harm() -> None:
    config = '\ufeff<?xml version="1.0" encoding="latin-1"?>\n' + view(
        IMAGE, control("BrushLabels", "t", "ä")
    )
    assert [target.label for target in parse(config).targets] == ["ä"]


def test_malformed_xml_is_refused_with_its_line() -> None:
    with pytest.raises(LabelConfigError, match="line 3"):
        parse('<?xml version="1.0"?>\n<View>\n<Image</View>')


def test_a_name_used_twice_is_refused_by_name() -> None:
    with pytest.raises(LabelConfigError, match="'tag' twice, again in line 2"):
        parse(view(IMAGE, control("BrushLabels", "tag", "a"), "\n", control("PolygonLabels", "tag", "b")))


def test_the_fingerprint_changes_exactly_when_the_targets_do() -> None:
    one, two = control("BrushLabels", "b", "cell", "debris"), control("PolygonLabels", "p", "cell")
    config = parse(view(IMAGE, one, two))
    same = parse(view("<Header value='new'/>", two, control("BrushLabels", "b", "debris", "cell"), IMAGE))
    others = [
        view(IMAGE, one),
        view(IMAGE, one, control("PolygonLabels", "p", "Cell")),
        view(IMAGE, one, control("PolygonLabels", "q", "cell")),
        view(IMAGE, one, control("RectangleLabels", "p", "cell")),
        view(IMAGE.replace("$image", "$photo"), one, two),
    ]
    assert config.targets != same.targets
    assert config.fingerprint == same.fingerprint
    assert len({config.fingerprint, *(parse(other).fingerprint for other in others)}) == len(others) + 1


def test_target_ids_tell_all_parts_apart() -> None:
    def target(control: str, image: str, label: str, labels_control: str | None = None) -> str:
        return Target(control, image, label, "brush", "image", labels_control).id

    ids = [
        target("a", "b", "c"),
        target("a/b", "c", ""),
        target("a", "b/c", ""),
        target("a", "b", "c", ""),
        target("a", "b", "", "c"),
        target("a", "b", "c%2F"),
        target("a", "b", "c/"),
    ]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("value", "data", "url"),
    [
        ("image", {"image": "/data/1.png"}, "/data/1.png"),
        ("$image", {"image": "/data/1.png"}, "/data/1.png"),
        ("a.b", {"a": {"b": "x"}}, "x"),
        ("a.b", {"a.b": "plain", "a": {"b": "nested"}}, "plain"),
        ("pages[1]", {"pages": ["x", "y"]}, "y"),
        ("pages[1].url", {"pages": [{}, {"url": "y"}]}, "y"),
        ("pages", {"pages": ["first", "second"]}, "first"),
        ("pages", {"pages": []}, None),
        ("pages[7]", {"pages": ["x"]}, None),
        ("pages.x", {"pages": ["x"]}, None),
        ("a.b", {"a": "text"}, None),
        ("image", {}, None),
        ("image", {"image": ""}, None),
        ("image", {"image": None}, None),
        ("image", {"image": {"nested": 1}}, None),
        ("$image", {"picture": "x"}, None),
        ("https://host/fixed.png", {}, "https://host/fixed.png"),
        ("https://host/$name-$n/1", {"name": "a.png", "n": 7}, "https://host/a.png-7/1"),
        ("https://host/$name", {"other": "a"}, None),
        ("https://host/$name.png", {"name": "a"}, None),
        ("$base/$name", {"base": "https://host", "name": "b.png"}, "https://host/b.png"),
    ],
)
def test_an_image_address_is_resolved_as_the_editor_does(
    value: str, data: dict[str, object], url: str | None
) -> None:
    assert image_url(value, data) == url


def test_an_image_address_is_resolved_for_a_target() -> None:
    (one,) = parse(
        view('<Image name="i" valueList="$pages"/>', control("BrushLabels", "b", "x", to="i"))
    ).targets
    (two,) = parse(
        view('<Image name="i" value="https://h/$n"/>', control("BrushLabels", "b", "x", to="i"))
    ).targets
    assert image_url(one, {"pages": ["first", "second"]}) == "first"
    assert image_url(two, {"n": "a"}) == "https://h/a"
