"""Attention with decomposed relative positions for CUDA, in Triton; equals `model.attention.attend_halves`.

Importing needs Triton, which PyTorch for CUDA brings. Three things make it fast. Keys are taken in whole rows of the
canvas, so the bias towards columns is the same for every step and stays in registers, and the bias towards rows is
one number a query. The query half's scores of itself are the same in all of its canvases and are computed once. And
queries, keys and values are read where the linear layer left them.
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.attention import attend_halves_folded, resized_table

LOG2_E = math.log2(math.e)  # the kernel's exponentials are powers of two


@dataclass(frozen=True)
class Tiling:
    """How the work is cut; changes the speed, not the result.

    Attributes:
        queries: queries that one program attends for, a power of two, at least 16.
        key_rows: rows of the canvas taken in one step, 1 or 2.
        warps: warps of a program.
        stages: steps whose keys and values are fetched ahead.
    """

    queries: int = 64
    key_rows: int = 2
    warps: int = 4
    stages: int = 3


DEFAULT_TILING = Tiling()


def _power(size: int) -> int:
    """The power of two that holds it and that the matrix units take."""
    return max(16, 1 << (size - 1).bit_length())


@triton.jit
def _axis(  # type: ignore[no-untyped-def]
    queries, query_stride, count, table, first, keys, out, out_stride, key_stride, factor,
    DIM: tl.constexpr, COUNT: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Biases of `count` queries of one row or column, whose distance to key k is entry `first - k` of the table."""
    n, k, d = tl.arange(0, COUNT), tl.arange(0, KEYS), tl.arange(0, CHANNELS)
    is_query, is_key, is_channel = n < count, k < keys, d < DIM
    query = tl.load(
        queries + n[:, None] * query_stride + d[None, :],
        mask=is_query[:, None] & is_channel[None, :],
        other=0.0,
    )
    entries = tl.load(
        table + (first - k)[:, None] * DIM + d[None, :],
        mask=is_key[:, None] & is_channel[None, :],
        other=0.0,
    )
    bias = tl.dot(query, tl.trans(entries)) * factor
    places = out + n[:, None] * out_stride + k[None, :] * key_stride
    tl.store(places, bias.to(out.dtype.element_ty), mask=is_query[:, None] & is_key[None, :])


@triton.jit
def _bias_kernel(  # type: ignore[no-untyped-def]
    qkv, rows, columns, by_row, by_column, halves, factor,
    HEADS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr, DIM: tl.constexpr,
    SIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """`by_row` `[halves, heads, 2 * HIGH, N]` and `by_column` `[halves, heads, N, WIDE]`, times `factor`.

    Programs: (half and head, a row of queries or a column of them).
    """
    pair, line = tl.program_id(0), tl.program_id(1)
    half, head = (pair // HEADS).to(tl.int64), pair % HEADS
    N: tl.constexpr = HIGH * WIDE
    TOKEN: tl.constexpr = 3 * HEADS * DIM
    queries = qkv + half * N * TOKEN + head * DIM
    if line < HIGH:
        first = line + 2 * HIGH - 1
        if half % halves == halves - 1:
            first += HIGH  # the query's half lies below
        out = by_row + pair.to(tl.int64) * (2 * HIGH * N) + line * WIDE
        _axis(
            queries + line * WIDE * TOKEN, TOKEN, WIDE, rows, first, 2 * HIGH, out, 1, N, factor,
            DIM, SIDE, ROWS, CHANNELS,
        )  # fmt: skip
    else:
        column = line - HIGH
        out = by_column + pair.to(tl.int64) * (N * WIDE) + column * WIDE
        _axis(
            queries + column * TOKEN, WIDE * TOKEN, HIGH, columns, column + WIDE - 1, WIDE, out, WIDE * WIDE, 1,
            factor, DIM, SIDE, COLUMNS, CHANNELS,
        )  # fmt: skip


@triton.jit
def _over_half(  # type: ignore[no-untyped-def]
    query, column_bias, highest, total, attended, keys, row_bias, is_query, scale,
    HEADS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr, DIM: tl.constexpr,
    KEY_ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Go on with a softmax over the keys of one half."""
    N: tl.constexpr = HIGH * WIDE
    TOKEN: tl.constexpr = 3 * HEADS * DIM
    n, d = tl.arange(0, KEY_ROWS * COLUMNS), tl.arange(0, CHANNELS)
    step_row, column = n // COLUMNS, n % COLUMNS
    upper = tl.load(row_bias, mask=is_query, other=0.0)
    lower = upper
    if KEY_ROWS == 2:
        lower = tl.load(row_bias + N, mask=is_query & (HIGH > 1), other=0.0)
    for first in range(0, HIGH, KEY_ROWS):
        row = first + step_row
        is_key = (column < WIDE) & (row < HIGH)
        places = keys + (row * WIDE + column)[:, None] * TOKEN + d[None, :]
        readable = is_key[:, None] & (d < DIM)[None, :]
        key = tl.load(places, mask=readable, other=0.0)
        value = tl.load(places + HEADS * DIM, mask=readable, other=0.0)
        scores = tl.dot(query, tl.trans(key)) * scale + column_bias
        if KEY_ROWS == 1:
            scores += upper.to(tl.float32)[:, None]
        else:
            bias = tl.where(step_row[None, :] == 0, upper[:, None], lower[:, None])
            scores += bias.to(tl.float32)
            if HIGH % KEY_ROWS:
                scores = tl.where((row < HIGH)[None, :], scores, float("-inf"))
        following = first + KEY_ROWS  # fetched a step ahead
        upper = tl.load(row_bias + following * N, mask=is_query & (following < HIGH), other=0.0)
        if KEY_ROWS == 2:
            lower = tl.load(row_bias + (following + 1) * N, mask=is_query & (following + 1 < HIGH), other=0.0)
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(weights, 1)
        attended = tl.dot(weights.to(value.dtype), value, attended * shrink[:, None])
        highest = higher
    return highest, total, attended


@triton.jit
def _attend_kernel(  # type: ignore[no-untyped-def]
    qkv, by_row, by_column, out, batch, prompts, scale,
    HEADS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr, DIM: tl.constexpr,
    QUERIES: tl.constexpr, KEY_ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One program: a tile of one half's queries, one head, over its own half and each half opposite, averaged."""
    N: tl.constexpr = HIGH * WIDE
    TOKEN: tl.constexpr = 3 * HEADS * DIM
    TILES: tl.constexpr = (N + QUERIES - 1) // QUERIES
    program = tl.program_id(0)
    tile, rest = program % TILES, program // TILES
    head, rest = rest % HEADS, rest // HEADS
    place = prompts - rest // batch  # the query's halves first: they have the longest way
    first = (rest % batch).to(tl.int64) * (prompts + 1)
    half = first + place

    m, d = tile * QUERIES + tl.arange(0, QUERIES), tl.arange(0, CHANNELS)
    is_query, is_channel = m < N, d < DIM
    read = is_query[:, None] & is_channel[None, :]
    halves = qkv + head * DIM
    query = tl.load(halves + half * (N * TOKEN) + m[:, None] * TOKEN + d[None, :], mask=read, other=0.0)
    n = tl.arange(0, KEY_ROWS * COLUMNS) % COLUMNS
    column_places = by_column + (half * HEADS + head) * (N * WIDE) + m[:, None] * WIDE + n[None, :]
    column_bias = tl.load(column_places, mask=is_query[:, None] & (n < WIDE)[None, :], other=0.0)
    column_bias = tl.where((n < WIDE)[None, :], column_bias.to(tl.float32), float("-inf"))
    row_bias = by_row + (half * HEADS + head) * (2 * HIGH * N) + m

    is_below = place == prompts
    own_rows = tl.where(is_below, HIGH * N, 0)
    opposite_rows = tl.where(is_below, 0, HIGH * N)
    opposite = tl.where(is_below, first, first + prompts)
    canvases = tl.where(is_below, prompts, 1)
    keys = halves + HEADS * DIM
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    attended = tl.zeros([QUERIES, CHANNELS], tl.float32)
    highest, total, attended = _over_half(
        query, column_bias, highest, total, attended, keys + half * (N * TOKEN), row_bias + own_rows, is_query,
        scale, HEADS, HIGH, WIDE, DIM, KEY_ROWS, COLUMNS, CHANNELS,
    )  # fmt: skip
    result = tl.zeros([QUERIES, CHANNELS], tl.float32)
    for canvas in range(canvases):
        _, canvas_total, canvas_attended = _over_half(
            query, column_bias, highest, total, attended, keys + (opposite + canvas) * (N * TOKEN),
            row_bias + opposite_rows, is_query, scale, HEADS, HIGH, WIDE, DIM, KEY_ROWS, COLUMNS, CHANNELS,
        )  # fmt: skip
        result += canvas_attended / canvas_total[:, None]
    places = out + half * (N * HEADS * DIM) + m[:, None] * (HEADS * DIM) + head * DIM + d[None, :]
    tl.store(places, (result / canvases).to(out.dtype.element_ty), mask=read)


def attend_halves_kernel(
    qkv: Tensor,
    rows: Tensor,
    columns: Tensor,
    grid: tuple[int, int],
    tiling: Tiling = DEFAULT_TILING,
) -> Tensor:
    """As `model.attention.attend_halves`; where a gradient is wanted, by its folded form."""
    if torch.is_grad_enabled() and (qkv.requires_grad or rows.requires_grad):
        return attend_halves_folded(qkv, rows, columns, grid)
    if qkv.is_cuda and qkv.device.index != torch.cuda.current_device():
        with torch.cuda.device(qkv.device):  # where Triton launches
            return attend_halves_kernel(qkv, rows, columns, grid, tiling)
    B, halves, N, _, heads, dim = qkv.shape
    high, wide = grid
    qkv, rows, columns = qkv.contiguous(), resized_table(rows, 2 * high), resized_table(columns, wide)
    by_row = qkv.new_empty(B * halves, heads, 2 * high, N)
    by_column = qkv.new_empty(B * halves, heads, N, wide)
    out = qkv.new_empty(B, halves, N, heads * dim)
    channels, COLUMNS = _power(dim), _power(wide)
    _bias_kernel[(B * halves * heads, high + wide)](
        qkv, rows.contiguous(), columns.contiguous(), by_row, by_column, halves, LOG2_E,
        HEADS=heads, HIGH=high, WIDE=wide, DIM=dim,
        SIDE=_power(max(high, wide)), ROWS=_power(2 * high), COLUMNS=COLUMNS, CHANNELS=channels,
    )  # fmt: skip
    programs = triton.cdiv(N, tiling.queries) * heads * B * halves
    _attend_kernel[(programs,)](
        qkv, by_row, by_column, out, B, halves - 1, LOG2_E * dim**-0.5,
        HEADS=heads, HIGH=high, WIDE=wide, DIM=dim,
        QUERIES=tiling.queries, KEY_ROWS=tiling.key_rows, COLUMNS=COLUMNS, CHANNELS=channels,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return out
