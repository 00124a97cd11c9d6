"""Context tuning: the network stays as it is, the best step is kept, and an interrupted tuning goes on exactly."""

import numpy as np
import pytest
import torch

from model.example import Example
from model.segmenter import Segmenter
from model.tuning import FEWEST, Tuning, TuningConfig, TuningError, TuningProgress

QUICK = TuningConfig(steps=6, batch_size=2, validate_every=2, warmup=2, learning_rate=0.05)


def pool(count: int) -> list[Example]:
    """Bright discs on a dark ground."""
    random = np.random.default_rng(11)
    examples = []
    for number in range(count):
        rows, columns = np.mgrid[:40, :50]
        y, x = random.uniform(12, 28), random.uniform(12, 38)
        mask = (rows - y) ** 2 + (columns - x) ** 2 < 80
        image = random.integers(0, 60, (40, 50, 3), dtype=np.uint8)
        image[mask] += 150
        examples.append(Example(f"disc {number}", image, mask))
    return examples


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


def test_the_best_step_is_kept_and_is_never_worse_than_the_start(segmenter: Segmenter) -> None:
    seen: list[TuningProgress] = []

    def watch(progress: TuningProgress) -> bool:
        seen.append(progress)
        return True

    tuned = Tuning(segmenter, pool(8), QUICK).run(watch)
    assert tuned is not None
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert tuned.validation_iou >= tuned.initial_iou
    assert tuned.validation_iou == max([tuned.initial_iou, *(progress.validation_iou for progress in seen)])
    assert tuned.image.shape == tuned.mask.shape == (3, segmenter.image_size, segmenter.image_size)
    assert tuned.image.dtype == np.float32


def test_what_trains_never_judges(segmenter: Segmenter) -> None:
    examples = pool(9)
    tuned = Tuning(segmenter, examples, QUICK).result()
    assert not set(tuned.trained_on) & set(tuned.validated_on)
    assert sorted((*tuned.trained_on, *tuned.validated_on)) == sorted(example.key for example in examples)
    assert len(tuned.validated_on) == 2


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
