"""Devices by name, and what running out of memory looks like."""

import pytest
import torch
import torch.nn.functional as F

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


def test_the_half_format_is_not_taken_without_units_for_it() -> None:
    assert device.choose_dtype(torch.device("cpu")) == torch.float32
    assert device.choose_dtype(torch.device("mps")) == torch.float32


UNITS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@pytest.mark.parametrize("there", [(), UNITS[:1], UNITS[1:], UNITS])
def test_products_are_narrowed_on_cpus_with_units_for_it(
    there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in UNITS:
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in there, raising=False)
    assert device.narrows(torch.device("cpu")) == bool(there), "the self-test is right in software too"
    assert not device.narrows(torch.device("mps"))


def test_where_pytorch_cannot_tell_products_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNITS:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not device.narrows(torch.device("cpu"))


@pytest.mark.parametrize("fault", ["wrong", "missing"])
def test_products_that_come_out_wrong_are_not_narrowed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really = F.linear

    def linear(tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if tokens.dtype == torch.bfloat16 and fault == "missing":
            raise RuntimeError("not implemented for 'BFloat16'")
        return really(tokens, weight) * (1.1 if tokens.dtype == torch.bfloat16 else 1.0)

    monkeypatch.setattr(device, "_cpu_multiplies_bfloat16", lambda: True)
    assert device.narrows(torch.device("cpu"))
    monkeypatch.setattr(F, "linear", linear)
    assert not device.narrows(torch.device("cpu"))


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
