"""Attention with decomposed relative positions: one plain form and one fused form; knows no network."""

import torch
import torch.nn.functional as F
from torch import Tensor


def relative_table(table: Tensor, size: int) -> Tensor:
    """Spread a table of relative positions over all (query, key) pairs of one axis.

    Args:
        table: `[L, D]` float, one row a distance, `L = 2 * pretrained size - 1`.
        size: rows or columns of the canvas, in patches.

    Returns:
        `[size, size, D]`: row `q`, column `k` holds the entry of distance `q - k`. A table made for another
        size is interpolated linearly (Li et al., "Exploring Plain Vision Transformer Backbones", 2022).
    """
    wanted = 2 * size - 1
    if table.shape[0] != wanted:
        resized = F.interpolate(table.float().t()[None], size=wanted, mode="linear")[0].t()
        table = resized.to(table.dtype)
    steps = torch.arange(size, device=table.device)
    return table[steps[:, None] - steps[None, :] + (size - 1)]


def axis_biases(
    queries: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Bias of every query towards every key row and every key column.

    Args:
        queries: `[B, heads, h * w, D]`, unscaled.
        rows: `[h, H, D]`, from `relative_table`, the rows of the queries' part of the canvas.
        columns: `[w, W, D]`.
        grid: `(h, w)` of the queries.

    Returns:
        `[B, heads, h * w, H]` and `[B, heads, h * w, W]`.
    """
    batch, heads, _, dim = queries.shape
    placed = queries.reshape(batch, heads, *grid, dim)
    by_row = torch.einsum("bnhwd,hkd->bnhwk", placed, rows)
    by_column = torch.einsum("bnhwd,wkd->bnhwk", placed, columns)
    return by_row.flatten(2, 3), by_column.flatten(2, 3)


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


def attend(queries: Tensor, keys: Tensor, values: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """`attend_fused` where no gradient is wanted, `attend_plain` where the bias needs one."""
    core = attend_plain if torch.is_grad_enabled() and by_row.requires_grad else attend_fused
    return core(queries, keys, values, by_row, by_column)
