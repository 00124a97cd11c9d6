"""The admin API: who may ask, what it tells of projects, and that its documentation is whole."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from backend import revision
from backend.app import create_app
from tests.backend.stage import ADDRESS, LOOPBACK, Stage, blob, brush


def pages(stage: Stage) -> list[str]:
    project = f"/api/projects/{stage.key}"
    return [
        "/api/projects",
        project,
        f"{project}/examples",
        f"{project}/tasks",
        f"{project}/tasks/1/predictions",
        f"{project}/tunings",
        f"{project}/prompts",
        f"{project}/alarm",
        f"{project}/influence",
        f"{project}/lost-labels",
    ]


def from_host(stage: Stage, host: str, address: str = ADDRESS) -> TestClient:
    return TestClient(create_app(stage.backend, stage.jobs), address, client=(host, 1))


# -- who may ask ---------------------------------------------------------------------------------------------------
def test_without_a_token_only_this_machine_may_ask(stage: Stage) -> None:
    stage.setup()
    for host, status in (("127.0.0.1", 200), ("::1", 200), ("10.0.0.9", 403), ("studio", 403)):
        client = from_host(stage, host)
        assert {client.get(page).status_code for page in pages(stage)} == {status}


def test_with_a_token_who_has_it_may_ask_from_anywhere(staging: Callable[..., Stage]) -> None:
    stage = staging(admin_token="word")  # noqa: S106
    stage.setup()
    client = from_host(stage, "10.0.0.9", "http://studio.example")
    for headers, status in (({}, 401), ({"Authorization": "Bearer other"}, 401), ({"Authorization": "word"}, 401),
                            ({"Authorization": "Bearer wo rd"}, 401), ({"Authorization": "Bearer"}, 401),
                            ({"Authorization": "Bearer word"}, 200), ({"Authorization": "bearer  word\t"}, 200)):  # fmt: skip
        assert {client.get(page, headers=headers).status_code for page in pages(stage)} == {status}
    refused = client.get("/api/projects")
    assert "ADMIN_TOKEN" in refused.json()["detail"]
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_spaces_around_a_token_that_is_set_are_not_of_it(staging: Callable[..., Stage]) -> None:
    """A line break at the end of a secret's file locked everybody out: no header can hold one."""
    stage = staging(admin_token=" word\r\n")  # noqa: S106
    assert stage.client.get("/api/projects", headers={"Authorization": "Bearer word"}).status_code == 200
    assert stage.client.get("/api/projects", headers={"Authorization": "Bearer other"}).status_code == 401


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_token_of_any_letters_is_known_however_a_client_writes_it(
    staging: Callable[..., Stage], encoding: str
) -> None:
    """Headers are bytes: curl sends UTF-8, which was read as Latin-1 and refused."""
    for right, wrong in (
        ("wörd", "word"),
        ("voilà", "voil"),
    ):  # in UTF-8 the last letter ends in what str.strip() takes
        stage = staging(admin_token=right)
        for token, status in ((right, 200), (wrong, 401)):
            headers = {b"Authorization": f"Bearer {token}".encode(encoding)}
            assert stage.client.get("/api/projects", headers=headers).status_code == status


def test_with_a_token_this_machine_needs_it_too(staging: Callable[..., Stage]) -> None:
    stage = staging(admin_token="word")  # noqa: S106
    assert stage.client.get("/api/projects").status_code == 401


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:8080", "http://127.0.0.1", "https://127.0.0.1", "null", ""]
)  # fmt: skip
def test_a_web_page_of_another_origin_changes_nothing_even_on_this_machine(stage: Stage, origin: str) -> None:
    """It is the visitor's own browser that sends it, from loopback; Label Studio on another port is foreign too."""
    stage.setup()
    stage.approve(1)
    answer = stage.client.post(f"{pages(stage)[1]}/tunings", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "another origin" in answer.json()["detail"]
    assert stage.tunings == []


def test_not_even_with_the_token_does_a_foreign_page_change_anything(staging: Callable[..., Stage]) -> None:
    stage = staging(admin_token="word")  # noqa: S106
    stage.approve(1)
    headers = {"Authorization": "Bearer word", "Origin": "http://evil.example"}
    assert stage.client.post(f"{pages(stage)[1]}/tunings", headers=headers).status_code == 403
    assert stage.client.post(f"{pages(stage)[1]}/tunings", headers=headers | {"Origin": ADDRESS}).is_success


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        (ADDRESS, ADDRESS),
        ("http://LOCALHOST:9090", "http://localhost:9090"),
        ("http://localhost", "http://localhost:80"),
        ("https://localhost:443", "http://localhost"),  # a proxy that ends TLS
        ("http://[::1]:9090", "http://[::1]:9090"),
    ],
)
def test_a_page_of_its_own_may_change_what_it_shows(stage: Stage, origin: str, address: str) -> None:
    stage.approve(1)
    client = from_host(stage, *LOOPBACK[:1], address)
    host = address.removeprefix("http://")
    answer = client.post(f"{pages(stage)[1]}/tunings", headers={"Origin": origin, "Host": host})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:9090", "[", ""]
)
def test_without_a_token_a_foreign_name_for_this_machine_is_refused(stage: Stage, host: str) -> None:
    """A page can make its host's name mean 127.0.0.1 (DNS rebinding): to its browser the origins are equal then."""
    stage.setup()
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert {stage.client.get(page, headers=headers).status_code for page in pages(stage)} == {403}
    assert stage.client.post(f"{pages(stage)[1]}/tunings", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9090", "127.0.0.5:1", "[::1]:9090"])
def test_without_a_token_loopback_may_be_named_in_every_way(stage: Stage, host: str) -> None:
    assert stage.client.get("/api/projects", headers={"Host": host}).status_code == 200


# -- projects ------------------------------------------------------------------------------------------------------
def test_a_project_that_was_never_seen_is_not_there(stage: Stage) -> None:
    for page in pages(stage)[1:]:
        for named in (page, page.replace(stage.key, "999"), page.replace(stage.key, "%C2%B2")):
            answer = stage.client.get(named)
            assert answer.status_code == 404
            assert "/api/projects" in answer.json()["detail"]
    assert stage.client.get("/api/projects").json() == []


def test_a_project_may_be_named_by_its_number_and_the_newest_of_that_number_is_meant(stage: Stage) -> None:
    stage.approve(1)
    number = str(stage.project)
    by_key = [stage.client.get(page).json() for page in pages(stage)[1:]]
    by_number = [stage.client.get(page.replace(stage.key, number)).json() for page in pages(stage)[1:]]
    assert by_number == by_key
    for key in ("1.999", "11.9999999999"):  # older, though it sorts behind; another number that begins alike
        stage.backend.store.put_label_config(key, "<View/>", "f")
        assert revision.project_of(stage.backend.store, 1) == stage.key
    stage.backend.store.put_label_config("1.9999999999", "<View/>", "f")
    assert revision.project_of(stage.backend.store, 1) == "1.9999999999"
    assert revision.project_of(stage.backend.store, stage.key) == stage.key


def test_the_admin_api_tells_what_is_known_of_a_project(stage: Stage) -> None:
    stage.segment_by_colour()
    annotation = stage.approve(1)
    image, mask = blob(2)
    task = stage.upload(image)
    (prediction,) = stage.predict(task)
    project, all_, examples, tasks = pages(stage)[:4]
    shown = stage.client.get(all_).json()
    assert stage.client.get(project).json() == [shown]
    assert shown["project"] == stage.key
    assert shown["revision"] == prediction["model_version"]
    assert (shown["approvals"], shown["kept_iou"]) == (1, {"count": 0, "mean": None})
    (target,) = shown["targets"]
    assert target == {
        "target": stage.target, "control": "tag", "image": "image", "label": "cell", "examples": 1,
        "prompt": None, "tuning": None,
    }  # fmt: skip
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


@pytest.mark.parametrize("task", ["x", "1e3", "0", "99999999999999999999"])
def test_a_task_is_named_by_its_number(stage: Stage, task: str) -> None:
    stage.setup()
    assert stage.client.get(f"/api/projects/{stage.key}/tasks/{task}/predictions").status_code == 422


# -- documentation -------------------------------------------------------------------------------------------------
def documented(stage: Stage) -> dict[tuple[str, str], Any]:
    paths = stage.client.get("/openapi.json").json()["paths"]
    return {
        (method, path): operation
        for path, operations in paths.items()
        if path.startswith("/api")
        for method, operation in operations.items()
    }


def schema_of(document: Any, response: Any) -> Any:
    (content,) = response["content"].values()
    schema = content["schema"].get("items", content["schema"])
    return (
        document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    )


def test_every_route_says_what_it_does_what_it_answers_and_how_it_fails(stage: Stage) -> None:
    document = stage.client.get("/openapi.json").json()
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    routes = documented(stage)
    assert len(routes) > 15
    names = {operation["operationId"] for operation in routes.values()}
    assert len(names) == len(routes)
    assert {"list_projects", "activate_prompt"} <= names  # functions of generated clients
    for (method, path), operation in routes.items():
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert set(operation["tags"]) <= tags, where
        assert operation["security"] == [{"ADMIN_TOKEN": []}], where
        expected = {"401", "403", "503"} | ({"404", "422"} if "{" in path else set())
        expected |= {"409"} if method == "post" and not path.endswith("measure") else set()
        failures = {code for code in operation["responses"] if code >= "400"}
        assert failures - {"413"} == expected, where
        for code in failures:
            response = operation["responses"][code]
            assert response["description"], where
            assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Problem"), where
        ((success, answer),) = [item for item in operation["responses"].items() if item[0] < "400"]
        assert success == ("200" if method == "get" else success), where
        assert schema_of(document, answer).get("properties") or path.endswith("/file"), where
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], f"{where} {parameter['name']}"


def test_every_field_of_an_answer_or_a_request_is_described(stage: Stage) -> None:
    """The protocol's own models are Label Studio's to describe."""
    document = stage.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    ours, seen = set(), list(documented(stage).values())
    while seen:
        part = seen.pop()
        if isinstance(part, dict):
            seen += part.values()
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name and name not in ours:
                ours.add(name)
                seen.append(schemas[name])
        elif isinstance(part, list):
            seen += part
    assert len(ours) > 12
    silent = [
        f"{name}.{field}"
        for name in ours
        for field, told in schemas[name].get("properties", {}).items()
        if not told.get("description")
    ]
    assert silent == []
    assert [
        name for name in ours if not schemas[name].get("description") and "enum" not in schemas[name]
    ] == []


def test_the_documented_failures_look_as_they_are_documented(stage: Stage) -> None:
    stage.approve(1)
    project = pages(stage)[1]
    for answer, status in (
        (stage.client.get(f"{project}/tunings/1"), 404),
        (stage.client.post(f"{project}/tunings/x/stop"), 422),
        (stage.client.post(f"{project}/prompts/rollback"), 409),
        (stage.client.get("/api/projects", headers={"Host": "evil.example"}), 403),
    ):
        assert answer.status_code == status
        assert list(answer.json()) == ["detail"]
        assert isinstance(answer.json()["detail"], str)
