"""Context tuning: the network stays as it is, the best step is kept, and an interrupted tuning goes on exactly."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import canvas
from model.example import Context, Example
from model.segmenter import Query, Segmenter
from model.tuning import (
    FEWEST,
    FEWEST_SPLIT,
    MOST_VALIDATED,
    MOST_WATCHED,
    STARTS,
    Tuning,
    TuningConfig,
    TuningError,
    TuningProgress,
)
from tests.model.learning import pool

QUICK = TuningConfig(steps=6, batch_size=2, validate_every=2, warmup=2, learning_rate=0.05)


def test_with_too_few_examples_it_says_that_it_is_too_early(segmenter: Segmenter) -> None:
    with pytest.raises(TuningError, match=f"too early to tune: 3 examples, at least {FEWEST}"):
        Tuning(segmenter, pool(3))


def test_the_network_stays_as_it_is_and_the_prompt_moves(segmenter: Segmenter) -> None:
    before = {name: tensor.clone() for name, tensor in segmenter.model.state_dict().items()}
    tuning = Tuning(segmenter, pool(6), QUICK)
    start = tuning._state.image.detach().clone()
    assert tuning.run() is not None
    assert not torch.equal(tuning._state.image, start)
    for name, tensor in segmenter.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in segmenter.model.parameters())


def test_the_best_step_is_kept_and_the_last_looks_decide_when_it_ends(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(QUICK, steps=20, patience=3)
    tuning, images = Tuning(segmenter, pool(8), config), []
    figures = iter([(0.3, 0.1), (0.5, 0.2), (0.6, 0.15), (0.6, 0.4), (0.605, 0.3), (0.4, 0.9), (1.0, 1.0)])

    def measure() -> tuple[float, float]:
        images.append(tuning._state.image.detach().numpy().copy())
        return next(figures)

    monkeypatch.setattr(tuning, "_measure", measure)
    seen: list[TuningProgress] = []

    def watch(progress: TuningProgress) -> bool:
        seen.append(progress)
        return True

    tuned = tuning.run(watch)
    assert tuned is not None
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert (tuned.step, tuned.initial_iou, tuned.validation_iou) == (8, 0.1, 0.3), (
        "the best by however little"
    )
    assert np.array_equal(tuned.image, images[4])
    assert not np.array_equal(tuned.image, images[5])
    assert (seen[-1].validation_iou, seen[-1].best_iou) == (0.9, 0.3)


def test_the_start_does_not_choose_the_best_step(segmenter: Segmenter) -> None:
    """It would find itself, and no step could be better."""
    tuning = Tuning(segmenter, pool(12), QUICK)
    started_from = canvas.image_tensor(tuning._best_start().image, segmenter.image_size)
    assert torch.equal(tuning._state.image.detach(), started_from)
    choosing = [*tuning._validation, *tuning._watched]
    assert len(choosing) == len({example.key for example in choosing}) == 2 + MOST_WATCHED
    for example in choosing:
        assert not torch.equal(canvas.image_tensor(example.image, segmenter.image_size), started_from)


def test_a_tuned_prompt_has_the_network_s_size(segmenter: Segmenter) -> None:
    tuned = Tuning(segmenter, pool(5), QUICK).run()
    assert tuned is not None
    assert tuned.image.shape == tuned.mask.shape == (3, segmenter.image_size, segmenter.image_size)
    assert tuned.image.dtype == tuned.mask.dtype == np.float32


def test_a_tuned_prompt_knows_how_large_the_objects_were_that_it_learned_from(segmenter: Segmenter) -> None:
    """Of all its examples, those too that only chose its best step."""
    examples = [
        Example(disc.key, disc.image, disc.mask & (np.arange(50) < 14 + 3 * number))
        for number, disc in enumerate(pool(9))
    ]
    tuning = Tuning(segmenter, examples, QUICK)
    tuned = tuning.result()
    assert tuned.object_side == Context(tuple(examples)).object_side > 0
    assert tuned.object_side != Context(tuple(tuning._training)).object_side
    assert tuned.prompt("p").object_side == tuned.object_side


def test_what_trains_never_judges(segmenter: Segmenter) -> None:
    examples = pool(9)
    tuned = Tuning(segmenter, examples, QUICK).result()
    assert not set(tuned.trained_on) & set(tuned.validated_on)
    assert sorted((*tuned.trained_on, *tuned.validated_on)) == sorted(example.key for example in examples)
    assert len(tuned.validated_on) == 2


def test_of_few_examples_none_is_held_out(segmenter: Segmenter) -> None:
    few = Tuning(segmenter, pool(FEWEST_SPLIT - 1), QUICK).result()
    assert (len(few.trained_on), few.validated_on) == (FEWEST_SPLIT - 1, ())
    enough = Tuning(segmenter, pool(FEWEST_SPLIT), QUICK).result()
    assert (len(enough.trained_on), len(enough.validated_on)) == (FEWEST_SPLIT - 2, 2)


def test_an_interrupted_tuning_ends_exactly_as_one_that_ran_through(segmenter: Segmenter) -> None:
    examples = pool(8)
    through = Tuning(segmenter, examples, QUICK).run()
    stopped = Tuning(segmenter, examples, QUICK)
    assert stopped.run(lambda progress: progress.step < 3) is None
    resumed = Tuning(segmenter, examples, QUICK)
    seen: list[int] = []

    def watch(progress: TuningProgress) -> bool:
        seen.append(progress.step)
        return True

    ended = resumed.run(watch, resume=stopped.save())
    assert seen == [4, 5, 6]
    assert through is not None
    assert ended is not None
    assert np.array_equal(ended.image, through.image)
    assert np.array_equal(ended.mask, through.mask)
    assert (ended.step, ended.validation_iou) == (through.step, through.validation_iou)


@pytest.mark.parametrize("saved", [b"", b"not a tuning", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_saved_tuning_that_cannot_be_read_is_refused(segmenter: Segmenter, saved: bytes) -> None:
    with pytest.raises(TuningError, match="cannot be read"):
        Tuning(segmenter, pool(4), QUICK).run(resume=saved)


def test_without_the_mask_only_the_image_is_learned(segmenter: Segmenter) -> None:
    tuning = Tuning(
        segmenter, pool(6), TuningConfig(steps=2, batch_size=2, learn_mask=False, validate_every=1)
    )
    start = tuning._state.mask.clone()
    tuning.run()
    assert torch.equal(tuning._state.mask, start)


def test_a_batch_too_large_for_memory_is_taken_in_parts(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal parts of a batch add up to the gradient of the whole, so the loss must agree, not only come out finite."""
    examples = pool(6)
    whole = Tuning(segmenter, examples, TuningConfig(steps=1, batch_size=4))
    whole.run()
    parts = Tuning(segmenter, examples, TuningConfig(steps=1, batch_size=4))
    real = parts._loss

    def small_only(part: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        if len(part) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(part)

    monkeypatch.setattr(parts, "_loss", small_only)
    parts.run()
    assert parts._state.batch_size == 1
    assert parts.progress.loss == pytest.approx(whole.progress.loss, abs=1e-3)


def test_the_price_of_start_and_validation_is_bounded_however_many_examples_there_are(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Query] = []
    real = segmenter.segment

    def segment(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        asked.extend(queries)
        return real(queries)

    monkeypatch.setattr(segmenter, "segment", segment)
    tuning = Tuning(segmenter, pool(100), QUICK)
    assert len(asked) == STARTS * STARTS // 2
    assert len(tuning.result().validated_on) == MOST_VALIDATED


def test_two_examples_are_enough_where_that_is_allowed(segmenter: Segmenter) -> None:
    tuned = Tuning(segmenter, pool(2), QUICK, fewest=2).run()
    assert tuned is not None
    assert len(tuned.trained_on) == 2
    assert 0 <= tuned.initial_iou <= tuned.validation_iou <= 1
    with pytest.raises(TuningError, match="1 examples, at least 2"):
        Tuning(segmenter, pool(1), QUICK, fewest=1)
