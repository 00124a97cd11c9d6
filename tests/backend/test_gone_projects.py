"""Projects that Label Studio no longer has: said as what they are, and not asked for again and again."""

import re
import time
from collections.abc import Callable
from html import unescape
from types import SimpleNamespace

import pytest

from backend import troubles
from backend.doctor import Finding, examine
from tests.backend.loopback import Answer
from tests.backend.stage import Run, Stage


def asked(stage: Stage) -> int:
    """How often Label Studio was asked for the stage's project or anything of it."""
    path = rf"/api/projects/{stage.project}/.*|/api/tasks/"
    return sum(re.fullmatch(path, request.path) is not None for request in stage.label_studio.requests)


def compared(stage: Stage, hours: float) -> None:
    """Let the project have been compared with Label Studio so long ago: after an hour another one is due in any case."""
    stage.backend.store.mark_reconciled(KEY, time.time() - 3600 * hours, "")


def look(stage: Stage) -> list[str]:
    stage.jobs.look()
    return stage.work()


def hear(stage: Stage, how: str) -> None:
    if how == "setup":
        stage.setup()
    elif how == "predict":
        stage.predict(next(iter(stage.label_studio.tasks)))
    elif how == "event":
        stage.event("ANNOTATIONS_DELETED", annotations=[{"id": 4711}])
        assert "learn" in stage.work()
    else:
        stage.backend.learner.reconcile(stage.key)  # as `sync` does


def about(stage: Stage, project: int | None = None) -> list[Finding]:
    """What doctor finds about projects."""
    findings = examine(stage.settings, project, stage.backend.segmenter)
    return [finding for finding in findings if finding.what.startswith("project")]


KEY = "1.1767225601"  # of the stage's project


@pytest.fixture
def taught(stage: Stage) -> Stage:
    """A project that taught something."""
    stage.setup()
    stage.approve(1)
    compared(stage, hours=0.5)
    return stage


def delete(stage: Stage) -> None:
    """Delete the project in Label Studio, which says so to nobody."""
    del stage.label_studio.projects[stage.project]


@pytest.mark.parametrize("hours", [0.5, 2.0])
def test_a_project_that_is_gone_is_asked_for_once(
    taught: Stage, hours: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Each look asked for it again; an hour after the last comparison each began another one."""
    compared(taught, hours)
    delete(taught)
    look(taught)
    before = asked(taught)
    assert look(taught) == ["look"]
    assert asked(taught) == before
    assert caplog.text.count("project 1.1767225601 is no longer in Label Studio") == 1
    assert [info.task for info in taught.backend.store.pool(KEY)] == [1]


@pytest.mark.parametrize("how", ["setup", "predict", "event", "sync"])
def test_a_project_that_is_heard_of_again_is_looked_at_again(taught: Stage, how: str) -> None:
    """It was not gone: another token, or another Label Studio, did not show it for a while."""
    there = taught.label_studio.projects.pop(taught.project)
    look(taught)
    taught.label_studio.projects[taught.project] = there
    before = asked(taught)
    look(taught)
    assert asked(taught) == before
    hear(taught, how)
    compared(taught, hours=0.5)
    before = asked(taught)
    look(taught)
    assert asked(taught) > before


def test_a_project_that_is_gone_is_asked_for_again_after_an_hour(
    taught: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = taught.label_studio.projects.pop(taught.project)
    look(taught)
    monkeypatch.setattr("backend.troubles.time", SimpleNamespace(time=lambda: time.time() + 3601))
    look(taught)
    assert troubles.is_gone(taught.backend.store, KEY)
    before = asked(taught)
    look(taught)
    assert asked(taught) == before, "for another hour"
    taught.label_studio.projects[taught.project] = there
    monkeypatch.setattr("backend.troubles.time", SimpleNamespace(time=lambda: time.time() + 7300))
    look(taught)
    assert not troubles.is_gone(taught.backend.store, KEY)


def test_a_proxy_that_knows_no_page_while_label_studio_starts_does_not_end_a_project(taught: Stage) -> None:
    taught.jobs.pre_annotate(KEY)
    taught.label_studio.failures += [Answer(404, b"404 page not found")] * 100
    taught.work()
    look(taught)
    taught.label_studio.failures.clear()
    assert not troubles.is_gone(taught.backend.store, KEY)
    assert "pre_annotate" in taught.work(later=True)


def test_a_new_project_under_the_number_of_one_that_is_gone_is_another_one(taught: Stage) -> None:
    """The old one was given the new one's title at each look."""
    taught.label_studio.projects[taught.project] |= {"created_at": "2026-02-02T00:00:00Z", "title": "Another"}
    taught.setup()
    taught.work()
    look(taught)
    look(taught)
    titles = {row["project"]: row["title"] for row in taught.client.get("/api/projects").json()}
    assert titles == {KEY: "Project 1", taught.key: "Another"}
    assert [info.task for info in taught.backend.store.pool(KEY)] == [1]


@pytest.mark.parametrize("order_by_score", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_pass_over_the_tasks_of_a_project_that_is_gone_ends(
    staging: Callable[..., Stage], order_by_score: bool, replaced: bool
) -> None:
    """It was tried again every fifteen seconds, for ever; and with ORDER_BY_SCORE still so when it no longer was."""
    taught = staging(order_by_score=order_by_score)
    taught.setup()
    taught.approve(1)
    taught.jobs.pre_annotate(KEY)
    if replaced:
        taught.label_studio.projects[taught.project]["created_at"] = "2026-02-02T00:00:00Z"
    else:
        delete(taught)
    assert taught.work() == ["pre_annotate"]
    assert taught.jobs.depths()["predictions"] == 0
    assert "data-refresh" not in taught.client.get(f"/projects/{KEY}/tasks?done=refreshing").text


def test_tasks_that_a_request_did_not_reach_in_a_project_that_is_gone_are_tried_once(taught: Stage) -> None:
    """Each eight of them were tried forty times."""
    tasks = taught.blobs(9, first=10)
    taught.jobs.left_overs(KEY, tasks)
    delete(taught)
    assert taught.work() == ["left_overs", "left_overs"]
    assert taught.jobs.depths()["predictions"] == 0


def test_why_is_not_measured_on_a_task_of_another_project_that_has_the_number_now(taught: Stage) -> None:
    taught.approve(2)
    (task,) = taught.blobs(1, first=10)
    taught.predict(task)
    taught.backend.why.ask(KEY, task)
    taught.label_studio.projects[taught.project]["created_at"] = "2026-02-02T00:00:00Z"
    taught.backend.why.measure(KEY, lambda: None)
    _, known = taught.backend.why.of(KEY, task)
    assert "no longer what Label Studio has under number 1" in known[taught.target].reason


GONE = "'Project 1' is no longer in Label Studio; its examples stay in the store, unused"


def test_doctor_notes_in_one_line_that_a_project_is_gone(taught: Stage) -> None:
    """It was an error without a remedy, for ever, beside a warning that the worker cannot look at it."""
    delete(taught)
    for _before_and_after_the_worker_knows in range(2):
        findings = examine(taught.settings, segmenter=taught.backend.segmenter)
        note = Finding("note", f"project {KEY}", GONE)
        assert [finding for finding in findings if KEY in str(finding)] == [note]
        assert about(taught) == about(taught, taught.project) == [note]
        look(taught)


def test_a_project_without_a_title_that_is_gone_is_noted_by_its_key(stage: Stage) -> None:
    stage.backend.store.put_label_config("99.1700000000", "<View/>", "f")
    assert about(stage) == [Finding("note", "project 99.1700000000", GONE.replace("'Project 1'", "it"))]


def test_the_page_shows_what_is_gone_apart_from_what_may_need_somebody(taught: Stage) -> None:
    delete(taught)
    shown = unescape(taught.client.get("/doctor").text)
    needing, _, rest = shown.partition("<h2>To know</h2>")
    assert f"<strong>Note: project {KEY}.</strong> {GONE}" in rest.partition("<h2>What is well</h2>")[0]
    assert "Project 1" not in needing


def test_two_projects_that_had_one_number_are_examined_once(taught: Stage) -> None:
    """All that was found of the number was said twice, and nothing of the one that is gone."""
    taught.label_studio.projects[taught.project]["created_at"] = "2026-02-02T00:00:00Z"
    taught.setup()
    first, *others = about(taught)
    assert first == Finding("note", f"project {KEY}", GONE)
    assert len(others) == len(set(others)) > 1


def test_a_project_that_was_never_seen_is_examined_where_somebody_asks_for_it(taught: Stage) -> None:
    """It has the number of one that is gone. That it is not connected to this backend is no fault by itself."""
    taught.label_studio.projects[taught.project]["created_at"] = "2026-02-02T00:00:00Z"
    assert [finding.level for finding in about(taught)] == ["note"]
    assert "not connected" in str(about(taught, taught.project))


def test_doctor_ends_well_where_a_project_is_gone(
    run: Run, taught: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete(taught)
    monkeypatch.setenv("LABEL_STUDIO_URL", taught.label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", taught.label_studio.legacy_token)
    monkeypatch.setenv("PORT", "1")  # where nothing listens, which is a warning
    code, out, _ = run("doctor", "--data-dir", str(taught.settings.data_dir))
    assert code == 0
    assert "note" in out
    assert GONE in out
