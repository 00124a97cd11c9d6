"""The admin API: who may ask, and what it tells."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from backend.app import create_app
from tests.backend.stage import Stage, blob, brush


def pages(stage: Stage) -> list[str]:
    project = f"/api/projects/{stage.key}"
    return [
        "/api/projects",
        project,
        f"{project}/examples",
        f"{project}/tasks",
        f"{project}/tasks/1/predictions",
    ]


def test_without_a_token_only_this_machine_may_ask(stage: Stage) -> None:
    stage.setup()
    for host, status in (("127.0.0.1", 200), ("::1", 200), ("10.0.0.9", 403), ("studio", 403)):
        client = TestClient(create_app(stage.backend, stage.jobs), client=(host, 1))
        assert {client.get(page).status_code for page in pages(stage)} == {status}


def test_with_a_token_who_has_it_may_ask_from_anywhere(staging: Callable[..., Stage]) -> None:
    stage = staging(admin_token="word")  # noqa: S106
    stage.setup()
    client = TestClient(create_app(stage.backend, stage.jobs), client=("10.0.0.9", 1))
    for headers, status in (({}, 401), ({"Authorization": "Bearer other"}, 401), ({"Authorization": "word"}, 401),
                            ({"Authorization": "Bearer word"}, 200)):  # fmt: skip
        assert {client.get(page, headers=headers).status_code for page in pages(stage)} == {status}
    assert "ADMIN_TOKEN" in client.get("/api/projects").json()["detail"]


def test_a_project_that_was_never_seen_is_not_there(stage: Stage) -> None:
    for page in pages(stage)[1:]:
        answer = stage.client.get(page)
        assert answer.status_code == 404
        assert "/api/projects" in answer.json()["detail"]
    assert stage.client.get("/api/projects").json() == []


def test_the_admin_api_tells_what_is_known_of_a_project(stage: Stage) -> None:
    stage.segment_by_colour()
    annotation = stage.approve(1)
    image, mask = blob(2)
    task = stage.upload(image)
    (prediction,) = stage.predict(task)
    project, all_, examples, tasks, _ = pages(stage)
    shown = stage.client.get(all_).json()
    assert stage.client.get(project).json() == [shown]
    assert shown["project"] == stage.key
    assert shown["revision"] == prediction["model_version"]
    assert (shown["approvals"], shown["kept_iou"]) == (1, {"count": 0, "mean": None})
    assert shown["targets"] == [
        {"target": stage.target, "control": "tag", "image": "image", "label": "cell", "examples": 1}
    ]
    (example,) = stage.client.get(examples).json()
    assert (example["annotation"], example["label"], example["kind"]) == (annotation, "cell", "drawn")
    (predicted,) = stage.client.get(f"{all_}/tasks/{task}/predictions").json()
    assert predicted["context"] == {stage.target: [example["key"]]}
    assert (predicted["pushed"], predicted["score"]) == (None, prediction["score"])
    state = {row["task"]: row for row in stage.client.get(tasks).json()}[task]
    assert (state["status"], state["reason"], state["revision"]) == ("done", "answered", shown["revision"])
    stage.submit(task, brush(mask))
    stage.work()
    assert stage.client.get(all_).json()["kept_iou"] == {"count": 1, "mean": 1.0}


def test_an_example_of_a_label_that_is_gone_from_the_config_is_shown_without_its_name(stage: Stage) -> None:
    stage.approve(1)
    projects = stage.label_studio.projects
    projects[stage.project]["label_config"] = projects[stage.project]["label_config"].replace("cell", "other")
    stage.setup()
    (example,) = stage.client.get(pages(stage)[2]).json()
    assert (example["label"], example["target"]) == (None, stage.target)


@pytest.mark.parametrize("task", ["x", "1e3"])
def test_a_task_is_named_by_its_number(stage: Stage, task: str) -> None:
    assert stage.client.get(f"/api/projects/{stage.key}/tasks/{task}/predictions").status_code == 422
