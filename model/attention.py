"""Attention with decomposed relative positions: a plain form and faster ones that equal it; knows no network.

A canvas is a prompt half above a query half, and several prompts share one query. All forms take the halves once:
`[B, P + 1, ...]`, the P prompts, then their query. Each half attends to its whole canvas; the query's half is in P
canvases, and its result is their mean. `model/attention_kernel.py` has the form for CUDA.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BY_HEADS_FROM = 256  # patches of a half from which `attend_halves_by_heads` is the faster form on a CPU
FOLDED_MULTIPLE = 32  # the folded form's channels are filled up to a multiple, as the fused kernels want them

Core = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
Form = Callable[[Tensor, Tensor, Tensor, tuple[int, int]], Tensor]


def resized_table(table: Tensor, size: int) -> Tensor:
    """A table of relative positions for an axis of another size.

    Args:
        table: `[L, D]` float, one row a distance, `L = 2 * pretrained size - 1`.
        size: rows or columns of the canvas, in patches.

    Returns:
        `[2 * size - 1, D]`, interpolated linearly (Li et al., "Exploring Plain Vision Transformer Backbones", 2022).
    """
    wanted = 2 * size - 1
    if table.shape[0] == wanted:
        return table
    return F.interpolate(table.float().t()[None], size=wanted, mode="linear")[0].t().to(table.dtype)


def relative_table(table: Tensor, size: int) -> Tensor:
    """Spread a table of relative positions over all (query, key) pairs of one axis.

    Args:
        table: as `resized_table`.
        size: as `resized_table`.

    Returns:
        `[size, size, D]`: row `q`, column `k` holds the entry of distance `q - k`.
    """
    steps = torch.arange(size, device=table.device)
    return resized_table(table, size)[steps[:, None] - steps[None, :] + (size - 1)]


def axis_biases(
    queries: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Bias of every query towards every key row and every key column.

    Args:
        queries: `[..., h * w, D]`, unscaled.
        rows: `[h, H, D]`, from `relative_table`, the rows of the queries' part of the canvas.
        columns: `[w, W, D]`.
        grid: `(h, w)` of the queries.

    Returns:
        `[..., h * w, H]` and `[..., h * w, W]`.
    """
    placed = queries.reshape(*queries.shape[:-2], *grid, queries.shape[-1])
    by_row = torch.einsum("...hwd,hkd->...hwk", placed, rows)
    by_column = torch.einsum("...hwd,wkd->...hwk", placed, columns)
    return by_row.flatten(-3, -2), by_column.flatten(-3, -2)


def attend_plain(queries: Tensor, keys: Tensor, values: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Softmax attention with the bias `by_row[..., key row] + by_column[..., key column]`, written out.

    Args:
        queries: `[B, heads, N, D]`.
        keys: `[B, heads, H * W, D]`, in row-major order of the canvas.
        values: as `keys`.
        by_row: `[B, heads, N, H]`.
        by_column: `[B, heads, N, W]`.

    Returns:
        `[B, heads, N, D]`.
    """
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(-2)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1) + bias
    attended: Tensor = scores.softmax(dim=-1) @ values
    return attended


def attend_fused(queries: Tensor, keys: Tensor, values: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Equal to `attend_plain`, through PyTorch's fused kernel; never keeps the scores, only the bias."""
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(-2)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


def attend_folded(queries: Tensor, keys: Tensor, values: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Equal to `attend_plain`, with neither scores nor bias kept, also for gradients; about twice the arithmetic.

    The bias becomes further channels: the queries carry `by_row` and `by_column`, and each key a one at its row and
    a one at its column. So kernels that know no bias apply.
    """
    channels, high, wide = queries.shape[-1], by_row.shape[-1], by_column.shape[-1]
    filling = -(channels + high + wide) % FOLDED_MULTIPLE
    place = torch.arange(high * wide, device=keys.device)
    at_row, at_column = F.one_hot(place // wide, high), F.one_hot(place % wide, wide)
    at = torch.cat([at_row, at_column], dim=-1).to(keys.dtype).expand(*keys.shape[:2], -1, -1)
    attended = F.scaled_dot_product_attention(
        F.pad(torch.cat([queries * channels**-0.5, by_row, by_column], dim=-1), (0, filling)),
        F.pad(torch.cat([keys, at], dim=-1), (0, filling)),
        F.pad(values, (0, high + wide + filling)),
        scale=1.0,
    )
    return attended[..., :channels]


def attend(queries: Tensor, keys: Tensor, values: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """`attend_fused` where no gradient is wanted, `attend_plain` where the bias needs one."""
    core = attend_plain if torch.is_grad_enabled() and by_row.requires_grad else attend_fused
    return core(queries, keys, values, by_row, by_column)


def _halves_biases(
    queries: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """`axis_biases` of `[B, P + 1, heads, N, D]`: the prompts' halves lie above, the query's below."""
    high, wide = grid
    row_table, column_table = relative_table(rows, 2 * high), relative_table(columns, wide)
    above = axis_biases(queries[:, :-1], row_table[:high], column_table, grid)
    below = axis_biases(queries[:, -1:], row_table[high:], column_table, grid)
    return torch.cat([above[0], below[0]], dim=1), torch.cat([above[1], below[1]], dim=1)


def attend_halves(
    qkv: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int], core: Core = attend
) -> Tensor:
    """Attention within each (prompt, query) canvas; the query half's result is the mean over the prompts.

    Args:
        qkv: `[B, P + 1, N, 3, heads, D]`: queries, keys and values of the halves, P prompts and then the query.
        rows: `[L, D]`, table of relative positions along the canvas's rows, as for `resized_table`.
        columns: `[L, D]`, along its columns.
        grid: `(h, w)` of a half, in patches; `N = h * w`.
        core: attention within canvases.

    Returns:
        `[B, P + 1, N, heads * D]`.
    """
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each [B, P + 1, heads, N, D]
    by_row, by_column = _halves_biases(q, rows, columns, grid)

    def joined(halves: Tensor) -> Tensor:
        """Canvases `[B * P, heads, 2N, D]`: each prompt's half above the query's."""
        prompts, query = halves[:, :-1], halves[:, -1:]
        return torch.cat([prompts, query.expand_as(prompts)], dim=-2).flatten(0, 1)

    attended = core(*(joined(halves) for halves in (q, k, v, by_row, by_column)))
    prompts, query = attended.reshape(qkv.shape[0], -1, *attended.shape[1:]).chunk(2, dim=-2)
    return torch.cat([prompts, query.mean(dim=1, keepdim=True)], dim=1).transpose(2, 3).flatten(3)


def attend_halves_folded(qkv: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]) -> Tensor:
    """`attend_halves` through `attend_folded`."""
    return attend_halves(qkv, rows, columns, grid, attend_folded)


def attend_halves_by_heads(qkv: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]) -> Tensor:
    """`attend_halves` for a CPU, canvas by canvas and head by head: what is worked on stays in the cache.

    The bias is never kept, and the query half's scores of itself, the same in all of its canvases, are computed once.
    Where a gradient is wanted, `attend_halves`.
    """
    if torch.is_grad_enabled() and (qkv.requires_grad or rows.requires_grad):
        return attend_halves(qkv, rows, columns, grid)
    B, halves, N, _, heads, channels = qkv.shape
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
    by_row, by_column = _halves_biases(q, rows, columns, grid)
    q = q * channels**-0.5
    out = qkv.new_empty(B, halves, N, heads, channels)
    scores = qkv.new_empty(2 * N * N)
    for batch in range(B):
        for head in range(heads):
            parts = tuple(part[batch, :, head] for part in (q, k, v, by_row, by_column))
            _attend_above(parts, scores.view(N, 2 * N), out[batch, :-1, :, head])
            _attend_below(parts, scores.view(2, N, N), out[batch, -1, :, head])
    return out.flatten(3)


def _biased(queries: Tensor, keys: Tensor, by_row: Tensor, by_column: Tensor, scores: Tensor) -> Tensor:
    """Scores `[N, K]` of one head, written into a given place."""
    placed = scores.view(*by_row.shape, by_column.shape[-1])
    torch.add(by_row[:, :, None], by_column[:, None, :], out=placed)
    return scores.addmm_(queries, keys.t())


def _attend_above(parts: tuple[Tensor, ...], scores: Tensor, out: Tensor) -> None:
    """One head's prompt halves, each over itself and the query's half.

    Args:
        parts: queries (scaled), keys, values, biases by row and by column of one head, each `[P + 1, N, ...]`.
        scores: `[N, 2N]`, room to work in.
        out: `[P, N, D]`, where the result goes.
    """
    q, k, v, by_row, by_column = parts
    for prompt in range(len(q) - 1):
        keys, values = (torch.cat([part[prompt], part[-1]]) for part in (k, v))
        _biased(q[prompt], keys, by_row[prompt], by_column[prompt], scores)
        torch.softmax(scores, dim=-1, out=scores)
        out[prompt] = scores @ values


def _attend_below(parts: tuple[Tensor, ...], scores: Tensor, out: Tensor) -> None:
    """One head's query half, over itself and each prompt's half, averaged: the softmax goes on from its own part.

    Args:
        parts: as `_attend_above`.
        scores: `[2, N, N]`, room to work in.
        out: `[N, D]`, where the result goes.
    """
    q, k, v, by_row, by_column = parts
    own, opposite = scores
    above, below = by_row[-1].chunk(2, dim=-1)
    _biased(q[-1], k[-1], below, by_column[-1], own)
    own_highest = own.amax(dim=-1, keepdim=True)
    own.sub_(own_highest).exp_()
    own_total, own_attended = own.sum(dim=-1, keepdim=True), own @ v[-1]
    mean = torch.zeros_like(own_attended)
    for prompt in range(len(q) - 1):
        _biased(q[-1], k[prompt], above, by_column[-1], opposite)
        highest = torch.maximum(own_highest, opposite.amax(dim=-1, keepdim=True))
        opposite.sub_(highest).exp_()
        shrink = (own_highest - highest).exp_()
        total = own_total * shrink + opposite.sum(dim=-1, keepdim=True)
        mean += (own_attended * shrink + opposite @ v[prompt]) / total
    out.copy_(mean / (len(q) - 1))
