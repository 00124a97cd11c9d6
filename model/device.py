"""Which device and number format to compute in, and what running out of memory looks like; knows no network."""

import torch
import torch.nn.functional as F

from model import attention

TOLERATED_ERROR = 0.03  # relative error of bfloat16 in the self-test's result
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class DeviceMemoryError(MemoryError):
    """Not even one picture fits into the device's memory."""


def choose(device: str) -> torch.device:
    """Resolve a device's name.

    Args:
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ValueError: if the name means nothing or this machine has no such device.
    """
    if device == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, not {device!r}") from error
    if chosen.type == "cpu":
        return chosen
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) < count:
            return chosen
        raise ValueError(f"device {device!r}: this machine has {count} CUDA devices that PyTorch can use")
    if chosen.type == "mps":
        if torch.backends.mps.is_available():
            return chosen
        raise ValueError("device 'mps': not available on this machine")
    raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, not {device!r}")


def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on cards that have units for it and where a small attention layer comes out right, else float32.

    Without such units bfloat16 is up to hundreds of times slower. Time is not measured: on a busy machine that would
    choose differently from one start to the next, and with it the predictions.
    """
    if not _has_bfloat16_units(device):
        return torch.float32
    try:
        wanted, got = _trial(device, torch.float32), _trial(device, torch.bfloat16)
    except (RuntimeError, TypeError):  # kernels for the format are missing
        return torch.float32
    right = bool((got - wanted).norm() <= TOLERATED_ERROR * wanted.norm())
    return torch.bfloat16 if right else torch.float32


def narrows(device: torch.device) -> bool:
    """Whether linear layers are to multiply in bfloat16 though the network is in float32: on CPUs with units for it.

    All of the network in bfloat16 is no faster on a CPU, and its masks differ more.
    """
    if device.type != "cpu" or not _cpu_multiplies_bfloat16():
        return False
    generator = torch.Generator().manual_seed(0)
    tokens, weight = (torch.randn(256, 256, generator=generator) for _ in range(2))
    try:
        got = F.linear(tokens.bfloat16(), weight.bfloat16()).float()
    except (RuntimeError, TypeError):  # kernels for the format are missing
        return False
    wanted = F.linear(tokens, weight)
    return bool((got - wanted).norm() <= TOLERATED_ERROR * wanted.norm())


def _has_bfloat16_units(device: torch.device) -> bool:
    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _cpu_multiplies_bfloat16() -> bool:
    """Natively: where it is emulated it is slower than float32."""
    asked = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(bool(has()) for has in asked if has is not None)


def _trial(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Attention with a bias and a linear layer, as the network has them, computed in a format; float32, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    size, heads, channels = 256, 4, 64

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    queries, keys, values = (numbers(1, heads, size, channels) for _ in range(3))
    bias, weight = numbers(1, heads, size, size), numbers(4 * heads * channels, heads * channels)
    with torch.inference_mode():
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return F.linear(attended.transpose(1, 2).flatten(2), weight).float().cpu()


def choose_attention(
    device: torch.device, dtype: torch.dtype, grid: tuple[int, int], heads: int, channels: int
) -> attention.Form:
    """The form of attention for a device.

    On CUDA in half precision our kernel, if it builds and comes out right here. On a CPU in single precision the form
    by heads, if the scores are many.

    Args:
        device: where the network computes.
        dtype: in what it computes.
        grid: `(h, w)`, patches of a half of the canvas.
        heads: attention heads.
        channels: channels of a head.
    """
    if device.type == "cpu" and dtype == torch.float32 and grid[0] * grid[1] >= attention.BY_HEADS_FROM:
        return attention.attend_halves_by_heads
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return attention.attend_halves
    try:
        from model.attention_kernel import attend_halves_kernel

        kernel: attention.Form = attend_halves_kernel
        right = _is_right(kernel, device, dtype, grid, heads, channels)
    except Exception:  # noqa: BLE001 - Triton or its compiler is missing, or does not know this card: many errors
        right = False
    return kernel if right else attention.attend_halves_folded


def _is_right(
    form: attention.Form,
    device: torch.device,
    dtype: torch.dtype,
    grid: tuple[int, int],
    heads: int,
    channels: int,
) -> bool:
    """Whether a form of attention equals the plain one in float32, on random numbers of the network's own sizes."""
    generator = torch.Generator().manual_seed(0)
    high, wide = grid
    qkv = torch.randn(1, 3, high * wide, 3, heads, channels, generator=generator).to(device, dtype)
    tables = torch.randn(4 * high + 2 * wide - 2, channels, generator=generator) * channels**-0.5
    rows, columns = tables.to(device, dtype).split([4 * high - 1, 2 * wide - 1])
    with torch.inference_mode():
        got = form(qkv, rows, columns, grid).float()
        wanted = attention.attend_halves(qkv.float(), rows.float(), columns.float(), grid)
    return bool((got - wanted).norm() <= TOLERATED_ERROR * wanted.norm())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch, NumPy or Python says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def release(device: torch.device) -> None:
    """Give cached but unused memory back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
