"""Why this mask: who asks, who works, and what the page shows of what was measured."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from backend.pre_annotation import PREDICTING
from tests.backend.stage import Stage
from tests.backend.test_page import press, said, show
from tests.backend.test_why_measured import Counted, api, average, measured, taught
from tests.backend.test_zoom import look_by_colour
from tests.backend.test_zoom import taught as small_objects

Staging = Callable[..., Stage]


# -- who asks, who works -------------------------------------------------------------------------------------------
def test_what_is_not_there_is_refused(stage: Stage) -> None:
    stage.segment_with(average)
    task = taught(stage)
    for method in ("GET", "POST"):
        assert "Nothing was predicted for task 4711" in api(stage, 4711, method, 404)["detail"]
        api(stage, 0, method, 422)
        assert stage.client.request(method, f"/api/projects/999/tasks/{task}/why").status_code == 404
    assert (
        "tag/image/none" in api(stage, task, "POST", 404, targets=[stage.target, "tag/image/none"])["detail"]
    )
    api(stage, task, "POST", 422, targets=[])
    api(stage, task, "POST", 422, target=stage.target)
    assert not stage.backend.store.note(f"why:{stage.key}"), "nothing waits"
    assert stage.jobs.tuning.pending_count() == 0


def test_without_label_studio_the_picture_cannot_be_read_again(staging: Staging) -> None:
    connected = staging()
    connected.segment_with(average)
    task = taught(connected)
    away = staging(connected=False)
    assert "LABEL_STUDIO_URL" in api(away, task, "POST", 409)["detail"]
    shown = show(away, f"/tasks/{task}")
    assert "LABEL_STUDIO_URL" in shown
    assert "/why" not in shown
    assert measured(connected, task)["status"] == "measured"
    assert api(away, task)["masks"][0]["status"] == "measured", "what is known is shown there too"


def test_requests_go_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(stage)
    task = taught(stage)
    api(stage, task, "POST", 202)
    counted.made.clear()
    stage.backend.store.acquire(f"{PREDICTING}1", "a request", 3600)
    waited: list[int] = []

    def wait(_seconds: float) -> bool:
        waited.append(len(counted.made))
        if len(waited) == 3:
            stage.backend.store.release(f"{PREDICTING}1", "a request")
        return False

    monkeypatch.setattr(stage.jobs.stopping, "wait", wait)
    assert stage.tune() == ["measure"]
    assert waited == [0, 0, 0]
    assert api(stage, task)["masks"][0]["status"] == "measured"


def test_what_a_worker_that_was_killed_keeps_busy_is_waited_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.segment_with(average)
    task = taught(stage)
    lease = f"changing:why:{stage.key}"
    assert stage.backend.store.acquire(lease, "the dead", 3600)
    clock = itertools.count()

    def sleep(_seconds: float) -> None:
        if next(clock) > 10:  # a second each time: what it held is free after ten
            stage.backend.store.release(lease, "the dead")

    time = SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=sleep)
    monkeypatch.setattr("backend.store.leases.time", time)
    api(stage, task, "POST", 202)


def test_what_a_worker_left_is_taken_up_again(stage: Stage) -> None:
    counted = Counted(stage)
    task = taught(stage)
    api(stage, task, "POST", 202)
    counted.made.clear()
    stage.jobs.stopping.set()
    assert stage.tune() == ["measure"]
    assert counted.made == []
    stage.jobs.stopping.clear()
    assert api(stage, task)["masks"][0]["status"] == "waiting"
    for _ in range(2):
        stage.jobs.look()
        stage.work()
    assert stage.tune() == ["measure"], "one, however often it was looked at"
    assert api(stage, task)["masks"][0]["status"] == "measured"


def test_while_another_worker_measures_this_one_does_not(stage: Stage) -> None:
    counted = Counted(stage)
    task = taught(stage)
    api(stage, task, "POST", 202)
    counted.made.clear()
    stage.backend.store.acquire(f"why:{stage.key}", "another worker", 3600)
    stage.backend.why.measure(stage.key, lambda: None)
    assert counted.made == []
    stage.backend.store.release(f"why:{stage.key}", "another worker")
    before: list[int] = []
    stage.backend.why.measure(stage.key, lambda: before.append(len(counted.made)))
    assert before == list(range(8)), "before each mask it is asked whether to go on"


def test_there_are_nearer_looks_where_the_prediction_had_them(staging: Staging) -> None:
    """Else the mask made again would be another one than was shown, and there would be no figures."""
    stage = staging(edges="off")
    asked = look_by_colour(stage)
    _, task, _ = small_objects(stage)
    stage.predict(task)
    looks = len(asked) - 1
    assert looks > 1
    api(stage, task, "POST", 202)
    asked.clear()
    stage.backend.why.measure(stage.key, lambda: None)
    assert api(stage, task)["masks"][0]["status"] == "measured"
    assert len(asked) == 3 + looks, "one example alone is looked at on the whole"


# -- the page ------------------------------------------------------------------------------------------------------
def test_the_page_measures_by_a_form_and_shows_what_each_did(stage: Stage) -> None:
    stage.segment_with(average)
    task = taught(stage, wrong=[2])
    page = f"/tasks/{task}"
    assert "data-refresh" not in show(stage, page)
    shown = press(stage, f"{page}/why", on=page)
    assert "The measuring is queued" in said(shown)
    assert "data-refresh" in shown
    assert '<noscript><meta http-equiv="refresh"' in shown
    assert 'id="measure"' not in shown
    stage.tune()
    shown = show(stage, f"{page}?done=measuring")
    assert "queued" not in said(shown)
    assert "refresh" not in shown
    assert 'id="measure"' not in shown
    parts = api(stage, task)["masks"][0]["parts"]
    told = [
        f"{round(100 * part['share'])} % measured. Without it, the mask would differ by "
        f"{round(100 * part['without'])} %. What it finds alone agrees with the mask by {round(100 * part['alone'])} %."
        for part in parts
    ]
    assert len(set(told)) == 2
    for line in told:
        assert said(shown).count(line) == told.count(line)
    assert said(shown).count("33 % Task") == 3, "its part in the average stands there as before"


def test_where_none_is_needed_more_than_another_no_share_is_shown(stage: Stage) -> None:
    """By equal shares of nothing, an example that finds nothing alone would have done as much as the others."""
    stage.segment_with(average)
    task = taught(stage)
    press(stage, f"/tasks/{task}/why", on=f"/tasks/{task}")
    stage.tune()
    shown = said(show(stage, f"/tasks/{task}"))
    assert "none of them is needed more than another" in shown
    assert shown.count("Without it, the mask would differ by 0 %") == 3
    assert "% measured" not in shown


def test_of_a_task_that_was_forgotten_nothing_waits(stage: Stage) -> None:
    stage.segment_with(average)
    task = taught(stage)
    press(stage, f"/tasks/{task}/why", on=f"/tasks/{task}")
    stage.backend.store.forget_tasks(stage.key, [task])
    assert "Nothing was predicted for this task" in said(show(stage, f"/tasks/{task}"))
    assert stage.tune() == ["measure"]
    assert not stage.backend.store.note(f"why:{stage.key}")
