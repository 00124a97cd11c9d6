"""Doctor: what really goes wrong is found, and the remedy named."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from backend.doctor import Finding, examine
from tests.backend.loopback import Answer, LoopbackServer, Request, as_json
from tests.backend.redis_server import RedisServer
from tests.backend.stage import Stage, blob


class Server(LoopbackServer):
    """What listens on the backend's port."""

    content: Any = {"status": "UP", "model_class": "SegGPT"}  # noqa: RUF012

    def answer(self, request: Request) -> Answer:
        return as_json(self.content)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def healthy(staging: Callable[..., Stage], server: Server) -> Stage:
    """A connected project with one task; nothing is wrong."""
    stage = staging(port=server.port)
    fake, url = stage.label_studio, f"http://127.0.0.1:{server.port}"
    fake.backends.append(
        {"id": 1, "project": stage.project, "url": url, "state": "CO", "readable_state": "Connected"}
    )
    fake.webhooks[1] = {
        "id": 1,
        "project": stage.project,
        "url": f"{url}/webhook",
        "headers": {},
        "is_active": True,
    }
    stage.upload(blob(1)[0])
    return stage


def found(stage: Stage, level: str, **changes: Any) -> list[Finding]:
    """Findings of a level about the stage's project, with settings changed."""
    settings = stage.settings.model_copy(update=changes)
    return [finding for finding in examine(settings, stage.project) if finding.level == level]


def said(findings: list[Finding]) -> str:
    return "\n".join(f"{finding.what}: {finding.found} {finding.remedy}" for finding in findings)


def test_where_all_is_well_every_finding_says_so(healthy: Stage) -> None:
    findings = examine(healthy.settings, healthy.project)
    assert {finding.level for finding in findings} == {"ok"}
    text = said(findings)
    for part in ("64 px on cpu in float32", "answers at http://127.0.0.1", "1.23.2", "legacy token of a@example.com",
                 "1 labels to segment", "webhook present", "image of task 1 is readable, 64 x 48"):  # fmt: skip
        assert part in text


def test_without_a_number_the_projects_that_were_seen_are_looked_at(healthy: Stage) -> None:
    settings = healthy.settings
    assert "none has been seen" in said(examine(settings))
    healthy.setup()
    assert f"project {healthy.project}: 'Project 1'" in said(examine(settings))


def test_events_that_have_waited_for_long_are_a_warning(healthy: Stage) -> None:
    store = healthy.backend.store
    store.add_event("9.1", "ANNOTATION_CREATED", {}, time.time())
    assert "events wait" not in said(found(healthy, "warning"))
    store.add_event("9.1", "ANNOTATION_CREATED", {}, 1e9)
    assert "project 9.1: 2 events wait, the first since 2001-09-09 01:46 UTC" in said(
        found(healthy, "warning")
    )


def test_a_checkpoint_that_is_not_there_is_an_error(healthy: Stage, tmp_path: Path) -> None:
    (finding,) = found(healthy, "error", checkpoint=str(tmp_path / "none.safetensors"))
    assert finding.what == "checkpoint"
    assert "none.safetensors" in finding.found


def test_a_store_that_cannot_be_used_is_an_error(healthy: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert [finding.what for finding in found(healthy, "error", data_dir=tmp_path / "file")] == ["store"]


def test_a_server_that_does_not_run_and_one_that_is_another_are_told_apart(
    healthy: Stage, server: Server
) -> None:
    server.content = {"status": "UP", "model_class": "SAM"}
    assert "something else answers" in said(found(healthy, "error"))
    server.content = ["no object"]
    server.stop()
    assert "nothing answers" in said(found(healthy, "warning"))


def test_a_server_on_all_addresses_of_ipv6_is_looked_for_where_it_would_answer(healthy: Stage) -> None:
    assert "nothing answers at http://[::1]:" in said(found(healthy, "warning", host="::"))


def test_label_studio_that_is_not_named_is_an_error(healthy: Stage) -> None:
    assert "LABEL_STUDIO_URL" in said(found(healthy, "error", label_studio_url=""))


def test_a_refused_token_is_an_error_with_the_remedy(healthy: Stage) -> None:
    healthy.label_studio.legacy_allowed = False
    (finding,) = found(healthy, "error")
    assert finding.what == "Label Studio"
    assert "personal access token" in finding.found


def test_a_project_that_is_not_there_is_an_error(healthy: Stage) -> None:
    settings = healthy.settings
    assert any(f.what == "project 77" and f.level == "error" for f in examine(settings, 77))


def test_a_config_with_nothing_to_segment_is_a_warning(healthy: Stage) -> None:
    healthy.label_studio.projects[healthy.project]["label_config"] = (
        "<View><Image name='i' value='$image'/></View>"
    )
    assert "nothing to segment" in said(found(healthy, "warning"))


def test_a_pinned_version_is_a_warning(healthy: Stage) -> None:
    healthy.label_studio.projects[healthy.project]["model_version"] = healthy.setup()
    assert "pinned" in said(found(healthy, "warning"))


@pytest.mark.parametrize(
    ("fields", "finding"),
    [
        ({"model_version": "seggpt-x-r3"}, ""),
        ({"model_version": "SegGPT"}, "cannot be sorted by score yet: its model version is 'SegGPT'"),
        ({"model_version": ""}, "choose the newest predictions"),
        ({"model_version": "sam-1"}, "which ORDER_BY_SCORE leaves alone"),
        ({"model_version": "", "show_collab_predictions": False}, "uses no predictions"),
        ({"model_version": "seggpt-x-r3", "sampling": "Uniform sampling"}, "goes by 'Uniform sampling'"),
        ({"model_version": "seggpt-x-r3", "sampling": None}, "docs/order_of_work.md"),
    ],
)
def test_what_keeps_a_project_from_being_sorted_by_score_is_a_warning(
    healthy: Stage, fields: dict[str, Any], finding: str
) -> None:
    healthy.label_studio.backends[0]["title"] = "SegGPT"
    project = healthy.label_studio.projects[healthy.project]
    project.update({"sampling": "Uncertainty sampling", **fields})
    warnings = found(healthy, "warning", order_by_score=True)
    assert [finding in said([warning]) for warning in warnings] == ([True] if finding else [])
    if not finding:
        assert "can be sorted by the scores of seggpt-x-r3" in said(found(healthy, "ok", order_by_score=True))


def test_a_backend_that_is_not_connected_is_an_error(healthy: Stage) -> None:
    healthy.label_studio.backends.clear()
    assert "not connected" in said(found(healthy, "error"))


@pytest.mark.parametrize("url", ["https://seggpt.example.com", "http://seggpt:9090"])
def test_a_backend_connected_under_another_port_may_be_ours_behind_a_proxy(healthy: Stage, url: str) -> None:
    """It was an error, and a port that only began like ours was taken for it."""
    healthy.label_studio.backends[0]["url"] = url
    healthy.label_studio.webhooks[1]["url"] = f"{url}/webhook"
    assert "does not name port 909" in said(found(healthy, "warning", port=909))
    assert found(healthy, "error", port=909) == []


def test_a_backend_that_is_connected_and_disconnected_is_an_error_with_the_settings_to_set(
    healthy: Stage,
) -> None:
    healthy.label_studio.backends[0] |= {"readable_state": "Disconnected"}
    assert "SSRF_PROTECTION_ENABLED=false" in said(found(healthy, "error"))


def test_a_backend_without_its_webhook_is_an_error(healthy: Stage) -> None:
    """Label Studio saves the connection and shows it as good, but makes no webhook, where the address is private."""
    healthy.label_studio.webhooks.clear()
    assert "no webhook points at the backend" in said(found(healthy, "error"))


def test_with_a_password_a_webhook_that_sends_none_is_an_error(healthy: Stage) -> None:
    assert "sends no password" in said(found(healthy, "error", basic_auth_user="label"))
    healthy.label_studio.webhooks[1]["headers"] = {"Authorization": "Basic x"}
    assert found(healthy, "error", basic_auth_user="label") == []


@pytest.mark.parametrize(
    ("data", "part"),
    [({"image": "/data/upload/gone.png"}, "image of task 1: "), ({"text": "x"}, "has no image under")],
)
def test_an_image_that_cannot_be_had_is_an_error(healthy: Stage, data: dict[str, str], part: str) -> None:
    healthy.label_studio.tasks[1]["data"] = data
    assert part in said(found(healthy, "error"))


def test_where_all_tasks_are_labeled_the_image_of_one_of_them_is_tried(healthy: Stage) -> None:
    """The whole export was asked for, each time that somebody opened the page."""
    healthy.label_studio.annotate(1, [])
    healthy.label_studio.annotate(healthy.upload(blob(2)[0]), [])
    assert "image of task 1 is readable" in said(found(healthy, "ok"))
    assert healthy.label_studio.asked(f"/api/projects/{healthy.project}/export") == []


def test_a_project_without_tasks_has_no_image_to_try(healthy: Stage) -> None:
    healthy.label_studio.delete_task(1)
    assert found(healthy, "error") == []


@pytest.mark.redis
def test_a_redis_that_may_lose_what_it_was_given_is_a_warning(
    healthy: Stage, tmp_path: Path, redis_installed: None
) -> None:
    with RedisServer(tmp_path / "redis", appendonly="no", requirepass="hidden") as redis:
        url = redis.url.replace("redis://", "redis://:hidden@")
        warned = [
            finding
            for finding in found(healthy, "warning", redis_url=SecretStr(url))
            if finding.what == "store"
        ]
    assert "appendonly" in warned[0].found
    assert "hidden" not in str(warned)
