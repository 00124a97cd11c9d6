"""Shadows: what can be one, when it ends, and what its pairs come to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend import shadows
from backend.errors import BadRequest, NotFound, Refused
from backend.shadows import Pair, compare
from backend.store import PromptRecord
from tests.backend.stage import Stage, blob, brush, write_random_checkpoint
from tests.backend.test_prompts import add
from tests.backend.test_shadow import newest, prepared, start, submit, upload

Staging = Callable[..., Stage]


@pytest.fixture
def two(stage: Stage) -> Stage:
    """Two approved masks, and a prompt that is better than they are."""
    return prepared(stage)


# -- its end -------------------------------------------------------------------------------------------------------
def test_a_shadow_that_comes_into_use_has_ended(two: Stage) -> None:
    start(two, 1)
    two.backend.prompts.activate(two.key, 1)
    two.jobs.look()
    two.work()
    assert newest(two).reason == "It came into use itself."


def test_one_that_must_end_is_not_in_the_way_of_the_next(two: Stage) -> None:
    start(two, 1)
    two.backend.prompts.activate(two.key, 1)
    start(two)  # examples
    last, first = shadows.read(two.backend.store, two.key)
    assert (last.prompt, last.ended, first.reason) == (None, None, "It came into use itself.")
    two.backend.prompts.roll_back(two.key)
    assert not two.backend.shadowing.settle(two.key)
    assert newest(two).reason == "It came into use itself."


def test_a_shadow_ends_when_what_it_is_compared_with_goes_out_of_use(two: Stage) -> None:
    other = add(two)
    start(two, 1)
    submit(two, 11)
    two.work(lane=two.jobs.events)
    two.backend.prompts.activate(two.key, other)
    two.work()
    found = newest(two)
    assert found.reason == "What it was compared with is out of use: examples alone."
    assert (found.waiting, found.pairs) == ((), ())


def test_a_shadow_whose_label_or_checkpoint_is_gone_has_ended_and_says_so(
    staging: Staging, tmp_path: Path
) -> None:
    stage = prepared(staging())
    start(stage, 1)
    project = stage.label_studio.projects[stage.project]
    config = project["label_config"]
    project["label_config"] = config.replace("cell", "nucleus")
    stage.setup()
    assert not stage.backend.shadowing.settle(stage.key)
    assert newest(stage).reason == "Label 'cell' (target tag/image/cell) is not in the labeling config."
    project["label_config"] = config
    stage.setup()
    assert newest(stage).ended is not None
    stage.backend.prompts.activate(stage.key, 1)
    start(stage)
    project["label_config"] = config.replace("cell", "nucleus")
    stage.setup()
    stage.backend.shadowing.settle(stage.key)
    assert newest(stage).reason == "Target tag/image/cell is not in the labeling config."
    project["label_config"] = config
    stage.setup()
    stage.backend.prompts.roll_back(stage.key)
    start(stage, 1)
    other = staging(checkpoint=write_random_checkpoint(tmp_path / "another.safetensors"))
    other.backend.shadowing.settle(other.key)
    assert "tuned for the checkpoint" in newest(other).reason


def test_a_prompt_whose_tensors_cannot_be_read_is_not_taken_for_examples(two: Stage) -> None:
    record = PromptRecord(
        two.key, 0, two.target, "cell", two.backend.checkpoint, "candidate", "prompt", "tuned", 1.0
    )
    damaged = two.backend.store.prompts.add_prompt(record, b"damaged").number
    start(two, damaged)
    submit(two, 11)
    two.work()
    assert (newest(two).reason, newest(two).pairs) == ("The prompt's tensors cannot be read.", ())


# -- started and stopped -------------------------------------------------------------------------------------------
def test_what_cannot_be_a_shadow_is_refused_with_the_reason(two: Stage) -> None:
    with pytest.raises(NotFound, match="no prompt 7"):
        start(two, 7)
    with pytest.raises(Refused, match="examples are what is in use"):
        start(two)
    with pytest.raises(Refused, match="examples are what is in use"):
        start(two, target=two.target)
    with pytest.raises(NotFound, match="no target 'tag/image/dog'"):
        start(two, target="tag/image/dog")
    with pytest.raises(Refused, match="is of target tag/image/cell"):
        start(two, 1, target="tag/image/dog")
    with pytest.raises(BadRequest, match="1 to 500"):
        start(two, 1, 0)
    other = add(two, checkpoint="elsewhere-1")
    with pytest.raises(Refused, match="tuned for the checkpoint elsewhere-1"):
        start(two, other)
    start(two, 1)
    with pytest.raises(Refused, match=r"runs already: prompt 1\. Stop it first"):
        start(two, 1)
    two.backend.prompts.activate(two.key, 1)
    with pytest.raises(Refused, match="is active"):
        start(two, 1)
    assert [one.prompt for one in shadows.read(two.backend.store, two.key)] == [1]


def test_examples_that_are_not_there_cannot_be_a_shadow(stage: Stage) -> None:
    stage.setup()
    add(stage, activate=True)
    with pytest.raises(Refused, match="there are no examples"):
        start(stage)


def test_of_several_labels_the_one_is_to_be_named(two: Stage) -> None:
    project = two.label_studio.projects[two.project]
    dog = "tag/image/dog"
    project["label_config"] = project["label_config"].replace(
        '<Label value="cell"', '<Label value="dog"/><Label value="cell"', 1
    )
    two.setup()
    one, other = add(two), add(two, target=dog, label="dog")
    start(two, one)
    start(two, other)
    with pytest.raises(Refused, match="Name one of tag/image/cell, tag/image/dog"):
        shadows.stop(two.backend.store, two.key)
    assert shadows.stop(two.backend.store, two.key, dog).reason == "Stopped by hand."
    assert shadows.stop(two.backend.store, two.key).prompt == one
    with pytest.raises(Refused, match="nothing to stop"):
        shadows.stop(two.backend.store, two.key)
    for number in (one, other):
        two.backend.prompts.activate(two.key, number)
    with pytest.raises(Refused, match="Name one of"):
        start(two)


def test_the_last_that_ended_are_remembered_and_one_that_runs_is_never_forgotten(two: Stage) -> None:
    project = two.label_studio.projects[two.project]
    project["label_config"] = project["label_config"].replace(
        '<Label value="cell"', '<Label value="dog"/><Label value="cell"', 1
    )
    two.setup()
    dog = add(two, target="tag/image/dog", label="dog")
    start(two, dog)
    for wanted in range(1, 26):
        start(two, 1, wanted)
        shadows.stop(two.backend.store, two.key, two.target)
    found = shadows.read(two.backend.store, two.key)
    assert [one.wanted for one in found] == [*range(25, 6, -1), 20]
    assert found[-1].ended is None


# -- what it comes to ----------------------------------------------------------------------------------------------
def test_what_is_kept_of_a_shadow_is_what_would_be_kept_were_it_in_use(staging: Staging) -> None:
    """By the network itself, whose masks mean nothing here, and so agree with none by chance."""
    stage = staging(threshold=0.4)  # where these weights find something, and not everything
    stage.approve(1)
    number = add(stage, seed=4)
    start(stage, number)
    image, disc = blob(11)
    stage.submit(upload(stage, 11), brush(disc))
    stage.work()
    (pair,) = newest(stage).pairs
    stage.backend.prompts.activate(stage.key, number)
    again = stage.upload(image)
    stage.predict(again)
    stage.submit(again, brush(disc))
    stage.work()
    row = stage.backend.store.kept(stage.key)[-1]
    assert row.task == again
    assert 0 < pair.shadow == row.iou != pair.shown


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([], "too_few"),
        ([0.2], "too_few"),
        ([0.2] * 7, "too_few"),
        ([0.2, 0.3] * 4, "better"),
        ([-0.2, -0.3] * 4, "worse"),
        ([0.0] * 20, "open"),
        ([0.5, -0.4] * 10, "open"),
        ([0.01, 0.02] * 10, "better"),
    ],
)
def test_a_difference_is_clear_where_chance_would_not_bring_it(
    differences: list[float], verdict: str
) -> None:
    pairs = [Pair(n, n, 0.5, 0.5 + difference) for n, difference in enumerate(differences)]
    found = compare(pairs)
    assert found.verdict == verdict
    if pairs:
        assert found.shown == 0.5
        assert found.difference == pytest.approx(np.mean(differences))
        assert found.shadow == pytest.approx(0.5 + np.mean(differences))
    if len(pairs) > 1:
        assert found.error == pytest.approx(np.std(differences, ddof=1) / len(pairs) ** 0.5)
