"""The admin page, without a browser: what it shows, what its forms do, and that nobody's words become markup."""

import io
import re
from collections.abc import Callable
from html import unescape
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from backend.admin import acceptance
from backend.admin.acceptance import Acceptance
from backend.admin.answers import take
from backend.findings import Finding, Findings, write_findings
from backend.headers import HEADERS
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import ADDRESS, Stage, blob, brush
from tests.backend.test_prompts import add

EVIL = "<script>alert(1)</script>'\"&{{7*7}}"


def path(stage: Stage, rest: str = "") -> str:
    return f"/projects/{stage.key}{rest}"


def show(stage: Stage, rest: str = "", status: int = 200) -> str:
    answer = stage.client.get(path(stage, rest))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def said(html: str) -> str:
    """What a page says, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def press(stage: Stage, rest: str, on: str, status: int = 200, **form: str) -> str:
    """Press a button of a page; the page that follows."""
    shown = stage.client.get(path(stage, on)).text
    assert f'action="{path(stage, rest)}"' in shown, "there is such a button"
    word = re.search(r'name="word" value="([0-9a-f]+)"', shown)
    assert word is not None
    answer = stage.client.post(path(stage, rest), data={"word": word[1], **form}, headers={"Origin": ADDRESS})
    assert answer.status_code == status, answer.text
    return answer.text


@pytest.fixture
def judged(staging: Callable[..., Stage]) -> Stage:
    """A prompt that the gate kept out."""
    stage = staging(tune_gate=1.0, tune_steps=1)
    stage.tune_four()
    return stage


# -- pages ---------------------------------------------------------------------------------------------------------
def test_without_a_project_it_says_what_to_do(stage: Stage) -> None:
    answer = stage.client.get("/")
    assert answer.status_code == 200
    assert "connect this backend's address" in said(answer.text)


def test_pages_keep_the_headers_but_tell_forms_where_they_come_from(stage: Stage) -> None:
    answer = stage.client.get("/")
    for name, value in HEADERS.items():
        assert answer.headers[name] == ("same-origin" if name == "Referrer-Policy" else value)


def test_static_files_are_there_for_everybody_and_for_long(staging: Callable[..., Stage]) -> None:
    stage = staging(admin_token="secret")  # noqa: S106 - no secret
    shown = stage.client.get("/login").text
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', shown)
    assert len(files) == 3
    for file in files:
        answer = stage.client.get(file)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    for name in ("base.html", "..%2Faccess.py", "..%2Ftemplates%2Fbase.html"):
        assert stage.client.get(f"/static/{name}").status_code == 404


def test_what_is_not_there_is_said_on_a_page(stage: Stage) -> None:
    stage.approve(1)
    for address in ("/projects/999", path(stage, "/examples?target=x")):
        answer = stage.client.get(address)
        assert answer.status_code == 404
        assert "<h1>That did not work</h1>" in answer.text
    for address in (path(stage, "/tasks/x"), path(stage, "/tasks/0"), path(stage, "/why?task=")):
        answer = stage.client.get(address)
        assert (answer.status_code, "There is no such page" in answer.text) == (404, True)


def test_the_picture_of_an_example_that_has_left_says_so(stage: Stage) -> None:
    """A page that is open still shows it; browsers fetch what is further down only when it is scrolled to."""
    annotation = stage.approve(1)
    (info,) = stage.backend.store.pool(stage.key)
    address = path(stage, f"/examples/{info.key}/picture")
    assert stage.client.get(address).headers["content-type"] == "image/png"
    stage.delete(annotation)
    stage.work()
    answer = stage.client.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert "no longer here" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_picture_of_another_project_is_not_shown(stage: Stage) -> None:
    stage.approve(1)
    (info,) = stage.backend.store.pool(stage.key)
    stage.backend.store.put_label_config("2.1700000000", "<View/>", "f")
    assert stage.client.get(f"/projects/2/examples/{info.key}/picture").status_code == 404


def test_the_pool_shows_pictures_with_masks_who_approved_and_when(stage: Stage) -> None:
    image, mask = blob(3)
    stage.submit(stage.upload(image), brush(mask), completed_by=7, updated_by=7)
    stage.work()
    (info,) = stage.backend.store.pool(stage.key)
    shown = show(stage, "/examples")
    assert f"user {info.annotator}, drawn" in said(shown)
    assert info.at[:16].replace("T", " ") in said(shown)
    assert f'href="{stage.label_studio.url}/projects/{stage.project}/data?task={info.task}"' in shown
    source = re.search(r'<img src="([^"]+)"', shown)
    assert source is not None
    answer = stage.client.get(source[1])
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "no-store"
    pixels = np.array(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    assert pixels.shape[:2] == mask.shape
    changed = (pixels != image).any(axis=-1)
    assert (changed == mask).all(), "the mask is drawn, and only it"


def test_what_harms_the_others_is_marked_with_the_reason(stage: Stage) -> None:
    for seed in range(3):
        stage.approve(seed)
    keys = [info.key for info in stage.backend.store.pool(stage.key)]
    found = {key: Finding(0.9, 0.9, 0.9, False, "") for key in keys[1:]}
    found[keys[0]] = Finding(0.12, 0.34, 0.1, True, f"It looks wrong {EVIL}.")
    write_findings(stage.backend.store, stage.key, Findings(1.8e9, frozenset(keys), found))
    shown = show(stage, "/examples")
    assert shown.count('class="suspicious"') == 1
    assert str(escape(EVIL)) in shown
    assert "0.12" in said(shown)
    assert "1 approved mask may harm the others" in said(show(stage))


def test_figures_prompts_and_revisions_are_drawn_and_listed(judged: Stage) -> None:
    judged.segment_by_colour()
    for seed in range(20, 34):
        if seed == 27:
            judged.backend.prompts.activate(judged.key, 1)
            judged.segment_with(
                lambda queries: [np.full(query.image.shape[:2], 0.9, np.float32) for query in queries]
            )
        image, mask = blob(seed)
        task = judged.upload(image)
        judged.predict(task)
        judged.submit(task, {**brush(mask), "origin": "prediction"}, lead_time=5.0)
        judged.work()
    shown = show(judged)
    assert shown.count('<circle class="point"') == 14
    assert shown.count('class="mark prompt"') == 1
    assert ">prompt 1</text>" in shown
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", shown, re.DOTALL)
    assert len(rows) == shown.count('class="mark') + 1
    assert "1.00" in said(rows[0])
    assert "cell: not clear." in said(shown) or "cell: you can stop here." in said(shown)
    assert "Too early to tell: 4 annotations" in said(shown), "five are needed"
    assert "Too early to tell: 14 of 61 submissions" in said(shown)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Acceptance(140, 0.87, 96, 93, 0.921, "found"), "0.87 or more: 93 of the last 96 were submitted unchanged"),
        (Acceptance(140, None, None, None, None, "none"), "kept unchanged in 90.0 % of all cases (the last 140"),
    ],
)  # fmt: skip
def test_what_can_be_accepted_in_bulk_is_said_in_words(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, found: Acceptance, words: str
) -> None:
    stage.setup()
    monkeypatch.setattr(acceptance, "accept_from", lambda _submissions: found)
    assert words in said(show(stage))


def test_the_doctor_says_in_words_what_it_found(stage: Stage) -> None:
    stage.setup()
    shown = said(stage.client.get("/doctor").text)
    assert f"Well: checkpoint. {stage.backend.checkpoint}" in shown
    assert "this backend is not connected" in shown
    assert "What to do: Settings > Model > Connect Model." in shown


def test_why_names_the_examples_their_share_and_their_tasks(stage: Stage) -> None:
    stage.segment_by_colour()
    annotations = [stage.approve(seed) for seed in range(3)]
    task = stage.upload(blob(9)[0])
    stage.predict(task)
    shown = show(stage, f"/tasks/{task}")
    assert said(shown).count("33 % Task") == 3
    for annotation in annotations:
        taught = stage.label_studio.annotations[annotation]["task"]
        assert f'/data?task={taught}">Task {taught}</a>' in shown
    assert f"why?task={task}" not in shown
    assert said(show(stage, f"/why?task={task}")) == said(shown)
    stage.delete(annotations[0])
    stage.work()
    assert "an example that is in use no more" in said(show(stage, f"/tasks/{task}"))
    assert "Nothing was predicted for this task" in said(show(stage, "/tasks/4711"))


def test_why_names_the_prompt(judged: Stage) -> None:
    judged.backend.prompts.activate(judged.key, 1)
    task = judged.upload(blob(9)[0])
    judged.predict(task)
    assert f'href="{path(judged)}/prompts#prompt-1">Prompt 1</a>' in show(judged, f"/tasks/{task}")


def test_each_task_that_got_nothing_has_its_reason(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    (good,) = stage.blobs(1, first=40)
    bad = stage.label_studio.add_task(stage.project, stage.label_studio.url + "/data/upload/nothing.png")
    stage.work()
    shown = press(stage, "/refresh", on="/tasks")
    assert "The pass over the tasks is queued." in said(shown)
    stage.work()
    shown = show(stage, "/tasks")
    row = re.search(rf"<tr><th scope=\"row\"><a [^>]*>Task {bad}</a>.*?</tr>", shown)
    assert row is not None
    assert "failed" in row[0]
    assert "404" in row[0]
    assert f">Task {good}</a>" not in shown
    assert re.search(r'<progress id="ready" max="\d+" value="\d+">', shown)


def test_a_number_that_no_task_has_is_refused(stage: Stage) -> None:
    stage.setup()
    show(stage, f"/why?task={2**53}")
    for number in (0, 2**53 + 1, 2**63):
        show(stage, f"/why?task={number}", status=404)


def test_the_progress_is_looked_at_until_the_pass_has_ended(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    stage.blobs(2, first=40)
    assert "data-refresh" in press(stage, "/refresh", on="/tasks")
    stage.work()
    shown = show(stage, "/tasks?done=refreshing")
    assert "2 of 2 tasks" in said(shown)
    assert "data-refresh" not in shown


# -- forms ---------------------------------------------------------------------------------------------------------
def test_an_example_is_dropped_and_put_back(stage: Stage) -> None:
    stage.approve(1)
    second = stage.approve(2)
    first_key = stage.backend.store.pool(stage.key)[0].key
    before = stage.setup()
    shown = press(stage, f"/examples/{first_key}/drop", on="/examples", target=stage.target)
    assert "The example is out of use" in said(shown)
    assert stage.pool == [second]
    assert stage.setup() != before
    assert f'<code id="revision">{stage.setup()}</code>' in shown
    shown = press(stage, f"/examples/{first_key}/restore", on="/examples", target=stage.target)
    assert "being read again" in said(shown)
    stage.work()
    assert len(stage.pool) == 2
    assert "Taken out of use" not in show(stage, "/examples")


def test_a_tuning_is_started_stopped_and_gone_on_with(judged: Stage) -> None:
    shown = press(judged, "/tunings", on="/prompts", target=judged.target)
    assert "The tuning is queued." in said(shown)
    assert 'data-refresh="1"' in shown
    shown = press(judged, "/tunings/2/stop", on="/prompts")
    assert "stopping" in said(shown) or "stopped" in said(shown)
    judged.tune()
    assert judged.tunings[0].status == "stopped"
    shown = press(judged, "/tunings/2/resume", on="/prompts")
    judged.tune()
    shown = show(judged, "/prompts")
    assert "it became prompt 2" in said(shown)
    assert "data-refresh" not in shown


def test_a_prompt_is_activated_and_rolled_back(judged: Stage) -> None:
    before = judged.setup()
    shown = press(judged, "/prompts/1/activate", on="/prompts")
    assert "in use from the next prediction on" in said(shown)
    assert judged.prompts[0].status == "active"
    assert judged.setup() != before
    before_that = show(judged, "/prompts")
    assert '<input type="hidden" name="prompt" value="1">' in before_that
    press(judged, "/rollback", on="/prompts", prompt="1")
    assert judged.prompts[0].status == "retired"
    assert judged.setup() == before


def test_a_roll_back_that_is_pressed_twice_goes_back_once(stage: Stage) -> None:
    stage.setup()
    for seed in range(2):
        add(stage, seed, activate=True)
    press(stage, "/rollback", on="/prompts", prompt="2")
    again = press(stage, "/rollback", on="/prompts", status=409, prompt="2")
    assert "Prompt 2 of 'cell' is not active; in use: prompt 1." in said(again)
    press(stage, "/rollback", on="/prompts", status=422)  # the form says what it stood beside
    assert [prompt.status for prompt in stage.prompts] == ["active", "retired"]


def test_pools_are_measured_when_asked(stage: Stage) -> None:
    for seed in range(2):
        stage.approve(seed)
    stage.jobs.tuning.flush()
    press(stage, "/measure", on="/examples", target=stage.target)
    assert stage.tune() == ["measure"]
    shown = show(stage, "/examples")
    assert "was measured on" in said(shown)
    assert "Measure now" not in shown


def test_what_is_refused_is_said_with_the_reason(judged: Stage) -> None:
    press(judged, "/prompts/1/activate", on="/prompts")
    word = re.search(r'name="word" value="([0-9a-f]+)"', show(judged, "/prompts"))
    assert word is not None
    answer = judged.client.post(
        path(judged, "/prompts/1/activate"), data={"word": word[1]}, headers={"Origin": ADDRESS}
    )
    assert (answer.status_code, "already" in answer.text) == (409, True)


# -- hostile words -------------------------------------------------------------------------------------------------
def pages(stage: Stage, task: int) -> list[str]:
    rest = ("", "/examples", "/prompts", "/tasks", f"/tasks/{task}")
    return ["/", "/doctor", *(path(stage, one) for one in rest)]


def test_labels_never_become_markup(staging: Callable[..., Stage]) -> None:
    stage = staging()
    config = LABEL_CONFIG.replace('value="cell"', f"value={quoteattr(EVIL)}")
    stage.label_studio.projects[stage.project]["label_config"] = config
    stage.setup()
    stage.segment_by_colour()
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask, label=EVIL))
    stage.work()
    (info,) = stage.backend.store.pool(stage.key)
    task = stage.upload(blob(2)[0])
    stage.predict(task)
    stage.backend.tunings.ask(stage.key, EVIL)
    stage.backend.pre_annotation.failed(take(stage.backend, stage.key), {task: EVIL})
    for page in pages(stage, task):
        shown = stage.client.get(page).text
        assert "<script>" not in shown, page
        assert shown.count("<script ") == 1
        assert "{{" not in shown.replace("{{7*7}}", "")
        assert "49" not in said(shown)[:60]
        assert page == "/doctor" or "&lt;script&gt;" in shown, page
    target = re.search(r'href="([^"]*/examples\?target=[^"]+)"', show(stage))
    assert target is not None
    assert stage.client.get(unescape(target[1])).status_code == 200
    shown = press(stage, f"/examples/{info.key}/drop", on="/examples", target=info.target)
    assert stage.pool == []
    assert "<script>" not in shown


def test_words_of_an_address_never_become_markup(stage: Stage) -> None:
    stage.approve(1)
    for address in (
        "/projects/%3Cscript%3E",
        path(stage, "/examples?target=%3Cscript%3E&done=%3Cscript%3E"),
        "/login",
    ):
        shown = stage.client.get(address, params={"next": "/<script>"} if address == "/login" else None).text
        assert "<script>" not in shown
    shown = show(stage, "/examples?done=Your+token+was+stolen")
    assert "stolen" not in shown
