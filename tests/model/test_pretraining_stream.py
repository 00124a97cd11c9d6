"""Groups made while training goes on: real processes, a ring on the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.pretraining import pools
from model.pretraining.batches import varied
from model.pretraining.recipes import NETWORKS, RECIPES, Phase
from model.pretraining.shards import MEMBERS
from model.pretraining.stream import Ring, Stream
from model.pretraining.training import Length, Training
from model.seggpt import SegGPTConfig
from tests.model.drawn_pools import write_pools
from tests.model.test_pretraining_training import TINY, loss_on

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> pools.Pools:
    return pools.load(write_pools(tmp_path_factory.mktemp("pools")), "train")


def numbered(first: int, count: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], ...]:
    """Groups whose images and masks are filled with their number."""
    numbers = np.arange(first, first + count, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None, None], (count, MEMBERS, 128, 128, 3))
    return images.copy(), images[..., 0].copy()


def test_a_ring_keeps_the_latest_groups_and_takes_members_with_their_own_masks() -> None:
    ring = Ring(4, CPU)
    ring.add(*numbered(1, 3))
    assert len(ring) == 3
    ring.add(*numbered(4, 3))
    assert (len(ring), ring.made) == (4, 6)
    images, masks = ring.take(64, 2, np.random.default_rng(0))
    assert images.shape == (64, 2, 128, 128, 3)
    assert masks.shape == (64, 2, 128, 128)
    assert set(images.flatten().tolist()) == {3, 4, 5, 6}
    assert torch.equal(images[..., 0], masks)


def test_members_of_a_group_are_different_ones() -> None:
    ring = Ring(1, CPU)
    images, masks = numbered(1, 1)
    masks[0] = np.arange(MEMBERS, dtype=np.uint8)[:, None, None]
    ring.add(images, masks)
    _, taken = ring.take(32, 3, np.random.default_rng(1))
    assert all(len(set(row.flatten().tolist())) == 3 for row in taken)


def test_processes_fill_a_ring_and_a_network_learns_from_it(material: pools.Pools) -> None:
    stream = Stream(material, processes=2, seed=3)
    try:
        ring = Ring(48, CPU)
        stream.fill(ring, least=32)
        images, masks = ring.take(16, MEMBERS, np.random.default_rng(0))
        assert set(masks.flatten().tolist()) == {0, 255}
        assert images.float().std() > 1
        recipe = replace(RECIPES["accelerated"], phases=(Phase(1.0, 32, 8),), several_from=0.0)
        training = Training(TINY, recipe, ring, Length(steps=30), 0, autocast=False)
        batch = varied(images[:, :2], masks[:, :2], 32, np.random.default_rng(9))
        before = loss_on(training.network, recipe, batch)
        while not training.done:
            training.step()
        assert loss_on(training.network, recipe, batch) < before
    finally:
        stream.close()


def test_the_sizes_of_the_larger_network_fit_together() -> None:
    medium = NETWORKS["medium"]
    assert isinstance(medium, SegGPTConfig)
    assert medium.intermediate_indices[-1] == medium.depth - 1
