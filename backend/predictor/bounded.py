"""A cache that many threads share; knows nothing of what it keeps."""

import threading
from collections import OrderedDict
from typing import Any


class Bounded:
    """A thread-safe dictionary of bounded weight that forgets what was used longest ago."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """What is kept under a key; None where nothing is."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Any, value: Any, weight: int) -> None:
        """Keep a value of a weight, and forget others where all would weigh too much."""
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = (value, weight)
            self._weight += weight - before
            while self._weight > self._most and len(self._entries) > 1:
                _, (_, forgotten) = self._entries.popitem(last=False)
                self._weight -= forgotten
