"""What becomes of a tuned prompt: the gate lets it through or not, and the next prediction is made with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backend import pins, revision, sequences
from backend.store.pictures import unpack_image
from backend.store.tensors import unpack_prompt
from model.evaluation import THRESHOLD
from model.example import Prompt
from model.gate import GatedTuning
from model.segmenter import Query
from tests.backend.stage import Stage, blob, brush
from tests.backend.test_prompts import add

Staging = Callable[..., Stage]
FOREVER = lambda: True  # noqa: E731


def approved(stage: Stage, count: int) -> list[int]:
    return [stage.approve(seed) for seed in range(count)]


def ask(stage: Stage) -> int:
    (tuning,) = stage.backend.tunings.ask(stage.key, "a test")
    return int(tuning.id)


def test_what_the_gate_lets_through_is_used_by_the_next_prediction_under_a_new_revision(
    staging: Staging,
) -> None:
    stage = staging(tune_gate=-1.0)
    approved(stage, 5)
    before = stage.setup()
    assert stage.backend.tunings.run(ask(stage), FOREVER).moved is True
    assert stage.setup() == f"{before}-p1"
    task = stage.upload(blob(50)[0])
    (answer,) = stage.predict(task)
    assert answer["model_version"] == f"{before}-p1"
    (record,) = stage.backend.store.predictions(stage.key, task)
    assert record.context[stage.target][0] == f"{stage.key}/prompt/1"
    assert len(record.context[stage.target]) == (4 if stage.prompts[0].uses == "both" else 1)


def test_the_gate_keeps_out_what_is_no_better_and_says_by_how_much(staging: Staging) -> None:
    stage = staging(tune_gate=0.9)
    approved(stage, 5)
    before = stage.setup()
    assert stage.backend.tunings.run(ask(stage), FOREVER).moved is False
    (prompt,) = stage.prompts
    assert prompt.status == "candidate"
    assert prompt.reason.startswith("Not good enough: IoU 0.")
    assert "TUNE_GATE asks for +0.90" in prompt.reason
    assert prompt.figures["masks_judged"] == 5
    assert stage.setup() == before


def test_the_tuned_prompt_is_what_the_network_sees(staging: Staging) -> None:
    """Pixel for pixel: the reply's mask is that of the network with the learned tensors in the canvas."""
    stage = staging(tune_gate=-1.0)
    approved(stage, 4)
    stage.backend.tunings.run(ask(stage), FOREVER)
    image, _ = blob(61)
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    snapshot = replace(snapshot, prompts={stage.target: replace(stage.prompts[0], uses="prompt")})
    task = {"id": 900, "data": stage.label_studio.tasks[stage.upload(image)]["data"]}
    stage.backend.predictor.predict(snapshot, [task])
    (record,) = stage.backend.store.predictions(stage.key, 900)
    assert record.context == {stage.target: (f"{stage.key}/prompt/1",)}
    file = unpack_prompt(stage.backend.prompts.export(stage.key, 1))
    contexts = stage.backend.predictor.contexts
    (target,) = snapshot.ready
    context = contexts.choose(snapshot, target, 900, image)
    assert context.examples == ()
    assert context.prompt is not None
    assert np.array_equal(context.prompt.image, file.image)
    (map_,) = stage.backend.segmenter.segment([Query(image, context)])
    expected = float((map_ > THRESHOLD).mean())
    masks = record.masks.get(stage.target)
    assert (masks is None) == (expected == 0.0)


def test_wrong_masks_are_kept_out_by_the_gate(staging: Staging) -> None:
    """Masks that follow no rule: whatever is learned from them, it does not find the next one."""
    stage = staging(checkpoint="embedded", tune_steps=6)
    random = np.random.default_rng(5)
    for seed in range(6):
        image, _ = blob(seed)
        wrong = np.zeros(image.shape[:2], bool)
        top, left = random.integers(0, 30), random.integers(0, 44)
        wrong[top : top + 14, left : left + 18] = True
        stage.submit(stage.upload(image), brush(wrong))
        stage.work()
    before = stage.setup()
    stage.backend.tunings.run(ask(stage), FOREVER)
    (prompt,) = stage.prompts
    assert prompt.status == "candidate"
    assert prompt.reason.startswith("Not good enough"), prompt.reason
    assert stage.setup() == before


def test_the_gate_s_examples_are_those_that_a_prediction_would_use(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near frames and pinned examples first: against fewer of them a prompt would be let through too easily."""
    stage = staging(tune_steps=1, shots=4, sequence_key="video", frame_key="frame")
    for sequence, frame in [(sequence, frame) for sequence in "ab" for frame in range(4)]:
        image, mask = blob(ord(sequence) + 3 * frame)
        stage.submit(stage.upload(image, video=sequence, frame=frame), brush(mask))
        stage.work()
    pins.pin(
        stage.backend.store, stage.key, stage.backend.store.pool(stage.key)[0].key, stage.settings.pool_size
    )
    add(stage, activate=True, uses="both")
    seen: list[tuple[int, str, set[str], list[str]]] = []
    real = GatedTuning._contexts

    def contexts(gated: GatedTuning, index: int, others: list[int], candidate: Prompt) -> Any:
        for way, context in real(gated, index, others, candidate):
            allowed = {gated._examples[other].key for other in others}
            used = [example.key for example in context().examples]
            seen.append((way, gated._examples[index].key, allowed, used))
            yield way, context

    monkeypatch.setattr(GatedTuning, "_contexts", contexts)
    stage.backend.tunings.run(ask(stage), FOREVER)
    assert sorted(way for way, *_ in seen) == sorted([0, 1, 2, 3] * 8)
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    pool = {info.key: info for info in snapshot.pool[stage.target]}
    for way, key, allowed, used in seen:
        if way == 1:  # the candidate alone
            continue
        others = replace(
            snapshot,
            pool={stage.target: tuple(info for info in pool.values() if info.key in allowed)},
            prompts={} if way == 0 else snapshot.prompts,
        )
        image = unpack_image(stage.backend.store.examples([key])[key].image)
        place = sequences.of_example(pool[key], stage.settings)
        (target,) = others.ready
        found = stage.backend.predictor.contexts.choose(others, target, pool[key].task, image, place)
        assert used == [example.key for example in found.examples]
        near = [other for other in allowed if pool[other].sequence == pool[key].sequence]
        assert len(used) == (2 if near else 4) or way != 0
