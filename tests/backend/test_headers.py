"""What every answer tells browsers, and who may see the API's documents."""

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from backend.headers import HEADERS, policy
from tests.backend.stage import Stage

TOKEN = "an-admin-token"  # noqa: S105 - no secret
ELSEWHERE = ("192.0.2.7", 50_000)


def directives(answer: Any) -> dict[str, str]:
    rules = answer.headers["content-security-policy"].split("; ")
    return dict(rule.partition(" ")[::2] for rule in rules)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/versions", 200),
        ("GET", "/api/projects", 200),
        ("GET", "/api/projects/77", 404),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/health", 405),
        ("POST", "/setup", 422),
        ("POST", "/predict", 422),
        ("POST", "/webhook", 201),
    ],
)
def test_every_answer_tells_browsers_to_be_careful(stage: Stage, method: str, path: str, status: int) -> None:
    answer = stage.client.request(method, path, content=b"1" if method == "POST" else None)
    assert answer.status_code == status
    for name, value in HEADERS.items():
        assert answer.headers.get_list(name) == [value] or path == "/docs", name
    assert directives(answer)["frame-ancestors"] == "'none'"
    assert directives(answer)["default-src"] == "'none'"


def test_answers_that_refuse_do_too(staging: Callable[..., Stage]) -> None:
    stage = staging(basic_auth_user="label", admin_token=TOKEN, max_body_bytes=2000)
    for path, status in (("/versions", 401), ("/api/projects", 401), ("/docs", 401)):
        answer = stage.client.get(path)
        assert answer.status_code == status
        assert answer.headers["x-content-type-options"] == "nosniff"
    answer = stage.client.post("/webhook", content=b"x" * 3000, auth=("label", ""))
    assert (answer.status_code, answer.headers["x-frame-options"]) == (413, "DENY")


def test_an_error_of_our_own_is_answered_with_them_and_says_nothing_of_the_inside(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(stage.backend.metrics, "render", fail)
    client = TestClient(stage.app, "http://127.0.0.1:9090", raise_server_exceptions=False)
    answer = client.get("/metrics")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_a_page_may_load_its_own_scripts_and_styles_and_nothing_that_stands_within_it() -> None:
    rules = dict(rule.partition(" ")[::2] for rule in policy().split("; "))
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy()
    assert policy(img_src="https://labels").count("img-src https://labels") == 1


# -- the documents -------------------------------------------------------------------------------------------------
def test_the_page_of_the_api_may_load_what_it_names_and_no_other_script(stage: Stage) -> None:
    answer = stage.client.get("/docs")
    page, rules = answer.text, directives(answer)
    named = set(re.findall(r'(?:src|href)="(https://[^/"]+)', page))
    assert named
    within = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in within
    }
    assert len(hashes) == 1
    assert set(rules["script-src"].split()) == {"'self'", *named, *hashes}
    assert rules["connect-src"] == "'self'"
    assert "/openapi.json" in within[0]
    assert stage.client.get("/redoc").status_code == 404


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_without_a_token_the_documents_are_for_this_machine(stage: Stage, path: str) -> None:
    assert stage.client.get(path).status_code == 200
    assert TestClient(stage.app, "http://127.0.0.1:9090", client=ELSEWHERE).get(path).status_code == 403
    named = TestClient(stage.app, "http://seggpt.example.org", client=("127.0.0.1", 50_000))
    assert named.get(path).status_code == 403


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_with_a_token_they_are_for_whoever_has_it_and_a_browser_asks_for_it(
    staging: Callable[..., Stage], path: str
) -> None:
    stage = staging(admin_token=TOKEN, basic_auth_user="label", basic_auth_pass="other")  # noqa: S106 - no secret
    client = TestClient(stage.app, "https://seggpt.example.org", client=ELSEWHERE)
    refused = client.get(path)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
    assert client.get(path, auth=("label", "other")).status_code == 401
    assert client.get(path, headers={"Authorization": "Basic ***"}).status_code == 401
    assert client.get(path, headers={"Authorization": f"Digest {TOKEN}"}).status_code == 401
    assert client.get(path, auth=("anybody", TOKEN)).status_code == 200
    assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_api_itself_takes_no_password_that_a_browser_would_send_by_itself(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(admin_token=TOKEN)
    answer = stage.client.get("/api/projects", auth=("anybody", TOKEN))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
