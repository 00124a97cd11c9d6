"""How good tuned prompts are on a folder of known masks, by the protocol of `model.evaluation`."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model import retrieval
from model.evaluation import AT_ONCE, THRESHOLD, Episode, EvaluationError, Extra, Folder, Row, Tally, iou
from model.example import Context, Example, Picture, Prompt
from model.gate import COMPANIONS, MARGIN, Use
from model.segmenter import Query, Segmenter
from model.tuning import FEWEST, Tuning, TuningConfig, TuningProgress


@dataclass(frozen=True)
class TunedRow:
    """What `evaluate_tuned` found.

    Attributes:
        row: of method "tuned"; its seconds are of segmentation only.
        tunings: prompts that were learned.
        with_companions: how many of them were used with companions.
        seconds: of learning, all of them together.
    """

    row: Row
    tunings: int
    with_companions: int
    seconds: float


def evaluate_tuned(
    folder: str | Path,
    segmenter: Segmenter,
    shots: Sequence[int] = (1, 4, 8),
    config: TuningConfig | None = None,
    progress: Callable[[float, float], None] | None = None,
    extras: Collection[Extra] = (),
) -> TunedRow:
    """Evaluate tuned prompts by the protocol of `model.evaluation`, on the queries of the most shots with a row.

    A class's queries are dealt out in turn to two halves. A half is segmented by a prompt that was tuned on all of the
    class's images that are not in it, so no query trains its own prompt. Its validation split decides whether it is
    used with companions; so few examples that none is held out are companions. Where fewer than `FEWEST` images are
    left to tune on, all of them are the context.

    Args:
        folder: holds `images/` and `masks/*.png`.
        segmenter: what to evaluate.
        shots: numbers of examples, each at least 1.
        config: of every tuning.
        progress: called with (halves done and the part of the one that runs, halves in all), first with 0 done.
        extras: further figures to measure.

    Raises:
        EvaluationError: if the folder is not of the protocol's form, or has too few images for all of `shots`.
    """
    opened = Folder(Path(folder))
    most = max((count for count in shots if opened.episodes(count)), default=0)
    if not most:
        raise EvaluationError(f"{opened.path}: no class has more than {min(shots)} images")
    halves = _halves(opened.episodes(most))
    report = progress or (lambda done, total: None)
    tally, seconds, uses = Tally(most, "tuned", extras), 0.0, []
    report(0, len(halves))
    for place, half in enumerate(halves):

        def watch(part: TuningProgress, place: int = place) -> bool:
            report(place + part.step / part.steps, len(halves))
            return True

        others = _complement(opened, half)
        began = time.perf_counter()
        prompt, use = _learned(segmenter, others, config, watch)
        seconds += time.perf_counter() - began
        uses.append(use)
        for start in range(0, len(half), AT_ONCE):
            part = half[start : start + AT_ONCE]
            contexts = [_context(segmenter, opened.pair(e.query)[0], others, prompt, use) for e in part]
            tally.segment(opened, segmenter, part, contexts)
        report(place + 1, len(halves))
    return TunedRow(tally.row(), sum(use is not None for use in uses), uses.count("both"), seconds)


def _halves(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """Each class's episodes, in their order, dealt out in turn to two."""
    by_label: dict[int, list[Episode]] = {}
    for episode in episodes:
        by_label.setdefault(episode.label, []).append(episode)
    return [half for dealt in by_label.values() for half in (dealt[0::2], dealt[1::2]) if half]


def _complement(folder: Folder, half: Sequence[Episode]) -> list[Example]:
    """All images of the half's class but its queries."""
    label, queries = half[0].label, {episode.query for episode in half}
    return [folder.example(stem, label) for stem in folder.classes()[label] if stem not in queries]


def _learned(
    segmenter: Segmenter,
    examples: Sequence[Example],
    config: TuningConfig | None,
    watch: Callable[[TuningProgress], bool],
) -> tuple[Prompt | None, Use | None]:
    """A prompt and its use, by the validation split; with companions where there is none, and nothing if too early."""
    if len(examples) < FEWEST:
        return None, None
    tuned = Tuning(segmenter, examples, config).run(watch)
    assert tuned is not None, "nobody stops it"
    prompt = tuned.prompt("tuned")
    if not tuned.validated_on:
        return prompt, "both"
    chosen_by = [example for example in examples if example.key in tuned.validated_on]
    others = [example for example in examples if example.key in tuned.trained_on]
    contexts = [_context(segmenter, example.image, others, prompt, "both") for example in chosen_by]
    queries = [Query(example.image, context) for example, context in zip(chosen_by, contexts, strict=True)]
    maps = segmenter.segment(queries)
    both = [iou(map_ > THRESHOLD, example.mask) for map_, example in zip(maps, chosen_by, strict=True)]
    return prompt, "both" if sum(both) / len(both) > tuned.validation_iou + MARGIN else "prompt"


def _context(
    segmenter: Segmenter, picture: Picture, others: Sequence[Example], prompt: Prompt | None, use: Use | None
) -> Context:
    """A prompt with its companions, chosen by `model.retrieval`; without a prompt, all examples."""
    count = {None: len(others), "prompt": 0, "both": COMPANIONS}[use]
    if not count:
        return Context(prompt=prompt)
    described = np.stack([segmenter.describe(example.image) for example in others])
    picked = retrieval.choose(segmenter.describe(picture), described, [None] * len(others), count)
    return Context(tuple(others[place] for place in picked), prompt)
