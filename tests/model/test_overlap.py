"""The loss of overlap: small targets count, and parts of a batch add up to the whole."""

import pytest
import torch

from model import canvas
from model.overlap import overlap_loss


def test_a_small_target_that_is_painted_black_costs_nearly_everything() -> None:
    wanted = torch.zeros(1, 32, 32)
    wanted[:, 3:7, 3:7] = 1
    too_much = torch.zeros(1, 32, 32)
    too_much[:, 2:8, 2:8] = 1
    target = canvas.paint(wanted)
    black, generous, right = (
        float(overlap_loss(canvas.paint(found), target))
        for found in (torch.zeros_like(wanted), too_much, wanted)
    )
    assert right < generous < black
    assert black > 0.6


def test_the_overlap_of_a_batch_is_the_mean_over_its_pictures() -> None:
    """So a batch that is taken in parts for lack of memory has the same gradient."""
    random = torch.Generator().manual_seed(0)
    painted = torch.randn(4, 3, 16, 16, generator=random)
    target = canvas.paint(torch.rand(4, 16, 16, generator=random) > 0.7)
    whole = overlap_loss(painted, target)
    parts = [overlap_loss(painted[half], target[half]) for half in (slice(0, 2), slice(2, 4))]
    assert float(whole) == pytest.approx(float(sum(parts)) / 2, abs=1e-6)
    nothing = canvas.paint(torch.zeros(1, 16, 16))
    assert float(overlap_loss(nothing, nothing)) < 0.7
