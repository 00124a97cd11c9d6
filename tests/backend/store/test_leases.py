"""Leases that are renewed while a block runs, on both engines."""

import threading
from types import SimpleNamespace

import pytest

from backend.store import Store
from backend.store.leases import claimed
from tests.backend.served import until

LONG = 600.0


def test_what_is_claimed_stays_so_while_the_block_runs_and_is_free_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is claimed has run out at once here, so that it is held because it was renewed; no clock decides."""
    names = ["task 1", "task 2", "task 3"]
    pauses: list[float] = []
    acquire = store.acquire

    class Hasty(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return super().wait(0.01)

    def acquire_for_nothing(name: str, owner: str, seconds: float) -> bool:
        return acquire(name, owner, seconds if pauses else 0)

    acquire("task 2", "another worker", LONG)
    with monkeypatch.context() as hasty:
        hasty.setattr("backend.store.leases.threading", SimpleNamespace(Event=Hasty, Thread=threading.Thread))
        hasty.setattr(store, "acquire", acquire_for_nothing)
        with claimed(store, names, LONG) as mine:
            assert mine == {"task 1", "task 3"}
            until(lambda: all(map(store.held, names)))
            with claimed(store, ["task 1", "task 4"], LONG) as theirs:
                assert theirs == {"task 4"}
        assert [store.held(name) for name in names] == [False, True, False]
    assert set(pauses) == {LONG / 4}, "in good time"


def test_nothing_to_claim_is_no_claim(store: Store) -> None:
    store.acquire("task 1", "another worker", LONG)
    with claimed(store, ["task 1"], LONG) as mine:
        assert mine == set()
    assert store.held("task 1")
