"""What the benchmarks of the published size share: the two networks with the same weights, inputs, operations."""

from typing import Any

import torch
from torch import Tensor

from model.checkpoint import _original_name
from model.seggpt import SegGPT, SegGPTConfig

PUBLISHED = SegGPTConfig()
TINY = SegGPTConfig(
    image_size=64,
    patch_size=16,
    embed_dim=64,
    depth=4,
    num_heads=4,
    decoder_embed_dim=8,
    pretrain_image_size=32,
    merge_index=1,
    intermediate_indices=(1, 2, 3),
)
NO_PEER = "Hugging Face's network is left out: pip install transformers"


def hugging_face(config: SegGPTConfig, device: torch.device) -> Any:
    """Hugging Face's network of the same sizes with random weights, float32; None where it is not installed."""
    try:
        from transformers import SegGptConfig, SegGptForImageSegmentation
    except ImportError:
        return None
    torch.manual_seed(0)
    with device:
        network = SegGptForImageSegmentation(
            SegGptConfig(
                hidden_size=config.embed_dim,
                num_hidden_layers=config.depth,
                num_attention_heads=config.num_heads,
                image_size=[2 * config.image_size, config.image_size],
                patch_size=config.patch_size,
                mlp_dim=round(config.embed_dim * config.mlp_ratio),
                decoder_hidden_size=config.decoder_embed_dim,
                pretrain_image_size=config.pretrain_image_size,
                merge_index=config.merge_index,
                intermediate_hidden_state_indices=list(config.intermediate_indices),
            )
        )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "rel_pos" in name:  # so that positions matter as they do after training
                parameter.mul_(15)
    return network.eval().requires_grad_(False)


def ours(config: SegGPTConfig, device: torch.device, peer: Any = None) -> SegGPT:
    """Our network with the peer's weights, or with random ones; float32."""
    torch.manual_seed(0)
    with device:
        network = SegGPT(config)
    if peer is not None:
        network.load_state_dict({_original_name(name): part for name, part in peer.state_dict().items()})
    return network.eval().requires_grad_(False)


def inputs(
    config: SegGPTConfig, device: torch.device, dtype: torch.dtype, batch: int, prompts: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Random prompts, masks and queries, as `SegGPT.forward` takes them."""
    generator = torch.Generator(device).manual_seed(batch + 100 * prompts)
    size = (3, config.image_size, config.image_size)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, *size, device=device, generator=generator).to(dtype)

    return numbers(batch, prompts), numbers(batch, prompts), numbers(batch)


def ask_hugging_face(peer: Any, prompt_images: Tensor, prompt_masks: Tensor, query: Tensor) -> Tensor:
    """The peer's painting of the queries: many with one prompt each, or one with many prompts."""
    batch, prompts = prompt_images.shape[:2]
    if batch > 1 and prompts > 1:
        raise ValueError("it averages over all that is in a batch: one query, or one prompt for each")
    painted: Tensor = peer(
        pixel_values=query.expand(batch * prompts, -1, -1, -1),
        prompt_pixel_values=prompt_images.flatten(0, 1),
        prompt_masks=prompt_masks.flatten(0, 1),
        feature_ensemble=prompts > 1,
        embedding_type="semantic",
    ).pred_masks
    return painted[:batch, :, painted.shape[2] // 2 :]


def operations(config: SegGPTConfig, batch: int, prompts: int) -> float:
    """Multiplications and additions that a prediction needs: matrix products, convolutions and attention's two.

    A linear layer is 2 * rows * inputs * outputs. In attention each half meets itself once and its opposite once a
    canvas: the query half's scores of itself are the same in all canvases. The biases of positions, norms, softmax
    and activations are not counted.
    """
    tokens, width, patch = config.side**2, config.embed_dim, config.patch_size
    passes = config.depth + config.merge_index + 1  # two stacks up to the layer that averages them
    linear = 2 * (prompts + 1) * tokens * width * width * (4 + 2 * config.mlp_ratio)
    attention = 4 * width * tokens**2 * (3 * prompts + 1)
    embedding = 2 * (2 * prompts + 1) * tokens * 3 * patch**2 * width
    pixels, channels = (config.side + 1) * config.side * patch**2, config.decoder_embed_dim
    decoder = (
        2 * pixels * (len(config.intermediate_indices) * width * channels + 9 * channels**2 + 3 * channels)
    )
    return batch * (passes * (linear + attention) + embedding + decoder)
