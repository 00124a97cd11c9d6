"""Leases that are renewed while a block runs; knows only the store's contract."""

import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from backend.errors import Refused, StoreError
from backend.store.contract import Store


@contextmanager
def claimed(store: Store, names: Collection[str], seconds: float) -> Iterator[set[str]]:
    """Hold leases for as long as the block runs; yields the names of those that were to be had.

    Args:
        store: where the leases are.
        names: of the leases.
        seconds: after which they are free again where this process dies.
    """
    owner = uuid.uuid4().hex
    mine = {name for name in names if store.acquire(name, owner, seconds)}
    if not mine:
        yield mine
        return
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / 4):
            for name in mine:
                with suppress(StoreError):  # a locked store is tried again before the lease runs out
                    store.acquire(name, owner, seconds)

    thread = threading.Thread(target=renew, name=f"lease {min(mine)}", daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        ended.set()
        thread.join()
        for name in mine:
            store.release(name, owner)


@contextmanager
def leased(store: Store, name: str, seconds: float) -> Iterator[bool]:
    """Hold a lease for as long as the block runs; yields whether it was to be had.

    Args:
        store: where the lease is.
        name: the lease's name.
        seconds: after which it is free again where this process dies.
    """
    with claimed(store, [name], seconds) as mine:
        yield bool(mine)


@contextmanager
def held(store: Store, name: str, busy: str, seconds: float = 10.0, patience: float = 5.0) -> Iterator[None]:
    """Hold a lease for as long as the block runs, waiting for it a little.

    Args:
        store: as for `leased`.
        name: as for `leased`.
        busy: what to say to people where somebody else keeps it.
        seconds: as for `leased`.
        patience: seconds to wait for it.

    Raises:
        Refused: with `busy`, if it is not to be had.
    """
    end = time.monotonic() + patience
    while True:
        with leased(store, name, seconds) as taken:
            if taken:
                yield
                return
        if time.monotonic() > end:
            raise Refused(busy)
        time.sleep(0.02)
