"""Versions of prompts: activated and rolled back at once, watched by kept IoU, carried from project to project."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend import revision
from backend.errors import BadRequest, NotFound, Refused
from backend.prompts.keeping import CLEAR_FALL, fell
from backend.store import KeptIoU, PromptRecord
from backend.store.tensors import LONGEST_TEXT, PromptCard, PromptFile, pack_prompt, unpack_prompt
from model.gate import COMPANIONS
from tests.backend.stage import Stage, blob, brush, half, mask_of, write_random_checkpoint

Staging = Callable[..., Stage]
SIDE = 64


def tensors(seed: int, side: int = SIDE) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    image, mask = random.normal(0, 1.5, (2, 3, side, side)).astype(np.float32)
    return image, mask


def file_of(stage: Stage, seed: int = 0, side: int = SIDE, **fields: Any) -> bytes:
    image, mask = tensors(seed, side)
    card = {
        "checkpoint": stage.backend.checkpoint, "label": "cell", "kind": "brush", "uses": "prompt", "examples": 8,
        "figures": {"gain": 0.1, "incumbent_iou": None}, "created": "2026-11-25", **fields,
    }  # fmt: skip
    return pack_prompt(PromptFile(image, mask, PromptCard(**card)))


def add(stage: Stage, seed: int = 0, activate: bool = False, **fields: Any) -> int:
    """A version, as a tuning would leave it; returns its number."""
    given: dict[str, Any] = {
        "project": stage.key, "number": 0, "target": stage.target, "label": "cell",
        "checkpoint": stage.backend.checkpoint, "status": "candidate", "uses": "prompt", "origin": "tuned",
        "created": 1.0, "reason": "made by a test",
    }  # fmt: skip
    record = PromptRecord(**(given | fields))
    kept = stage.backend.store.prompts.add_prompt(record, file_of(stage, seed), activate=activate)
    return kept.number


def statuses(stage: Stage) -> dict[int, str]:
    return {prompt.number: prompt.status for prompt in stage.prompts}


def mask(answer: dict[str, Any]) -> Any:
    return [mask_of(region) for region in answer["result"]]


# -- activate and roll back ----------------------------------------------------------------------------------------
def test_activation_and_roll_back_bring_back_the_same_version_and_the_same_masks(stage: Stage) -> None:
    for seed in range(3):
        stage.approve(seed)
    task = stage.upload(blob(40)[0])
    before = stage.setup()
    (by_examples,) = stage.predict(task)
    number = add(stage)
    assert stage.setup() == before  # a candidate changes nothing
    stage.backend.prompts.activate(stage.key, number)
    assert stage.setup() == f"{before}-p{number}"
    (by_prompt,) = stage.predict(task)
    assert by_prompt["model_version"] == f"{before}-p{number}"
    assert by_prompt["score"] != by_examples["score"]
    back = stage.backend.prompts.roll_back(stage.key)
    assert (back.retired.number, back.retired.reason, back.active) == (number, "Rolled back by hand.", None)
    assert stage.setup() == before
    assert stage.predict(task) == [by_examples]


def test_versions_survive_a_restart(staging: Staging) -> None:
    first = staging()
    first.approve(1)
    number = add(first)
    first.backend.prompts.activate(first.key, number)
    version = first.setup()
    assert staging().setup() == version


def test_going_back_goes_to_what_was_in_use_before(stage: Stage) -> None:
    stage.approve(1)
    one, two = add(stage, 1), add(stage, 2)
    stage.backend.prompts.activate(stage.key, one)
    stage.backend.prompts.activate(stage.key, two)
    assert statuses(stage) == {one: "retired", two: "active"}
    back = stage.backend.prompts.roll_back(stage.key)
    assert back.active is not None
    assert back.active.number == one
    assert statuses(stage) == {one: "active", two: "retired"}
    assert stage.backend.prompts.roll_back(stage.key).active is None
    with pytest.raises(Refused, match="nothing to roll back"):
        stage.backend.prompts.roll_back(stage.key)


def test_what_was_rolled_back_can_be_activated_again(stage: Stage) -> None:
    stage.approve(1)
    number = add(stage, activate=True)
    stage.backend.prompts.roll_back(stage.key)
    assert stage.backend.prompts.activate(stage.key, number).status == "active"
    with pytest.raises(Refused, match="active already"):
        stage.backend.prompts.activate(stage.key, number)
    with pytest.raises(NotFound, match="no prompt 77"):
        stage.backend.prompts.activate(stage.key, 77)


def test_a_prompt_of_another_checkpoint_is_refused_and_one_that_is_active_is_not_used(
    staging: Staging, tmp_path: Path
) -> None:
    stage = staging()
    stage.approve(1)
    add(stage, activate=True)
    number = add(stage, checkpoint="vit-large-00000000")
    with pytest.raises(Refused, match="tuned for the checkpoint vit-large-00000000"):
        stage.backend.prompts.activate(stage.key, number)
    renamed = write_random_checkpoint(tmp_path / "another.safetensors")
    other = staging(checkpoint=renamed)
    assert other.setup().endswith("-r1")
    (answer,) = other.predict(other.upload(blob(9)[0]))
    assert answer["model_version"].endswith("-r1")


def test_a_prompt_whose_label_is_gone_is_refused_and_back_in_use_when_the_label_is_back(stage: Stage) -> None:
    stage.approve(1)
    number = add(stage, activate=True)
    config = stage.label_studio.projects[stage.project]["label_config"]
    stage.label_studio.projects[stage.project]["label_config"] = config.replace("cell", "nucleus")
    assert "-p" not in stage.setup()
    stage.backend.store.prompts.retire_prompt(stage.key, number, None, 2.0, "out of the way")
    with pytest.raises(Refused, match=r"Label 'cell'.*is not in the labeling config"):
        stage.backend.prompts.activate(stage.key, number)
    stage.label_studio.projects[stage.project]["label_config"] = config
    stage.setup()
    stage.backend.prompts.activate(stage.key, number)
    assert stage.setup().endswith(f"-p{number}")


def test_with_several_active_prompts_the_label_must_be_named(stage: Stage) -> None:
    config = stage.label_studio.projects[stage.project]["label_config"]
    stage.label_studio.projects[stage.project]["label_config"] = config.replace(
        '<Label value="cell"', '<Label value="dog"/><Label value="cell"', 1
    )
    stage.setup()
    one = add(stage, activate=True)
    two = add(stage, activate=True, target="tag/image/dog", label="dog")
    assert stage.setup().endswith(f"-p{one}.{two}")
    with pytest.raises(Refused, match="Several prompts are active"):
        stage.backend.prompts.roll_back(stage.key)
    stage.backend.prompts.roll_back(stage.key, "tag/image/dog")
    assert stage.setup().endswith(f"-p{one}")


def test_a_prompt_predicts_before_anything_was_approved(stage: Stage) -> None:
    stage.setup()
    stage.backend.prompts.bring_in(stage.key, file_of(stage))
    assert stage.predict(stage.upload(blob(1)[0])) == [[]]
    stage.backend.prompts.activate(stage.key, 1)
    (answer,) = stage.predict(stage.upload(blob(2)[0]))
    assert answer["model_version"].endswith("-r0-p1")


def test_a_region_says_which_tasks_and_which_prompt_are_behind_it(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.setup()
    first, second = (stage.label_studio.annotations[stage.approve(seed)]["task"] for seed in (1, 2))
    asked = stage.upload(blob(5)[0])
    (answer,) = stage.predict(asked)
    assert answer["result"][0]["meta"] == {"seggpt_context": {"tasks": [first, second]}}
    number = add(stage, activate=True, uses="both")
    (answer,) = stage.predict(asked)
    assert answer["result"][0]["meta"] == {"seggpt_context": {"tasks": [first, second], "prompt": number}}


def test_a_prediction_that_says_what_is_behind_it_is_accepted_and_no_smart_tool_s(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    task = stage.upload(blob(5)[0])
    (answer,) = stage.predict(task)
    accepted = [{**region, "origin": "prediction"} for region in answer["result"]]
    stage.submit(task, *accepted, parent_prediction=1, lead_time=3.0)
    stage.work()
    assert [info.kind for info in stage.backend.store.pool(stage.key)] == ["drawn", "accepted"]


def test_a_prompt_beside_examples_takes_the_examples_that_are_there(stage: Stage) -> None:
    stage.setup()
    number = add(stage, activate=True, uses="both")
    used = []
    for seed in range(5):
        task = stage.upload(blob(60 + seed)[0])
        stage.predict(task)
        (record,) = stage.backend.store.predictions(stage.key, task)
        used.append(record.context[stage.target])
        stage.approve(seed)
    assert [len(keys) for keys in used] == [1 + min(known, COMPANIONS) for known in range(5)]
    assert {keys[0] for keys in used} == {f"{stage.key}/prompt/{number}"}


def test_tensors_that_cannot_be_read_cost_the_prompt_and_not_the_prediction(stage: Stage) -> None:
    stage.approve(1)
    given = PromptRecord(
        stage.key, 0, stage.target, "cell", stage.backend.checkpoint, "candidate", "prompt", "tuned", 1.0
    )
    stage.backend.store.prompts.add_prompt(given, b"damaged", activate=True)
    task = stage.upload(blob(2)[0])
    (answer,) = stage.predict(task)
    assert answer["model_version"].endswith("-p1")
    (record,) = stage.backend.store.predictions(stage.key, task)
    assert len(record.context[stage.target]) == 1


# -- kept IoU ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("before", "since", "falls"),
    [
        ([0.9] * 20, [0.6] * 8, True),
        ([0.9] * 20, [0.6] * 7, False),  # too few to say
        ([0.9] * 7, [0.2] * 20, False),  # nothing to compare with
        ([0.9] * 20, [0.9 - CLEAR_FALL + 0.01] * 20, False),  # sure, but small
        ([0.2, 1.0] * 10, [0.1, 0.95] * 4, False),  # large, but not sure
        ([0.6] * 20, [0.9] * 20, False),
        ([0.1] * 40 + [0.9] * 32, [0.6] * 10, True),  # what was long ago does not count
    ],
)
def test_a_clear_fall_of_kept_iou_is_told_from_chance(
    before: list[float], since: list[float], falls: bool
) -> None:
    assert (fell(before, since) is not None) == falls


def kept(stage: Stage, count: int, iou: float, version: str, at: float) -> list[KeptIoU]:
    jitter = np.random.default_rng(count).uniform(-0.05, 0.05, count)
    return [
        KeptIoU(
            stage.key,
            number,
            int(at) + number,
            stage.target,
            version,
            float(iou + jitter[number]),
            at + number,
        )
        for number in range(count)
    ]


def test_a_prompt_whose_masks_are_kept_less_is_retired_by_the_next_approval_with_the_reason(
    stage: Stage,
) -> None:
    stage.approve(1)
    version = stage.setup()
    now = time.time()
    stage.backend.store.add_kept(kept(stage, 12, 0.85, version, now - 1000))
    number = add(stage)
    stage.backend.prompts.activate(stage.key, number)
    assert stage.backend.prompts.watch(stage.key) == []
    stage.backend.store.add_kept(kept(stage, 10, 0.5, f"{version}-p{number}", now + 100))
    stage.approve(2)
    (prompt,) = stage.prompts
    assert prompt.status == "retired"
    assert prompt.reason.startswith("Rolled back by itself. Kept IoU fell from 0.8")
    assert "12 submissions before it" in prompt.reason
    assert "10 with it" in prompt.reason
    assert "-p" not in stage.setup()


def test_a_prompt_that_is_kept_as_well_stays(stage: Stage) -> None:
    stage.approve(1)
    version = stage.setup()
    number = add(stage, activate=False)
    stage.backend.prompts.activate(stage.key, number)
    now = time.time()
    stage.backend.store.add_kept(kept(stage, 12, 0.85, version, now - 1000))
    stage.backend.store.add_kept(kept(stage, 12, 0.86, f"{version}-p{number}", now + 100))
    # of another label, and of predictions that were made before: neither tells against this one
    stage.backend.store.add_kept(kept(stage, 30, 0.1, version, now + 200))
    assert stage.backend.prompts.watch(stage.key) == []


def test_kept_iou_of_real_submissions_counts_for_the_prompt_that_predicted(stage: Stage) -> None:
    stage.approve(1)
    number = add(stage, activate=True)
    image, disc = blob(3)
    task = stage.upload(image)
    stage.predict(task)
    stage.submit(task, brush(half(disc)))
    stage.work()
    (row,) = stage.backend.store.kept(stage.key)
    assert revision.prompts_in(row.revision) == {number}


# -- files ---------------------------------------------------------------------------------------------------------
def test_an_exported_prompt_brought_into_another_project_predicts_the_same(stage: Stage) -> None:
    stage.approve(1)
    add(stage, seed=4, activate=True)
    image = blob(33)[0]
    (here,) = stage.predict(stage.upload(image))
    content = stage.backend.prompts.export(stage.key, 1)
    stage.project = stage.label_studio.add_project()
    stage.setup()
    prompt = stage.backend.prompts.bring_in(stage.key, content)
    assert (prompt.status, prompt.origin, prompt.number) == ("candidate", "imported", 1)
    assert prompt.figures == {"gain": 0.1, "incumbent_iou": None, "examples": 8.0}
    stage.backend.prompts.activate(stage.key, 1)
    (there,) = stage.predict(stage.upload(image))
    assert [region["value"] for region in there["result"]] == [region["value"] for region in here["result"]]
    assert there["score"] == here["score"]
    assert stage.backend.prompts.export(stage.key, 1) == content


def test_a_file_that_does_not_fit_is_refused_with_the_reason(stage: Stage) -> None:
    stage.setup()
    bring_in = stage.backend.prompts.bring_in
    with pytest.raises(BadRequest):
        bring_in(stage.key, b"no file of ours")
    with pytest.raises(BadRequest):
        bring_in(stage.key, file_of(stage)[:-1])
    with pytest.raises(Refused, match=r"no target with the label 'dog'.*Name one of: tag/image/cell"):
        bring_in(stage.key, file_of(stage, label="dog"))
    with pytest.raises(Refused, match="tuned for the checkpoint elsewhere-1"):
        bring_in(stage.key, file_of(stage, checkpoint="elsewhere-1"))
    with pytest.raises(BadRequest, match="takes 64 px"):
        bring_in(stage.key, file_of(stage, side=32))
    with pytest.raises(Refused, match="no target 'tag/image/dog'"):
        bring_in(stage.key, file_of(stage), "tag/image/dog")
    assert stage.prompts == []
    assert bring_in(stage.key, file_of(stage, label="dog"), stage.target).label == "cell"


def test_a_file_finds_its_label_though_it_holds_only_the_beginning_of_it(stage: Stage) -> None:
    """A file's label is cut and tidied: compared as it is, a long one was "no target" of the very same project."""
    long = "x" * (LONGEST_TEXT + 30)
    config = stage.label_studio.projects[stage.project]["label_config"]
    stage.label_studio.projects[stage.project]["label_config"] = config.replace("cell", f"{long}\u2028")
    stage.setup()
    content = file_of(stage, label=f"{long}\u2028")
    assert stage.backend.prompts.bring_in(stage.key, content).label == f"{long}\u2028"
    twin = config.replace('<Label value="cell"', f'<Label value="{long}y"/><Label value="{long}z"', 1)
    stage.label_studio.projects[stage.project]["label_config"] = twin
    stage.setup()
    with pytest.raises(Refused, match=f"several targets with the label '{'x' * LONGEST_TEXT}'"):
        stage.backend.prompts.bring_in(stage.key, content)


def test_a_file_tells_what_it_is_and_nobody_s_name(staging: Staging) -> None:
    stage = staging(tune_gate=-1.0)
    for seed in range(4):
        stage.approve(seed, completed_by=4711)
    stage.event("START_TRAINING")
    stage.work()
    stage.tune()
    content = stage.backend.prompts.export(stage.key, 1)
    card = unpack_prompt(content).card
    assert (card.label, card.examples, card.checkpoint) == ("cell", 4, stage.backend.checkpoint)
    assert card.figures["masks_judged"] == 4
    for told in (stage.key, "4711", *(info.key for info in stage.backend.store.pool(stage.key))):
        assert told.encode() not in content
