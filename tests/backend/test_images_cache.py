import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backend.images.cache import ImageCache

Make = Callable[[], NDArray[np.uint8]]


def maker(made: list[str], name: str, size: int = 40) -> Make:
    def make() -> NDArray[np.uint8]:
        made.append(name)
        return np.zeros(size, np.uint8)

    return make


def test_the_images_used_longest_ago_go_first_and_the_bytes_stay_bounded() -> None:
    made: list[str] = []
    cache = ImageCache(100)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, maker(made, name))
        assert cache.held_bytes <= 100
    assert made == ["a", "b", "c", "b"]


def test_an_image_larger_than_the_bound_is_given_but_not_kept() -> None:
    made: list[str] = []
    cache = ImageCache(39)
    for _ in range(2):
        assert cache.get("a", maker(made, "a")).size == 40
    assert made == ["a", "a"]
    assert cache.held_bytes == 0


class Announced(str):
    """A key that tells when it is looked up, which is done while the cache is locked."""

    looked_up = threading.Event()

    def __hash__(self) -> int:
        self.looked_up.set()
        return super().__hash__()


def test_who_waits_gets_the_makers_error_and_the_next_one_tries_anew() -> None:
    cache = ImageCache(100)
    begun, go_on = threading.Event(), threading.Event()
    caught: list[BaseException] = []

    def fail() -> NDArray[np.uint8]:
        begun.set()
        assert go_on.wait(300)
        raise ValueError("no such image")

    def ask(key: str, make: Make) -> None:
        try:
            cache.get(key, make)
        except ValueError as error:
            caught.append(error)

    made: list[str] = []
    first = threading.Thread(target=ask, args=["a", fail])
    first.start()
    assert begun.wait(300)
    second = threading.Thread(target=ask, args=[Announced("a"), maker(made, "never")])
    second.start()
    assert Announced.looked_up.wait(300)
    go_on.set()
    first.join()
    second.join()
    assert [str(error) for error in caught] == ["no such image"] * 2
    assert made == []
    assert cache.get("a", maker(made, "a")).size == 40
