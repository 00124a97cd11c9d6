"""A run of measurements: seconds, memory, a deadline, and what was found, said at once."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model import device

Work = Callable[[], Any]


class Run:
    """One run: its device, its deadline, and what it has found so far.

    Attributes:
        device: what is measured.
        rounds: how often each contestant is measured; medians are told.
        found: what was found, by names; goes into the JSON file.
    """

    def __init__(self, on: torch.device, seconds: float, rounds: int, output: str | None, name: str) -> None:
        """Begin.

        Args:
            on: the device.
            seconds: after these nothing new should be begun.
            rounds: measurements of a contestant.
            output: folder for `name.md` and `name.json`; None writes no files.
            name: the files' name.
        """
        self.device = on
        self.rounds = rounds
        self.found: dict[str, Any] = {}
        self._end = time.monotonic() + seconds
        self._lines: list[str] = []
        self._file = Path(output, name) if output else None

    def say(self, line: str) -> None:
        """Print a line, and write everything so far."""
        print(line, flush=True)
        self._lines.append(line)
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.with_suffix(".md").write_text("\n".join(self._lines) + "\n")
            self._file.with_suffix(".json").write_text(json.dumps(self.found, indent=1, default=str))

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    def settle(self) -> None:
        """Wait until the device has done what it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Work, times: int = 1) -> float:
        """Seconds of one call, the mean of so many."""
        self.settle()
        start = time.perf_counter()
        for _ in range(times):
            work()
        self.settle()
        return (time.perf_counter() - start) / times

    def interleaved(self, works: dict[str, Work]) -> dict[str, float]:
        """Medians of seconds, each contestant once a round; one that fails is left out, with its reason said."""
        found: dict[str, list[float]] = {}
        lengths: dict[str, float] = {}
        for name, work in works.items():
            try:
                lengths[name] = min(self.seconds(work) for _ in range(2))
            except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and the others go on
                self.say(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
                device.release(self.device)
        for _ in range(self.rounds):
            for name, length in lengths.items():
                found.setdefault(name, []).append(self.seconds(works[name], 1 if length > 0.1 else 4))
        return {name: statistics.median(times) for name, times in found.items()}

    def memory(self, work: Work) -> float:
        """Gigabytes at the peak of one call beyond what was there before; CUDA only, else not a number."""
        if self.device.type != "cuda":
            return float("nan")
        self.settle()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.settle()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
