"""The brush codec against the editor's own streams, the SDK's, and itself."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from label_studio_sdk.converter import brush
from numpy.typing import NDArray

from backend import brush_rle
from backend.errors import RegionError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "label_studio"
GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "attacks" / "golden" / "brush_streams.json").read_text()
)

sdk: Any = brush
masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))
quick = settings(max_examples=50, deadline=None)


def golden_alpha(case: dict[str, Any]) -> NDArray[np.uint8]:
    values, counts = np.array(case["alpha"]).T
    return np.repeat(values.astype(np.uint8), counts).reshape(case["height"], case["width"])


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["about"])
def test_streams_of_the_editor_are_decoded_to_the_byte(case: dict[str, Any]) -> None:
    """The golden streams come from the editor's own encoder; two of them hold literal packets."""
    alpha = brush_rle.decode(case["rle"], case["height"], case["width"])
    assert alpha.dtype == np.uint8
    assert np.array_equal(alpha, golden_alpha(case))


@pytest.mark.parametrize(
    "case",
    [case for case in GOLDEN if {0, 255} >= {value for value, _ in case["alpha"]}][:3],
    ids=lambda c: c["about"],
)
def test_what_we_write_is_what_the_editor_writes(case: dict[str, Any]) -> None:
    assert brush_rle.encode(golden_alpha(case) > 0) == case["rle"]


def test_runs_beyond_the_longest_length_field_are_split_as_the_editor_splits_them() -> None:
    case = next(case for case in GOLDEN if "longest" in case["about"])
    assert brush_rle.encode(golden_alpha(case) > 0) == case["rle"]


def test_recorded_drawings_are_decoded_as_the_sdk_decodes_them() -> None:
    recorded = json.loads((FIXTURES / "60_browser_brush_annotation.json").read_text())
    for region in recorded["annotation"]["result"]:
        rle, height, width = region["value"]["rle"], region["original_height"], region["original_width"]
        alpha = brush_rle.decode(rle, height, width)
        assert np.array_equal(alpha, sdk.decode_rle(rle).reshape(height, width, 4)[..., 3])
    first = brush_rle.decode(recorded["annotation"]["result"][0]["value"]["rle"], 240, 320)
    assert [int((first > level).sum()) for level in (254, 127, 0)] == [595, 729, 804]


@quick
@given(masks)
def test_a_mask_survives_the_round_trip(mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(brush_rle.decode(brush_rle.encode(mask), *mask.shape), mask * np.uint8(255))


@quick
@given(masks)
def test_we_write_the_sdks_stream_without_its_spurious_byte_and_read_it_with(mask: NDArray[np.bool_]) -> None:
    ours, theirs = brush_rle.encode(mask), sdk.mask2rle(mask * np.uint8(255))
    assert theirs[: len(ours)] == ours
    assert len(theirs) - len(ours) in (0, 1)
    assert np.array_equal(brush_rle.decode(theirs, *mask.shape), mask * np.uint8(255))


@quick
@given(masks)
def test_the_sdk_reads_what_we_write_in_all_four_channels(mask: NDArray[np.bool_]) -> None:
    pixels = sdk.decode_rle(brush_rle.encode(mask)).reshape(*mask.shape, 4)
    assert (pixels == (mask * np.uint8(255))[..., None]).all()


@quick
@given(
    arrays(
        np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(4)), elements=st.integers(0, 3)
    )
)
def test_any_picture_that_the_sdk_writes_is_read(pixels: NDArray[np.uint8]) -> None:
    rle = sdk.encode_rle(pixels.reshape(-1))
    assert np.array_equal(brush_rle.decode(rle, *pixels.shape[:2]), pixels[..., 3])


@pytest.mark.parametrize("fields", [(1, 2, 3, 4), (16, 1, 8, 5), (5, 6, 7, 16)])
def test_length_fields_of_any_size_are_read(fields: tuple[int, int, int, int]) -> None:
    bits, expected = written(fields, 4 * 30 * 20)
    stream = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert np.array_equal(brush_rle.decode(stream, 30, 20).reshape(-1), expected[3::4])


def written(fields: tuple[int, ...], total: int) -> tuple[str, NDArray[np.uint8]]:
    """A stream with every kind of packet and any length fields, spelled out bit by bit."""
    rng = np.random.default_rng(0)
    bits = f"{total:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in fields)
    words: list[int] = []
    while len(words) < total:
        kind, literal = int(rng.integers(4)), bool(rng.integers(2))
        count = int(rng.integers(1, min(1 << fields[kind], total - len(words), 90) + 1))
        new = rng.integers(0, 256, count if literal else 1).tolist()
        bits += f"{0 if literal else 1}{kind:02b}{count - 1:0{fields[kind]}b}" + "".join(
            f"{w:08b}" for w in new
        )
        words += new if literal else new * count
    return bits, np.array(words, dtype=np.uint8)


def test_a_mask_of_more_than_one_chunk_survives_the_round_trip() -> None:
    mask = np.random.default_rng(0).random((900, 1000)) < 0.5
    rle = brush_rle.encode(mask)
    assert 8 * len(rle) > 2 * (1 << 21)
    assert np.array_equal(brush_rle.decode(rle, *mask.shape) > 127, mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70000), (70000, 1), (3, 5)])
@pytest.mark.parametrize("inside", [False, True])
def test_full_and_empty_masks_of_any_shape_survive(shape: tuple[int, int], inside: bool) -> None:
    mask = np.full(shape, inside)
    assert np.array_equal(brush_rle.decode(bytes(brush_rle.encode(mask)), *shape) > 127, mask)


def test_masks_of_other_dtypes_and_layouts_are_read_as_inside_where_not_zero() -> None:
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[1:3, 2:7] = 1
    assert (
        brush_rle.encode(mask.astype(np.bool_))
        == brush_rle.encode(mask)
        == brush_rle.encode(mask * np.uint8(255))
    )
    assert brush_rle.encode(np.asfortranarray(mask > 0)) == brush_rle.encode(mask > 0)


@quick
@given(masks)
def test_runs_give_the_same_stream_as_the_mask(mask: NDArray[np.bool_]) -> None:
    """Runs end at the end of a row there, so neighbours may touch; the stream must not show it."""
    height, width = mask.shape
    starts, ends = [], []
    for row in range(height):
        borders = np.flatnonzero(np.diff(mask[row].astype(int), prepend=0, append=0)) + row * width
        starts += borders[::2].tolist()
        ends += borders[1::2].tolist()
    runs = np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)
    assert brush_rle.encode_runs(*runs, height, width) == brush_rle.encode(mask)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (4,), (2, 2, 4)])
def test_what_is_no_mask_is_not_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(RegionError, match="height x width"):
        brush_rle.encode(np.zeros(shape, dtype=np.bool_))


def test_a_12_megapixel_mask_costs_less_than_4_bytes_a_pixel_each_way() -> None:
    y, x = np.mgrid[:3000, :4000].astype(np.float32)
    mask = (x - 2000) ** 2 + (y - 1500) ** 2 < 1200**2
    tracemalloc.start()
    try:
        rle = brush_rle.encode(mask)
        alpha = brush_rle.decode(rle, 3000, 4000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(alpha > 127, mask)
    assert peak < 4 * mask.size
