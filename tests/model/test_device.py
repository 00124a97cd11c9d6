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
    halved = torch.ones(4)
    monkeypatch.setattr(device, "_has_bfloat16_units", lambda _: True)
    monkeypatch.setattr(
        device, "_trial", lambda _, dtype: halved if dtype == torch.bfloat16 else torch.ones(4)
    )
    for factor, wanted in ((1.01, torch.bfloat16), (1.1, torch.float32), (torch.nan, torch.float32)):
        halved.fill_(factor)
        assert device.choose_dtype(torch.device("cpu")) == wanted


def test_the_half_format_is_not_taken_without_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert device.choose_dtype(torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert device.choose_dtype(torch.device("cpu")) == torch.bfloat16, (
        "the self-test is right in software too"
    )
    assert device.choose_dtype(torch.device("mps")) == torch.float32


def test_a_format_that_the_device_lacks_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(_: torch.device, dtype: torch.dtype) -> torch.Tensor:
        if dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return torch.ones(1)

    monkeypatch.setattr(device, "_has_bfloat16_units", lambda _: True)
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_cuda_device_is_chosen_by_its_number() -> None:
    assert device.choose("cuda:0") == torch.device("cuda:0")
    assert device.choose_dtype(torch.device("cuda:0")) in (torch.float32, torch.bfloat16)
    device.release(torch.device("cuda:0"))
