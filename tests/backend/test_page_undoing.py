"""The admin page's forms that pin, that take back somebody's influence, and that say what lost labels become."""

import re
from collections.abc import Callable
from typing import Any

from backend import lost_labels
from backend.label_config import parse
from tests.backend.stage import ADDRESS, Stage, blob, brush
from tests.backend.test_dropped import images_away
from tests.backend.test_lost_labels import CELL, LONG, ROUND, labels, pools
from tests.backend.test_page import EVIL, path, press, said, show


def post(stage: Stage, rest: str, on: str, **form: str) -> tuple[int, str]:
    """Send a form's fields, whatever the page would let be chosen."""
    word = re.search(r'name="word" value="([0-9a-f]+)"', show(stage, on))
    assert word is not None
    answer = stage.client.post(path(stage, rest), data={"word": word[1], **form}, headers={"Origin": ADDRESS})
    return answer.status_code, said(answer.text)


# -- pins ----------------------------------------------------------------------------------------------------------
def test_an_example_is_pinned_and_unpinned(stage: Stage) -> None:
    for seed in (1, 2):
        stage.approve(seed)
    key = stage.backend.store.pool(stage.key)[0].key
    version = stage.setup()
    shown = press(stage, f"/examples/{key}/pin", on="/examples", target=stage.target)
    assert "The example is pinned" in said(shown)
    assert shown.count('class="pinned"') == 1
    assert [info.pinned for info in stage.backend.store.pool(stage.key)] == [True, False]
    assert stage.setup() == version
    shown = press(stage, f"/examples/{key}/unpin", on="/examples", target=stage.target)
    assert 'class="pinned"' not in shown
    assert not any(info.pinned for info in stage.backend.store.pool(stage.key))


# -- influence -----------------------------------------------------------------------------------------------------
def test_a_person_s_examples_are_previewed_taken_out_and_put_back(stage: Stage) -> None:
    stage.segment_by_colour()
    for seed, who in ((1, 7), (2, 7), (3, 8), (4, 8)):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(mask), completed_by=who, updated_by=who)
    stage.work()
    shown = show(stage, "/influence")
    assert "user 7 (2)" in said(shown)
    assert f'value="label:{stage.target}"' in shown
    shown = press(stage, "/influence/preview", on="/influence", source="person:8")
    assert "Without user 8" in said(shown)
    assert "2 of the 2 examples that would go are in use now" in said(shown)
    assert 'data-refresh="2"' in shown
    assert shown.count("/picture") == 2
    assert "without waiting for figures" in said(shown)
    stage.tune()
    shown = show(stage, "/influence")
    assert "data-refresh" not in shown
    row = re.search(r'<tr><th scope="row">cell</th>(.*?)</tr>', shown)
    assert row is not None
    assert said(row[1]) == "2 2 2 1.00 1.00"
    name = re.search(r'name="preview" value="(\w+)"', shown)
    assert name is not None
    shown = press(stage, "/influence/acts", on="/influence", preview=name[1])
    assert "All of them are out of use" in said(shown)
    assert stage.pool == [1, 2]
    assert "user 8 2 examples" in said(shown)
    assert "with others" in said(show(stage, "/examples"))
    act = re.search(r"/influence/acts/(\w+)/restore", shown)
    assert act is not None
    shown = press(stage, f"/influence/acts/{act[1]}/restore", on="/influence")
    assert "being read again" in said(shown)
    stage.work()
    assert sorted(stage.pool) == [1, 2, 3, 4]
    assert "Taken out of use as one" not in show(stage, "/influence")


def test_what_was_put_back_and_cannot_be_read_yet_is_shown_as_such(stage: Stage) -> None:
    """The page said "back in some seconds", and it was nowhere."""
    for seed in (1, 2):
        stage.approve(seed)
    press(stage, "/influence/preview", on="/influence", source=f"label:{stage.target}")
    name = re.search(r'name="preview" value="(\w+)"', show(stage, "/influence"))
    assert name is not None
    shown = press(stage, "/influence/acts", on="/influence", preview=name[1], unweighed="yes")
    act = re.search(r"/influence/acts/(\w+)/restore", shown)
    assert act is not None
    with images_away(stage):
        shown = press(stage, f"/influence/acts/{act[1]}/restore", on="/influence")
        assert "2 being read again Try again" in said(shown)
        stage.work()
    assert said(show(stage, "/examples")).count("being read again") == 2
    key = stage.client.get(f"/api/projects/{stage.key}/examples/dropped").json()[0]["key"]
    press(stage, f"/examples/{key}/restore", on="/examples", target=stage.target)
    stage.work()
    assert sorted(stage.pool) == [1, 2]
    assert "being read again" not in said(show(stage, "/influence") + show(stage, "/examples"))


def test_a_preview_without_figures_goes_when_they_are_not_wanted_or_is_put_away(stage: Stage) -> None:
    stage.approve(1)
    day = stage.backend.store.pool(stage.key)[0].at[:10]
    press(stage, "/influence/preview", on="/influence", source=f"day:{day}")
    shown = press(stage, "/influence/put-away", on="/influence")
    assert "Would stay" not in said(shown)
    shown = press(stage, "/influence/preview", on="/influence", source=f"label:{stage.target}")
    assert "Without cell" in said(shown)
    name = re.search(r'name="preview" value="(\w+)"', shown)
    assert name is not None
    status, text = post(stage, "/influence/acts", "/influence", preview=name[1])
    assert (status, "not worked out yet" in text) == (409, True)
    press(stage, "/influence/acts", on="/influence", preview=name[1], unweighed="yes")
    assert stage.pool == []
    assert "Nothing teaches this project yet" in said(show(stage, "/influence"))


def test_a_source_that_no_page_offers_is_refused(stage: Stage) -> None:
    stage.approve(1)
    for source, status in (("hour:7", 422), ("person:99", 404), ("person:", 422), ("", 422)):
        assert post(stage, "/influence/preview", "/influence", source=source)[0] == status
    assert post(stage, "/influence/acts", "/influence")[0] == 422


# -- lost labels ---------------------------------------------------------------------------------------------------
def test_a_lost_label_is_asked_about_moved_and_taken_back(stage: Stage) -> None:
    for seed in (1, 2):
        stage.approve(seed)
    assert "Lost labels" not in said(show(stage))
    labels(stage, "round", "long")
    shown = show(stage)
    assert "The labeling config has lost cell" in said(shown)
    assert f'href="{path(stage)}/lost-labels"' in shown
    shown = show(stage, "/lost-labels")
    assert "2 examples are kept under its name. Not answered yet." in said(shown)
    for rest in ("", "/examples", "/influence", "/tasks"):
        show(stage, rest)
    shown = press(stage, "/lost-labels/answer", on="/lost-labels", target=CELL, answer="move", to=ROUND)
    assert "being read by the answer" in said(shown)
    stage.work()
    assert pools(stage) == {ROUND: [1, 2]}
    assert "All are round now." in said(show(stage, "/lost-labels"))
    assert "has lost" not in said(show(stage))
    press(stage, "/lost-labels/take-back", on="/lost-labels", target=CELL)
    stage.work()
    assert pools(stage) == {CELL: [1, 2]}
    press(stage, "/lost-labels/answer", on="/lost-labels", target=CELL, answer="aside")
    assert "Kept aside." in said(show(stage, "/lost-labels"))


def test_a_label_is_split_example_by_example_however_many_there_are(stage: Stage) -> None:
    annotations = [stage.approve(seed) for seed in range(42)]
    labels(stage, "round", "long")
    shown = show(stage, "/lost-labels")
    assert "Examples 1 to 40 of 42" in said(shown)
    assert shown.count('name="to-') == 40
    assert re.search(r'href="[^"]*\?start=40#split-1"', shown)
    assert 'name="to-42"' in show(stage, "/lost-labels?start=40")
    chosen: dict[str, Any] = {
        f"to-{annotation}": ROUND if annotation % 2 else "" for annotation in annotations[:40]
    }
    press(stage, "/lost-labels/answer", on="/lost-labels", target=CELL, answer="split", **chosen)
    stage.work()
    last: dict[str, Any] = {"to-42": LONG}
    press(stage, "/lost-labels/answer", on="/lost-labels", target=CELL, answer="split", **last)
    stage.work()
    assert {target: len(there) for target, there in pools(stage).items()} == {ROUND: 20, LONG: 1, CELL: 21}
    shown = show(stage, "/lost-labels")
    assert "Split: 21 of 42 are chosen for other labels" in said(shown)
    chosen_now = re.search(r'name="to-1">.*?</select>', shown, re.DOTALL)
    assert chosen_now is not None
    assert f'value="{ROUND}" selected' in chosen_now[0]


def test_an_answer_that_no_page_offers_is_refused(stage: Stage) -> None:
    stage.approve(1)
    labels(stage, "round")
    for form, status in (
        ({"answer": "move"}, 409),
        ({"answer": "all to both"}, 422),
        ({"answer": "move", "to": "tag/image/none"}, 409),
        ({"answer": "split", "to-x": ROUND}, 422),
        ({"answer": "aside", "target": ROUND}, 404),
    ):
        assert post(stage, "/lost-labels/answer", "/lost-labels", **{"target": CELL, **form})[0] == status
    assert pools(stage) == {CELL: [1]}


def test_without_label_studio_nothing_is_answered(staging: Callable[..., Stage]) -> None:
    stage = staging()
    stage.approve(1)
    labels(stage, "round")
    away = staging(connected=False)
    status, text = post(away, "/lost-labels/answer", "/lost-labels", target=CELL, answer="aside")
    assert (status, "LABEL_STUDIO_URL" in text) == (409, True)


# -- titles, and words that are not ours ---------------------------------------------------------------------------
def test_projects_are_called_by_their_titles_where_these_are_known(stage: Stage) -> None:
    stage.setup()
    assert "Project 1" in said(show(stage))
    asked = len(stage.label_studio.requests)
    stage.label_studio.projects[stage.project]["title"] = "Blood  smears"
    stage.event("PROJECT_UPDATED")
    stage.work()
    assert stage.client.get(f"/api/projects/{stage.key}").json()["title"] == "Blood smears"
    asked = len(stage.label_studio.requests)
    for rest in ("", "/examples", "/influence", "/prompts", "/tasks"):
        assert "Blood smears" in said(show(stage, rest))
    assert "Blood smears project 1" in said(stage.client.get("/").text)
    assert len(stage.label_studio.requests) == asked, "no page asks for it"
    stage.label_studio.projects[stage.project]["title"] = "Renamed"
    stage.backend.learner.reconcile(stage.key)
    assert "Renamed" in said(show(stage))


def test_titles_and_lost_labels_never_become_markup(stage: Stage) -> None:
    projects = stage.label_studio.projects
    labels(stage, "cell", "other")
    stage.approve(1)
    projects[stage.project]["title"] = EVIL
    stage.backend.learner.reconcile(stage.key)
    config = projects[stage.project]["label_config"]
    stage.backend.store.set_note(f"title:{stage.key}", EVIL)
    projects[stage.project]["label_config"] = config.replace('value="cell"', 'value="&lt;script&gt;"')
    stage.setup()
    stage.work()
    assert lost_labels.of(stage.backend.store, stage.key, parse(config)).targets == ()
    for rest in ("", "/examples", "/influence", "/lost-labels", "/prompts", "/tasks"):
        shown = show(stage, rest)
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown
    assert "<script>" not in stage.client.get("/").text
