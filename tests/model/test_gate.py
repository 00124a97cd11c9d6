"""The gate: what judges has never trained, figures are means of the right masks, and interruption changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors

from model import gate
from model.example import Prompt
from model.gate import COMPANIONS, GatedTuning, Incumbent, Judged, Verdict
from model.seggpt import SegGPT
from model.segmenter import Segmenter
from model.tuning import FEWEST, Tuned, TuningConfig, TuningError, TuningProgress
from tests.model.learning import Recorder, pool

QUICK = TuningConfig(steps=2, batch_size=2, validate_every=1, warmup=1, learning_rate=0.05)


def blank(size: int) -> NDArray[np.float32]:
    return np.zeros((3, size, size), np.float32)


def judged(tuning: GatedTuning, **arguments: Any) -> Judged:
    ended = tuning.run(**arguments)
    assert ended is not None
    return ended


def same(first: Judged, second: Judged) -> bool:
    tuned = [(one.tuned.image.tobytes(), one.tuned.mask.tobytes(), one.tuned.step) for one in (first, second)]
    return tuned[0] == tuned[1] and first.verdict == second.verdict


def test_with_too_few_examples_it_says_that_it_is_too_early(segmenter: Segmenter) -> None:
    with pytest.raises(TuningError, match=f"too early to tune: 3 examples, at least {FEWEST}"):
        GatedTuning(segmenter, pool(3), QUICK)


@pytest.mark.parametrize("count", [4, 5, 9])
def test_every_mask_is_judged_once_in_every_way(segmenter: Segmenter, count: int) -> None:
    ended = judged(GatedTuning(segmenter, pool(count), QUICK))
    verdict = ended.verdict
    assert verdict.masks == count
    assert all(0 <= figure <= 1 for figure in (verdict.context_iou, verdict.prompt_iou, verdict.both_iou))
    assert (verdict.incumbent_iou, verdict.rival_iou) == (None, None)
    assert len({*ended.tuned.trained_on, *ended.tuned.validated_on}) == count


def test_a_judged_mask_neither_trained_nor_chose_its_prompt_nor_is_in_its_context(
    recorder: Recorder, tuned_seen: dict[int, Tuned]
) -> None:
    examples = pool(8)
    judged(GatedTuning(recorder, examples, QUICK, shots=4))
    key_of = {id(example.image): example.key for example in examples}
    by_prompt = [
        query
        for query in recorder.asked
        if query.context.prompt is not None and id(query.context.prompt.image) in tuned_seen
    ]
    judging = [query for query in by_prompt if query.context.prompt and query.context.examples]
    assert sorted(key_of[id(query.image)] for query in judging) == [example.key for example in examples]
    for query in judging:
        assert query.context.prompt is not None
        tuned = tuned_seen[id(query.context.prompt.image)]
        trained = {*tuned.trained_on, *tuned.validated_on}
        key = key_of[id(query.image)]
        assert key not in trained
        assert key not in query.context.keys
        assert len(query.context.examples) == COMPANIONS
        assert {example.key for example in query.context.examples} <= trained
    assert sum(len(query.context.examples) == 4 for query in recorder.asked) == len(examples)


def test_contexts_are_chosen_as_the_caller_chooses(recorder: Recorder) -> None:
    asked: list[tuple[str, int]] = []

    def last(key: str, allowed: Sequence[str], count: int) -> list[str]:
        asked.append((key, count))
        assert key not in allowed
        return list(allowed)[-1:]

    examples = pool(4)
    judged(GatedTuning(recorder, examples, QUICK, shots=3, choose=last))
    assert sorted(asked) == sorted((example.key, count) for example in examples for count in (3, COMPANIONS))
    both = [query for query in recorder.asked if query.context.prompt and query.context.examples]
    assert [len(query.context.examples) for query in both] == [1] * len(examples)


@pytest.mark.parametrize("nearer", [False, True])
def test_examples_get_the_nearer_look_that_they_would_get_without_a_prompt(
    recorder: Recorder, nearer: bool
) -> None:
    """Else a prompt, which gets none, could take the place of examples that find small objects better."""
    examples = []
    for example in pool(4):
        image, mask = np.full((200, 250, 3), 30, np.uint8), np.zeros((200, 250), np.bool_)
        image[80:120, 100:150], mask[80:120, 100:150] = example.image, example.mask
        examples.append(replace(example, image=image, mask=mask))
    judged(GatedTuning(recorder, examples, QUICK, nearer=nearer))
    close = [query for query in recorder.asked if query.image.shape != (200, 250, 3)]
    assert bool(close) == nearer
    assert all(query.context.prompt is None for query in close)


def test_the_incumbent_is_judged_by_masks_that_it_has_not_seen(recorder: Recorder) -> None:
    examples = pool(9)
    prompt = Prompt("in use", blank(recorder.image_size), blank(recorder.image_size))
    seen = frozenset(example.key for example in examples[:4])
    incumbent = Incumbent(prompt, "both", seen)
    tuning = GatedTuning(recorder, examples, QUICK, incumbent=incumbent)
    verdict = judged(tuning).verdict
    by_incumbent = [query for query in recorder.asked if query.context.prompt is prompt]
    key_of = {id(example.image): example.key for example in examples}
    assert sorted(key_of[id(query.image)] for query in by_incumbent) == [
        example.key for example in examples[4:]
    ]
    assert all(len(query.context.examples) == COMPANIONS for query in by_incumbent)
    unseen = [index for index, example in enumerate(examples) if example.key not in seen]
    column = ("context", "prompt", "both").index(verdict.uses)
    assert verdict.rival_iou == pytest.approx(float(np.mean(tuning._found[unseen, column])))
    assert verdict.incumbent_iou == pytest.approx(float(np.mean(tuning._found[unseen, 3])))
    assert verdict.rival_iou is not None
    assert verdict.incumbent_iou is not None
    assert verdict.gain == pytest.approx(verdict.rival_iou - verdict.incumbent_iou)


def test_an_incumbent_that_has_seen_nearly_everything_is_not_judged(segmenter: Segmenter) -> None:
    examples = pool(6)
    seen = frozenset(example.key for example in examples[: 6 - FEWEST + 1])
    prompt = Prompt("in use", blank(segmenter.image_size), blank(segmenter.image_size))
    verdict = judged(
        GatedTuning(segmenter, examples, QUICK, incumbent=Incumbent(prompt, "prompt", seen))
    ).verdict
    assert (verdict.incumbent_iou, verdict.rival_iou) == (None, None)
    assert verdict.gain == pytest.approx(verdict.tuned_iou - verdict.context_iou)


def test_companions_are_used_only_where_they_are_worth_their_price() -> None:
    alone = Verdict(8, context_iou=0.5, prompt_iou=0.6, both_iou=0.6 + gate.MARGIN / 2)
    assert (alone.uses, alone.tuned_iou) == ("prompt", 0.6)
    assert alone.gain == pytest.approx(0.1)
    together = replace(alone, both_iou=0.7)
    assert (together.uses, together.tuned_iou) == ("both", 0.7)
    assert together.gain == pytest.approx(0.2)
    against = replace(together, incumbent_iou=0.8, rival_iou=0.75)
    assert against.gain == pytest.approx(-0.05)


def test_the_order_of_the_examples_does_not_matter(segmenter: Segmenter) -> None:
    examples = pool(5)
    first = judged(GatedTuning(segmenter, examples, QUICK))
    assert same(first, judged(GatedTuning(segmenter, examples[::-1], QUICK)))


def test_a_tuning_stopped_at_any_call_ends_exactly_as_one_that_ran_through(segmenter: Segmenter) -> None:
    examples = pool(4)
    prompt = Prompt("in use", blank(segmenter.image_size), blank(segmenter.image_size))
    incumbent = Incumbent(prompt, "prompt", frozenset())
    calls: list[TuningProgress] = []

    def watch(progress: TuningProgress) -> bool:
        calls.append(progress)
        return True

    through = judged(GatedTuning(segmenter, examples, QUICK, incumbent=incumbent), on_step=watch)
    updates = (gate.FOLDS + 1) * QUICK.steps
    assert len(calls) == (gate.FOLDS + 1) + updates + 4 * len(examples), "starts, updates and maps"
    assert [progress.step for progress in calls] == sorted(progress.step for progress in calls)
    assert (calls[-1].step, calls[-1].steps) == (updates, updates)
    assert calls[-1].seconds_left == 0
    tuned = 1 + QUICK.steps
    first_fold = tuned + 2 * 4
    places = (1, 2, tuned, tuned + 1, first_fold, first_fold + 1, len(calls) - 2, len(calls))
    for place in places:
        count = 0

        def stop(_: TuningProgress, place: int = place) -> bool:
            nonlocal count
            count += 1
            return count < place

        stopped = GatedTuning(segmenter, examples, QUICK, incumbent=incumbent)
        assert stopped.run(stop) is None
        resumed = GatedTuning(segmenter, examples, QUICK, incumbent=incumbent)
        rest: list[int] = []
        ended = judged(
            resumed,
            on_step=lambda progress, rest=rest: rest.append(progress.step) is None,
            resume=stopped.save(),
        )
        assert len(rest) == len(calls) - place, "nothing is done twice"
        assert same(ended, through)


def test_what_is_saved_is_numbers_and_no_name(segmenter: Segmenter) -> None:
    tuning = GatedTuning(segmenter, pool(4), QUICK)
    tuning.run(lambda progress: progress.step < 3)
    saved = tuning.save()
    assert b"disc" not in saved
    assert set(load_tensors(saved)) == {
        "found",
        "numbers",
        "part",
        "origin.weights",
        "origin.examples",
        "origin.settings",
        "origin.incumbent",
    }
    again = GatedTuning(segmenter, pool(4), QUICK)
    again._restore(saved)
    assert again.save() == saved, "also before it goes on"


def test_a_saved_tuning_that_does_not_fit_is_refused(segmenter: Segmenter, small_model: SegGPT) -> None:
    tuning = GatedTuning(segmenter, pool(5), QUICK)
    tuning.run(lambda _: False)
    saved = tuning.save()
    prompt = Prompt("in use", blank(segmenter.image_size), blank(segmenter.image_size))
    with torch.no_grad():
        small_model.mask_token.add_(1)
    other = Segmenter(small_model, dtype=torch.float32)
    for refusing, reason in (
        (GatedTuning(segmenter, pool(4), QUICK), "other examples"),
        (GatedTuning(segmenter, pool(5), replace(QUICK, seed=1)), "other settings"),
        (GatedTuning(segmenter, pool(5), QUICK, shots=4), "other settings"),
        (
            GatedTuning(segmenter, pool(5), QUICK, incumbent=Incumbent(prompt, "both", frozenset())),
            "other incumbent",
        ),
        (GatedTuning(other, pool(5), QUICK), "other weights"),
    ):
        with pytest.raises(TuningError, match=reason):
            refusing.run(resume=saved)
    for broken in (b"", b"not a tuning", saved[:-9]):
        with pytest.raises(TuningError, match="cannot be read"):
            GatedTuning(segmenter, pool(5), QUICK).run(resume=broken)
