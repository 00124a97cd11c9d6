"""Brush streams that lie, break off or are no streams are refused, before memory is taken for what they claim."""

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import brush_rle
from backend.errors import RegionError

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "brush_streams.json").read_text()
)
HUGE = 60_000


def stream(
    *packets: str, total: int = 4 * 6, word: int = 8, fields: tuple[int, ...] = (3, 4, 8, 16)
) -> list[int]:
    bits = f"{total:032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in fields) + "".join(packets)
    return [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]


def run(count: int, value: int = 255) -> str:
    return f"110{count - 1:08b}{value:08b}"


def literal(*values: int) -> str:
    return f"010{len(values) - 1:08b}" + "".join(f"{value:08b}" for value in values)


@pytest.fixture
def small_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_bits_spelled_out_here_are_a_good_stream() -> None:
    assert brush_rle.decode(stream(run(20), literal(1, 2, 3, 4)), 2, 3).tolist() == [
        [255, 255, 255],
        [255, 255, 4],
    ]


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("total", [0, 1, 4 * 6 - 1, 4 * 6 + 4, 6, 4 * HUGE * HUGE % 2**32, 2**32 - 1])
def test_a_header_that_lies_about_its_size_is_refused(total: int) -> None:
    with pytest.raises(RegionError, match="its image needs 24"):
        brush_rle.decode(stream(run(24), total=total), 2, 3)


@pytest.mark.usefixtures("small_memory")
def test_a_few_bytes_cannot_claim_a_huge_mask() -> None:
    side = 32_000
    with pytest.raises(RegionError, match="cannot hold"):
        brush_rle.decode(stream(run(256), total=4 * side * side), side, side)


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("word", [1, 7, 9, 16, 32])
def test_words_that_are_no_bytes_are_refused(word: int) -> None:
    with pytest.raises(RegionError, match=f"words of {word} bits"):
        brush_rle.decode(stream(run(24), word=word), 2, 3)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["about"])
def test_a_stream_that_breaks_off_anywhere_is_refused(case: dict[str, Any]) -> None:
    for length in range(len(case["rle"])):
        with pytest.raises(RegionError, match="cut off"):
            brush_rle.decode(case["rle"][:length], case["height"], case["width"])


@pytest.mark.parametrize(
    "packets",
    [
        (run(25),),
        (run(20), run(5)),
        (run(20), literal(1, 2, 3, 4, 5)),
        (run(20), literal(1, 2, 3, 4, 5, 6, 7)),
        (literal(*range(25)),),
        (run(23), run(256), run(1)),
    ],
)
def test_packets_beyond_the_stated_size_are_refused(packets: tuple[str, ...]) -> None:
    with pytest.raises(RegionError, match="more than its 24 bytes"):
        brush_rle.decode(stream(*packets), 2, 3)


def test_a_last_literal_packet_without_its_words_is_refused() -> None:
    with pytest.raises(RegionError, match="cut off within its last bytes"):
        brush_rle.decode(stream(run(20), literal(1, 2, 3, 4)[:-8]), 2, 3)


def test_one_spurious_byte_is_forgiven_and_two_are_not() -> None:
    good = stream(run(24))
    assert brush_rle.decode([*good, 0], 2, 3).all()
    with pytest.raises(RegionError, match="goes on"):
        brush_rle.decode([*good, 0, 0], 2, 3)


@pytest.mark.parametrize(
    "rle",
    [
        None,
        24,
        "AAAA",
        {"0": 1},
        [256] * 20,
        [-1] * 20,
        [1.0] * 20,
        [0.5] * 20,
        ["1"] * 20,
        [None] * 20,
        [[1]] * 20,
        [],
        [0],
        [0] * 6,
        b"",
    ],
)
def test_what_is_no_stream_of_bytes_is_refused(rle: Any) -> None:
    with pytest.raises(RegionError):
        brush_rle.decode(rle, 2, 3)


@pytest.mark.parametrize("size", [(0, 3), (2, 0), (-2, -3)])
def test_a_mask_without_pixels_cannot_be_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(RegionError, match="cannot be decoded"):
        brush_rle.decode(stream(total=0), *size)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.tuples(*[st.integers(1, 16)] * 4))
def test_noise_behind_a_good_header_is_decoded_or_refused_and_never_crashes(
    noise: bytes, fields: tuple[int, ...]
) -> None:
    rle = stream("".join(f"{byte:08b}" for byte in noise), total=4 * 35, fields=fields)
    with suppress(RegionError):
        assert brush_rle.decode(rle, 5, 7).shape == (5, 7)
