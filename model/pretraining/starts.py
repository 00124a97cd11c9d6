"""Where training starts: attention heads that have jobs already; knows the network, no images."""

import torch
from torch import Tensor, nn

from model.seggpt import Attention, SegGPT

_STRENGTH = 3.0  # of a head's preference, in units of the softmax


@torch.no_grad()
def give_jobs(network: SegGPT) -> None:
    """Set the first relative-position tables so that heads look somewhere sensible.

    One head looks at the same place of the other half, one at its neighbourhood, the others rather at the
    prompt and at what looks alike. A query bias gives the tables something to act on.

    Args:
        network: freshly initialised; changed in place.
    """
    for block in network.blocks:
        assert isinstance(block.attn, Attention)
        _give_jobs(block.attn, network.config.side)
    half = network.config.decoder_embed_dim
    for layer in network.decoder_pred:
        if isinstance(layer, nn.Conv2d) and layer.in_channels == half:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def _give_jobs(attention: Attention, side: int) -> None:
    heads, dim = attention.num_heads, attention.rel_pos_h.shape[1]
    rows = torch.arange(-(2 * side - 1), 2 * side, dtype=torch.float32)
    columns = torch.arange(-(side - 1), side, dtype=torch.float32)
    bias = attention.qkv.bias.view(3, heads, dim)
    weight = attention.qkv.weight.view(3, heads, dim, -1)
    attention.rel_pos_h.normal_(std=0.02)
    attention.rel_pos_w.normal_(std=0.02)
    for head in range(heads):
        key = torch.zeros(dim)
        key[head * (dim // heads) : (head + 1) * (dim // heads)] = (
            1.0  # directions of different heads are orthogonal
        )
        bias[0, head] = key
        by_row, by_column = _job(head, rows, columns, side)
        attention.rel_pos_h.data += by_row[:, None] * key / key.sum()
        attention.rel_pos_w.data += by_column[:, None] * key / key.sum()
        if head >= 2:
            weight[0, head] *= 2
            weight[1, head] = weight[0, head]


def _job(head: int, rows: Tensor, columns: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Preference by row distance (query minus key) and by column distance."""
    if head == 0:
        near = torch.exp(-((rows.abs() - side) ** 2) / (2 * 2.0**2))
        return _STRENGTH * near, _STRENGTH * torch.exp(-(columns**2) / (2 * 2.0**2))
    if head == 1:
        return _STRENGTH * torch.exp(-(rows**2) / (2 * 2.5**2)), _STRENGTH * torch.exp(
            -(columns**2) / (2 * 2.5**2)
        )
    return 0.7 * torch.tanh(rows / (side / 2)), torch.zeros_like(columns)
