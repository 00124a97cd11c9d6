"""One loader for every form a SegGPT checkpoint comes in; knows key names and files, neither pictures nor devices.

Forms: the embedded one, our own files, the original `.pth`, and Hugging Face's folders and hub ids.
"""

import argparse
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.seggpt import SegGPT, SegGPTConfig

EMBEDDED = Path(__file__).parent / "weights" / "embedded.safetensors"
TORCH_SUFFIXES = (".pth", ".pt", ".bin")
NAMED_AT_MOST = 6  # keys that one error message lists

# Hugging Face's names, as regular expressions, and the original ones.
_FROM_HUGGING_FACE = tuple(
    (re.compile(pattern), original)
    for pattern, original in (
        (r"^(?:model\.)?embeddings\.segment_token_input$", "segment_token_x"),
        (r"^(?:model\.)?embeddings\.segment_token_prompt$", "segment_token_y"),
        (r"^(?:model\.)?embeddings\.type_token_semantic$", "type_token_cls"),
        (r"^(?:model\.)?embeddings\.type_token_instance$", "type_token_ins"),
        (r"^(?:model\.)?embeddings\.position_embeddings$", "pos_embed"),
        (r"^(?:model\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^(?:model\.)?embeddings\.mask_token$", "mask_token"),
        (r"^(?:model\.)?encoder\.layernorm\.", "norm."),
        (r"^(?:model\.)?encoder\.layers\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
        (r"^(?:model\.)?encoder\.layers\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
        (r"^(?:model\.)?encoder\.layers\.(\d+)\.attention\.", r"blocks.\1.attn."),
        (r"^(?:model\.)?encoder\.layers\.(\d+)\.mlp\.lin([12])\.", r"blocks.\1.mlp.fc\2."),
        (r"^decoder\.decoder_embed\.", "decoder_embed."),
        (r"^decoder\.decoder_pred\.conv\.", "decoder_pred.0."),
        (r"^decoder\.decoder_pred\.layernorm\.", "decoder_pred.1."),
        (r"^decoder\.decoder_pred\.head\.", "decoder_pred.3."),
    )
)


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why."""


def load(source: str | Path) -> SegGPT:
    """Load a checkpoint.

    Args:
        source: "embedded"; a file (`.safetensors`, or `.pth`, `.pt`, `.bin` with nothing but tensors); a folder that
            holds such a file, with a `config.json` of ours or Hugging Face's where the file has no sizes; or the id
            of such a folder on the Hugging Face hub.

    Returns:
        The network, float32, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: if there is no such checkpoint, or it is not a whole SegGPT.
    """
    if str(source) == "embedded":
        return _load_file(EMBEDDED)
    path = Path(source)
    if path.is_dir():
        return _load_folder(path)
    if path.is_file():
        return _load_file(path)
    hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source))
    if not hub_id or path.suffix in (*TORCH_SUFFIXES, ".safetensors"):
        raise CheckpointError(f"no checkpoint at {source}: no such file or folder")
    return _load_folder(_download(str(source)))


def from_original(state_dict: Mapping[str, Tensor], config: SegGPTConfig) -> SegGPT:
    """Build the network from the original implementation's parameters.

    Args:
        state_dict: parameters under the published checkpoint's names. Tables of absolute and relative positions may
            be of another size; they are interpolated to the config's (bicubic, linear).
        config: sizes of the network.

    Returns:
        The network, float32, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: names the keys that are missing, unknown or of another shape.
    """
    return _assemble({name: tensor.detach().clone() for name, tensor in state_dict.items()}, config)


def _assemble(state_dict: Mapping[str, Tensor], config: SegGPTConfig) -> SegGPT:
    """As `from_original`, but the network keeps the tensors that it is given: published weights are 1.5 GB."""
    with torch.device("meta"):
        model = SegGPT(config)
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    _refuse("are missing", [name for name in wanted if name not in state_dict])
    _refuse("are unknown", [name for name in state_dict if name not in wanted])
    state = {name: _resized_table(name, tensor, wanted[name]) for name, tensor in state_dict.items()}
    odd = [name for name, shape in wanted.items() if tuple(state[name].shape) != shape]
    _refuse(
        "have another shape",
        [f"{name} {list(state[name].shape)} instead of {list(wanted[name])}" for name in odd],
    )
    _refuse(
        "hold values that are no numbers",
        [name for name, tensor in state.items() if not tensor.isfinite().all()],
    )
    model.load_state_dict(state, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()


def save(model: SegGPT, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write our own form: safetensors with the sizes under the metadata key `config`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, {**(metadata or {}), "config": json.dumps(asdict(model.config))})


def identity(model: SegGPT) -> str:
    """Eight hexadecimal digits that change when a parameter or a size does; the same on every machine."""
    digest = hashlib.blake2b(json.dumps(asdict(model.config), sort_keys=True).encode(), digest_size=4)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def infer_config(state_dict: Mapping[str, Tensor]) -> SegGPTConfig:
    """Read the sizes from the parameters' shapes (original names).

    What shapes do not tell is taken from the published ViT-L: the merge after layer 2, and decoder layers at even
    distances, the last layer being one (5, 11, 17, 23 of 24).

    Raises:
        CheckpointError: if the parameters are not a SegGPT's.
    """
    try:
        channels, _, patch_size, _ = state_dict["patch_embed.proj.weight"].shape
        head_dim = state_dict["blocks.0.attn.rel_pos_w"].shape[1]
        side = (state_dict["blocks.0.attn.rel_pos_w"].shape[0] + 1) // 2
        depth = 1 + max(int(name.split(".")[1]) for name in state_dict if name.startswith("blocks."))
        read = state_dict["decoder_embed.weight"].shape[1] // channels
        indices = tuple(depth * (index + 1) // read - 1 for index in range(read))
        return SegGPTConfig(
            image_size=side * patch_size,
            patch_size=patch_size,
            embed_dim=channels,
            depth=depth,
            num_heads=channels // head_dim,
            mlp_ratio=state_dict["blocks.0.mlp.fc1.weight"].shape[0] / channels,
            decoder_embed_dim=state_dict["decoder_pred.0.weight"].shape[0],
            pretrain_image_size=int((state_dict["pos_embed"].shape[1] - 1) ** 0.5) * patch_size,
            merge_index=min(SegGPTConfig.merge_index, indices[0]),
            intermediate_indices=indices,
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"not the parameters of a SegGPT: {type(error).__name__} {error}") from error


def _refuse(what: str, keys: list[str]) -> None:
    if keys:
        more = f" and {len(keys) - NAMED_AT_MOST} more" if len(keys) > NAMED_AT_MOST else ""
        raise CheckpointError(f"parameters {what}: {', '.join(keys[:NAMED_AT_MOST])}{more}")


def _resized_table(name: str, tensor: Tensor, wanted: tuple[int, ...]) -> Tensor:
    """A parameter in float32; a table of positions is interpolated where that makes it fit."""
    tensor = tensor.detach().float().cpu()
    if tuple(tensor.shape) == wanted or tensor.dim() != len(wanted) or tensor.shape[-1] != wanted[-1]:
        return tensor
    if name.endswith(("rel_pos_h", "rel_pos_w")):
        return F.interpolate(tensor.t()[None], size=wanted[0], mode="linear")[0].t().contiguous()
    if name == "pos_embed":
        unused, table = tensor[:, :1], tensor[:, 1:]
        side, wanted_side = math.isqrt(table.shape[1]), math.isqrt(wanted[1] - 1)
        if side * side == table.shape[1] > 0 and len(table) == 1:
            square = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
            square = F.interpolate(
                square, size=(wanted_side, wanted_side), mode="bicubic", align_corners=False
            )
            return torch.cat([unused, square.flatten(2).transpose(1, 2)], dim=1)
    return tensor


def _load_folder(folder: Path) -> SegGPT:
    config = _read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    for pattern in ("model*.safetensors", "pytorch_model*.bin", "*.safetensors", "*.pth"):
        files = sorted(folder.glob(pattern))
        if files:
            break
    else:
        raise CheckpointError(f"no weights (.safetensors, .bin, .pth) in the folder {folder}")
    if len(files) > 1 and pattern in ("*.safetensors", "*.pth"):
        raise CheckpointError(
            f"several weights in the folder {folder}: name one of {', '.join(f.name for f in files)}"
        )
    state: dict[str, Tensor] = {}
    for file in files:
        part, own_config = _read(file)
        state |= part
        config = config if config is not None else own_config
    return _build(state, config, folder)


def _load_file(path: Path) -> SegGPT:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: no such file")
    state, config = _read(path)
    beside = path.parent / "config.json"
    if config is None and _is_hugging_face(state) and beside.is_file():
        config = _read_json(beside)
    return _build(state, config, path)


def _build(state: dict[str, Tensor], config: dict[str, Any] | None, origin: Path) -> SegGPT:
    try:
        if _is_hugging_face(state):
            state = {_original_name(name): tensor for name, tensor in state.items()}
        if config is None:
            sizes = infer_config(state)
        elif "model_type" in config or "hidden_size" in config:
            sizes = _from_hugging_face_config(config)
        else:
            sizes = _from_own_config(config)
        return _assemble(state, sizes)
    except CheckpointError as error:
        raise CheckpointError(f"{origin}: {error}") from error


def _is_hugging_face(state: Mapping[str, Tensor]) -> bool:
    return any(".layers." in name or "embeddings." in name for name in state)


def _original_name(name: str) -> str:
    for pattern, original in _FROM_HUGGING_FACE:
        renamed, count = pattern.subn(original, name)
        if count:
            return renamed
    return name


def _from_own_config(config: Mapping[str, Any]) -> SegGPTConfig:
    known = {field.name for field in fields(SegGPTConfig)}
    if unknown := sorted(set(config) - known):
        raise CheckpointError(f"config names sizes that a SegGPT does not have: {', '.join(unknown)}")
    try:
        return SegGPTConfig(**config)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"config does not fit a SegGPT: {error}") from error


def _from_hugging_face_config(config: Mapping[str, Any]) -> SegGPTConfig:
    if config.get("model_type", "seggpt") != "seggpt":
        raise CheckpointError(f"config.json is of the model type {config['model_type']!r}, not 'seggpt'")
    supported = {
        "hidden_act": "gelu",
        "num_channels": 3,
        "qkv_bias": True,
        "use_relative_position_embeddings": True,
    }
    if odd := [
        f"{name}={config[name]}" for name in supported if config.get(name, supported[name]) != supported[name]
    ]:
        raise CheckpointError(f"config.json has what this SegGPT does not: {', '.join(odd)}")
    published = SegGPTConfig()
    try:
        canvas = config.get("image_size", (2 * published.image_size, published.image_size))
        if isinstance(canvas, int) or list(canvas) != [2 * canvas[1], canvas[1]]:
            raise CheckpointError(
                f"config.json: image_size must be a canvas twice as high as wide, not {canvas}"
            )
        dim = config.get("hidden_size", published.embed_dim)
        sizes = replace(
            published,
            image_size=canvas[1],
            patch_size=config.get("patch_size", published.patch_size),
            embed_dim=dim,
            depth=config.get("num_hidden_layers", published.depth),
            num_heads=config.get("num_attention_heads", published.num_heads),
            mlp_ratio=(config.get("mlp_dim") or 4 * dim) / dim,
            decoder_embed_dim=config.get("decoder_hidden_size", published.decoder_embed_dim),
            pretrain_image_size=config.get("pretrain_image_size", published.pretrain_image_size),
            merge_index=config.get("merge_index", published.merge_index),
            intermediate_indices=tuple(
                config.get("intermediate_hidden_state_indices", published.intermediate_indices)
            ),
            layer_norm_eps=config.get("layer_norm_eps", published.layer_norm_eps),
        )
    except (TypeError, IndexError, ZeroDivisionError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"config.json does not fit a SegGPT: {error}") from error
    return sizes


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Parameters of a file, and its config where the file carries one."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in TORCH_SUFFIXES:
        return _read_torch(path), None
    raise CheckpointError(f"{path}: a checkpoint ends in .safetensors, {', '.join(TORCH_SUFFIXES)}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged, or not safetensors: {error}") from error
    if "config" not in metadata:
        return state, None
    return state, _parse_json(metadata["config"], f"{path}, metadata `config`")


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        # The published files may carry their training's arguments: plain values in a Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{path}: damaged, or holds more than tensors, which is refused because it could run code: {first_line}"
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(tensor, Tensor) for tensor in state.values())
    ):
        raise CheckpointError(f"{path}: not a state dict, nor one under the key 'model'")
    return state


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    return _parse_json(text, str(path))


def _parse_json(text: str, origin: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{origin}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{origin}: must be a JSON object")
    return content


def _download(hub_id: str) -> Path:
    import huggingface_hub  # slow to import, and needed for hub ids only

    try:
        return Path(
            huggingface_hub.snapshot_download(hub_id, allow_patterns=["config.json", "*.safetensors"])
        )
    except Exception as error:
        raise CheckpointError(
            f"{hub_id} is no file or folder here, and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}). Without a network, download it elsewhere and name the folder."
        ) from error
