"""Every form of checkpoint gives the same network, and nothing else gives any."""

import argparse
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import SegGptConfig, SegGptForImageSegmentation

from model import checkpoint
from model.checkpoint import CheckpointError
from model.seggpt import Kind, SegGPT, SegGPTConfig

State = dict[str, Tensor]


def painted_by(model: SegGPT, kind: Kind = "semantic") -> Tensor:
    generator = torch.Generator().manual_seed(5)
    size = model.config.image_size
    images, masks = (torch.randn(2, 1, 3, size, size, generator=generator) for _ in range(2))
    with torch.no_grad():
        painted: Tensor = model(images, masks, torch.randn(2, 3, size, size, generator=generator), kind)
    return painted


def assert_same_network(got: SegGPT, wanted: SegGPT) -> None:
    assert got.config == wanted.config
    assert not got.training
    torch.testing.assert_close(painted_by(got), painted_by(wanted), atol=1e-6, rtol=0)


@pytest.fixture
def hugging_face(tmp_path: Path) -> tuple[Path, SegGptForImageSegmentation]:
    """A folder that transformers wrote, with every parameter random: zero tokens or tables would hide a mix-up."""
    config = SegGptConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, image_size=[64, 32], patch_size=8,
        pretrain_image_size=24, decoder_hidden_size=8, mlp_dim=96, merge_index=1, layer_norm_eps=1e-3,
        intermediate_hidden_state_indices=[1, 3], drop_path_rate=0.0,
    )  # fmt: skip
    theirs = SegGptForImageSegmentation(config)
    theirs.train(False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs", theirs


@pytest.fixture
def deep_state() -> tuple[State, SegGPTConfig]:
    """Original parameters of a network of the published depth, whose sizes can be told from shapes."""
    config = SegGPTConfig(
        image_size=32, embed_dim=16, num_heads=2, decoder_embed_dim=4, pretrain_image_size=48
    )
    return SegGPT(config).state_dict(), config


@pytest.mark.parametrize("kind", ["semantic", "instance"])
def test_a_folder_of_transformers_paints_as_transformers_does(
    hugging_face: tuple[Path, SegGptForImageSegmentation], kind: Kind
) -> None:
    """The parameters are random and the comparison is absolute, so a swapped token or table cannot pass by luck."""
    folder, theirs = hugging_face
    generator = torch.Generator().manual_seed(9)
    image, mask, query = (torch.randn(2, 3, 32, 32, generator=generator) for _ in range(3))
    with torch.no_grad():
        wanted = theirs(pixel_values=query, prompt_pixel_values=image, prompt_masks=mask, embedding_type=kind)
        painted = checkpoint.load(folder)(image[:, None], mask[:, None], query, kind)
    assert wanted.pred_masks.std() > 0.1
    torch.testing.assert_close(painted, wanted.pred_masks[:, :, 32:], atol=1e-5, rtol=0)


def test_a_file_from_such_a_folder_finds_the_sizes_beside_it(
    hugging_face: tuple[Path, SegGptForImageSegmentation],
) -> None:
    folder, _ = hugging_face
    assert_same_network(checkpoint.load(folder / "model.safetensors"), checkpoint.load(folder))


def test_weights_in_parts_or_in_the_older_form_are_read(
    hugging_face: tuple[Path, SegGptForImageSegmentation], tmp_path: Path
) -> None:
    folder, theirs = hugging_face
    state = theirs.state_dict()
    for name in ("parts", "older"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(state, tmp_path / "older" / "pytorch_model.bin")
    for part, names in enumerate((sorted(state)[::2], sorted(state)[1::2])):
        file = tmp_path / "parts" / f"model-0000{part + 1}-of-00002.safetensors"
        save_file({name: state[name].contiguous() for name in names}, file)
    assert_same_network(checkpoint.load(tmp_path / "older"), checkpoint.load(folder))
    assert_same_network(checkpoint.load(tmp_path / "parts"), checkpoint.load(folder))


def test_a_hub_id_is_downloaded_and_read_as_a_folder(
    hugging_face: tuple[Path, SegGptForImageSegmentation], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = hugging_face
    asked: list[tuple[str, list[str]]] = []

    def download(repo_id: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_same_network(checkpoint.load("BAAI/seggpt-vit-large"), checkpoint.load(folder))
    assert asked == [("BAAI/seggpt-vit-large", ["config.json", "*.safetensors"])]


def test_a_hub_that_cannot_be_reached_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(
        CheckpointError, match=r"BAAI/seggpt-vit-large .* Without a network, download it elsewhere"
    ):
        checkpoint.load("BAAI/seggpt-vit-large")


@pytest.mark.parametrize("form", ["plain", "under model", "with the training's arguments"])
def test_an_original_file_tells_its_sizes_by_its_shapes(
    deep_state: tuple[State, SegGPTConfig], tmp_path: Path, form: str
) -> None:
    state, config = deep_state
    content: Any = {"plain": state, "under model": {"model": state}}.get(
        form, {"model": state, "args": argparse.Namespace(lr=1e-4, name="x"), "epoch": 3}
    )
    torch.save(content, tmp_path / "original.pth")
    assert_same_network(checkpoint.load(tmp_path / "original.pth"), checkpoint.from_original(state, config))


def test_the_published_sizes_are_told_by_shapes() -> None:
    with torch.device("meta"):
        state = SegGPT(SegGPTConfig()).state_dict()
    assert checkpoint.infer_config(state) == SegGPTConfig()


def test_original_names_in_safetensors_are_read(
    deep_state: tuple[State, SegGPTConfig], tmp_path: Path
) -> None:
    state, config = deep_state
    save_file(state, tmp_path / "original.safetensors")
    assert_same_network(
        checkpoint.load(str(tmp_path / "original.safetensors")), checkpoint.from_original(state, config)
    )


def test_our_own_file_and_folder_keep_every_size(small_model: SegGPT, tmp_path: Path) -> None:
    """Decoder layers 1, 2, 3 of 4 are not what shapes suggest, so the sizes must come from the file."""
    checkpoint.save(small_model, tmp_path / "own.safetensors", {"licence": "MIT"})
    assert_same_network(checkpoint.load(tmp_path / "own.safetensors"), small_model)
    assert_same_network(checkpoint.load(tmp_path), small_model)


def test_a_folder_with_our_sizes_beside_the_weights_is_read(small_model: SegGPT, tmp_path: Path) -> None:
    save_file(small_model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(small_model.config)))
    assert_same_network(checkpoint.load(tmp_path), small_model)


def test_half_precision_is_read_as_single(small_model: SegGPT, tmp_path: Path) -> None:
    halved = {name: tensor.half() for name, tensor in small_model.state_dict().items()}
    save_file(halved, tmp_path / "half.safetensors", {"config": json.dumps(asdict(small_model.config))})
    loaded = checkpoint.load(tmp_path / "half.safetensors")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(painted_by(loaded), painted_by(small_model), atol=0.05, rtol=0)


def test_position_tables_of_another_size_are_interpolated(small_model: SegGPT) -> None:
    wider = replace(small_model.config, image_size=64, pretrain_image_size=40)
    model = checkpoint.from_original(small_model.state_dict(), wider)
    block = (
        model.get_parameter("blocks.0.attn.rel_pos_w"),
        small_model.get_parameter("blocks.0.attn.rel_pos_w"),
    )
    assert [len(table) for table in block] == [15, 7]
    torch.testing.assert_close(block[0][7], block[1][3], atol=1e-6, rtol=0)  # the distance 0
    assert model.pos_embed.shape == (1, 26, 32)
    assert torch.equal(model.pos_embed[:, 0], small_model.pos_embed[:, 0])
    centre = model.pos_embed[0, 1:].reshape(5, 5, -1)[2, 2]
    torch.testing.assert_close(
        centre, small_model.pos_embed[0, 1:].reshape(3, 3, -1)[1, 1], atol=1e-5, rtol=0
    )
    assert painted_by(model).isfinite().all()


def test_a_network_does_not_share_the_callers_tensors(small_model: SegGPT) -> None:
    model = checkpoint.from_original(small_model.state_dict(), small_model.config)
    with torch.no_grad():
        model.mask_token.add_(1)
    assert not torch.equal(model.mask_token, small_model.mask_token)


def test_keys_that_do_not_fit_are_named(small_model: SegGPT) -> None:
    state, config = small_model.state_dict(), small_model.config
    missing = {name: tensor for name, tensor in state.items() if name != "blocks.2.norm1.bias"}
    with pytest.raises(CheckpointError, match=r"missing: blocks\.2\.norm1\.bias$"):
        checkpoint.from_original(missing, config)
    with pytest.raises(CheckpointError, match=r"unknown: head\.bias$"):
        checkpoint.from_original(state | {"head.bias": torch.zeros(1)}, config)
    with pytest.raises(CheckpointError, match=r"another shape: norm\.bias \[3\] instead of \[32\]$"):
        checkpoint.from_original(state | {"norm.bias": torch.zeros(3)}, config)
    with pytest.raises(CheckpointError, match=r"another shape: pos_embed \[1, 9, 32\] instead of"):
        checkpoint.from_original(state | {"pos_embed": torch.zeros(1, 9, 32)}, config)
    with pytest.raises(CheckpointError, match=r"no numbers: norm\.bias$"):
        checkpoint.from_original(state | {"norm.bias": torch.full((32,), torch.nan)}, config)
    with pytest.raises(CheckpointError, match=r"missing: mask_token, .* and \d+ more$"):
        checkpoint.from_original({}, config)


def test_a_key_of_hugging_face_without_its_twin_is_named(
    hugging_face: tuple[Path, SegGptForImageSegmentation],
) -> None:
    folder, _ = hugging_face
    state = load_file(folder / "model.safetensors")
    save_file(state | {"model.pooler.weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unknown: model\.pooler\.weight$"):
        checkpoint.load(folder)


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.target,)


def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path: Path) -> None:
    torch.save({"model": _Attack(tmp_path / "ran")}, tmp_path / "attack.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(_Attack(tmp_path / "ran")))
    for name in ("attack.pth", "bare.pth"):
        with pytest.raises(CheckpointError, match="could run code"):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("text.pth", b"<html>404 not found</html>"),
        ("zip.pth", b"PK\x03\x04 and no more"),
        ("empty.safetensors", b""),
        ("text.safetensors", b"<html>404 not found</html>"),
        ("length.safetensors", (2**62).to_bytes(8, "little") + b"{}"),
        ("picture.png", b"\x89PNG"),
    ],
)
def test_foreign_and_damaged_files_are_told_apart_from_checkpoints(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(tmp_path / name)


def test_a_file_cut_short_is_damaged(small_model: SegGPT, tmp_path: Path) -> None:
    checkpoint.save(small_model, tmp_path / "own.safetensors")
    torch.save(small_model.state_dict(), tmp_path / "own.pth")
    for name in ("own.safetensors", "own.pth"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"epoch": 3}}, {}, {"model": torch.zeros(2)}])
def test_a_torch_file_without_parameters_is_no_checkpoint(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a state dict"):
        checkpoint.load(tmp_path / "other.pth")


def test_another_networks_parameters_are_no_seggpt(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(CheckpointError, match="not the parameters of a SegGPT"):
        checkpoint.load(tmp_path / "linear.pth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "vit"}, "'vit', not 'seggpt'"),
        ({"image_size": [64, 64]}, "twice as high"),
        ({"image_size": 64}, "twice as high"),
        ({"use_relative_position_embeddings": False}, "use_relative_position_embeddings=False"),
        ({"hidden_size": "wide"}, "does not fit"),
        ({"patch_size": [8, 8]}, "does not fit"),
        ({"num_hidden_layers": 3}, "intermediate_indices"),
        ({"num_hidden_layers": 5}, r"missing: blocks\.4"),
    ],
)
def test_a_config_that_does_not_fit_says_where(
    hugging_face: tuple[Path, SegGptForImageSegmentation], changes: dict[str, Any], words: str
) -> None:
    file = hugging_face[0] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(file.parent)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"embed_dim": 32, "colour": 1}', "colour"),
        ('{"num_heads": 0}', "does not fit"),
        ('{"embed_dim": "x"}', "does not fit"),
    ],
)
def test_sizes_of_our_own_that_cannot_be_are_told(
    small_model: SegGPT, tmp_path: Path, config: str, words: str
) -> None:
    save_file(small_model.state_dict(), tmp_path / "own.safetensors", {"config": config})
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(tmp_path / "own.safetensors")


@pytest.mark.parametrize("source", ["nothing", "no/where.pth", "no/such/folder", "no/where.safetensors"])
def test_a_checkpoint_that_is_not_there_is_told(source: str) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        checkpoint.load(source)


def test_a_folder_with_no_or_with_several_weights_is_told(small_model: SegGPT, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights"):
        checkpoint.load(tmp_path)
    for name in ("first", "second"):
        checkpoint.save(small_model, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"name one of first\.safetensors, second\.safetensors"):
        checkpoint.load(tmp_path)


def test_the_identity_changes_with_any_number_and_with_nothing_else(
    small_model: SegGPT, tmp_path: Path
) -> None:
    identity = checkpoint.identity(small_model)
    assert len(bytes.fromhex(identity)) == 4
    checkpoint.save(small_model, tmp_path / "own.safetensors")
    assert checkpoint.identity(checkpoint.load(tmp_path / "own.safetensors")) == identity
    with torch.no_grad():
        small_model.get_parameter("blocks.3.mlp.fc2.bias")[0] += 1e-4
    assert checkpoint.identity(small_model) != identity


def test_a_config_that_cannot_be_read_is_told(small_model: SegGPT, tmp_path: Path) -> None:
    checkpoint.save(small_model, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        checkpoint.load(tmp_path)


def test_a_missing_embedded_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EMBEDDED", tmp_path / "embedded.safetensors")
    with pytest.raises(CheckpointError, match=r"embedded\.safetensors: no such file"):
        checkpoint.load("embedded")
