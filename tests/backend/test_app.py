"""The protocol over HTTP: every recorded request is answered, errors have a status."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from backend import errors
from backend.app import KNOWN_ACTIONS, create_app
from backend.pre_annotation import PREDICTING
from backend.refusals import STATUS_OF
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, blob, brush, png

RECORDED = Path(__file__).parents[1] / "fixtures" / "label_studio"
REQUESTS = [
    (f"{file.stem} {number}", request)
    for file in sorted(RECORDED.glob("*.json"))
    for number, request in enumerate(json.loads(file.read_text(encoding="utf-8")).get("requests", []))
]
TAUGHT = {
    "ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "ANNOTATION_DELETED",
    "TASKS_DELETED",
}  # fmt: skip


def families(error: type[Exception]) -> Iterator[type[Exception]]:
    yield error
    for kind in error.__subclasses__():
        yield from families(kind)


# -- what Label Studio sends ---------------------------------------------------------------------------------------
@pytest.fixture
def recorded_project(stage: Stage) -> Stage:
    """The project of the recorded requests, whose pictures are there, with one approved mask."""
    fake = stage.label_studio
    fake.projects[stage.project]["created_at"] = "2026-11-23T12:00:56.093637Z"
    for file in RECORDED.glob("*.json"):
        for path in set(json.dumps(json.loads(file.read_text(encoding="utf-8"))).split('"')):
            if path.startswith("/data/upload/"):
                fake.uploads[path] = Answer(200, png(blob(3, 256, 256)[0]))
    fake.tasks[1000] = {"id": 1000, "project": stage.project, "data": {}, "updated_at": ""}
    stage.approve(1)
    return stage


def test_every_recorded_request_is_answered_as_label_studio_wants_it(
    recorded_project: Stage, subtests: pytest.Subtests
) -> None:
    stage = recorded_project
    for name, request in REQUESTS:
        with subtests.test(name):
            answer = stage.client.request(request["method"], request["path"], json=request.get("body"))
            assert 200 <= answer.status_code < 300, answer.text
            body = answer.json()
            if request["path"] == "/predict":
                assert len(body["results"]) == len(request["body"]["tasks"]) > 0
                ours = request["body"]["project"] == stage.key
                pointed_at = (request["body"]["params"]["context"] or {}).get("result")
                assert pointed_at or all(isinstance(item, dict) == ours for item in body["results"])
                assert all(item["model_version"] == body["model_version"] for item in body["results"] if item)
            elif request["path"] == "/setup":
                assert body["model_version"] in stage.client.get("/versions").json()["versions"]
            elif request["path"] == "/webhook":
                assert (answer.status_code, body) == (201, {"status": "stored"})
    assert len(REQUESTS) > 40


def test_every_recorded_event_is_one_that_is_known() -> None:
    recorded = {request["body"]["action"] for _, request in REQUESTS if request["path"] == "/webhook"}
    assert len(recorded) >= 8
    assert recorded <= KNOWN_ACTIONS
    assert TAUGHT < KNOWN_ACTIONS


def test_an_unknown_event_is_refused_by_name_and_not_stored(stage: Stage) -> None:
    answer = stage.event("SOMETHING_NEW")
    assert answer.json() == {"status": "ignored", "reason": "unknown action"}
    assert stage.backend.store.pending_events() == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "no action"),
        ([], "no action"),
        (None, "no action"),
        ({"action": 3}, "no action"),
        ({"action": "START_TRAINING"}, "no project that is known"),
        ({"action": "START_TRAINING", "project": {"id": 77}}, "no project that is known"),
        (
            {"action": "START_TRAINING", "project": {"id": -7, "created_at": "2026-01-01T00:00:00Z"}},
            "no project that is known",
        ),
    ],
    ids=str,
)
def test_an_event_that_cannot_be_placed_is_acknowledged_and_ignored(
    stage: Stage, body: Any, reason: str
) -> None:
    answer = stage.client.post("/webhook", json=body)
    assert answer.status_code == 201
    assert answer.json() == {"status": "ignored", "reason": reason}


def test_an_event_is_stored_before_it_is_acknowledged_and_applied_by_the_worker(stage: Stage) -> None:
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask))
    (event,) = stage.backend.store.pending_events()
    assert event.action == "ANNOTATION_CREATED"
    assert stage.pool == []
    assert stage.work()[0] == "learn"
    assert len(stage.pool) == 1


def test_an_event_that_cannot_be_stored_is_not_acknowledged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> int:
        raise errors.StoreError("The disk is full.", remedy="Make room.")

    monkeypatch.setattr(stage.backend.store, "add_event", broken)
    answer = stage.client.post(
        "/webhook", json={"action": "START_TRAINING", "project": stage.label_studio.projects[1]}
    )
    assert (answer.status_code, answer.json()) == (503, {"detail": "The disk is full. Make room."})


def test_an_event_without_the_project_s_time_belongs_to_the_project_seen_under_its_number(
    stage: Stage,
) -> None:
    stage.setup()
    answer = stage.client.post("/webhook", json={"action": "TASKS_CREATED", "project": {"id": stage.project}})
    assert answer.json() == {"status": "stored"}
    assert stage.backend.store.pending_events()[0].project == stage.key


def test_start_training_compares_with_label_studio(stage: Stage) -> None:
    stage.approve(1)
    annotation = stage.submit(stage.upload(blob(2)[0]), brush(blob(2)[1]), tell=False)
    stage.event("START_TRAINING")
    stage.work()
    assert annotation in stage.pool


# -- setup, predict, versions --------------------------------------------------------------------------------------
def test_setup_answers_what_the_predictions_then_carry(stage: Stage) -> None:
    stage.segment_by_colour()
    for seed in range(3):
        stage.approve(seed)
        (prediction,) = stage.predict(*stage.blobs(1, first=7))
        assert prediction["model_version"] == stage.setup()


def test_setup_says_which_label_config_it_cannot_read(stage: Stage) -> None:
    answer = stage.client.post("/setup", json={"project": stage.key, "schema": "<View"})
    assert answer.status_code == 422
    assert "labeling config" in answer.json()["detail"]


def test_setup_of_a_project_with_nothing_for_us_connects_and_predicts_nothing(stage: Stage) -> None:
    config = (
        '<View><Text name="t" value="$t"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'
    )
    stage.label_studio.projects[stage.project]["label_config"] = config
    assert stage.setup().endswith("-r0")
    assert stage.predict(*stage.blobs(2)) == [[], []]


@pytest.mark.parametrize("project", ["abc.def", "1.x", "-1.5", "77", "", None])
def test_a_project_that_is_named_in_no_known_way_is_answered_and_leaves_no_trace(
    stage: Stage, project: str | None
) -> None:
    """Such a key was stored once, and every later look at the projects failed at its number."""
    body = {"project": project, "schema": stage.label_studio.projects[stage.project]["label_config"]}
    assert stage.client.post("/setup", json=body).status_code == 200
    answer = stage.client.post("/predict", json={"tasks": [{"id": 1}], "project": project})
    assert answer.json()["results"] == [[]]
    assert stage.backend.store.projects() == []
    stage.jobs.look()
    stage.work()


def test_without_a_project_the_versions_are_the_first_one(stage: Stage) -> None:
    (version,) = stage.client.get("/versions").json()["versions"]
    assert version == f"seggpt-{stage.backend.checkpoint}-r0"


def test_a_request_that_does_not_fit_names_the_field(stage: Stage) -> None:
    answer = stage.client.post("/predict", json={"tasks": "all"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("body.tasks: ")
    assert "all" not in answer.json()["detail"]  # what came in is not sent back


def test_tasks_without_an_id_get_nothing_and_shift_nobody(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    (task,) = stage.blobs(1, first=2)
    rows = [{}, stage.label_studio.tasks[task], {"id": "x"}, {"id": None}]
    answer = stage.client.post("/predict", json={"tasks": rows, "project": stage.key})
    assert [bool(item) for item in answer.json()["results"]] == [False, True, False, False]


def test_while_a_request_is_answered_background_work_is_told_and_afterwards_no_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.approve(1)
    seen = []
    really = stage.backend.predictor.predict

    def predict(*arguments: Any, **options: Any) -> Any:
        seen.append(stage.backend.store.held(PREDICTING))
        return really(*arguments, **options)

    monkeypatch.setattr(stage.backend.predictor, "predict", predict)
    stage.predict(*stage.blobs(1, first=2))
    assert seen == [True]
    assert not stage.backend.store.held(PREDICTING)


def test_who_waited_for_a_turn_has_less_time_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline began only once the request had its turn: behind others, the answer came after a proxy's 60 s."""
    stage.approve(1)
    deadlines = []
    really = stage.backend.predictor.predict

    def predict(snapshot: Any, tasks: Any, deadline: float, **options: Any) -> Any:
        deadlines.append(deadline)
        return really(snapshot, tasks, deadline, **options)

    monkeypatch.setattr(stage.backend.predictor, "predict", predict)
    moments = iter(range(100, 200))

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return float(next(moments))

        @staticmethod
        def time() -> float:
            return 0.0

    monkeypatch.setattr("backend.app.time", Clock)
    stage.predict(*stage.blobs(1, first=2))
    assert deadlines == [100 + stage.settings.predict_deadline]


def test_many_waiting_predictions_hold_up_neither_health_nor_setup_nor_events(stage: Stage) -> None:
    """More of them than the server has threads; each would take one for itself."""
    stage.approve(1)
    (task,) = stage.blobs(1, first=2)
    version, go_on, begun = stage.setup(), threading.Event(), threading.Event()

    def segment(queries: Any) -> Any:
        begun.set()
        assert go_on.wait(600)
        return [np.ones(query.image.shape[:2], np.float32) for query in queries]

    stage.segment_with(segment)
    with stage.client, ThreadPoolExecutor(60) as people:
        try:
            waiting = [people.submit(stage.ask, task) for _ in range(50)]
            assert begun.wait(300)
            for look in (
                lambda: stage.client.get("/health").json()["status"] == "UP",
                lambda: stage.setup() == version,
                lambda: stage.event("TASKS_CREATED").json() == {"status": "stored"},
                lambda: stage.client.get("/versions").status_code == 200,
            ):
                assert people.submit(look).result(300)
            assert not any(request.done() for request in waiting)
        finally:
            go_on.set()
        assert {len(request.result(300).json()["results"]) for request in waiting} == {1}


# -- errors --------------------------------------------------------------------------------------------------------
def test_every_error_has_a_status() -> None:
    assert set(families(errors.BackendError)) == set(STATUS_OF)


@pytest.mark.parametrize("kind", STATUS_OF, ids=lambda kind: kind.__name__)
def test_an_error_is_answered_with_its_sentence_and_status(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: type[errors.BackendError]
) -> None:
    def broken(*_: Any) -> Any:
        raise kind("This went wrong.", remedy="Do that.")

    monkeypatch.setattr(stage.backend.store, "projects", broken)
    answer = stage.client.get("/versions")
    assert (answer.status_code, answer.json()) == (STATUS_OF[kind], {"detail": "This went wrong. Do that."})


def test_without_the_password_nothing_but_health_and_metrics_is_answered(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(basic_auth_user="label", basic_auth_pass="studio")  # noqa: S106
    asked = [("GET", "/versions"), ("POST", "/setup"), ("POST", "/predict"), ("POST", "/webhook")]
    for headers in ({}, {"Authorization": "Basic bGFiZWw6d3Jvbmc="}, {"Authorization": "Bearer x"}):
        for method, path in asked:
            answer = stage.client.request(method, path, json={"tasks": []}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Basic"
            assert "BASIC_AUTH_USER" in answer.json()["detail"]
    right = {"Authorization": "Basic " + base64.b64encode(b"label:studio").decode()}
    for method, path in asked:
        assert stage.client.request(method, path, json={"tasks": []}, headers=right).status_code < 300
    assert stage.client.get("/health").status_code == 200
    assert stage.client.get("/metrics").status_code == 200


def test_a_password_with_an_umlaut_is_accepted_as_label_studio_sends_it(
    staging: Callable[..., Stage],
) -> None:
    """It sends by `requests`, which writes Latin-1."""
    stage = staging(basic_auth_user="label", basic_auth_pass="Schlüssel")  # noqa: S106
    for form in ("latin-1", "utf-8"):
        right = {"Authorization": "Basic " + base64.b64encode("label:Schlüssel".encode(form)).decode()}
        assert stage.client.get("/versions", headers=right).status_code == 200
    wrong = {"Authorization": "Basic " + base64.b64encode(b"label:Schluessel").decode()}
    assert stage.client.get("/versions", headers=wrong).status_code == 401


def test_what_learned_is_told_is_each_setup_s_host_and_token(stage: Stage) -> None:
    told: list[tuple[str, str]] = []
    app = create_app(stage.backend, stage.jobs, learned=lambda host, token: told.append((host, token)))
    with TestClient(app) as client:
        client.post("/setup", json={"hostname": "http://studio", "access_token": "t"})
    assert told == [("http://studio", "t")]
