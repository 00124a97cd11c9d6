"""What changes while a tuning runs: what is in use, and what its examples say; the gate judges by what is so at the end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backend import dropped
from backend.prompts.meanwhile import Beginning
from backend.store import Approval
from backend.store.tensors import pack_prompt, unpack_prompt
from model.gate import GatedTuning, Verdict
from tests.backend.stage import Stage, blob, brush
from tests.backend.test_prompts import add

Staging = Callable[..., Stage]
FOREVER = lambda: True  # noqa: E731


def approved(stage: Stage, count: int, first: int = 0) -> list[int]:
    return [stage.approve(first + seed) for seed in range(count)]


def key_of(stage: Stage, annotation: int) -> str:
    (key,) = [info.key for info in stage.backend.store.pool(stage.key) if info.annotation == annotation]
    return str(key)


def tune(stage: Stage, meanwhile: Callable[[], object] | None = None) -> Any:
    """Tune, let something happen at its fourth update, and give the version that came of it."""
    (tuning,) = stage.backend.tunings.ask(stage.key, "a test")
    calls = iter(range(10_000))

    def keep_going() -> bool:
        if next(calls) == 4 and meanwhile is not None:
            meanwhile()
        return True

    ended = stage.backend.tunings.run(tuning.id, keep_going)
    assert ended.tuning.status == "done", ended.tuning.reason
    return stage.prompts[-1]


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the gate measure given figures; those of a prompt in use only where there is one."""
    real = GatedTuning._verdict

    def measure(**figures: Any) -> None:
        def verdict(gated: GatedTuning) -> Verdict:
            found = replace(real(gated), **figures)
            return found if gated._incumbent else replace(found, incumbent_iou=None, rival_iou=None)

        monkeypatch.setattr(GatedTuning, "_verdict", verdict)

    return measure


# -- what is in use ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("examples", [0.90, 0.70])
def test_where_the_prompt_in_use_is_rolled_back_meanwhile_a_candidate_must_beat_the_examples(
    staging: Staging, measuring: Callable[..., None], examples: float
) -> None:
    stage = staging(tune_steps=1, tune_gate=0.0)
    approved(stage, 5)
    add(stage, activate=True)
    measuring(
        context_iou=examples, prompt_iou=0.75, both_iou=0.75, incumbent_iou=0.60, rival_iou=0.75
    )  # so the prompt in use was bad, and the candidate beats it in any case
    candidate = tune(stage, lambda: stage.backend.prompts.roll_back(stage.key))
    assert candidate.status == ("active" if examples < 0.75 else "candidate")
    assert f"IoU 0.75 against {examples:.2f} by examples" in candidate.reason
    assert candidate.figures["incumbent_iou"] is None
    assert candidate.figures["gain"] == pytest.approx(0.75 - examples)
    assert stage.prompts[0].status == "retired"


def test_what_came_into_use_meanwhile_is_not_replaced_by_what_was_not_compared_with_it(
    staging: Staging, measuring: Callable[..., None]
) -> None:
    stage = staging(tune_steps=1, tune_gate=0.0)
    approved(stage, 5)
    number = add(stage)
    measuring(context_iou=0.50, prompt_iou=0.55, both_iou=0.55)
    candidate = tune(stage, lambda: stage.backend.prompts.activate(stage.key, number))
    assert [prompt.status for prompt in stage.prompts] == ["active", "candidate"]
    assert candidate.reason.startswith(
        "Good enough, but prompt 1 came into use meanwhile, and it was not compared with that: "
        "IoU 0.55 against 0.50 by examples"
    )


def test_a_gate_that_asks_for_nothing_asks_for_no_comparison_either(staging: Staging) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0)
    approved(stage, 5)
    number = add(stage)
    assert tune(stage, lambda: stage.backend.prompts.activate(stage.key, number)).status == "active"


def test_what_is_the_same_as_what_is_in_use_does_not_come_into_use_again(staging: Staging) -> None:
    """The same examples give the same numbers: under another version all tasks would be predicted anew for nothing."""
    stage = staging(tune_steps=1, tune_gate=-1.0)
    approved(stage, 5)
    tune(stage)
    version = stage.setup()
    candidate = tune(stage)
    assert candidate.status == "candidate"
    assert candidate.reason.startswith(
        "Good enough, but it is the very same as prompt 1, which is in use: IoU 0."
    )
    assert stage.setup() == version
    stage.backend.prompts.roll_back(stage.key)
    assert tune(stage).status == "active", "what is not in use can come into use again"


@pytest.mark.parametrize("change", ["object_side", "uses"])
def test_one_that_differs_in_how_it_is_used_is_not_the_very_same(staging: Staging, change: str) -> None:
    """An old prompt does not say how small its objects are, and loses them until the label is tuned once more."""
    stage = staging(tune_steps=1, tune_gate=-1.0)
    approved(stage, 5)
    kept = tune(stage)
    content = stage.backend.store.prompts.prompt_content(stage.key, 1)
    assert content is not None
    if change == "uses":
        kept = replace(kept, uses="both" if kept.uses == "prompt" else "prompt")
    else:
        file = unpack_prompt(content)
        card = replace(file.card, figures={**file.card.figures, "object_side": None})
        content = pack_prompt(replace(file, card=card))
    stage.backend.store.prompts.add_prompt(kept, content, activate=True)
    assert tune(stage).status == "active"
    assert tune(stage).status == "candidate", "now it is"


# -- what its examples say -----------------------------------------------------------------------------------------
def test_a_correction_in_a_full_pool_keeps_the_prompt_from_use(staging: Staging) -> None:
    """The pool is as full after it as before: that the old mask is missing is not because it made room."""
    stage = staging(tune_steps=1, tune_gate=-1.0, pool_size=5)
    annotations = approved(stage, 5)
    old = key_of(stage, annotations[2])

    def correct() -> None:
        mask = np.zeros_like(blob(2)[1])
        mask[5:20, 5:20] = True
        stage.correct(annotations[2], brush(mask))
        stage.work()

    candidate = tune(stage, correct)
    assert len(stage.pool) == 5
    assert (candidate.status, candidate.withdrawn) == ("candidate", (old,))


@pytest.mark.parametrize("how", ["deleted", "taken out of use"])
def test_one_that_is_gone_for_good_is_not_hidden_by_another_that_takes_its_place(
    staging: Staging, how: str
) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0, pool_size=5)
    annotations = approved(stage, 5)
    gone = key_of(stage, annotations[2])

    def meanwhile() -> None:
        if how == "deleted":
            stage.delete(annotations[2])
        else:
            dropped.drop(stage.backend.store, stage.key, [gone])
        stage.work()
        stage.approve(99)

    candidate = tune(stage, meanwhile)
    assert len(stage.pool) == 5
    assert (candidate.status, candidate.withdrawn) == ("candidate", (gone,))
    assert "1 of its examples were withdrawn meanwhile" in candidate.reason


def test_one_that_made_room_does_no_harm_though_another_was_withdrawn_since(staging: Staging) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0, pool_size=5)
    approved(stage, 5)

    def meanwhile() -> None:
        new = stage.approve(99)
        stage.delete(new)
        stage.work()

    prompt = tune(stage, meanwhile)
    assert len(stage.pool) == 4
    assert (prompt.status, prompt.withdrawn) == ("active", ())


def test_a_correction_at_the_very_moment_of_the_beginning_is_noticed(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the pool and the approvals: what these say then is of the new mask, and stays so to the end."""
    stage = staging(tune_steps=1, tune_gate=-1.0)
    annotations = approved(stage, 5)
    old = key_of(stage, annotations[2])
    store, real, of = stage.backend.store, stage.backend.store.approvals, Beginning.of

    def begin(*arguments: Any) -> Beginning:
        def approvals(*given: Any, **named: Any) -> list[Approval]:
            monkeypatch.setattr(store, "approvals", real)
            mask = np.zeros_like(blob(2)[1])
            mask[5:20, 5:20] = True
            stage.correct(annotations[2], brush(mask))
            stage.work()
            return real(*given, **named)

        monkeypatch.setattr(store, "approvals", approvals)
        return of(*arguments)

    monkeypatch.setattr(Beginning, "of", begin)
    candidate = tune(stage)
    assert (candidate.status, candidate.withdrawn) == ("candidate", (old,))


# -- what the prompt in use has seen -------------------------------------------------------------------------------
def speckled(seed: int) -> Any:
    """A disc less one pixel: the same picture, another example."""
    mask = blob(seed)[1].copy()
    rows, columns = np.nonzero(mask)
    mask[rows[0], columns[0]] = False
    return brush(mask)


def test_pictures_that_the_prompt_in_use_has_learned_from_do_not_judge_it_after_a_correction(
    staging: Staging,
) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0)
    annotations = approved(stage, 5)
    tune(stage)
    for seed, annotation in enumerate(annotations):
        stage.correct(annotation, speckled(seed))
        stage.work()
    assert not {info.key for info in stage.backend.store.pool(stage.key)} & set(stage.prompts[0].examples)
    assert tune(stage).figures["incumbent_iou"] is None


def test_nor_do_they_by_the_mask_of_a_second_annotator(staging: Staging) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0)
    annotations = approved(stage, 5)
    tune(stage)
    for seed, annotation in enumerate(annotations):
        task = stage.label_studio.annotations[annotation]["task"]
        stage.submit(task, speckled(seed), completed_by=2)
        stage.work()
    assert tune(stage).figures["incumbent_iou"] is None


def test_nor_do_they_where_it_was_exported_and_imported_again(staging: Staging) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0)
    approved(stage, 5)
    tune(stage)
    stage.backend.prompts.bring_in(stage.key, stage.backend.prompts.export(stage.key, 1))
    stage.backend.prompts.activate(stage.key, 2)
    approved(stage, 1, first=20)
    assert tune(stage).figures["incumbent_iou"] is None


def test_new_pictures_judge_the_prompt_in_use(staging: Staging) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0)
    approved(stage, 4)
    tune(stage)
    approved(stage, 4, first=20)
    found = tune(stage)
    assert found.figures["incumbent_iou"] is not None
    assert "by the prompt in use, on masks that neither had seen" in found.reason


def test_of_one_that_was_imported_from_elsewhere_it_is_said_that_nobody_knows(
    staging: Staging, measuring: Callable[..., None]
) -> None:
    stage = staging(tune_steps=1, tune_gate=0.0)
    approved(stage, 5)
    add(stage, origin="imported", activate=True)
    measuring(context_iou=0.50, prompt_iou=0.75, both_iou=0.75, incumbent_iou=0.60, rival_iou=0.75)
    assert tune(stage).reason == (
        "At least as good: IoU 0.75 against 0.60 by the prompt in use, on masks that it had not seen; those that the "
        "other had seen are not known, as it was imported (5 judged)."
    )


def test_a_version_from_before_tasks_were_noted_is_known_by_the_examples_that_are_still_there(
    staging: Staging,
) -> None:
    stage = staging(tune_steps=1, tune_gate=-1.0)
    approved(stage, 5)
    keys = tuple(info.key for info in stage.backend.store.pool(stage.key))
    add(stage, activate=True, examples=keys)
    assert tune(stage).figures["incumbent_iou"] is None
