"""Context tuning: learns a prompt tensor from examples while the network stays frozen; knows no store and no project.

Wang et al., "SegGPT: Segmenting Everything In Context" (2023), section 3.3: the tensors of the prompt are parameters,
the network is not. Only the query half is hidden: hiding the prompt half too would make the learned mask its own target.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from model import canvas
from model import device as devices
from model.augmentation import augmented
from model.evaluation import THRESHOLD, iou, worth
from model.example import Context, Example, Prompt
from model.overlap import overlap_loss
from model.seggpt import painting_loss
from model.segmenter import Query, Segmenter

FEWEST = 4
"""Examples below which tuning is too early."""

FEWEST_SPLIT = 8
"""Examples from which on some are held out of training; of fewer, each is worth more as a lesson than as a judge."""

STARTS = 8  # examples that are tried as the start
MOST_VALIDATED = 16  # examples that choose the best step; more would cost more than they tell
MOST_WATCHED = 8  # examples that trained and choose the best step too
_DEGRADED = 0.01  # of IoU; less is noise


class TuningError(ValueError):
    """The tuning cannot be done; the message says why."""


def require(count: int, fewest: int) -> None:
    """See that there are examples enough.

    Raises:
        TuningError: if `count` is less than `fewest`.
    """
    if count < fewest:
        raise TuningError(f"it is too early to tune: {count} examples, at least {fewest} are needed")


@dataclass(frozen=True)
class TuningConfig:
    """How a prompt is learned.

    Attributes:
        steps: most updates.
        batch_size: (query, mask) pairs in an update; halved where memory runs out.
        learning_rate: of AdamW, at its peak, in units of normalised pixels.
        warmup: updates until the peak; then the rate follows a cosine to nothing.
        validate_every: updates between two looks at how good it is.
        patience: looks without improvement after which it ends.
        validation_share: share of `FEWEST_SPLIT` or more examples that never trains, 0 to 0.5; at least one.
        learn_mask: whether the prompt's mask is learned beside its image.
        seed: of the split, the crops and the order.
    """

    steps: int = 60
    batch_size: int = 4
    learning_rate: float = 0.05
    warmup: int = 5
    validate_every: int = 10
    patience: int = 4
    validation_share: float = 0.2
    learn_mask: bool = True
    seed: int = 0


@dataclass(frozen=True)
class TuningProgress:
    """Where a tuning stands.

    Attributes:
        step: updates done.
        steps: updates at most.
        loss: of the last update; NaN before the first.
        validation_iou: when last looked at, as `Tuned.validation_iou`.
        best_iou: the same, of the best prompt so far.
        seconds_left: at most, by the pace so far.
    """

    step: int
    steps: int
    loss: float
    validation_iou: float
    best_iou: float
    seconds_left: float


@dataclass(frozen=True, eq=False)
class Tuned:
    """A learned prompt and its figures.

    Attributes:
        image: `[3, S, S]` float32, normalised.
        mask: `[3, S, S]` float32, normalised.
        step: the update at which it was best; 0 where none was better than the start.
        initial_iou: as `validation_iou`, with the untuned start.
        validation_iou: mean IoU of the validation split, 0 to 1; without one, of training examples, which flatters.
        trained_on: keys of the examples that trained it.
        validated_on: keys of the validation split; empty with fewer than `FEWEST_SPLIT` examples.
        object_side: as `Context.object_side`, of all examples; 0 where their masks are empty.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    step: int
    initial_iou: float
    validation_iou: float
    trained_on: tuple[str, ...]
    validated_on: tuple[str, ...]
    object_side: float

    def prompt(self, key: str) -> Prompt:
        """As a context takes it."""
        return Prompt(key, self.image, self.mask, self.object_side)


@dataclass
class _State:
    """What changes from update to update; all of it is in a saved state."""

    image: Tensor
    mask: Tensor
    best_image: Tensor
    best_mask: Tensor
    step: int = 0
    best_step: int = 0
    initial_iou: float = math.nan
    iou: float = math.nan
    best_iou: float = math.nan
    best_score: float = -1.0
    looks_since_best: int = 0
    loss: float = math.nan
    batch_size: int = 8
    seconds: float = 0.0


class Tuning:
    """One tuning that can be interrupted at every update and goes on from where it was."""

    def __init__(
        self,
        segmenter: Segmenter,
        examples: Sequence[Example],
        config: TuningConfig | None = None,
        *,
        fewest: int = FEWEST,
    ) -> None:
        """Split the examples and choose the start: of `STARTS` examples the one that finds the others best.

        Args:
            segmenter: what to tune with.
            examples: of one target.
            config: how.
            fewest: examples below which it is too early; at least two, as one starts and one chooses the best step.

        Raises:
            TuningError: if there are fewer than `fewest` examples.
        """
        self.config = config or TuningConfig()
        require(len(examples), max(2, fewest))
        self._segmenter = segmenter
        self._size = segmenter.image_size
        self._training, self._validation = self._split(examples)
        start = self._best_start()
        self._watched = [example for example in self._training if example is not start][:MOST_WATCHED]
        image, mask = canvas.image_tensor(start.image, self._size), canvas.mask_tensor(start.mask, self._size)
        self._state = _State(image, mask, image.clone(), mask.clone(), batch_size=self.config.batch_size)
        self._optimiser = self._new_optimiser()

    def run(
        self, on_step: Callable[[TuningProgress], bool] | None = None, resume: bytes | None = None
    ) -> Tuned | None:
        """Tune to the end.

        Args:
            on_step: called after every update; False stops, and `save` holds what is needed to go on. It may wait.
            resume: what `save` gave, of the same examples, configuration and network.

        Returns:
            The best prompt; None where it was stopped.

        Raises:
            TuningError: if `resume` does not fit.
            DeviceMemoryError: if not even one pair fits into memory.
        """
        if resume is not None:
            self._restore(resume)
        if math.isnan(self._state.initial_iou):
            self._look()
            self._state.initial_iou = self._state.iou
        while not self.finished:
            self._update()
            if self._state.step % self.config.validate_every == 0 or self._state.step == self.config.steps:
                self._look()
            if on_step is not None and not on_step(self.progress):
                return None
        return self.result()

    @property
    def finished(self) -> bool:
        """Whether the steps are done or nothing has improved for long."""
        return self._state.step >= self.config.steps or self._state.looks_since_best >= self.config.patience

    @property
    def progress(self) -> TuningProgress:
        """Where it stands."""
        state = self._state
        pace = state.seconds / max(state.step, 1)
        left = pace * (self.config.steps - state.step)
        return TuningProgress(state.step, self.config.steps, state.loss, state.iou, state.best_iou, left)

    def result(self) -> Tuned:
        """The best prompt so far."""
        state = self._state
        trained, validated = (tuple(e.key for e in part) for part in (self._training, self._validation))
        image, mask = state.best_image.numpy(), state.best_mask.numpy()
        side = Context((*self._training, *self._validation)).object_side
        return Tuned(
            image, mask, state.best_step, state.initial_iou, state.best_iou, trained, validated, side
        )

    # -- parts ---------------------------------------------------------------------------------------------------
    def _split(self, examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
        order = np.random.default_rng(self.config.seed).permutation(len(examples))
        wanted = round(len(examples) * self.config.validation_share)
        held = min(max(1, wanted), MOST_VALIDATED) if len(examples) >= FEWEST_SPLIT else 0
        ordered = [examples[index] for index in order]
        return ordered[held:], ordered[:held]

    def _best_start(self) -> Example:
        tried = self._training[:STARTS]
        return tried[int(np.argmax(worth(tried, self._segmenter, at_most=STARTS // 2)))]

    def _new_optimiser(self) -> torch.optim.Optimizer:
        learned = [self._state.image, self._state.mask] if self.config.learn_mask else [self._state.image]
        for tensor in learned:
            tensor.requires_grad_(True)
        return torch.optim.AdamW(learned, lr=self.config.learning_rate, weight_decay=0.0)

    def _rate(self, step: int) -> float:
        config = self.config
        if step < config.warmup:
            return config.learning_rate * (step + 1) / config.warmup
        done = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def _update(self) -> None:
        began = time.perf_counter()
        state = self._state
        random = np.random.default_rng((self.config.seed, state.step))
        picked = random.integers(len(self._training), size=self.config.batch_size)
        pairs = [augmented(self._training[index], self._size, random) for index in picked]
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(state.step)
        self._optimiser.zero_grad()
        state.loss = self._gradients(pairs)
        self._optimiser.step()
        state.step += 1
        state.seconds += time.perf_counter() - began

    def _gradients(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
        """Add up the gradients of a batch, in parts as large as memory allows; returns the mean loss."""
        state, total, place = self._state, 0.0, 0
        while place < len(pairs):
            part = pairs[place : place + state.batch_size]
            loss = self._attempt(part, len(part) / len(pairs))
            if loss is not None:
                total += loss
                place += len(part)
            elif not self._segmenter.release():
                state.batch_size = self._smaller(len(part))
        return total

    def _attempt(self, part: Sequence[tuple[Tensor, Tensor]], share: float) -> float | None:
        """Add the gradients of a part, all of them or none; its share of the loss, None where memory ran out."""
        learned = self._optimiser.param_groups[0]["params"]
        try:
            loss = self._loss(part) * share
            gradients = torch.autograd.grad(loss, learned)
        except (RuntimeError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise
            return None
        for tensor, gradient in zip(learned, gradients, strict=True):
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        return float(loss.detach())

    def _smaller(self, failed: int) -> int:
        if failed > 1:
            return failed // 2
        raise devices.DeviceMemoryError(
            f"{self._segmenter.device} has not enough memory to tune with even one picture at a time at "
            f"{self._size} px: use a smaller checkpoint, or another device"
        )

    def _loss(self, part: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        model, device, dtype = self._segmenter.model, self._segmenter.device, self._segmenter.dtype
        queries = torch.stack([query for query, _ in part]).to(device, dtype)
        targets = torch.stack([target for _, target in part]).to(device, dtype)
        prompt = self._state.image.to(device, dtype).expand(len(part), 1, -1, -1, -1)
        mask = self._state.mask.to(device, dtype).expand(len(part), 1, -1, -1, -1)
        with self._segmenter.turn():
            painted = model(prompt, mask, queries)
        return painting_loss(painted, targets, torch.ones(1, device=device)) + overlap_loss(painted, targets)

    def _look(self) -> None:
        """See how good the prompt is and keep what is best."""
        state = self._state
        score, state.iou = self._measure()
        state.looks_since_best += 1
        if score > state.best_score:
            if score > state.best_score + _DEGRADED:
                state.looks_since_best = 0
            state.best_score, state.best_iou, state.best_step = score, state.iou, state.step
            state.best_image, state.best_mask = state.image.detach().clone(), state.mask.detach().clone()

    def _measure(self) -> tuple[float, float]:
        """By what the best step is chosen, and the validation split's mean IoU.

        A few validation masks alone would make the best step a lottery: what trained, but for the start, counts as
        much. Whether a prompt is used at all is for `model.gate` to say, by masks that did neither.
        """
        image, mask = (tensor.detach().numpy().copy() for tensor in (self._state.image, self._state.mask))
        context = Context(prompt=Prompt("candidate", image, mask))
        looked = [*self._validation, *self._watched]
        maps = self._segmenter.segment([Query(example.image, context) for example in looked])
        found = [iou(map_ > THRESHOLD, e.mask) for map_, e in zip(maps, looked, strict=True)]
        trained = float(np.mean(found[len(self._validation) :]))
        validation = float(np.mean(found[: len(self._validation)] or trained))
        return (validation + trained) / 2, validation

    # -- interruption --------------------------------------------------------------------------------------------
    def save(self) -> bytes:
        """Everything needed to go on, as a safetensors file without any image or name in it."""
        state = self._state
        tensors = {
            "image": state.image.detach(),
            "mask": state.mask.detach(),
            "best_image": state.best_image,
            "best_mask": state.best_mask,
            "numbers": torch.tensor([getattr(state, name) for name in _NUMBERS], dtype=torch.float64),
        }
        for index, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {
                f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()
            }
        return save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})

    def _restore(self, saved: bytes) -> None:
        try:
            tensors = load_tensors(saved)
            numbers = dict(zip(_NUMBERS, tensors["numbers"].tolist(), strict=True))
            parts = {name: tensors[name] for name in ("image", "mask", "best_image", "best_mask")}
        except (KeyError, ValueError, SafetensorError) as error:
            raise TuningError(f"the saved tuning cannot be read: {error}") from None
        if any(part.shape != self._state.image.shape for part in parts.values()):
            raise TuningError("the saved tuning was made for a network of another size")
        self._state = _State(parts["image"], parts["mask"], parts["best_image"], parts["best_mask"])
        for name, value in numbers.items():
            setattr(self._state, name, _NUMBERS[name](value))
        self._optimiser = self._new_optimiser()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensor
        described = self._optimiser.state_dict()
        self._optimiser.load_state_dict({**described, "state": moments})


_NUMBERS: dict[str, Callable[[float], Any]] = {
    "step": int,
    "best_step": int,
    "initial_iou": float,
    "iou": float,
    "best_iou": float,
    "best_score": float,
    "looks_since_best": int,
    "loss": float,
    "batch_size": int,
    "seconds": float,
}
