"""The admin page's names of labels: told apart where two controls have the same one, and there when the config lost it."""

import re

import numpy as np
import pytest

from tests.backend.stage import Stage, blob, brush
from tests.backend.test_lost_labels import CELL, labels
from tests.backend.test_page import press, said, show

BRUSH, POLYGON = "tag/image/cell", "outline/image/cell"
NAMES = [BRUSH, "debris", POLYGON]  # no other control has debris: its label says enough
TWO_CONTROLS = """<View><Image name="image" value="$image"/>
<BrushLabels name="tag" toName="image"><Label value="cell"/><Label value="debris"/></BrushLabels>
<PolygonLabels name="outline" toName="image"><Label value="cell"/></PolygonLabels></View>"""


def config(stage: Stage, xml: str) -> None:
    stage.label_studio.projects[stage.project]["label_config"] = xml
    stage.setup()
    stage.work()


@pytest.fixture
def doubled(stage: Stage) -> Stage:
    """Two controls with a label `cell` each, of which one is taught."""
    config(stage, TWO_CONTROLS)
    stage.approve(1)
    return stage


# -- one label, two controls ---------------------------------------------------------------------------------------
def test_labels_of_two_controls_are_told_apart_wherever_one_is_named(doubled: Stage) -> None:
    """Two rows said "cell", two buttons "Tune cell", and two trends began with "cell:"."""
    overview = show(doubled)
    assert re.findall(r'<th scope="row"><a[^>]*>(.*?)</a>', overview) == NAMES
    assert re.findall(r"<li><strong>(.*?):</strong>", overview) == NAMES
    tabs = re.findall(r"target=[^>]*>(.*?) \(\d\)</a>", show(doubled, "/examples"))
    assert tabs == NAMES
    tunes = re.findall(r">Tune (.*?)</button>", show(doubled, "/prompts"))
    assert tunes == NAMES
    assert f">{BRUSH} (1)</option>" in show(doubled, "/influence")


def test_tunings_versions_and_shadows_say_whose_they_are(doubled: Stage) -> None:
    doubled.tune_four()
    doubled.backend.prompts.activate(doubled.key, 1)
    shown = show(doubled, "/prompts")
    assert f"<h3>Tuning 1: {BRUSH}</h3>" in shown
    assert f"<td>{BRUSH}</td>" in shown
    assert f">Examples alone for {BRUSH}</option>" in shown
    shown = press(doubled, "/shadows", on="/prompts", what=f"examples:{BRUSH}", submissions="1")
    assert f"<h3>Examples alone for {BRUSH}</h3>" in shown
    assert f"the shadow for {BRUSH}" in said(shown)


def test_the_list_of_projects_has_each_label_once(doubled: Stage) -> None:
    assert "<td>cell, debris</td>" in doubled.client.get("/").text


def test_what_a_lost_label_may_become_is_told_apart_for_all_and_for_each_example(stage: Stage) -> None:
    labels(stage, "white")
    stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1], label="white"))
    stage.work()
    config(stage, TWO_CONTROLS)
    choices = re.findall(r'<option value="(.+?)"(?: selected)?>(.*?)</option>', show(stage, "/lost-labels"))
    expected = [(BRUSH, BRUSH), ("tag/image/debris", "debris"), (POLYGON, POLYGON)]
    assert choices == 2 * expected, "where all are moved, and where each is chosen for"


def test_lost_labels_of_two_controls_are_told_apart(doubled: Stage) -> None:
    image, mask = blob(7)
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = (
        rows.min() / 0.48,
        rows.max() / 0.48,
        columns.min() / 0.64,
        columns.max() / 0.64,
    )
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    polygon = {
        "id": "p", "from_name": "outline", "to_name": "image", "type": "polygonlabels", "origin": "manual",
        "original_width": 64, "original_height": 48, "image_rotation": 0,
        "value": {"points": corners, "closed": True, "polygonlabels": ["cell"]},
    }  # fmt: skip
    doubled.submit(doubled.upload(image), polygon)
    doubled.work()
    labels(doubled, "round")
    assert re.findall(r"<h2 id=[^>]*>(.*?)</h2>", show(doubled, "/lost-labels")) == [BRUSH, POLYGON]
    assert f"has lost {BRUSH}, {POLYGON}." in said(show(doubled))


# -- a label that the config lost ----------------------------------------------------------------------------------
def test_the_last_example_of_a_lost_label_is_taken_out_and_put_back(stage: Stage) -> None:
    """It was taken out, and then the page said "That did not work", and had no button to put it back."""
    annotation = stage.approve(1)
    key = stage.backend.store.pool(stage.key)[0].key
    labels(stage, "round")
    shown = press(stage, f"/examples/{key}/drop", on=f"/examples?target={CELL}", target=CELL)
    assert "is out of use" in said(shown)
    assert stage.pool == []
    assert f"{CELL} (not in the labeling config) (0)" in said(show(stage, "/examples"))
    shown = press(stage, f"/examples/{key}/restore", on=f"/examples?target={CELL}", target=CELL)
    assert "being read again" in said(shown)
    stage.work()
    assert stage.pool == [annotation]
    assert "1 example is kept under its name" in said(show(stage, "/lost-labels"))


def test_a_label_that_was_never_there_has_no_page(stage: Stage) -> None:
    stage.approve(1)
    assert "no such label" in show(stage, "/examples?target=tag/image/none", status=404)
