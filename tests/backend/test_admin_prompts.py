"""The admin API on prompts: judged, activated, taken back, carried to another backend."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from backend.app import create_app
from backend.store.tensors import LIMIT_BYTES, unpack_prompt
from tests.backend.stage import Stage, blob

Staging = Callable[..., Stage]


def page(stage: Stage, rest: str = "") -> str:
    return f"/api/projects/{stage.key}/prompts{rest}"


def get(stage: Stage, rest: str = "") -> Any:
    answer = stage.client.get(page(stage, rest))
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(stage: Stage, rest: str, status: int = 200, **body: Any) -> Any:
    answer = stage.client.post(page(stage, rest), json=body or None)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
def judged(staging: Staging) -> Stage:
    """A prompt that the gate kept out."""
    stage = staging(tune_gate=1.0, tune_steps=1)
    stage.tune_four()
    return stage


def imported(stage: Stage) -> int:
    """Another version, of the same tensors; its number."""
    content = stage.client.get(page(stage, "/1/file")).content
    answer = stage.client.post(page(stage), content=content)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["number"])


# -- judge ---------------------------------------------------------------------------------------------------------
def test_a_version_shows_what_was_measured_and_what_it_learned_from(judged: Stage) -> None:
    shown = get(judged, "/1")
    assert get(judged) == [{name: value for name, value in shown.items() if name != "provenance"}]
    assert (shown["number"], shown["status"], shown["label"]) == (1, "candidate", "cell")
    assert (shown["origin"], shown["unfit"], shown["withdrawn"]) == ("tuned", None, 0)
    assert shown["checkpoint"] == judged.backend.checkpoint
    assert "TUNE_GATE" in shown["reason"]
    figures = shown["figures"]
    assert figures["masks_judged"] == 4
    for name in ("context_iou", "prompt_iou", "both_iou", "validation_iou"):
        assert 0 <= figures[name] <= 1
    assert (figures["incumbent_iou"], figures["rival_iou"]) == (None, None)
    best = figures["both_iou"] if shown["uses"] == "both" else figures["prompt_iou"]
    assert figures["gain"] == pytest.approx(best - figures["context_iou"])
    pool = judged.backend.store.pool(judged.key)
    assert {(origin["key"], origin["task"], origin["annotation"]) for origin in shown["provenance"]} == {
        (info.key, info.task, info.annotation) for info in pool
    }
    assert {origin["standing"] for origin in shown["provenance"]} == {"there"}
    assert shown["examples"] == len(pool) == 4


def test_an_example_that_was_withdrawn_since_is_marked(judged: Stage) -> None:
    withdrawn = judged.backend.store.pool(judged.key)[0]
    judged.delete(withdrawn.annotation)
    judged.work()
    shown = get(judged, "/1")
    assert (shown["withdrawn"], shown["examples"]) == (1, 4)
    (origin,) = [origin for origin in shown["provenance"] if origin["standing"] != "there"]
    assert origin == {
        "key": withdrawn.key, "task": None, "annotation": None, "standing": "withdrawn_since"
    }  # fmt: skip


def test_what_made_room_in_a_full_pool_is_not_said_to_be_withdrawn(staging: Staging) -> None:
    stage = staging(tune_gate=1.0, tune_steps=1, pool_size=4)
    stage.tune_four()
    stage.approve(9)
    shown = get(stage, "/1")
    assert shown["withdrawn"] == 0
    assert sorted(origin["standing"] for origin in shown["provenance"]) == ["gone", *["there"] * 3]


def test_an_example_that_was_withdrawn_during_the_tuning_is_marked(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staging(tune_gate=-1.0, tune_steps=1)
    gone: list[int] = []

    def withdraw(*_: Any) -> bool:
        if not gone:
            gone.append(stage.pool[0])
            stage.delete(gone[0])
            stage.work()
        return True

    monkeypatch.setattr("backend.jobs._may_go_on", withdraw)  # called after every update
    stage.tune_four()
    shown = get(stage, "/1")
    assert (shown["status"], shown["withdrawn"]) == ("candidate", 1)
    assert sorted(origin["standing"] for origin in shown["provenance"]) == [
        *["there"] * 3,
        "withdrawn_during",
    ]


def test_a_version_that_is_not_there_is_named(judged: Stage) -> None:
    for method, rest in (("GET", "/7"), ("GET", "/7/file"), ("POST", "/7/activate")):
        answer = judged.client.request(method, page(judged, rest))
        assert answer.status_code == 404
        assert "no prompt 7" in answer.json()["detail"]


# -- activate and take back ----------------------------------------------------------------------------------------
def test_an_activated_version_is_used_at_once_and_tasks_are_predicted_anew(judged: Stage) -> None:
    before = judged.setup()
    active = post(judged, "/1/activate")
    assert (active["status"], active["activated"] is None) == ("active", False)
    assert judged.setup() != before
    assert judged.work() == ["pre_annotate"]
    task = judged.upload(blob(30)[0])
    judged.predict(task)
    project = judged.client.get(f"/api/projects/{judged.key}").json()
    assert project["targets"][0]["prompt"] == get(judged)[0]
    assert project["revision"] == judged.setup()
    (prediction, *_) = judged.client.get(f"/api/projects/{judged.key}/tasks/{task}/predictions").json()
    assert prediction["context"][judged.target][0] == f"{judged.key}/prompt/1"
    assert "already" in post(judged, "/1/activate", 409)["detail"]


def test_roll_back_goes_to_the_one_before_and_then_to_examples(judged: Stage) -> None:
    versions = [judged.setup()]
    second = imported(judged)
    for number in (1, second):
        post(judged, f"/{number}/activate")
        versions.append(judged.setup())
    judged.work()
    back = post(judged, "/rollback", target=judged.target)
    assert (back["retired"]["number"], back["active"]["number"]) == (second, 1)
    assert "by hand" in back["retired"]["reason"]
    assert judged.work() == ["pre_annotate"]
    assert judged.setup() == versions[1]
    back = post(judged, "/rollback")
    assert (back["retired"]["number"], back["active"]) == (1, None)
    assert judged.setup() == versions[0]
    assert "nothing to roll back" in post(judged, "/rollback", 409)["detail"]
    assert [prompt["status"] for prompt in get(judged)] == ["retired", "retired"]


def test_a_roll_back_of_what_is_not_in_use_any_more_is_refused(judged: Stage) -> None:
    second = imported(judged)
    for number in (1, second):
        post(judged, f"/{number}/activate")
    assert post(judged, "/rollback", prompt=second)["active"]["number"] == 1
    refused = post(judged, "/rollback", 409, prompt=second)
    assert f"Prompt {second} of 'cell' is not active; in use: prompt 1." in refused["detail"]
    assert "no prompt 7" in post(judged, "/rollback", 404, prompt=7)["detail"]
    assert [(prompt["status"], prompt["reason"]) for prompt in get(judged)] == [
        ("active", f"In use again: prompt {second} was rolled back."),
        ("retired", "Rolled back by hand."),
    ]


def test_without_label_studio_s_token_nothing_is_pushed(staging: Staging, judged: Stage) -> None:
    alone = staging(connected=False)
    answer = alone.client.post(page(judged, "/1/activate"))
    assert answer.json()["status"] == "active"
    assert alone.client.post(page(judged, "/rollback")).status_code == 200
    assert alone.work() == []


def test_a_prompt_for_a_label_that_is_gone_is_not_activated(judged: Stage) -> None:
    projects = judged.label_studio.projects
    projects[judged.project]["label_config"] = projects[judged.project]["label_config"].replace(
        "cell", "other"
    )
    judged.setup()
    assert "not in the labeling config" in get(judged)[0]["unfit"]
    assert "not in the labeling config" in post(judged, "/1/activate", 409)["detail"]
    assert get(judged)[0]["status"] == "candidate"


# -- carry ---------------------------------------------------------------------------------------------------------
def test_a_prompt_is_carried_as_a_file(judged: Stage) -> None:
    answer = judged.client.get(page(judged, "/1/file"))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="seggpt-prompt-1.safetensors"'
    assert unpack_prompt(answer.content).card.label == "cell"
    answer = judged.client.post(page(judged), content=answer.content, params={"target": judged.target})
    assert answer.status_code == 201
    shown = answer.json()
    assert shown == get(judged, "/2")
    assert (shown["status"], shown["origin"], shown["examples"], shown["provenance"]) == (
        "candidate", "imported", 4, []
    )  # fmt: skip
    assert shown["figures"] == get(judged, "/1")["figures"]


@pytest.mark.parametrize("content", [b"", b"no prompt", b"\x10" + bytes(7) + b"{}"])
def test_a_file_that_is_no_prompt_is_refused(judged: Stage, content: bytes) -> None:
    answer = judged.client.post(page(judged), content=content)
    assert answer.status_code == 422
    assert "prompt file" in answer.json()["detail"]
    assert len(get(judged)) == 1


def test_a_file_for_a_target_that_is_not_there_is_refused(judged: Stage) -> None:
    content = judged.client.get(page(judged, "/1/file")).content
    answer = judged.client.post(page(judged), content=content, params={"target": "tag/image/none"})
    assert answer.status_code == 409
    assert judged.target in answer.json()["detail"]


def upload(stage: Stage, headers: dict[str, str], chunks: int, *, leaves: bool = False) -> tuple[int, int]:
    """Send an import's body in chunks of 1 MiB; the answer's status and how many chunks were read."""
    read, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        if leaves and read == chunks:
            return {"type": "http.disconnect"}
        read += 1
        return {"type": "http.request", "body": bytes(2**20), "more_body": leaves or read < chunks}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": page(stage), "raw_path": page(stage).encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 9090),
    }  # fmt: skip
    asyncio.run(create_app(stage.backend, stage.jobs)(scope, receive, send))
    return status, read


def test_a_body_that_is_too_large_is_not_read_to_its_end(stage: Stage) -> None:
    stage.setup()
    most = LIMIT_BYTES // 2**20
    assert upload(stage, {"content-length": str(LIMIT_BYTES + 1)}, 200) == (413, 0)
    assert upload(stage, {}, 200) == (413, most + 1)
    assert upload(stage, {"content-length": "7"}, 200) == (413, most + 1)


def test_what_is_for_nobody_here_or_of_somebody_who_may_not_ask_is_not_read_at_all(stage: Stage) -> None:
    assert upload(stage, {}, 3) == (404, 0)
    stage.setup()
    assert upload(stage, {"origin": "http://evil.example"}, 3) == (403, 0)


def test_an_upload_that_breaks_off_leaves_nothing_behind(stage: Stage) -> None:
    stage.setup()
    assert upload(stage, {}, 2, leaves=True) == (422, 2)
    assert get(stage) == []
