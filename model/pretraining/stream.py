"""Groups made while training goes on, by processes beside it, into a ring on the training's device."""

import multiprocessing
import queue
import threading
import time
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.pretraining.drawing import SIDE
from model.pretraining.pools import Pools
from model.pretraining.shards import MEMBERS, TASKS, group

_CHUNK = 16  # groups handed over at once
_SLOTS = 4  # chunks a process may be ahead


class Ring:
    """The latest groups, on the device that trains; older ones make room.

    Args:
        capacity: groups kept; each takes 320 KiB of the device's memory.
        device: where they lie.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        shape = (capacity, MEMBERS, SIDE, SIDE)
        self._images = torch.zeros((*shape, 3), dtype=torch.uint8, device=device)
        self._masks = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._capacity, self.device = capacity, device
        self._lock = threading.Lock()
        self.made = 0
        self.failure: BaseException | None = None

    def __len__(self) -> int:
        return min(self.made, self._capacity)

    def add(self, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """Put groups in.

        Args:
            images: `[G, 5, 128, 128, 3]`.
            masks: `[G, 5, 128, 128]`, 0 or 255.
        """
        places = torch.from_numpy((self.made + np.arange(len(images))) % self._capacity).to(self.device)
        with self._lock:
            self._images[places] = torch.from_numpy(images).to(self.device)
            self._masks[places] = torch.from_numpy(masks).to(self.device)
            self.made += len(images)

    def take(self, batch: int, members: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Some members of some groups, in random order.

        Args:
            batch: groups.
            members: of each.
            rng: source of chance.

        Returns:
            `[batch, members, 128, 128, 3]` and `[batch, members, 128, 128]`, uint8.

        Raises:
            RuntimeError: if nothing new comes in any more, because of a fault.
        """
        if self.failure is not None:
            raise RuntimeError("no more samples come in") from self.failure
        groups = torch.from_numpy(rng.integers(len(self), size=(batch, 1))).to(self.device)
        chosen = torch.from_numpy(rng.random((batch, MEMBERS)).argsort(axis=1)[:, :members]).to(self.device)
        with self._lock:
            return self._images[groups, chosen], self._masks[groups, chosen]


class Stream:
    """Processes that make groups, and a thread that fills a ring with them.

    Args:
        material: pictures to make groups from; the processes share it by forking, so start it before CUDA is used.
        processes: how many.
        seed: of the groups. Which of them are made depends on the machine's speed.
    """

    def __init__(self, material: Pools, processes: int, seed: int) -> None:
        context = multiprocessing.get_context("fork")
        size = _CHUNK * MEMBERS * SIDE * SIDE * 4
        self._memory = SharedMemory(create=True, size=size * processes * _SLOTS)
        self._free: Any = context.Queue()
        self._full: Any = context.Queue()
        self._over: Event = context.Event()
        for slot in range(processes * _SLOTS):
            self._free.put(slot)
        self._processes = [
            context.Process(target=self._make, args=(material, (seed, number)), daemon=True)
            for number in range(processes)
        ]
        for process in self._processes:
            process.start()

    def _chunk(self, slot: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        pixels = _CHUNK * MEMBERS * SIDE * SIDE
        start = slot * pixels * 4
        images: NDArray[np.uint8] = np.ndarray(
            (_CHUNK, MEMBERS, SIDE, SIDE, 3), np.uint8, self._memory.buf, start
        )
        masks: NDArray[np.uint8] = np.ndarray(
            (_CHUNK, MEMBERS, SIDE, SIDE), np.uint8, self._memory.buf, start + 3 * pixels
        )
        return images, masks

    def _make(self, material: Pools, seed: tuple[int, int]) -> None:
        shares = np.array([task.share for task in TASKS])
        rng, count = np.random.default_rng(seed), 0
        parent = multiprocessing.parent_process()
        while not self._over.is_set():
            try:
                slot = self._free.get(timeout=5)
            except queue.Empty:
                if parent is None or not parent.is_alive():
                    return
                continue
            images, masks = self._chunk(slot)
            for row in range(_CHUNK):
                made = None
                while made is None:
                    task, count = int(rng.choice(len(TASKS), p=shares / shares.sum())), count + 1
                    with suppress(RuntimeError):  # nothing usable came of this seed
                        made = group(material, TASKS[task], (*seed, count))
                images[row], masks[row] = made
            self._full.put(slot)

    def fill(self, ring: Ring, least: int) -> None:
        """Fill a ring from now on, in a thread; return when it holds enough to begin with.

        Args:
            ring: to fill.
            least: groups to wait for.
        """
        threading.Thread(target=self._hand_over, args=(ring,), daemon=True).start()
        while len(ring) < least:
            if ring.failure is not None:
                raise RuntimeError("no more samples come in") from ring.failure
            time.sleep(0.05)

    def _hand_over(self, ring: Ring) -> None:
        try:
            while not self._over.is_set():
                try:
                    slot = self._full.get(timeout=5)
                except queue.Empty:
                    if not any(process.is_alive() for process in self._processes):
                        raise RuntimeError("the processes that make samples have all ended") from None
                    continue
                ring.add(*self._chunk(slot))
                self._free.put(slot)
        except Exception as error:  # noqa: BLE001 - told to whoever takes from the ring
            ring.failure = error

    def close(self) -> None:
        """End the processes."""
        self._over.set()
        for process in self._processes:
            process.terminate()
            process.join()
        self._memory.unlink()
