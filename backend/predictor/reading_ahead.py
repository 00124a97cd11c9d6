"""Opens tasks' images ahead of their turn, within a bound on memory; knows no targets and no predictions."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.errors import ImageError
from backend.images import ImageLoader
from backend.label_config import image_url

_READERS = 2


@dataclass(frozen=True)
class TaskImages:
    """The images that a task has, `[H, W, 3]` uint8 RGB by the image tag's value, and a hash of where they were had."""

    by_value: Mapping[str, NDArray[np.uint8]]
    addresses: str

    @property
    def pixels(self) -> int:
        """Of all of them together."""
        return sum(image.shape[0] * image.shape[1] for image in self.by_value.values())


def open_all(images: ImageLoader, values: Iterable[str], task: Mapping[str, Any]) -> TaskImages:
    """Open the images of a task that some image tags show; those that it does not have are left out.

    Args:
        images: what opens them.
        values: the tags' `value`, each once.
        task: Label Studio's task, with `id` and `data`.

    Raises:
        ImageError: if the task has none of them, or one that it has cannot be had.
    """
    opened: dict[str, NDArray[np.uint8]] = {}
    addresses = hashlib.sha256()
    for value, url in _addresses(values, task).items():
        opened[value] = images.open(url, task["id"])
        addresses.update(f"{value}\n{url}\n".encode("utf-8", "surrogatepass"))
    return TaskImages(opened, addresses.hexdigest())


def address(value: str, task: Mapping[str, Any]) -> str:
    """Where the image of a tag's value is to be had.

    Raises:
        ImageError: if the task does not say.
    """
    return _addresses([value], task)[value]


def _addresses(values: Iterable[str], task: Mapping[str, Any]) -> dict[str, str]:
    """Where those of the tags' images are to be had that the task has: at least one.

    Raises:
        ImageError: if it has none of them.
    """
    data = task.get("data")
    urls = {value: image_url(value, data) if isinstance(data, Mapping) else None for value in values}
    found = {value: url for value, url in urls.items() if url is not None}
    if not found:
        raise ImageError(f"the task has no image under {' or '.join(map(repr, urls))}.")
    return found


class ReadingAhead:
    """Opens tasks' images in the order of the tasks, two at a time; one thread takes them in that order.

    How large an image is shows only once it is open. So one that is being opened counts as the largest so far, and
    before the first is open there are no more than two.
    """

    def __init__(
        self,
        tasks: Sequence[Mapping[str, Any]],
        read: Callable[[Mapping[str, Any]], TaskImages],
        most_pixels: int,
    ) -> None:
        """Open nothing yet.

        Args:
            tasks: all that may be asked for.
            read: opens the images of one; called in other threads.
            most_pixels: of images that are open and not taken yet, at least 1. One task is read ahead, however large.
        """
        self._tasks = tasks
        self._read = read
        self._most_pixels = most_pixels
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._opened: deque[Future[TaskImages]] = deque()  # begun and not taken yet
        self._begun = self._until = self._reading = 0  # tasks
        self._held = self._largest = 0  # pixels
        self._closed = False

    def allow(self, until: int) -> None:
        """Let the first so many of all tasks be opened, as memory allows; tasks that may already be stay so."""
        with self._lock:
            self._until = max(self._until, min(until, len(self._tasks)))
            self._begin()

    def take(self, timeout: float | None) -> TaskImages:
        """The images of the next task that was allowed, waited for at most so many seconds; None for no limit.

        Raises:
            TimeoutError: they are not open yet; nothing more can be taken.
            ImageError: if one of them cannot be had.
        """
        future = self._opened[0]  # there is one: see `_begin`
        images = None
        try:
            images = future.result(timeout)
            return images
        finally:
            with self._lock:
                self._opened.popleft()
                self._held -= images.pixels if images else 0
                self._begin()

    def close(self) -> None:
        """Begin no more; what is stuck must not hold anybody up."""
        with self._lock:
            self._closed = True
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        """Begin with as many tasks as may be, and with one where nothing is open; with the lock."""
        while (
            not self._closed
            and self._begun < self._until
            and self._reading < _READERS
            and self._held + self._reading * self._largest < self._most_pixels
        ):
            self._opened.append(self._readers.submit(self._open, self._tasks[self._begun]))
            self._begun += 1
            self._reading += 1

    def _open(self, task: Mapping[str, Any]) -> TaskImages:
        pixels = 0
        try:
            images = self._read(task)
            pixels = images.pixels
            return images
        finally:
            with self._lock:
                self._reading -= 1
                self._held += pixels
                self._largest = max(self._largest, pixels)
                self._begin()
