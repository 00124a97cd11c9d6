"""Samples for the embedded checkpoint: made from a handful of drawn pictures, no package is fetched."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint
from model.canvas import MEAN, STD
from model.pretraining import __main__ as command
from model.pretraining import pools, recipes, shards, sources
from model.pretraining.batches import CONTESTED, ECHOED, brightness, contested, draw, echoed
from model.pretraining.pools import Pools
from model.seggpt import SegGPTConfig
from tests.model.drawn_pools import EACH, write_pools

TINY = SegGPTConfig(
    image_size=32,
    patch_size=8,
    embed_dim=32,
    depth=2,
    num_heads=4,
    decoder_embed_dim=8,
    pretrain_image_size=32,
    merge_index=0,
    intermediate_indices=(1,),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pools(tmp_path_factory.mktemp("pools"))


@pytest.fixture(scope="module")
def material(folder: Path) -> Pools:
    return pools.load(folder, "train")


@pytest.fixture(scope="module")
def shard(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> shards.Shard:
    path = tmp_path_factory.mktemp("shard")
    shards.write(path, folder, "train", groups=12, seed=3, processes=1)
    return shards.read(path)


@pytest.mark.parametrize("task", shards.TASKS, ids=lambda task: task.name)
def test_a_group_shows_its_concept_in_every_image(task: shards.Task, material: Pools) -> None:
    for seed in range(4):
        images, masks = shards.group(material, task, (seed,))
        assert images.shape == (shards.MEMBERS, 128, 128, 3)
        assert images.dtype == masks.dtype == np.uint8
        assert set(np.unique(masks)) == {0, 255}
        cover = (masks == 255).mean((1, 2))
        assert (cover > shards.LEAST).all()
        assert (cover < shards.MOST).all()
        assert images.std() > 1


@pytest.mark.parametrize("task", shards.TASKS, ids=lambda task: task.name)
def test_the_same_seed_draws_the_same_group(task: shards.Task, material: Pools) -> None:
    first, again, other = (shards.group(material, task, (seed,)) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_shares_of_the_tasks_make_a_whole() -> None:
    assert sum(task.share for task in shards.TASKS) == pytest.approx(1)


def test_training_never_draws_a_task_kept_for_validation(
    shard: shards.Shard, folder: Path, tmp_path: Path
) -> None:
    kept = {index for index, task in enumerate(shards.TASKS) if not task.share}
    assert kept
    assert not kept & set(shard.tasks.tolist())
    shards.write(tmp_path, folder, "validation", groups=40, seed=0, processes=1)
    assert kept <= set(shards.read(tmp_path).tasks.tolist())


def test_a_picture_is_either_for_training_or_for_validation(folder: Path) -> None:
    train, validation = (pools.load(folder, split) for split in ("train", "validation"))
    for name in ("photos", "cutouts", "textures"):
        here, there, everything = (
            {pixels.tobytes() for pixels in rows}
            for rows in (
                getattr(train, name),
                getattr(validation, name),
                np.load(folder / f"{name[:-1]}.npy"),
            )
        )
        assert here
        assert there
        assert not here & there
        assert here | there == everything


def test_all_windows_of_one_photograph_are_on_one_side() -> None:
    assert pools.split_of("gnome-backgrounds/a.webp") == pools.split_of("gnome-backgrounds/a.webp")
    sides = [pools.split_of(f"package/{number}") for number in range(2400)]
    assert 100 < sides.count("validation") < 320


def test_permissive_pools_hold_no_copyleft_picture(folder: Path) -> None:
    free = pools.load(folder, "train", copyleft=False)
    everything = np.load(folder / "cutout.npy")
    copyleft = {pixels.tobytes() for pixels in everything[EACH:]}  # the second package's
    assert len(free.cutouts) > 5
    assert not {pixels.tobytes() for pixels in free.cutouts} & copyleft


def test_kin_are_of_one_folder_and_hold_the_thing_itself(material: Pools) -> None:
    for index, members in enumerate(material.kin):
        assert index in members
        assert len(members) > 1


def test_a_shard_is_made_once_and_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shards.write(tmp_path / name, folder, "train", groups=3, seed=1, processes=1)
    first, second = shards.read(tmp_path / "a"), shards.read(tmp_path / "b")
    assert np.array_equal(first.images, second.images)
    stamp = (tmp_path / "a" / "images.npy").stat().st_mtime_ns
    shards.write(tmp_path / "a", folder, "train", groups=3, seed=1, processes=1)
    assert (tmp_path / "a" / "images.npy").stat().st_mtime_ns == stamp


def test_an_unfinished_shard_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "images.npy").touch()
    with pytest.raises(FileNotFoundError):
        shards.read(tmp_path)


def test_a_batch_is_painted_white_on_black_unless_the_paper_is_followed(shard: shards.Shard) -> None:
    batch = draw([shard], 8, 3, 48, np.random.default_rng(0))
    assert batch.prompt_images.shape == batch.prompt_masks.shape == (8, 3, 3, 48, 48)
    assert batch.query.shape == batch.painted.shape == (8, 3, 48, 48)
    torch.testing.assert_close(brightness(batch.painted), batch.target)
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(batch.painted.amax((0, 2, 3)), white)
    coloured = draw([shard], 8, 1, 48, np.random.default_rng(0), paper=True)
    assert (brightness(coloured.painted) - coloured.target).abs().mean() > 0.05


def test_the_papers_colours_are_the_same_in_prompt_and_query(shard: shards.Shard) -> None:
    batch = draw([shard], 6, 1, 64, np.random.default_rng(1), paper=True)
    for prompt, query in zip(batch.prompt_masks[:, 0], batch.painted, strict=True):
        for channel in range(3):
            ends = [
                float(end) for mask in (prompt, query) for end in (mask[channel].min(), mask[channel].max())
            ]
            assert ends[:2] == pytest.approx(ends[2:], abs=1e-4)


def test_variation_never_loses_the_target(shard: shards.Shard) -> None:
    rng = np.random.default_rng(2)
    for _ in range(6):
        batch = draw([shard], 16, 1, 48, rng)
        share = batch.target.mean((1, 2))
        assert (share > 0.0005).all()
        assert (share < 0.9995).all()


def stack(samples: int) -> torch.Tensor:
    """Each sample is one grey square on black, elsewhere and of another grey than its neighbour's."""
    made = torch.zeros(samples, 2, 4, 32, 32)
    for sample in range(samples):
        row, column = 4 + 14 * (sample % 2), 4 + 14 * (sample // 2 % 2)
        made[sample, :, :3, row : row + 8, column : column + 8] = (sample + 1) / samples
        made[sample, :, 3, row : row + 8, column : column + 8] = 1
    return made


def test_of_two_things_in_a_contested_picture_only_the_mask_tells_which_is_meant() -> None:
    before = stack(200)
    after = contested(before, np.random.default_rng(0))
    seen = torch.stack([sample[0, 0].unique().count_nonzero() for sample in after])
    assert set(seen.tolist()) == {1, 2}
    both = seen == 2
    assert abs(float(both.float().mean()) - CONTESTED) < 0.15
    kept = (after[both, :, 3] == before[both, :, 3]).all((1, 2, 3))
    switched = (after[both, :, 3] == before.roll(1, 0)[both, :, 3]).all((1, 2, 3))
    assert (kept | switched).all()
    assert 0.3 < kept.float().mean() < 0.7
    assert torch.equal(after[~both], before[~both])


def test_an_echo_shows_the_querys_own_picture_as_the_first_prompt() -> None:
    before = torch.rand(200, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    after = echoed(before, np.random.default_rng(0))
    same = (after[:, 1] == before[:, 0]).all((1, 2, 3))
    assert abs(float(same.float().mean()) - ECHOED) < 0.12
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert torch.equal(after[~same], before[~same])


def test_every_source_names_its_package_and_licence() -> None:
    names = [source.package for source in sources.SOURCES]
    assert len(names) == len(set(names))
    assert all(source.licence and source.limit > 0 for source in sources.SOURCES)
    gpl = [source for source in sources.SOURCES if "GPL" in source.licence or "-SA" in source.licence]
    assert all(source.copyleft for source in gpl)
    assert not all(source.copyleft for source in sources.SOURCES)


def test_pictures_that_are_packaged_here_can_be_read(tmp_path: Path) -> None:
    source = next(source for source in sources.SOURCES if source.package == "scikit-image")
    found = dict(sources.pictures(tmp_path, source))
    assert "scikit-image/coffee.png" in found
    assert min(min(image.size) for image in found.values()) >= 64


def test_without_the_packaging_tools_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get"):
        sources.fetch(tmp_path)


def test_one_command_goes_from_pictures_to_weights_and_resumes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(command, "_VALIDATION", 3)
    monkeypatch.setitem(recipes.NETWORKS, "small", TINY)
    quick = replace(recipes.RECIPES["small"], phases=(recipes.Phase(1.0, 32, 4),))
    monkeypatch.setitem(recipes.RECIPES, "small", quick)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "pools").symlink_to(folder)
    options = ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "weights"), "--workers", "1"]
    options += ["--groups", "4", "--every", "2", "--size", "32", "--fp32"]
    command.main([*options, "--steps", "2"])
    weights, run = (
        tmp_path / "weights" / "embedded.safetensors",
        tmp_path / "cache" / "runs" / "small-small-0",
    )
    first = checkpoint.identity(checkpoint.load(weights))
    assert (run / "preview.png").exists()
    assert "Recipe `small`, seed 0" in (tmp_path / "weights" / "README.md").read_text()
    command.main([*options, "--steps", "4", "--resume"])
    assert "going on at step 2" in caplog.text
    assert checkpoint.identity(checkpoint.load(weights)) != first
    assert torch.load(run / "state.pt", weights_only=True)["tally"]["step"] == 4
