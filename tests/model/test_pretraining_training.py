"""Training the embedded checkpoint: a tiny network on a few drawn samples, seconds at most."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import load
from model.pretraining import card, sources, watching
from model.pretraining.batches import Batch, draw
from model.pretraining.muon import Muon, orthogonal
from model.pretraining.recipes import RECIPES, Phase, Recipe, balanced_loss
from model.pretraining.shards import MEMBERS, Shard
from model.pretraining.starts import give_jobs
from model.pretraining.training import Length, Training, export
from model.seggpt import Attention, SegGPT, SegGPTConfig

TINY = SegGPTConfig(
    image_size=32,
    patch_size=8,
    embed_dim=48,
    depth=3,
    num_heads=4,
    decoder_embed_dim=8,
    pretrain_image_size=32,
    merge_index=0,
    intermediate_indices=(1, 2),
)


@pytest.fixture(scope="module")
def shard() -> Shard:
    """Bright discs on dark noise: what to paint can be seen."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 90, (6, MEMBERS, 128, 128, 3), dtype=np.uint8)
    masks = np.zeros((6, MEMBERS, 128, 128), np.uint8)
    y, x = np.mgrid[:128, :128]
    for place in np.ndindex(6, MEMBERS):
        row, column = rng.uniform(30, 98, 2)
        disc = np.hypot(y - row, x - column) < 26
        masks[place][disc] = 255
        images[place][disc] = 230
    return Shard(images, masks, np.zeros(6, np.uint8))


@pytest.fixture
def recipe() -> Recipe:
    return replace(
        RECIPES["small"], phases=(Phase(0.5, 32, 8), Phase(1.0, 64, 4)), several_from=0.0, several=0.5
    )


def training(recipe: Recipe, shard: Shard, steps: int, seed: int = 0) -> Training:
    return Training(TINY, recipe, [shard], Length(steps=steps), seed, autocast=False)


def loss_on(network: SegGPT, recipe: Recipe, batch: Batch) -> float:
    with torch.no_grad():
        painted = network(batch.prompt_images, batch.prompt_masks, batch.query)
        return float(recipe.loss(painted, batch))


@pytest.mark.parametrize(("name", "share"), [("small", 0.93), ("paper", 0.995)])
def test_training_lowers_the_loss_on_samples_it_does_not_draw(name: str, share: float, shard: Shard) -> None:
    """The paper's rate is a hundredth of ours, and its colours are random: it moves, but little in 40 steps."""
    recipe = replace(RECIPES[name], phases=(Phase(1.0, 32, 8),), several=0.0)
    batch = draw([shard], 8, 1, 32, np.random.default_rng(99), paper=recipe.paper)
    learner = training(recipe, shard, steps=40)
    before = loss_on(learner.network, recipe, batch)
    while not learner.done:
        learner.step()
    assert loss_on(learner.network, recipe, batch) < share * before


def test_a_resumed_training_ends_where_an_unbroken_one_does(
    recipe: Recipe, shard: Shard, tmp_path: Path
) -> None:
    unbroken = training(recipe, shard, steps=6)
    for _ in range(6):
        unbroken.step()
    broken = training(recipe, shard, steps=6)
    for _ in range(3):
        broken.step()
    broken.save(tmp_path / "state.pt")
    resumed = training(recipe, shard, steps=6, seed=5)
    resumed.resume(tmp_path / "state.pt")
    for _ in range(3):
        resumed.step()
    assert resumed.done
    assert resumed.tally.samples == unbroken.tally.samples
    for ours, theirs in (
        (resumed.network.state_dict(), unbroken.network.state_dict()),
        (resumed.average, unbroken.average),
    ):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_seed_trains_another_network(recipe: Recipe, shard: Shard) -> None:
    first, second = (training(recipe, shard, steps=2, seed=seed) for seed in (0, 1))
    assert first.step() != second.step()


def test_resuming_another_network_is_refused(recipe: Recipe, shard: Shard, tmp_path: Path) -> None:
    training(recipe, shard, steps=2).save(tmp_path / "state.pt")
    other = Training(replace(TINY, depth=4), recipe, [shard], Length(steps=2), 0, autocast=False)
    with pytest.raises(ValueError, match="another network or recipe"):
        other.resume(tmp_path / "state.pt")


def test_a_run_saves_and_lets_itself_be_watched(recipe: Recipe, shard: Shard, tmp_path: Path) -> None:
    seen: list[int] = []
    training(recipe, shard, steps=5).run(
        tmp_path / "state.pt", every=2, watch=lambda each: seen.append(each.tally.step)
    )
    assert seen == [2, 4, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.pt"]


def test_the_file_loads_at_another_size_and_paints_as_the_network_does(shard: Shard, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SegGPT(TINY).eval()
    give_jobs(network)
    path = tmp_path / "weights.safetensors"
    export(network.state_dict(), TINY, path, size=64)
    loaded = load(path).eval()
    assert loaded.config == replace(TINY, image_size=64)
    assert next(loaded.parameters()).dtype == torch.float32
    batch = draw([shard], 2, 2, 64, np.random.default_rng(0))
    with torch.no_grad():
        wanted, found = (
            each(batch.prompt_images, batch.prompt_masks, batch.query) for each in (network, loaded)
        )
    assert wanted.std() > 0.05
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0.01)


def test_a_head_starts_by_looking_at_the_same_place_of_the_other_half() -> None:
    network = SegGPT(TINY)
    give_jobs(network)
    attention = network.blocks[0].attn
    assert isinstance(attention, Attention)
    query = attention.qkv.bias.view(3, 4, 12)[0, 0]
    by_row, by_column = attention.rel_pos_h @ query, attention.rel_pos_w @ query
    centre = 2 * TINY.side - 1
    assert {int(index) for index in by_row.topk(2).indices} == {centre - TINY.side, centre + TINY.side}
    assert int(by_column.argmax()) == TINY.side - 1


def test_newton_schulz_makes_matrices_nearly_orthogonal() -> None:
    matrices = torch.randn(3, 24, 48, generator=torch.Generator().manual_seed(0))
    for case in (matrices, matrices.transpose(1, 2)):
        values = torch.linalg.svdvals(orthogonal(case))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_muon_steps_stacked_matrices_apart() -> None:
    """The parts' gradients differ by a thousand in length; stacked as one, the small one would hardly move."""
    parameter = torch.nn.Parameter(torch.zeros(24, 8))
    gradient = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    gradient[:8] *= 1000
    parameter.grad = gradient
    Muon([{"params": [parameter], "parts": 3}], lr=0.1, weight_decay=0.0).step()
    lengths = parameter.detach().view(3, -1).norm(dim=1)
    assert lengths.max() / lengths.min() < 1.5


def test_the_loss_prefers_the_right_painting_however_small_the_target(shard: Shard) -> None:
    batch = draw([shard], 4, 1, 32, np.random.default_rng(0), gentle=True)
    right, wrong, blank = (
        balanced_loss(painted, batch) for painted in (batch.painted, -batch.painted, batch.painted * 0)
    )
    assert right < blank < wrong


def test_size_and_prompts_follow_the_schedule(recipe: Recipe) -> None:
    assert [recipe.phase(progress).size for progress in (0.0, 0.49, 0.5, 0.99, 1.0)] == [32, 32, 64, 64, 64]
    rng = np.random.default_rng(0)
    assert {RECIPES["small"].prompts(0.1, rng) for _ in range(50)} == {1}
    assert {RECIPES["small"].prompts(0.9, rng) for _ in range(200)} == {1, 2, 3, 4}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_rate_ends_near_nothing(name: str) -> None:
    rates = [RECIPES[name].rate(progress) for progress in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1)
    assert rates[-1] < 0.03
    assert all(rate > 0 for rate in rates[:-1])


def test_validation_scores_every_task_that_the_shard_holds(shard: Shard) -> None:
    tasks = np.array([0, 0, 0, 1, 1, 1], np.uint8)
    scores = watching.validation(SegGPT(TINY).eval(), replace(shard, tasks=tasks), 32, prompts=2)
    assert set(scores) == {"objects", "regions", "mean"}
    assert all(0 <= score <= 1 for score in scores.values())
    with pytest.raises(ValueError, match="prompts"):
        watching.validation(SegGPT(TINY), shard, 32, prompts=MEMBERS)


def test_the_preview_shows_five_tiles_a_line(shard: Shard, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "preview.png"
    watching.preview(SegGPT(TINY).eval(), shard, 32, path, rows=3)
    assert path.read_bytes()[:4] == b"\x89PNG"
    with Image.open(path) as image:
        assert image.size == (5 * 32, 3 * 32)


@pytest.mark.parametrize("copyleft", [True, False])
def test_the_card_lists_the_images_that_were_used_with_their_licences(copyleft: bool, tmp_path: Path) -> None:
    facts = card.Facts(
        recipe="small",
        config=TINY,
        parameters=1_000_000,
        seed=7,
        hours=1.5,
        samples=1000,
        groups=10,
        machine="two cores",
        copyleft=copyleft,
        sets={"one": {1: 0.25, 8: 0.5}, "two": {1: 0.35}},
    )
    card.write(tmp_path / "README.md", facts)
    text = (tmp_path / "README.md").read_text()
    for source in sources.SOURCES:
        assert (f"| {source.package} | {source.use} | {source.licence} |" in text) == (
            copyleft or not source.copyleft
        )
    assert "| **mean** | **0.30** | **0.50** |" in text
    assert "seed 7" in text
