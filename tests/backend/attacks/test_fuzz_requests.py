"""Requests of Label Studio with something wrong in them: no 5xx, no error inside, and what is right is still learned."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.backend.attacks.arena import Arena
from tests.backend.attacks.fuzzing import STRANGE, TEXTS, garbled, inputs, recorded, trying, wrong

EVENTS, SETUPS, ASKED = recorded("/webhook"), recorded("/setup"), recorded("/predict")
AT_ONCE = 5  # events that the worker finds when it comes; to come for each would take long
TYPES = [
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "",
    "x" * 300,
]


def post(arena: Arena, path: str, body: object, kind: str = "application/json") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = arena.stage.client.post(path, content=content, headers={"Content-Type": kind})
    assert answer.status_code < 500, answer.text
    assert answer.status_code in (200, 201, 422), answer.text
    if answer.status_code == 422:
        assert answer.json()["detail"]
        assert len(answer.content) < 20_000
    return answer


@inputs(300)
@given(bodies=st.lists(wrong(EVENTS), min_size=AT_ONCE, max_size=AT_ONCE))
def test_events_with_something_wrong_in_them_are_answered_and_harm_no_job(
    arena: Arena, bodies: list[Any]
) -> None:
    with trying("webhooks", AT_ONCE):
        for body in bodies:
            post(arena, "/webhook", body)
        arena.work()


def test_after_the_events_the_right_examples_are_learned(arena: Arena) -> None:
    arena.still_learns(41)


@inputs(1000)
@given(body=wrong(ASKED))
def test_a_question_with_something_wrong_in_it_is_answered_task_by_task(arena: Arena, body: Any) -> None:
    with trying("predictions"):
        answer = post(arena, "/predict", body)
        if answer.status_code == 200:
            assert len(answer.json()["results"]) == len(body["tasks"])
        arena.assert_nothing_raised()


@inputs(400)
@given(strange=st.dictionaries(st.sampled_from(["id", "data", "annotations", "meta"]), STRANGE))
def test_a_strange_task_costs_its_neighbours_nothing(arena: Arena, strange: dict[str, Any]) -> None:
    with trying("predictions"):
        stage = arena.stage
        task = {"id": 7, "data": stage.label_studio.tasks[1001]["data"]}
        answer = post(arena, "/predict", {"tasks": [strange, task], "project": stage.key})
        if answer.status_code == 422:  # half a character is no JSON
            assert "\\ud" in json.dumps(strange)
        else:
            (_, good) = answer.json()["results"]
            assert good["result"]


@inputs(500)
@given(body=wrong(SETUPS))
def test_a_look_with_something_wrong_in_it_is_answered(arena: Arena, body: Any) -> None:
    with trying("setups"):
        answer = post(arena, "/setup", body)
        if answer.status_code == 200:
            assert answer.json()["model_version"].startswith("seggpt-")
        arena.work()


@inputs(600)
@given(
    route=st.sampled_from(["/webhook", "/predict", "/setup"]),
    body=garbled([*EVENTS, *SETUPS, *ASKED]),
    kind=st.sampled_from(TYPES),
)
def test_bytes_that_are_no_payload_are_refused_or_passed_over(
    arena: Arena, route: str, body: bytes, kind: str
) -> None:
    with trying("garbled bodies"):
        post(arena, route, body, kind)
        arena.work()


@inputs(300)
@given(name=TEXTS.filter(lambda text: text.isascii() and text.isprintable()), value=TEXTS)
def test_any_project_may_be_asked_about(arena: Arena, name: str, value: str) -> None:
    with trying("predictions"):
        for project in (name, value):
            post(arena, "/predict", {"tasks": [{"id": 1, "data": {"image": value}}], "project": project})
            post(
                arena,
                "/setup",
                {"project": project, "schema": "<View/>", "hostname": name, "access_token": name},
            )
        arena.work()


def test_after_all_of_it_the_right_examples_are_learned_and_every_look_succeeds(arena: Arena) -> None:
    stage = arena.stage
    stage.jobs.look()
    arena.still_learns(42)
    headers = {"Authorization": f"Bearer {stage.settings.admin_token.get_secret_value()}"}
    for path in ("/versions", "/metrics", "/health", "/api/projects"):
        assert stage.client.get(path, headers=headers).status_code == 200
