"""Bodies of requests: within a limit, and refused with a sentence where they are not understood."""

from collections.abc import Callable, Iterator

import pytest

from tests.backend.stage import Stage


def test_a_body_over_the_limit_is_refused(staging: Callable[..., Stage]) -> None:
    stage = staging(max_body_bytes=2000)

    def without_length() -> Iterator[bytes]:
        yield from [b"x" * 1500] * 3

    for body in (b"[" + b" " * 2000, without_length()):
        response = stage.client.post("/predict", content=body)
        assert response.status_code == 413
        assert "MAX_BODY_BYTES" in response.json()["detail"]
    assert stage.client.post("/webhook", content=b" " * 2001).status_code == 413
    assert stage.setup().endswith("-r0")


@pytest.mark.parametrize(
    ("route", "body", "named"),
    [
        ("/predict", b"", "body"),
        ("/predict", b"{", "body"),
        ("/predict", b"{}", "body.tasks"),
        ("/predict", b'{"tasks": {}}', "body.tasks"),
        ("/predict", b"[" * 100_000, "body"),
        ("/webhook", b"{]", "body"),
        ("/webhook", b"[" * 100_000, "body"),
        ("/webhook", b'{"action": "\xff\xfe"}', "body"),
        ("/setup", b'{"project": []}', "body.project"),
    ],
)
def test_a_body_that_is_not_understood_is_refused_with_the_field_s_name(
    stage: Stage, route: str, body: bytes, named: str
) -> None:
    response = stage.client.post(route, content=body)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"{named}: ")
    assert len(response.text) < 1000


def test_openapi_tells_what_the_routes_of_label_studio_take(stage: Stage) -> None:
    paths = stage.client.get("/openapi.json").json()["paths"]
    schema = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "tasks" in schema["properties"]
