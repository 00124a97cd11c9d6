"""The admin API on figures, and on predicting anew."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.backend.stage import Stage, blob, brush

Staging = Callable[..., Stage]


def figures(stage: Stage) -> Any:
    answer = stage.client.get(f"/api/projects/{stage.key}/figures")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_before_anything_was_submitted_nothing_is_told(stage: Stage) -> None:
    stage.setup()
    shown = figures(stage)
    assert (shown["kept"], shown["kept_count"]) == ([], 0)
    (outlook,) = shown["outlooks"]
    assert (outlook["label"], outlook["verdict"], outlook["gain"]) == ("cell", "too early", None)
    assert shown["saving"]["hours"] is None


def test_submissions_are_told_with_what_follows_from_them(stage: Stage) -> None:
    stage.segment_by_colour()
    for seed in range(5):
        stage.approve(seed, lead_time=100.0)
    for seed in range(20, 32):
        image, mask = blob(seed)
        task = stage.upload(image)
        (prediction,) = stage.predict(task)
        region = {**brush(mask), "origin": "prediction"}
        stage.submit(task, region, lead_time=10.0)
        stage.work()
    shown = figures(stage)
    assert (shown["kept_count"], len(shown["kept"])) == (12, 12)
    assert [row["iou"] for row in shown["kept"]] == pytest.approx([1.0] * 12)
    last = shown["kept"][-1]
    assert (last["task"], last["target"], last["revision"]) == (
        task,
        stage.target,
        prediction["model_version"],
    )
    (outlook,) = shown["outlooks"]
    assert (outlook["count"], outlook["verdict"]) == (12, "stop")
    saving = shown["saving"]
    assert (saving["without"], saving["with_"]) == (5, 12)
    assert saving["hours"] == pytest.approx(12 * 90 / 3600)


def test_tasks_are_predicted_anew_by_the_worker(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    (task,) = stage.blobs(1, first=50)
    answer = stage.client.post(f"/api/projects/{stage.key}/refresh")
    assert (answer.status_code, answer.json()) == (202, {"revision": stage.setup()})
    assert set(stage.work()) == {"pre_annotate"}
    (state,) = [
        row for row in stage.client.get(f"/api/projects/{stage.key}/tasks").json() if row["task"] == task
    ]
    assert state["status"] == "done"


@pytest.mark.parametrize(
    ("fields", "approved", "said"),
    [
        ({"connected": False}, True, "LABEL_STUDIO_URL"),
        ({"pre_annotate": "off"}, True, "PRE_ANNOTATE"),
        ({}, False, "Nothing has been approved"),
    ],
    ids=["no Label Studio", "off", "nothing approved"],
)
def test_why_nothing_can_be_predicted_anew_is_said(
    staging: Staging, fields: dict[str, Any], approved: bool, said: str
) -> None:
    known = staging()
    known.setup()
    if approved:
        known.approve(1)
    stage = staging(**fields)
    answer = stage.client.post(f"/api/projects/{stage.key}/refresh")
    assert answer.status_code == 409
    assert said in answer.json()["detail"]
