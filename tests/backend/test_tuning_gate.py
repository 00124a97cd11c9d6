"""What becomes of a tuned prompt: the gate lets it through or not, and the next prediction is made with it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from backend import revision
from backend.store.tensors import unpack_prompt
from model.evaluation import THRESHOLD
from model.segmenter import Query
from tests.backend.stage import Stage, blob, brush

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
