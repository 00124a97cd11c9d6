"""Half a character (a lone surrogate) in a body: what uses that text suffers, and nothing else."""

import json
import logging
from typing import Any

import pytest

from tests.backend.stage import Stage, blob, brush

HALF = "\ud800"


def posted(stage: Stage, path: str, body: dict[str, Any]) -> Any:
    return stage.client.post(
        path, content=json.dumps(body)
    )  # which writes it as an escape, as Label Studio does


@pytest.mark.parametrize("where", ["address", "other text", "name of a field", "whole task"])
def test_of_a_batch_only_the_task_with_half_a_character_suffers(stage: Stage, where: str) -> None:
    """The whole request was refused with 422: its other tasks, too, got nothing."""
    stage.segment_by_colour()
    stage.approve(1)
    first, second = (stage.label_studio.tasks[task] for task in stage.blobs(2, first=2))
    spoilt: dict[str, Any] = {
        "address": {**first, "data": {"image": f"/data/{HALF}.png"}},
        "other text": {**first, "data": {**first["data"], "text": HALF}},
        "name of a field": {**first, "data": {**first["data"], HALF: 1}},
        "whole task": {"id": HALF, HALF: [HALF]},
    }[where]
    answer = posted(stage, "/predict", {"tasks": [spoilt, second], "project": stage.key})
    assert answer.status_code == 200
    readable = where in {"other text", "name of a field"}
    assert [bool(item) for item in answer.json()["results"]] == [readable, True]


@pytest.mark.parametrize("field", ["project", "schema", "hostname", "access_token"])
def test_elsewhere_it_is_refused_by_the_field_s_name(stage: Stage, field: str) -> None:
    answer = posted(stage, "/setup", {"project": stage.key, field: f"<View>{HALF}"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"body.{field}: ")
    assert "half a character" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["tunings", "tasks/{task}/why"])
def test_a_target_s_name_is_refused(stage: Stage, path: str) -> None:
    """The answer that there is no such target named it, which no answer can: 500."""
    stage.segment_by_colour()
    stage.approve(1)
    (task,) = stage.blobs(1, first=2)
    stage.predict(task)
    address = f"/api/projects/{stage.key}/{path.format(task=task)}"
    content = json.dumps({"targets": [HALF]})
    answer = stage.client.post(address, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "spoilt",
    [
        {"task": {"data": {"text": HALF}}},
        {"annotation": {"unique_id": HALF}},
        {"project": {"title": HALF}},
        {HALF: HALF},
    ],
    ids=["task", "annotation", "project", "name of a field"],
)
def test_an_approval_with_half_a_character_beside_it_is_learned(
    stage: Stage, caplog: pytest.LogCaptureFixture, spoilt: dict[str, Any]
) -> None:
    """The event was refused with 422, and the approval was not known until the next reconcile."""
    caplog.set_level(logging.INFO)
    image, mask = blob(1)
    annotation = stage.submit(stage.upload(image), brush(mask), tell=False)
    row = stage.label_studio.annotations[annotation]
    task = stage.label_studio.tasks[row["task"]]
    body = {
        "action": "ANNOTATION_CREATED",
        "annotation": row,
        "task": task,
        "project": stage.label_studio.projects[stage.project],
    }
    for name, change in spoilt.items():
        old = body.get(name)
        merged = {**old, **change} if isinstance(old, dict) else change
        body[name] = {**merged, "data": {**task["data"], **change["data"]}} if name == "task" else merged
    assert posted(stage, "/webhook", body).status_code == 201
    stage.work()
    assert stage.pool == [annotation]
    assert not [record for record in caplog.records if record.exc_info]


def test_what_is_no_json_besides_is_refused_as_ever(stage: Stage) -> None:
    for body in (
        b'{"tasks": [{"a": "\\ud800"}, ' + b"[" * 100_000,
        b'{"tasks": [{"a": "\\ud800"}, {"n": ' + b"9" * 5000 + b"}]}",
        b'{"tasks": [{"a": "\\ud800"}, 0]}',
        b'{"tasks": [{"a": "\\ud8',
    ):
        answer = stage.client.post("/predict", content=body)
        assert answer.status_code == 422
        assert len(answer.content) < 300
    answer = stage.client.post("/webhook", content=b'{"action": "\\ud800", ' + b"[" * 100_000)
    assert answer.status_code == 422
