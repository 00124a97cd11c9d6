"""Tuning where memory runs out: a failed batch is let go before its half is tried, and nothing counts twice."""

import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from model import device as devices
from model.device import DeviceMemoryError
from model.segmenter import Segmenter
from model.tuning import Tuning, TuningConfig
from tests.model.learning import pool
from tests.model.test_attention import OnCpu

Pairs = Sequence[tuple[Tensor, Tensor]]
ONE_STEP = TuningConfig(steps=1, batch_size=4)


def _out_of_memory() -> torch.OutOfMemoryError:
    """A new one each time: an error keeps the frames that it came through."""
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB.")


class _Held:
    """What a graph holds."""


class _FailsBackward(torch.autograd.Function):
    """Passes a loss on, and runs out of memory on the way back."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, held: _Held) -> Tensor:
        ctx.held = held
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise _out_of_memory()


class _Backwards:
    """Lets a tuning's backward passes fail for parts that are larger than allowed, or for the first few."""

    def __init__(
        self, tuning: Tuning, monkeypatch: pytest.MonkeyPatch, most: int = 9, failing: int = 0
    ) -> None:
        self.sizes: list[int] = []
        self.held: list[weakref.ref[_Held]] = []
        self.most, self.failing = most, failing
        self._real = tuning._loss
        monkeypatch.setattr(tuning, "_loss", self.loss)

    def loss(self, part: Pairs) -> Tensor:
        self.sizes.append(len(part))
        if len(part) <= self.most and len(self.sizes) > self.failing:
            return self._real(part)
        held = _Held()
        self.held.append(weakref.ref(held))
        loss: Tensor = _FailsBackward.apply(self._real(part), held)  # type: ignore[no-untyped-call]
        return loss

    @property
    def alive(self) -> int:
        """Failed graphs that something still holds."""
        return sum(held() is not None for held in self.held)


def learned(tuning: Tuning) -> tuple[Tensor, Tensor]:
    return tuning._state.image.detach(), tuning._state.mask.detach()


def test_the_failed_batch_is_let_go_before_memory_is_given_back_and_the_half_is_tried(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(segmenter, pool(6), ONE_STEP)
    backwards = _Backwards(tuning, monkeypatch, most=1)
    alive: list[int] = []
    monkeypatch.setattr(devices, "release", lambda _: alive.append(backwards.alive))
    tuning._update()
    assert backwards.sizes == [4, 2, 1, 1, 1, 1]
    assert alive == [0, 0], "given back once for each failure, when nothing held it any more"


def test_a_batch_that_failed_on_its_way_back_counts_once(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image's gradient is there when the mask's runs out of memory: taken as it is, it would count twice."""
    whole, parts = (Tuning(segmenter, pool(6), ONE_STEP) for _ in range(2))
    pairs = _pairs(whole)
    whole._gradients(pairs)
    backwards = _Backwards(parts, monkeypatch)
    real, failing = backwards._real, parts._state.mask

    def loss(part: Pairs) -> Tensor:
        if len(part) < 4:
            return real(part)
        late: Tensor = _FailsBackward.apply(failing.sum(), _Held())  # type: ignore[no-untyped-call]
        return late + real(part)  # what was computed last comes first on the way back

    monkeypatch.setattr(parts, "_loss", loss)
    parts._gradients(pairs)
    for name in ("image", "mask"):
        got, wanted = (getattr(tuning._state, name).grad for tuning in (parts, whole))
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)


def test_graphs_are_given_up_first_and_the_same_batch_is_tried_again(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = OnCpu(segmenter.model)
    tuning = Tuning(segmenter, pool(6), ONE_STEP)
    segmenter._compute = graphs
    tuning._look()
    tuning._look()
    assert graphs.recorded
    backwards = _Backwards(tuning, monkeypatch, failing=2)
    tuning._update()
    assert backwards.sizes == [4, 4, 2, 2], "halved only when there was no graph left to give up"
    assert graphs.clear() is False


@pytest.mark.parametrize(
    "error", [_out_of_memory(), RuntimeError("MPS backend out of memory"), MemoryError()]
)
def test_where_not_even_one_picture_fits_it_is_told_with_what_to_do(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tuning = Tuning(segmenter, pool(6), ONE_STEP)
    sizes: list[int] = []

    def fail(part: Pairs) -> Tensor:
        sizes.append(len(part))
        raise error

    monkeypatch.setattr(tuning, "_loss", fail)
    with pytest.raises(DeviceMemoryError, match=r"^cpu has not enough memory to tune .* at 32 px.*: use a "):
        tuning.run()
    assert sizes == [4, 2, 1]


def test_one_picture_that_fails_on_its_way_back_is_told_alike(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(segmenter, pool(6), ONE_STEP)
    start = learned(tuning)
    _Backwards(tuning, monkeypatch, most=0)
    with pytest.raises(DeviceMemoryError, match="to tune"):
        tuning.run()
    assert tuning.progress.step == 0
    assert all(map(torch.equal, learned(tuning), start))


def test_other_errors_are_not_taken_for_missing_memory(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(segmenter, pool(6), ONE_STEP)

    def fail(part: Pairs) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(tuning, "_loss", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        tuning.run()
    assert tuning._state.batch_size == ONE_STEP.batch_size


def _pairs(tuning: Tuning) -> list[tuple[Tensor, Tensor]]:
    size = tuning._size
    numbers = torch.randn(4, 2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return [(query, target) for query, target in numbers]
