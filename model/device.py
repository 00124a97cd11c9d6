"""Which device and number format to compute in, and what running out of memory looks like; knows no network."""

import time

import torch
import torch.nn.functional as F

TOLERATED_ERROR = 0.03  # relative error of bfloat16 in the self-test's result
REQUIRED_GAIN = 2.5  # bfloat16 must be this many times faster, so that a busy moment does not decide
ROUNDS = 10  # of the self-test, the formats taking turns; the first one warms up, and the fastest counts
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class DeviceMemoryError(RuntimeError):
    """Not even one query fits into the device's memory."""


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
    """bfloat16 where a small attention layer shows it to be right and clearly faster on this device, else float32."""
    formats = (torch.float32, torch.bfloat16)
    try:
        trials = [_trial(device, dtype) for _ in range(ROUNDS) for dtype in formats]
    except (RuntimeError, TypeError):  # the device or its kernels do not have the format
        return torch.float32
    (wanted, _), (got, _) = trials[:2]
    right = bool((got - wanted).norm() <= TOLERATED_ERROR * wanted.norm())
    slow, fast = (min(seconds for _, seconds in trials[start::2]) for start in (0, 1))
    return torch.bfloat16 if right and fast * REQUIRED_GAIN < slow else torch.float32


def _trial(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
    """Result (float32, CPU) and seconds of attention with a bias and a linear layer, as the network has them."""
    generator = torch.Generator().manual_seed(0)
    size = 256 if device.type == "cpu" else 1568
    heads, channels = 4, 64

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    queries, keys, values = (numbers(1, heads, size, channels) for _ in range(3))
    bias, weight = numbers(1, heads, size, size), numbers(4 * heads * channels, heads * channels)
    with torch.inference_mode():
        started = time.perf_counter()
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        result = F.linear(attended.transpose(1, 2).flatten(2), weight).float().cpu()
        return result, time.perf_counter() - started


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
