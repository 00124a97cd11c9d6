"""Shadows as people meet them: in the admin API, on the admin page and on the command line."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.backend.stage import Run, Stage, blob, brush, half
from tests.backend.test_page import EVIL, press, said, show
from tests.backend.test_page_undoing import post
from tests.backend.test_prompts import add
from tests.backend.test_shadow import newest, prepared, start, submit, upload

Staging = Callable[..., Stage]


def api(stage: Stage, rest: str = "", method: str = "GET", status: int = 200, **wish: Any) -> Any:
    address = f"/api/projects/{stage.key}/shadows{rest}"
    answer = stage.client.request(method, address, json=wish or None)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
def two(stage: Stage) -> Stage:
    """Two approved masks, and a prompt that is better than they are."""
    return prepared(stage)


def compared(stage: Stage) -> None:
    """Eight submissions after the start of a shadow; one of them keeps what examples say, the others what it says."""
    for seed in range(20, 27):
        submit(stage, seed)
    stage.submit(upload(stage, 27), brush(half(blob(27)[1])))
    stage.work()


# -- the API -------------------------------------------------------------------------------------------------------
def test_the_api_starts_shows_and_stops(two: Stage) -> None:
    started = api(two, "", "POST", 201, prompt=1, submissions=12)
    assert (started["prompt"], started["against"], started["label"]) == (1, None, "cell")
    assert (started["running"], started["compared"], started["wanted"]) == (True, 0, 12)
    assert (started["shown_iou"], started["difference"], started["verdict"]) == (None, None, "too_few")
    compared(two)
    (found,) = api(two)
    assert (found["compared"], found["waiting"], found["missed"]) == (8, 0, 0)
    assert found["shadow_iou"] == pytest.approx(0.9375, abs=0.01)
    assert found["difference"] == pytest.approx(found["shadow_iou"] - found["shown_iou"])
    assert found["error"] == pytest.approx(0.125, abs=0.01)
    assert (found["verdict"], "clearly better" in found["said"]) == ("better", True)
    assert api(two, "", "POST", 409, prompt=1)["detail"].endswith("Stop it first.")
    stopped = api(two, "/stop", "POST")
    assert (stopped["running"], stopped["reason"], stopped["compared"]) == (False, "Stopped by hand.", 8)
    assert "nothing to stop" in api(two, "/stop", "POST", 409)["detail"]
    assert api(two) == [stopped]


def test_the_api_says_at_once_that_a_shadow_must_end(two: Stage) -> None:
    api(two, "", "POST", 201, prompt=1)
    two.backend.prompts.activate(two.key, 1)
    (found,) = api(two)
    assert (found["running"], found["reason"]) == (False, "It came into use itself.")


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"prompt": 7}, 404),
        ({"prompt": 0}, 422),
        ({"submissions": 0, "prompt": 1}, 422),
        ({"submissions": 501, "prompt": 1}, 422),
        ({"target": "tag/image/dog"}, 404),
        ({"target": "tag/image/cell"}, 409),
        ({"else": 1}, 422),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(two: Stage, wish: dict[str, Any], status: int) -> None:
    api(two, "", "POST", status, **wish)
    assert api(two) == []


def test_the_api_wants_the_token(staging: Staging) -> None:
    stage = staging(admin_token="secret")  # noqa: S106 - no secret
    stage.setup()
    address = f"/api/projects/{stage.key}/shadows"
    for method, rest in (("GET", ""), ("POST", ""), ("POST", "/stop")):
        assert stage.client.request(method, address + rest, json={}).status_code == 401
    assert stage.client.get(address, headers={"Authorization": "Bearer secret"}).json() == []


# -- the page ------------------------------------------------------------------------------------------------------
def test_the_page_starts_shows_and_stops(two: Stage) -> None:
    shown = show(two, "/prompts")
    assert 'value="prompt:1">Prompt 1 for cell' in shown
    assert "examples:" not in shown
    assert 'id="shadows"' not in shown
    shown = press(two, "/shadows", on="/prompts", what="prompt:1", submissions="9")
    assert "The shadow predicts from the next submission on" in said(shown)
    assert "running , 0 of 9 submissions compared with examples alone." in said(shown)
    compared(two)
    words = said(show(two, "/prompts"))
    (pair, *_) = newest(two).pairs
    assert "8 of 9 submissions" in words
    assert re.search(
        r"Mean kept IoU 0\.94 by the shadow, 0\.5\d by examples alone: a difference of \+0\.\d+", words
    )
    assert "give or take 0.25" in words
    assert "The shadow is clearly better" in words
    assert 0.4 < pair.shown < 0.6
    shown = press(two, "/shadows/stop", on="/prompts", target=two.target)
    assert "Stopped by hand." in said(shown)
    shown = press(two, "/prompts/1/activate", on="/prompts")
    assert "activate-shadow-1" not in shown
    assert f'value="examples:{two.target}">Examples alone for cell' in shown
    shown = press(two, "/shadows", on="/prompts", what=f"examples:{two.target}", submissions="3")
    assert "Examples alone for cell" in said(shown)
    assert (newest(two).prompt, newest(two).against, newest(two).wanted) == (None, 1, 3)


def test_what_no_form_of_ours_sends_is_refused(two: Stage) -> None:
    for form, status in (
        ({"what": "prompt:x", "submissions": "9"}, 422),
        ({"what": "prompt:", "submissions": "9"}, 422),
        ({"what": "prompt:7", "submissions": "9"}, 404),
        ({"what": "prompt:1", "submissions": "many"}, 422),
        ({"what": "prompt:1"}, 422),
        ({"submissions": "9"}, 404),
    ):
        assert post(two, "/shadows", "/prompts", **form)[0] == status
    assert post(two, "/shadows/stop", "/prompts")[0] == 409


def test_a_label_of_a_shadow_is_no_markup(two: Stage) -> None:
    start(two, add(two))
    two.backend.store.put_label_config(two.key, "<View/>", "")
    other = add(two, label=EVIL)
    shown = show(two, "/prompts")
    assert EVIL not in shown
    assert str(other) in said(shown)


# -- the command line ----------------------------------------------------------------------------------------------
def test_the_commands_start_show_and_stop(run: Run, two: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(two.settings.data_dir))
    project = str(two.project)
    code, out, _ = run("prompts", "shadow", project, "1", "--submissions", "9")
    assert (code, "A shadow for 9 submissions: prompt 1 beside examples alone" in out) == (0, True)
    code, out, _ = run("prompts", "list", project)
    assert "Shadow: prompt 1 (tag/image/cell), 0 of 9 submissions, running" in out
    compared(two)
    found = newest(two).comparison
    assert found.shown is not None
    assert found.shadow is not None
    told = (
        f"mean kept IoU {found.shadow:.3f} by it, {found.shown:.3f} by examples alone, "
        f"difference +{found.shadow - found.shown:.3f}, give or take 0.25"
    )
    for command in (("list", project), ("show", project, "1"), ("unshadow", project)):
        code, out, _ = run("prompts", *command)
        assert code == 0
        assert "8 of 9 submissions" in out
        assert told in out
        assert "clearly better" in out
    assert "ended: Stopped by hand." in out
    code, _, err = run("prompts", "unshadow", project)
    assert (code, "nothing to stop" in err) == (1, True)
    assert run("prompts", "activate", project, "1")[0] == 0
    code, out, _ = run("prompts", "shadow", project, "--target", two.target)
    assert (code, "A shadow for 20 submissions: examples alone beside prompt 1" in out) == (0, True)
    code, _, err = run("prompts", "shadow", project)
    assert (code, "runs already" in err, len(err.strip().splitlines())) == (1, True, 1)
