"""Leases that are renewed while a block runs, on both engines."""

import time

from backend.store import Store
from backend.store.leases import claimed

SHORT = 3.0


def test_what_is_claimed_stays_so_while_the_block_runs_and_is_free_after_it(store: Store) -> None:
    store.acquire("task 2", "another worker", 60)
    with claimed(store, ["task 1", "task 2", "task 3"], SHORT) as mine:
        assert mine == {"task 1", "task 3"}
        time.sleep(SHORT + 1)
        assert [store.held(f"task {number}") for number in (1, 2, 3)] == [True, True, True]
        with claimed(store, ["task 1", "task 4"], SHORT) as theirs:
            assert theirs == {"task 4"}
    assert [store.held(f"task {number}") for number in (1, 2, 3)] == [False, True, False]


def test_nothing_to_claim_is_no_claim(store: Store) -> None:
    store.acquire("task 1", "another worker", 60)
    with claimed(store, ["task 1"], SHORT) as mine:
        assert mine == set()
    assert store.held("task 1")
