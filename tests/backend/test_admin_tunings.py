"""The admin API on tunings: asked for, watched, stopped, gone on with."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.backend.stage import Stage


def page(stage: Stage, rest: str = "") -> str:
    return f"/api/projects/{stage.key}/tunings{rest}"


def post(stage: Stage, rest: str = "", status: int = 202, **body: Any) -> Any:
    answer = stage.client.post(page(stage, rest), json=body or None)
    assert answer.status_code == status, answer.text
    return answer.json()


def get(stage: Stage, rest: str = "") -> Any:
    answer = stage.client.get(page(stage, rest))
    assert answer.status_code == 200, answer.text
    return answer.json()


def approved(stage: Stage, count: int = 4) -> Stage:
    for seed in range(count):
        stage.approve(seed)
    stage.jobs.tuning.flush()
    return stage


def test_a_tuning_is_queued_for_the_worker_and_its_prompt_is_named(stage: Stage) -> None:
    approved(stage)
    (asked,) = post(stage)
    assert (asked["status"], asked["label"], asked["asked_by"]) == ("queued", "cell", "admin API")
    assert (asked["step"], asked["steps"], asked["prompt"], asked["started"]) == (0, 0, None, None)
    assert get(stage, f"/{asked['id']}") == asked
    target = stage.client.get(f"/api/projects/{stage.key}").json()["targets"][0]
    assert target["tuning"] == asked
    assert "tune" in stage.tune()
    done = get(stage, f"/{asked['id']}")
    assert (done["status"], done["prompt"], done["seconds_left"]) == ("done", 1, 0)
    assert done["step"] == done["steps"] > 0
    assert done["examples"] == 4
    assert done["reason"]
    assert done["created"] <= done["started"] <= done["ended"]
    assert stage.client.get(f"/api/projects/{stage.key}").json()["targets"][0]["tuning"] is None


def test_one_that_is_asked_for_again_is_the_open_one(stage: Stage) -> None:
    approved(stage)
    assert post(stage) == post(stage, targets=[stage.target])
    assert len(get(stage)) == 1


def test_with_too_few_examples_it_says_how_many_are_needed_and_nothing_is_queued(stage: Stage) -> None:
    approved(stage, 3)
    (asked,) = post(stage, targets=[stage.target])
    assert asked["status"] == "failed"
    assert "3 examples, at least 4 are needed" in asked["reason"]
    assert stage.tune() == []


def test_the_newest_is_listed_first(stage: Stage) -> None:
    approved(stage, 3)
    first, second = post(stage)[0]["id"], post(stage)[0]["id"]
    assert [tuning["id"] for tuning in get(stage)] == [second, first]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"targets": ["tag/image/none"]}, 409, "tag/image/none"),
        ({"targets": []}, 422, "targets"),
        ({"target": "tag/image/cell"}, 422, "target"),
        ({"targets": "tag/image/cell"}, 422, "targets"),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_the_reason(
    stage: Stage, body: dict[str, Any], status: int, said: str
) -> None:
    approved(stage)
    assert said in post(stage, status=status, **body)["detail"]
    assert get(stage) == []


def test_before_anything_was_approved_there_is_nothing_to_tune(stage: Stage) -> None:
    stage.setup()
    assert "Nothing has been approved" in post(stage, status=409)["detail"]


def test_it_shows_how_far_it_is_can_be_stopped_and_goes_on_from_there(
    staging: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = approved(staging(tune_steps=6))
    monkeypatch.setattr("backend.prompts.watching.NOTE_EVERY", 0.0)
    number = post(stage)[0]["id"]
    seen: list[Any] = []

    def look(*_: Any) -> bool:
        seen.append(get(stage, f"/{number}"))
        if len(seen) == 4:
            assert post(stage, f"/{number}/stop", 200)["stopping"] is True
        return True

    monkeypatch.setattr("backend.jobs._may_go_on", look)  # called after every update
    stage.tune()
    assert [tuning["status"] for tuning in seen] == ["running"] * 4
    steps = [tuning["step"] for tuning in seen]
    assert steps == sorted(steps)
    assert 0 < steps[-1] < seen[-1]["steps"]
    assert seen[-1]["loss"] > 0
    assert 0 <= seen[-1]["validation_iou"] <= 1
    assert seen[-1]["seconds_left"] > 0
    stopped = get(stage, f"/{number}")
    assert (stopped["status"], stopped["stopping"]) == ("stopped", False)
    assert "go on" in stopped["reason"]

    assert post(stage, f"/{number}/resume", 200)["status"] == "queued"
    seen[:] = [None] * 4  # not stopped again
    stage.tune()
    assert seen[4]["step"] >= stopped["step"] > 0
    assert get(stage, f"/{number}")["status"] == "done"


def test_what_has_ended_is_not_stopped_nor_gone_on_with(stage: Stage) -> None:
    approved(stage, 3)
    number = post(stage)[0]["id"]
    for act in ("stop", "resume"):
        assert "failed" in post(stage, f"/{number}/{act}", 409)["detail"]


def test_a_tuning_of_another_project_is_not_there(stage: Stage) -> None:
    approved(stage)
    number = post(stage)[0]["id"]
    stage.backend.store.put_label_config("2.1700000000", "<View/>", "f")
    for method, rest in (("GET", ""), ("POST", "/stop"), ("POST", "/resume")):
        other = f"/api/projects/2/tunings/{number}{rest}"
        assert stage.client.request(method, other).status_code == 404
    assert get(stage, f"/{number}")["status"] == "queued"


def test_a_label_that_is_gone_from_the_config_leaves_its_tuning_without_a_name(stage: Stage) -> None:
    approved(stage)
    post(stage)
    projects = stage.label_studio.projects
    projects[stage.project]["label_config"] = projects[stage.project]["label_config"].replace("cell", "other")
    stage.setup()
    (tuning,) = get(stage)
    assert (tuning["label"], tuning["target"]) == (None, stage.target)
