"""The gate of context tuning: is a learned prompt better than what is in use, on masks that it has never seen?

Cross-validation. The examples are split into folds; for each fold a prompt is tuned on the others, and the fold's
masks are segmented by it and by what it would replace. Then the final prompt is tuned on all examples. The masks that
judge take no part in the training of the prompt judged, nor in choosing its best step.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from model import retrieval, zoom
from model.evaluation import THRESHOLD, iou
from model.example import Context, Example, Prompt
from model.segmenter import Query, Segmenter
from model.tuning import FEWEST, Tuned, Tuning, TuningConfig, TuningError, TuningProgress, require

COMPANIONS = 2
"""Examples beside a prompt where both are used: together less than half the price of eight."""

FOLDS = 3
PAIR = 2  # examples with which a fold's prompt can be tuned: one trains, one chooses
MARGIN = 0.02  # of mean IoU, by which companions must be better to be worth their price

Use = Literal["prompt", "both"]
OnStep = Callable[[TuningProgress], bool]
Choose = Callable[[str, Sequence[str], int], Sequence[str]]
"""Which examples a context is made of: key of the query's, keys of those allowed, and how many at most, to keys."""

_WAYS = ("context", "prompt", "both", "incumbent")


@dataclass(frozen=True, eq=False)
class Incumbent:
    """The prompt that is in use now.

    Attributes:
        prompt: of the segmenter's size.
        uses: whether it is used alone or with `COMPANIONS` examples.
        seen: keys of the examples that trained or chose it; their masks do not judge it.
    """

    prompt: Prompt
    uses: Use
    seen: frozenset[str]


@dataclass(frozen=True)
class Verdict:
    """Mean IoU, 0 to 1, over masks that the prompts judged have not seen.

    Attributes:
        masks: how many were judged.
        context_iou: by examples alone, as many as the gate was told at most.
        prompt_iou: by the prompt alone.
        both_iou: by the prompt and `COMPANIONS` examples.
        incumbent_iou: by the prompt in use, over the masks that it has not seen; None without one, or with fewer
            than `FEWEST` such masks.
        rival_iou: by the candidate, in its better use, over those same masks.
    """

    masks: int
    context_iou: float
    prompt_iou: float
    both_iou: float
    incumbent_iou: float | None = None
    rival_iou: float | None = None

    @property
    def uses(self) -> Use:
        """The better use; companions only where they add more than `MARGIN`, as they cost two prompts more."""
        return "both" if self.both_iou > self.prompt_iou + MARGIN else "prompt"

    @property
    def tuned_iou(self) -> float:
        """The candidate's, in its better use."""
        return self.both_iou if self.uses == "both" else self.prompt_iou

    @property
    def gain(self) -> float:
        """By how much the candidate beats what is in use: the incumbent where measured, else the examples."""
        if self.incumbent_iou is not None and self.rival_iou is not None:
            return self.rival_iou - self.incumbent_iou
        return self.tuned_iou - self.context_iou


@dataclass(frozen=True, eq=False)
class Judged:
    """The prompt tuned on all examples, and what was found of its like."""

    tuned: Tuned
    verdict: Verdict


class GatedTuning:
    """A tuning with its gate, which can be interrupted at every update and between any two maps."""

    def __init__(
        self,
        segmenter: Segmenter,
        examples: Sequence[Example],
        config: TuningConfig | None = None,
        shots: int = 8,
        incumbent: Incumbent | None = None,
        nearer: bool = False,
        choose: Choose | None = None,
    ) -> None:
        """Plan the folds.

        Args:
            segmenter: what to tune and segment with.
            examples: of one target; their order does not matter.
            config: of every part.
            shots: examples of the context that the prompt would replace.
            incumbent: what is in use, if a prompt is.
            nearer: whether examples alone would get a nearer look at small objects, as `model.zoom` decides.
            choose: which examples a prediction would use; None for those that `model.retrieval` chooses.

        Raises:
            TuningError: if there are fewer than `FEWEST` examples.
        """
        require(len(examples), FEWEST)
        self.config = config or TuningConfig()
        self._segmenter = segmenter
        self._examples = sorted(examples, key=lambda example: example.key)
        self._shots = shots
        self._incumbent = incumbent
        self._nearer = nearer
        order = np.random.default_rng(self.config.seed).permutation(len(examples))
        self._folds = [[int(index) for index in order[fold::FOLDS]] for fold in range(FOLDS)]
        self._choose = choose or self._by_likeness()
        self._found = np.full((len(examples), len(_WAYS)), math.nan)
        self._part = 0
        self._tuning: Tuning | None = None
        self._saved_part: bytes | None = None
        self._pace = 0.0  # seconds an update
        self._judging = [0.0, 0.0]  # seconds, maps

    def run(self, on_step: OnStep | None = None, resume: bytes | None = None) -> Judged | None:
        """Tune and judge to the end.

        Args:
            on_step: called after every update, every map and the choice of every start; False stops, and `save` holds what is needed to go on.
            resume: what `save` gave, of the same examples, configuration, incumbent and network.

        Returns:
            The final prompt and the verdict; None where it was stopped.

        Raises:
            TuningError: if `resume` does not fit.
            DeviceMemoryError: if not even one pair fits into memory.
        """
        if resume is not None:
            self._restore(resume)
        watch = on_step or (lambda progress: True)
        while self._part < len(self._folds):
            fold = self._folds[self._part]
            others = [index for index in range(len(self._examples)) if index not in fold]
            tuned = self._tune(others, PAIR, watch)
            if tuned is None or not self._judge(fold, others, tuned, watch):
                return None
            self._part, self._tuning = self._part + 1, None
        final = self._tune(range(len(self._examples)), FEWEST, watch)
        return None if final is None else Judged(final, self._verdict())

    @property
    def progress(self) -> TuningProgress:
        """Where it stands: updates of all parts, figures of the part that runs, seconds for all that is left."""
        steps = (len(self._folds) + 1) * self.config.steps
        before = self._part * self.config.steps
        maps, pace = self._maps_left(), self._judging[0] / max(self._judging[1], 1)
        if self._tuning is None:
            left = self._pace * (steps - before) + maps * pace
            return TuningProgress(before, steps, math.nan, math.nan, math.nan, left)
        part = self._tuning.progress
        step = before + (self.config.steps if self._tuning.finished else part.step)
        left = self._pace * (steps - step) + maps * pace
        return TuningProgress(step, steps, part.loss, part.validation_iou, part.best_iou, left)

    # -- parts ---------------------------------------------------------------------------------------------------
    def _tune(self, indices: Sequence[int], fewest: int, watch: OnStep) -> Tuned | None:
        if self._tuning is None:
            examples = [self._examples[index] for index in indices]
            self._tuning = Tuning(self._segmenter, examples, self.config, fewest=fewest)
            if self._saved_part is None and not watch(self.progress):  # choosing the start took a while
                return None
        tuning, saved = self._tuning, self._saved_part

        def stepped(part: TuningProgress) -> bool:
            self._pace = part.seconds_left / max(part.steps - part.step, 1) or self._pace
            return watch(self.progress)

        self._saved_part = None
        return tuning.run(stepped, resume=saved)

    def _judge(self, fold: Sequence[int], others: Sequence[int], tuned: Tuned, watch: OnStep) -> bool:
        """Segment the fold's masks in every way; False where it was stopped."""
        candidate = tuned.prompt("candidate")
        segment = self._look_nearer if self._nearer else self._segmenter.segment
        for index in fold:
            for way, context in self._contexts(index, others, candidate):
                if not math.isnan(self._found[index, way]):
                    continue
                began = time.perf_counter()
                example = self._examples[index]
                [probability] = segment([Query(example.image, context())])
                self._found[index, way] = iou(probability > THRESHOLD, example.mask)
                self._judging[0] += time.perf_counter() - began
                self._judging[1] += 1
                if not watch(self.progress):
                    return False
        return True

    def _look_nearer(self, queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        """As `Segmenter.segment`, with the nearer looks of `model.zoom`."""
        return [found.whole() for found in zoom.maps(self._segmenter, queries)]

    def _contexts(
        self, index: int, others: Sequence[int], candidate: Prompt
    ) -> Iterator[tuple[int, Callable[[], Context]]]:
        """The ways in which a mask is judged, as columns of the table, and what each segments it by."""

        def chosen(count: int) -> tuple[Example, ...]:
            allowed = {self._examples[other].key: self._examples[other] for other in others}
            return tuple(
                allowed[key] for key in self._choose(self._examples[index].key, list(allowed), count)
            )

        yield _WAYS.index("context"), lambda: Context(chosen(self._shots))
        yield _WAYS.index("prompt"), lambda: Context(prompt=candidate)
        yield _WAYS.index("both"), lambda: Context(chosen(COMPANIONS), candidate)
        incumbent = self._incumbent
        if incumbent is not None and self._examples[index].key not in incumbent.seen:
            beside = COMPANIONS if incumbent.uses == "both" else 0
            yield _WAYS.index("incumbent"), lambda: Context(chosen(beside), incumbent.prompt)

    def _by_likeness(self) -> Choose:
        descriptors = {example.key: self._segmenter.describe(example.image) for example in self._examples}

        def choose(key: str, allowed: Sequence[str], count: int) -> list[str]:
            described = np.stack([descriptors[other] for other in allowed])
            picked = retrieval.choose(descriptors[key], described, [None] * len(allowed), count)
            return [allowed[place] for place in picked]

        return choose

    def _unseen(self) -> list[int]:
        """Examples whose masks the incumbent has not seen."""
        if self._incumbent is None:
            return []
        seen = self._incumbent.seen
        return [index for index, example in enumerate(self._examples) if example.key not in seen]

    def _maps_left(self) -> int:
        planned = (len(_WAYS) - 1) * len(self._examples) + len(self._unseen())
        return planned - int(np.count_nonzero(~np.isnan(self._found)))

    def _verdict(self) -> Verdict:
        context, prompt, both = (float(np.mean(self._found[:, way])) for way in range(3))
        verdict = Verdict(len(self._examples), context, prompt, both)
        unseen = self._unseen()
        if len(unseen) < FEWEST:
            return verdict
        incumbent, rival = (
            float(np.mean(self._found[unseen, _WAYS.index(way)])) for way in ("incumbent", verdict.uses)
        )
        return Verdict(len(self._examples), context, prompt, both, incumbent, rival)

    # -- interruption --------------------------------------------------------------------------------------------
    def save(self) -> bytes:
        """Everything needed to go on, as a safetensors file of numbers: what was found, and the part that runs."""
        part = (
            self._tuning.save() if self._tuning is not None and self._saved_part is None else self._saved_part
        )
        tensors = {
            "found": torch.from_numpy(self._found),
            "numbers": torch.tensor([self._part, self._pace, *self._judging], dtype=torch.float64),
            **self._origin(),
        }
        if part is not None:
            tensors["part"] = torch.frombuffer(bytearray(part), dtype=torch.uint8)
        return save_tensors(tensors)

    def _origin(self) -> dict[str, torch.Tensor]:
        """Digests of what a saved state belongs to; they can be compared and tell nothing."""
        known = self._incumbent
        parts = {
            "origin.weights": (self._segmenter.identity, self._segmenter.image_size),
            "origin.examples": tuple(example.key for example in self._examples),
            "origin.settings": (self.config, self._shots, self._nearer),
            "origin.incumbent": known and (known.prompt.key, known.uses, sorted(known.seen)),
        }
        return {
            name: torch.tensor(list(hashlib.blake2b(repr(part).encode(), digest_size=16).digest()))
            for name, part in parts.items()
        }

    def _restore(self, saved: bytes) -> None:
        try:
            tensors = load_tensors(saved)
            found, numbers = tensors["found"].numpy(), tensors["numbers"].tolist()
            part, pace, *judging = numbers
            origin = {name: tensors[name] for name in self._origin()}
        except (KeyError, ValueError, SafetensorError) as error:
            raise TuningError(f"the saved tuning cannot be read: {error}") from None
        for name, digest in self._origin().items():
            if not torch.equal(digest, origin[name]):
                raise TuningError(f"the saved tuning was made with another {name.partition('.')[2]}")
        self._found, self._part, self._pace, self._judging = found.copy(), int(part), pace, judging
        self._tuning = None
        self._saved_part = tensors["part"].numpy().tobytes() if "part" in tensors else None
