"""The admin API on examples: what each was measured to be, and which tasks to recheck."""

import json
import time
from typing import Any

from tests.backend.stage import Stage, blob, brush


def page(stage: Stage, rest: str) -> str:
    return f"/api/projects/{stage.key}/{rest}"


def get(stage: Stage, rest: str) -> Any:
    answer = stage.client.get(page(stage, rest))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_example_of_a_label_that_is_gone_from_the_config_is_shown_without_its_name(stage: Stage) -> None:
    stage.approve(1)
    projects = stage.label_studio.projects
    projects[stage.project]["label_config"] = projects[stage.project]["label_config"].replace("cell", "other")
    stage.setup()
    (example,) = get(stage, "examples")
    assert (example["label"], example["target"]) == (None, stage.target)


def test_before_anything_was_measured_nothing_is_said(stage: Stage) -> None:
    for seed in (1, 2):
        stage.approve(seed)
    for example in get(stage, "examples"):
        measured = {example[name] for name in ("found", "finds", "agrees", "suspicious", "reason")}
        assert measured == {None}
    assert get(stage, "alarm") == {"measured_at": None, "due": True, "suspicious": []}


def test_the_alarm_names_the_task_whose_mask_is_wrong(stage: Stage) -> None:
    """Four masks are the disc; one is everything but the disc, which finds what the others do not."""
    stage.segment_by_colour()
    for seed in range(4):
        stage.approve(seed)
    image, mask = blob(9)
    task = stage.upload(image)
    annotation = stage.submit(task, brush(~mask))
    stage.work()
    stage.jobs.tuning.flush()  # what the approvals queued
    before = time.time()
    answer = stage.client.post(page(stage, "examples/measure"))
    assert (answer.status_code, answer.json()) == (202, {"due": True})
    assert stage.tune() == ["measure"]
    alarm = get(stage, "alarm")
    assert before <= alarm["measured_at"] <= time.time()
    assert alarm["due"] is False
    (suspect,) = alarm["suspicious"]
    assert (suspect["task"], suspect["annotation"], suspect["label"]) == (task, annotation, "cell")
    assert suspect["reason"]
    examples = {example["task"]: example for example in get(stage, "examples")}
    wrong = examples.pop(task)
    assert (wrong["suspicious"], wrong["reason"]) == (True, suspect["reason"])
    assert [wrong[name] for name in ("found", "finds", "agrees")] == [
        suspect[name] for name in ("found", "finds", "agrees")
    ]
    assert wrong["found"] < 0.1
    assert {(right["suspicious"], right["reason"]) for right in examples.values()} == {(False, "")}
    assert min(right["found"] for right in examples.values()) > 0.5

    stage.delete(annotation)  # what was rechecked and taken back is no longer named
    stage.work()
    assert get(stage, "alarm")["suspicious"] == []
    assert get(stage, "alarm")["due"] is True


def test_the_worst_is_named_first(stage: Stage) -> None:
    for seed in range(3):
        stage.approve(seed)
    keys = [info.key for info in stage.backend.store.pool(stage.key)]
    found = {
        key: {"found": value, "finds": 0.1, "agrees": 0.5, "suspicious": True, "reason": f"number {value}"}
        for key, value in zip(keys, (0.2, 0.01, 0.1), strict=True)
    }
    note = json.dumps({"at": 5.0, "measured": keys, "by_key": found})
    stage.backend.store.set_note(f"alarm:{stage.key}", note)
    assert [suspect["found"] for suspect in get(stage, "alarm")["suspicious"]] == [0.01, 0.1, 0.2]


def test_where_nothing_changed_there_is_nothing_to_measure(stage: Stage) -> None:
    for seed in (1, 2):
        stage.approve(seed)
    stage.backend.alarm.measure(stage.key)
    assert stage.client.post(page(stage, "examples/measure")).json() == {"due": False}
