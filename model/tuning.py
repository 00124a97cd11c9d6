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
from model.evaluation import THRESHOLD, iou, worth
from model.example import Context, Example, Prompt
from model.seggpt import painting_loss
from model.segmenter import Query, Segmenter

FEWEST = 4
"""Examples below which tuning is too early."""

_DEGRADED = 0.01  # of validation IoU; less is noise


class TuningError(ValueError):
    """The tuning cannot be done; the message says why."""


@dataclass(frozen=True)
class TuningConfig:
    """How a prompt is learned.

    Attributes:
        steps: most updates.
        batch_size: (query, mask) pairs in an update; halved where memory runs out.
        learning_rate: of AdamW, at its peak, in units of normalised pixels.
        warmup: updates until the peak; then the rate follows a cosine to nothing.
        validate_every: updates between two looks at the validation split.
        patience: looks without improvement after which it ends.
        validation_share: share of the examples that never trains, 0 to 0.5; at least one example.
        learn_mask: whether the prompt's mask is learned beside its image.
        seed: of the split, the crops and the order.
    """

    steps: int = 400
    batch_size: int = 8
    learning_rate: float = 0.02
    warmup: int = 20
    validate_every: int = 25
    patience: int = 6
    validation_share: float = 0.25
    learn_mask: bool = True
    seed: int = 0


@dataclass(frozen=True)
class TuningProgress:
    """Where a tuning stands.

    Attributes:
        step: updates done.
        steps: updates at most.
        loss: of the last update; NaN before the first.
        validation_iou: mean IoU of the split when last looked at, 0 to 1.
        best_iou: the best so far.
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
        initial_iou: mean IoU of the validation split with the untuned start.
        validation_iou: the same with this prompt.
        trained_on: keys of the examples that trained it.
        validated_on: keys of the examples that chose it.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    step: int
    initial_iou: float
    validation_iou: float
    trained_on: tuple[str, ...]
    validated_on: tuple[str, ...]

    def prompt(self, key: str) -> Prompt:
        """As a context takes it."""
        return Prompt(key, self.image, self.mask)


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
    best_iou: float = -1.0
    looks_since_best: int = 0
    loss: float = math.nan
    batch_size: int = 8
    seconds: float = 0.0


class Tuning:
    """One tuning that can be interrupted at every update and goes on from where it was."""

    def __init__(
        self, segmenter: Segmenter, examples: Sequence[Example], config: TuningConfig | None = None
    ) -> None:
        """Split the examples and choose the start: the example that finds the others best.

        Raises:
            TuningError: if there are fewer than `FEWEST` examples, or one of them has no mask at all.
        """
        self.config = config or TuningConfig()
        if len(examples) < FEWEST:
            raise TuningError(
                f"it is too early to tune: {len(examples)} examples, at least {FEWEST} are needed"
            )
        self._segmenter = segmenter
        self._size = segmenter.image_size
        self._training, self._validation = self._split(examples)
        start = self._best_start()
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
        elif self._state.step == 0:
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
        return Tuned(
            image=state.best_image.numpy(),
            mask=state.best_mask.numpy(),
            step=state.best_step,
            initial_iou=state.initial_iou,
            validation_iou=state.best_iou,
            trained_on=tuple(example.key for example in self._training),
            validated_on=tuple(example.key for example in self._validation),
        )

    # -- parts ---------------------------------------------------------------------------------------------------
    def _split(self, examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
        order = np.random.default_rng(self.config.seed).permutation(len(examples))
        held = max(1, round(len(examples) * self.config.validation_share))
        ordered = [examples[index] for index in order]
        return ordered[held:], ordered[:held]

    def _best_start(self) -> Example:
        scores = worth(self._training, self._segmenter)
        return self._training[int(np.argmax(scores))]

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
        pairs = [_augmented(self._training[index], self._size, random) for index in picked]
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
            try:
                loss = self._loss(part) * (len(part) / len(pairs))
                loss.backward()  # type: ignore[no-untyped-call]
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error) or state.batch_size == 1:
                    raise
                state.batch_size = max(1, state.batch_size // 2)
                continue
            total += float(loss.detach())
            place += len(part)
        return total

    def _loss(self, part: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        model, device, dtype = self._segmenter.model, self._segmenter.device, self._segmenter.dtype
        queries = torch.stack([query for query, _ in part]).to(device, dtype)
        targets = torch.stack([target for _, target in part]).to(device, dtype)
        prompt = self._state.image.to(device, dtype).expand(len(part), 1, -1, -1, -1)
        mask = self._state.mask.to(device, dtype).expand(len(part), 1, -1, -1, -1)
        with self._segmenter.turn():
            painted = model(prompt, mask, queries)
        return painting_loss(painted, targets, torch.ones(1, device=device))

    def _look(self) -> None:
        """Measure the validation split and keep what is best."""
        state = self._state
        prompt = Prompt("candidate", state.image.detach().numpy().copy(), state.mask.detach().numpy().copy())
        maps = self._segmenter.segment([Query(e.image, Context(prompt=prompt)) for e in self._validation])
        found = [iou(map_ > THRESHOLD, e.mask) for map_, e in zip(maps, self._validation, strict=True)]
        state.iou = sum(found) / len(found)
        state.looks_since_best += 1
        if state.iou > state.best_iou:
            if state.iou > state.best_iou + _DEGRADED:
                state.looks_since_best = 0
            state.best_iou, state.best_step = state.iou, state.step
            state.best_image, state.best_mask = state.image.detach().clone(), state.mask.detach().clone()

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
    "looks_since_best": int,
    "loss": float,
    "batch_size": int,
    "seconds": float,
}


def _augmented(example: Example, size: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A crop of the example, perhaps mirrored, its brightness and contrast changed a little; image and painting."""
    height, width = example.mask.shape
    share = random.uniform(0.5, 1.0)
    high, wide = max(1, round(height * share)), max(1, round(width * share))
    top, left = random.integers(height - high + 1), random.integers(width - wide + 1)
    image = example.image[top : top + high, left : left + wide]
    mask = example.mask[top : top + high, left : left + wide]
    if random.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    changed = image * random.uniform(0.85, 1.15) + random.uniform(-15, 15)
    query = canvas.image_tensor(np.clip(changed, 0, 255).astype(np.uint8), size)
    return query, canvas.mask_tensor(np.ascontiguousarray(mask), size)
