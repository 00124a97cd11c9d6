"""Devices by name, and what running out of memory looks like."""

import pytest
import torch

from model import device


def test_auto_takes_what_is_there() -> None:
    chosen = device.choose("auto")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert chosen.type == best
    assert device.choose("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "meta", "vulkan"])
def test_a_name_that_means_nothing_is_told(name: str) -> None:
    with pytest.raises(ValueError, match="must be auto, cpu, cuda"):
        device.choose(name)


@pytest.mark.parametrize("name", ["cuda:99", "mps"])
def test_a_device_that_is_not_there_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="this machine"):
        device.choose(name)


def test_the_half_format_is_taken_only_where_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    results = {torch.float32: (torch.ones(4), 10.0), torch.bfloat16: (torch.ones(4) * 1.01, 1.0)}
    monkeypatch.setattr(device, "_trial", lambda _, dtype: results[dtype])
    assert device.choose_dtype(torch.device("cpu")) == torch.bfloat16
    results[torch.bfloat16] = (torch.ones(4) * 1.1, 1.0)
    assert device.choose_dtype(torch.device("cpu")) == torch.float32
    results[torch.bfloat16] = (torch.ones(4), 9.0)
    assert device.choose_dtype(torch.device("cpu")) == torch.float32
    results[torch.bfloat16] = (torch.full((4,), torch.nan), 1.0)
    assert device.choose_dtype(torch.device("cpu")) == torch.float32


def test_the_self_test_computes_the_same_in_both_formats() -> None:
    wanted, _ = device._trial(torch.device("cpu"), torch.float32)
    got, _ = device._trial(torch.device("cpu"), torch.bfloat16)
    assert (got - wanted).norm() < device.TOLERATED_ERROR * wanted.norm()
    assert device.choose_dtype(torch.device("cpu")) in (torch.float32, torch.bfloat16)


def test_a_format_that_the_device_lacks_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(_: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
        if dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return torch.ones(1), 1.0

    monkeypatch.setattr(device, "_trial", trial)
    assert device.choose_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_known_by_its_many_names(error: BaseException, wanted: bool) -> None:
    assert device.is_out_of_memory(error) is wanted


def test_a_real_failed_allocation_is_known() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**58)
    assert device.is_out_of_memory(failed.value)
