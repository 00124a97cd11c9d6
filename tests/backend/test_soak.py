"""Work for long: memory at the end is what it was after the first tenth.

By hand, at full length (an hour or less, on two cores):
`SOAK_PREDICTIONS=10000 SOAK_APPROVALS=2000 python -m pytest -s tests/backend/test_soak.py`. It prints what it measured.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.backend.served import KEY, Served, until
from tests.backend.stage import write_random_checkpoint

pytestmark = pytest.mark.slow

PREDICTIONS = int(os.environ.get("SOAK_PREDICTIONS", "600"))
APPROVALS = int(os.environ.get("SOAK_APPROVALS", "120"))
PARTS = 10
GROWTH = 1.05
LONG = PREDICTIONS >= 5000
SIZE = (384, 448) if LONG else (48, 64)
# Of a random network's mask nothing is left but noise: long runs of numbers, or hardly any.
THRESHOLD = "0.4" if LONG else "0.05"
BEHIND = 10  # approvals that may wait for the worker while the next ones come


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A long run fills all that is bounded within its first tenth; a short one lets little be kept at all.

    With a pool of eight every example is used and so kept; those of a tiny network are small, however many are kept.
    Masks with guided edges have so few numbers that the kept answers were not full before the end.
    """
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint.safetensors", image_size=32)
    settings = {
        "IMAGE_CACHE_BYTES": "1000000", "POOL_SIZE": "8", "THRESHOLD": THRESHOLD, "TUNE_EVERY": "0", "EDGES": "off"
    }  # fmt: skip
    running = Served(tmp_path, checkpoint, **settings)
    with closing(running.client):
        yield running
    running.stop()


def resident(process: int) -> float:
    """Memory of a process that lies in RAM, MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def work(served: Served, part: int) -> None:
    """One part of all approvals and predictions, in turns, until the worker has learned all of them."""
    approvals, predictions = APPROVALS // PARTS, PREDICTIONS // PARTS
    done = 0
    for turn in range(1, approvals + 1):
        number = part * approvals + turn
        served.approve(number, *SIZE)
        until(lambda number=number: served.approvals() >= number - BEHIND)  # type: ignore[misc]
        while done < turn * predictions // approvals:
            found = served.predict(APPROVALS + part * predictions + done, *SIZE)
            assert "result" in found
            done += 1
    until(lambda: served.approvals() == (part + 1) * approvals)


def measure(served: Served) -> None:
    """Let the worker measure a full pool by leave-one-out, for which it finds time now and then.

    Every number of examples and of queries at once has its own kernels, which are kept.
    """
    answer = served.client.post(f"/api/projects/{KEY}/examples/measure")
    assert answer.is_success, answer.text
    until(lambda: not served.client.get(f"/api/projects/{KEY}/alarm").json()["due"], what="a measuring")


def test_memory_stays_what_it_was_after_the_first_tenth(served: Served) -> None:
    (worker,) = until(served.workers)
    served.approve(1, *SIZE)
    until(lambda: served.approvals() == 1)
    seen: list[tuple[float, float]] = []
    for part in range(PARTS):
        work(served, part)
        measure(served)
        seen.append((resident(served.process.pid), resident(worker)))
        sys.stdout.write(
            f"after {part + 1} of {PARTS}: serve {seen[-1][0]:.1f} MiB, worker {seen[-1][1]:.1f} MiB\n"
        )
    assert served.workers() == [worker], "it ended in the middle"
    assert "Traceback" not in served.said
    for first, last in zip(seen[0], seen[-1], strict=True):
        assert last <= first * GROWTH, seen
