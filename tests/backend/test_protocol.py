"""The wire format: what Label Studio sends is read in whatever shape it comes, and secrets are left behind."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backend.protocol import (
    PredictRequest,
    SetupRequest,
    as_list,
    ids_of,
    is_project_key,
    kept_of_event,
    parse_time,
    project_key,
)

RECORDED = Path(__file__).parents[1] / "fixtures" / "label_studio"
REGION = {"id": "a", "type": "keypointlabels"}


def recorded(name: str) -> dict[str, Any]:
    body = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))["requests"][0]["body"]
    assert isinstance(body, dict)
    return body


def test_the_webhook_s_project_is_named_as_setup_names_it() -> None:
    asked = SetupRequest.model_validate(recorded("02_setup"))
    told = recorded("12_webhook_ANNOTATION_CREATED")["project"]
    assert project_key(told) == asked.project == "1.1795435256"


@pytest.mark.parametrize(
    ("project", "key"),
    [
        (None, None),
        ([], None),
        ({}, None),
        ({"id": "1"}, None),
        ({"id": True, "created_at": "2026-11-23T12:00:56Z"}, None),
        ({"id": 7}, "7"),
        ({"id": 7, "created_at": "no time"}, "7"),
        ({"id": 7, "created_at": 12}, "7"),
        ({"id": 7, "created_at": "0001-01-01T00:00:00"}, "7"),
        ({"id": 7, "created_at": "2026-11-23T12:00:56.999Z"}, "7.1795435256"),
        ({"id": 7, "created_at": "2026-11-23T14:00:56.999+02:00"}, "7.1795435256"),
    ],
    ids=str,
)
def test_a_project_without_its_time_is_named_by_its_number_and_one_without_a_number_not_at_all(
    project: Any, key: str | None
) -> None:
    assert project_key(project) == key


@pytest.mark.parametrize("text", ["1.1795435256", "12.0"])
def test_a_project_key_is_a_number_a_dot_and_a_second(text: str) -> None:
    assert is_project_key(text)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.", ".5", "a.b", "1.2.3", "-1.5", "1.-5", "\u0661.\u0662", "1.5\n", "True.5", None, 1.5],
)
def test_what_is_no_project_key_is_told_apart(text: Any) -> None:
    assert not is_project_key(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T12:00:56.5Z", 1795435256.5),
        ("2026-11-23T12:00:56+00:00", 1795435256.0),
        ("yesterday", None),
        (None, None),
        (5, None),
    ],
    ids=str,
)
def test_a_time_is_read_as_unix_seconds(text: Any, seconds: float | None) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("value", [True, False])
def test_setup_and_predict_read_a_project_that_comes_as_a_number(value: bool) -> None:
    assert SetupRequest.model_validate({"project": 7}).project == "7"
    assert PredictRequest.model_validate({"tasks": [], "project": 7.5}).project == "7.5"


def test_setup_reads_missing_and_null_fields_as_empty() -> None:
    missing, null = (
        SetupRequest.model_validate({}),
        SetupRequest.model_validate(
            {"project": None, "schema": None, "hostname": None, "access_token": None}
        ),
    )
    assert missing == null
    assert (missing.project, missing.label_config, missing.hostname, missing.access_token) == (
        None,
        "",
        "",
        "",
    )


def test_a_setup_request_never_shows_its_token() -> None:
    assert "secret" not in repr(SetupRequest.model_validate({"access_token": "secret"}))


@pytest.mark.parametrize(
    "params",
    [None, {}, {"context": None}, {"context": {}}, {"context": {"result": []}}, {"context": {"result": None}},
     {"context": [REGION]}, {"context": {"result": ["text", None]}}],
    ids=str,
)  # fmt: skip
def test_a_request_without_regions_in_its_context_is_an_ordinary_one(params: Any) -> None:
    assert PredictRequest.model_validate({"tasks": [], "params": params}).interaction == []
    assert PredictRequest.model_validate({"tasks": []}).interaction == []


def test_the_regions_of_an_interactive_request_are_its_interaction() -> None:
    request = PredictRequest.model_validate({"tasks": [], "params": {"context": {"result": [REGION, 3]}}})
    assert request.interaction == [REGION]
    browser = PredictRequest.model_validate(recorded("50_browser_keypoint_first"))
    assert [region["type"] for region in browser.interaction] == ["keypointlabels"]


@pytest.mark.parametrize("body", [{}, {"tasks": None}, {"tasks": [1]}, {"tasks": {}}], ids=str)
def test_a_request_without_tasks_is_refused(body: Any) -> None:
    with pytest.raises(ValidationError):
        PredictRequest.model_validate(body)


def test_what_is_kept_of_an_event_holds_no_secret_and_all_that_teaches() -> None:
    body = recorded("12_webhook_ANNOTATION_CREATED")
    body["project"] |= {"token": "invite", "task_data_login": "login", "task_data_password": "password"}
    kept = kept_of_event(body)
    assert set(kept) == {"annotation", "task", "project"}
    assert kept["annotation"] == body["annotation"]
    assert set(kept["project"]) == {"id", "created_at", "label_config", "title"}


def test_an_event_without_a_project_keeps_what_it_has() -> None:
    assert kept_of_event({"action": "X", "tasks": [1], "project": 5, "task": None}) == {"tasks": [1]}


@pytest.mark.parametrize(
    ("value", "items", "ids"),
    [
        (None, [], []),
        ("text", [], []),
        ({"id": 1}, [{"id": 1}], [1]),
        ({"id": "1"}, [{"id": "1"}], []),
        ([{"id": 1}, {"id": 2}, {}, "x", None], [{"id": 1}, {"id": 2}, {}], [1, 2]),
        ([4, 5], [], [4, 5]),
        ([True, {"id": False}], [{"id": False}], []),
    ],
    ids=str,
)
def test_one_object_a_list_of_objects_and_bare_ids_are_read_alike(value: Any, items: Any, ids: Any) -> None:
    assert as_list(value) == items
    assert ids_of(value) == ids
