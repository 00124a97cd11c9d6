"""The latest decoded images, bounded by bytes, each made once however many ask; knows not how images are made."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray


class ImageCache:
    """Least recently used images go first; failures are not kept.

    Args:
        max_bytes: of all images together; 0 keeps none (those that are asked for at once are still made once).
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._images: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._in_flight: dict[Hashable, Future[NDArray[np.uint8]]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The image of `key`, made if need be; who asks while another makes it waits and gets the same, or its error."""
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
            waiting = self._in_flight.get(key)
            if waiting is None:
                flight = self._in_flight[key] = Future()
        if waiting is not None:
            return waiting.result()
        try:
            image = make()
        except BaseException as error:
            with self._lock:
                del self._in_flight[key]
            flight.set_exception(error)
            raise
        with self._lock:
            self._keep(key, image)
            del self._in_flight[key]
        flight.set_result(image)
        return image

    @property
    def held_bytes(self) -> int:
        """Bytes of all images kept."""
        return self._bytes

    def _keep(self, key: Hashable, image: NDArray[np.uint8]) -> None:
        if image.nbytes > self._max_bytes:
            return
        self._images[key] = image
        self._bytes += image.nbytes
        while self._bytes > self._max_bytes:
            _, dropped = self._images.popitem(last=False)
            self._bytes -= dropped.nbytes
