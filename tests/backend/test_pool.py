"""The rule that keeps a pool within bounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.learner.pool import is_closed, surplus
from backend.store import Approval, ExampleInfo
from backend.store.records import ApprovalKind

KINDS: list[ApprovalKind] = ["drawn", "corrected", "accepted"]


def example(number: int, kind: ApprovalKind = "drawn", *direction: float) -> ExampleInfo:
    vector = np.array(direction, np.float32)
    descriptor = (vector / np.linalg.norm(vector)).tobytes() if direction else b""
    return ExampleInfo(str(number), "1.1", "cell", number, number, kind, None, "", 0.5, descriptor)


def test_a_pool_within_bounds_stays_as_it_is() -> None:
    pool = [example(number) for number in range(3)]
    assert surplus(pool, 3) == []
    assert surplus([], 1) == []


def test_of_the_two_most_alike_the_older_leaves_so_that_variety_stays() -> None:
    pool = [
        example(0, "drawn", 1, 0),
        example(1, "drawn", 0, 1),
        example(2, "drawn", 0.05, 1),
        example(3, "drawn", -1, 0),
    ]
    assert surplus(pool, 3) == ["1"]


def test_twenty_of_a_kind_do_not_drive_out_the_one_that_is_different() -> None:
    different = example(0, "drawn", 0, 1)
    alike = [example(number, "drawn", 1, number / 1000) for number in range(1, 21)]
    gone = surplus([different, *alike], 5)
    assert "0" not in gone
    assert len(gone) == 16


def test_accepted_masks_leave_before_those_that_a_person_drew_or_corrected() -> None:
    kinds: list[ApprovalKind] = ["accepted", "drawn", "corrected", "accepted", "drawn"]
    pool = [example(number, kind, 1, number) for number, kind in enumerate(kinds)]
    assert sorted(surplus(pool, 3)) == ["0", "3"]


def test_the_newest_never_leaves_though_it_is_accepted() -> None:
    pool = [example(0, "drawn", 1, 0), example(1, "drawn", 1, 1), example(2, "accepted", 1, 0)]
    assert surplus(pool, 2) == ["0"]


def test_a_pinned_example_stays_whatever_comes() -> None:
    pool = [
        replace(example(0, "accepted", 1, 0), pinned=True),
        *(example(n, "drawn", 1, n / 9) for n in (1, 2, 3)),
    ]
    assert surplus(pool, 3) == ["2"]
    assert sorted(surplus(pool, 2)) == ["1", "2"], "the pinned one and the newest are left"
    assert sorted(surplus(pool, 1)) == ["1", "2", "3"], "where nothing else can leave, the newest does"
    pinned = [replace(info, pinned=True) for info in pool]
    assert surplus(pinned, 1) == [], "however small the pool was made meanwhile"


def approval(annotation: int, at: str, kind: ApprovalKind = "drawn") -> Approval:
    return Approval("1.1", annotation, annotation, kind, None, at, "")


def test_a_pool_is_closed_to_what_is_older_than_all_that_stays() -> None:
    kinds: dict[int, ApprovalKind] = {3: "drawn", 4: "corrected", 5: "accepted"}
    newer = [replace(example(number, kind), at=f"2026-0{number}") for number, kind in kinds.items()]
    old = approval(9, "2026-02")
    assert is_closed(newer, old, "", 2)
    assert not is_closed(newer, old, "", 3), "an accepted mask makes room"
    assert not is_closed(newer, approval(9, "2026-03"), "", 2), "it is as new"
    assert not is_closed(newer, approval(4, "2026-02"), "", 2), (
        "its own example makes room for what replaces it"
    )
    pinned = [replace(example(1), at="2026-01", pinned=True), newer[0]]
    assert is_closed(pinned, old, "", 2), "what is pinned makes no room, however old"


def test_a_full_pool_is_open_to_the_first_of_a_sequence_while_anything_else_can_leave() -> None:
    """Its image was not read, so a sequence whose only approval came late, from an export, had no example."""
    pool = [
        replace(example(number), at=f"2026-0{number}", sequence=name) for number, name in enumerate("abbc", 3)
    ]
    assert not is_closed(pool, approval(9, "2026-02"), "d", 4), "one of the two frames of b makes room"
    assert is_closed(pool, approval(9, "2026-02"), "b", 4), "it is not the first"
    assert is_closed(pool, approval(9, "2026-02"), "", 4)
    assert is_closed(pool, approval(9, "2026-02", "accepted"), "d", 4), (
        "drawn masks stay before it all the same"
    )
    assert is_closed(pool[1:], approval(9, "2026-02"), "b", 3)
    each = [replace(info, sequence=name) for info, name in zip(pool, "abce", strict=True)]
    assert is_closed(each, approval(9, "2026-02"), "d", 4), "where each is the last of one, age counts"
    loose = [*each[:3], replace(each[3], sequence="")]
    assert is_closed(loose, approval(9, "2026-02"), "d", 4), "the newest never leaves"
    assert not is_closed([loose[3], *loose[:3]], approval(9, "2026-02"), "d", 4)
    assert is_closed([replace(info, pinned=True) for info in pool], approval(9, "2026-02"), "d", 4)


@pytest.mark.parametrize("odd", [(), (1.0, 2.0, 3.0)], ids=["none", "of another length"])
def test_where_descriptors_cannot_be_compared_the_oldest_leaves(odd: tuple[float, ...]) -> None:
    pool = [example(0, "drawn", 1, 0), example(1, "drawn", *odd), example(2, "drawn", 1, 0)]
    assert surplus(pool, 2) == ["0"]
    assert surplus([example(number) for number in range(4)], 2) == ["0", "1"]


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.floats(-1, 1), st.floats(0.1, 1)), max_size=12),
    st.integers(1, 6),
)
def test_exactly_as_many_leave_as_there_are_too_many(
    rows: list[tuple[ApprovalKind, float, float]], size: int
) -> None:
    pool = [example(number, kind, x, y) for number, (kind, x, y) in enumerate(rows)]
    gone = surplus(pool, size)
    assert len(set(gone)) == len(gone) == max(0, len(pool) - size)
    assert not pool or pool[-1].key not in gone
    if any(info.kind != "accepted" for info in pool if info.key in gone):
        stay = [info for info in pool[:-1] if info.key not in gone]
        assert all(info.kind != "accepted" for info in stay)
