"""The SegGPT network and its loss (Wang et al., 2023); knows tensors, neither pictures nor files.

An image pair is a canvas: prompt half above query half, in an image stack and a mask stack. With several
prompts (feature ensemble) the query half of the hidden state is the same for all of them, so it is carried once:
tokens are `[B, P + 1, N, C]`, the P prompts and then the query. Only the attention core sees canvases.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import Form, attend_halves

Kind = Literal["semantic", "instance"]


@dataclass(frozen=True)
class SegGPTConfig:
    """Sizes of a SegGPT; the defaults are those of the published ViT-L at 448 px.

    Attributes:
        image_size: side of a square image in pixels; the canvas is twice as high.
        patch_size: side of a patch in pixels.
        embed_dim: channels of a token.
        depth: transformer layers.
        num_heads: attention heads.
        mlp_ratio: hidden channels of the MLP, as a multiple of `embed_dim`.
        decoder_embed_dim: channels a pixel in the decoder.
        pretrain_image_size: side of the image that the absolute position table was made for.
        merge_index: layer after which image stack and mask stack are averaged.
        intermediate_indices: layers that the decoder reads.
        layer_norm_eps: epsilon of every normalisation.
    """

    image_size: int = 448
    patch_size: int = 16
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    decoder_embed_dim: int = 64
    pretrain_image_size: int = 224
    merge_index: int = 2
    intermediate_indices: tuple[int, ...] = (5, 11, 17, 23)
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "intermediate_indices", tuple(self.intermediate_indices))
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        if max(self.intermediate_indices) >= self.depth or min(self.intermediate_indices) < self.merge_index:
            raise ValueError("intermediate_indices must lie from merge_index to depth - 1")

    @property
    def side(self) -> int:
        """Patches along one side of an image."""
        return self.image_size // self.patch_size


def decoded(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """What the decoder reads of the halves `[B, P + 1, N, C]`: `[B, w + N, C]`, one row of a prompt and the query.

    Its 3x3 convolution reaches one pixel into the prompt half. The published code decodes the first prompt's canvas,
    hence its last row.
    """
    return torch.cat([tokens[:, 0, -grid[1] :], tokens[:, -1]], dim=1)


class PatchEmbed(nn.Module):
    """`[B, 3, H, W]` to tokens `[B, h * w, C]`."""

    def __init__(self, config: SegGPTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, H, W]` to `[B, h * w, C]`."""
        # As a matrix product: CUDA's convolution of three channels leaves the matrix units idle.
        patches = F.pixel_unshuffle(images, self.proj.kernel_size[0]).flatten(2).transpose(1, 2)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Linear(nn.Linear):
    """As PyTorch's. Where its numbers are bfloat16 and what it is given is float32, it multiplies in bfloat16.

    Sums are in float32 all the same, and round to bfloat16 at the end.

    Args:
        inputs: channels.
        outputs: channels.
        wide: whether it answers in float32 then, for who needs that; else in bfloat16.
    """

    def __init__(self, inputs: int, outputs: int, *, wide: bool = False) -> None:
        super().__init__(inputs, outputs)
        self._wide = wide

    def forward(self, tokens: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`."""
        if self.weight.dtype != torch.bfloat16 or tokens.dtype != torch.float32:
            return super().forward(tokens)
        multiplied = F.linear(tokens.bfloat16(), self.weight, self.bias)
        return multiplied.float() if self._wide else multiplied


class Attention(nn.Module):
    """Attention within each (prompt, query) canvas; the query half's result is the mean over the prompts.

    Attributes:
        form: how it is computed, one of `model/attention.py`'s forms.
    """

    def __init__(self, config: SegGPTConfig) -> None:
        super().__init__()
        head_dim = config.embed_dim // config.num_heads
        self.num_heads = config.num_heads
        self.qkv = Linear(config.embed_dim, 3 * config.embed_dim, wide=True)
        self.proj = Linear(config.embed_dim, config.embed_dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(4 * config.side - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * config.side - 1, head_dim))
        self.form: Form = attend_halves

    def forward(self, tokens: Tensor, grid: tuple[int, int], only_decoded: bool = False) -> Tensor:
        """Let the tokens of each canvas attend to each other.

        Args:
            tokens: `[B, P + 1, N, C]`, the halves.
            grid: `(h, w)` of a half, in patches.
            only_decoded: return what the decoder reads, as `decoded` picks it, and nothing else.

        Returns:
            As `tokens`, or `[B, w + N, C]`.
        """
        qkv = self.qkv(tokens).reshape(*tokens.shape[:-1], 3, self.num_heads, -1)
        attended = self.form(qkv, self.rel_pos_h, self.rel_pos_w, grid)
        projected: Tensor = self.proj(decoded(attended, grid) if only_decoded else attended)
        return projected


class Mlp(nn.Module):
    """Two linear layers with GELU.

    Attributes:
        fused: where no gradient is wanted, compute the GELU inside the matrix product. CUDA does that by tanh instead
            of erf, which differs by less than bfloat16 resolves.
    """

    def __init__(self, config: SegGPTConfig) -> None:
        super().__init__()
        hidden = round(config.embed_dim * config.mlp_ratio)
        self.fc1 = Linear(config.embed_dim, hidden)
        self.fc2 = Linear(hidden, config.embed_dim)
        self.fused = False

    def forward(self, tokens: Tensor) -> Tensor:
        """`[..., C]` to `[..., C]`."""
        if self.fused and not (torch.is_grad_enabled() and tokens.requires_grad):
            flat = tokens.flatten(0, -2)
            active = torch._addmm_activation(self.fc1.bias, flat, self.fc1.weight.t(), use_gelu=True)
            hidden = active.reshape(*tokens.shape[:-1], -1)
        else:
            hidden = F.gelu(self.fc1(tokens))
        changed: Tensor = self.fc2(hidden)
        return changed


class Block(nn.Module):
    """A pre-norm transformer layer over the halves of canvases."""

    def __init__(self, config: SegGPTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, config.layer_norm_eps)
        self.mlp = Mlp(config)

    def forward(self, tokens: Tensor, grid: tuple[int, int], only_decoded: bool = False) -> Tensor:
        """As `Attention.forward`."""
        attended = self.attn(self.norm1(tokens), grid, only_decoded)
        tokens = (decoded(tokens, grid) if only_decoded else tokens) + attended
        changed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return changed


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of `[B, C, H, W]`."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C, H, W]`."""
        channels_last = maps.permute(0, 2, 3, 1)
        normed = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class SegGPT(nn.Module):
    """Paints the mask of a query image the way the prompts' masks are painted.

    Parameter names are those of the published checkpoint.
    """

    def __init__(self, config: SegGPTConfig) -> None:
        super().__init__()
        self.config = config
        C, D = config.embed_dim, config.decoder_embed_dim
        self.patch_embed = PatchEmbed(config)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, C))
        self.segment_token_x = nn.Parameter(torch.zeros(1, 1, 1, C))
        self.segment_token_y = nn.Parameter(torch.zeros(1, 1, 1, C))
        self.type_token_cls = nn.Parameter(torch.zeros(1, 1, 1, C))
        self.type_token_ins = nn.Parameter(torch.zeros(1, 1, 1, C))
        positions = (config.pretrain_image_size // config.patch_size) ** 2
        self.pos_embed = nn.Parameter(
            torch.zeros(1, positions + 1, C)
        )  # the first is an unused class token's
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(C, config.layer_norm_eps)
        self.decoder_embed = Linear(len(config.intermediate_indices) * C, config.patch_size**2 * D, wide=True)
        self.decoder_pred = nn.Sequential(
            nn.Conv2d(D, D, kernel_size=3, padding=1),
            ChannelNorm(D, config.layer_norm_eps),
            nn.GELU(),
            nn.Conv2d(D, 3, kernel_size=1),
        )
        self.apply(_initialise)
        for name, parameter in self.named_parameters():
            if "token" in name or "pos" in name:
                nn.init.trunc_normal_(parameter, std=0.02)

    def forward(
        self, prompt_images: Tensor, prompt_masks: Tensor, query: Tensor, kind: Kind = "semantic"
    ) -> Tensor:
        """Predict the painted mask of every query.

        Args:
            prompt_images: `[B, P, 3, H, W]` float, normalised as `model.canvas` does; P prompts a query.
            prompt_masks: `[B, P, 3, H, W]`, painted masks, normalised alike.
            query: `[B, 3, H, W]`. H and W are multiples of the patch size.
            kind: "semantic" or "instance": what the masks mean.

        Returns:
            `[B, 3, H, W]`, the query's painted mask, normalised.

        Raises:
            ValueError: if shapes or kind do not fit.
        """
        self._check(prompt_images, prompt_masks, query, kind)
        H, W = query.shape[-2:]
        grid = (H // self.config.patch_size, W // self.config.patch_size)
        tokens = self._embed(prompt_images, prompt_masks, query, kind, grid)
        latents = []
        last = max(self.config.intermediate_indices)
        for index, block in enumerate(self.blocks[: last + 1]):
            tokens = block(tokens, grid, only_decoded=index == last)
            if index == self.config.merge_index:
                tokens = tokens.unflatten(0, (2, -1)).mean(dim=0)
            if index in self.config.intermediate_indices:
                latents.append(self.norm(tokens if index == last else decoded(tokens, grid)))
        return self._decode(torch.cat(latents, dim=-1), grid)

    def use(self, attention: Form, fused_mlp: bool = False) -> None:
        """Compute from now on by other forms that equal the plain ones.

        Args:
            attention: one of `model/attention.py`'s forms.
            fused_mlp: as `Mlp.fused`.
        """
        for module in self.modules():
            if isinstance(module, Attention):
                module.form = attention
            elif isinstance(module, Mlp):
                module.fused = fused_mlp

    def narrow(self) -> None:
        """Keep the linear layers' numbers in bfloat16 from now on, and multiply so.

        Attention, norms, what layers add up and the decoder's convolutions stay in float32.
        """
        for module in self.modules():
            if isinstance(module, Linear):
                module.to(torch.bfloat16)

    def _check(self, prompt_images: Tensor, prompt_masks: Tensor, query: Tensor, kind: str) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, not {kind!r}")
        if prompt_images.dim() != 5 or prompt_images.shape[2] != 3 or prompt_images.shape[1] == 0:
            raise ValueError(
                f"prompt_images must be [B, P, 3, H, W] with P > 0, not {list(prompt_images.shape)}"
            )
        B, _, channels, H, W = prompt_images.shape
        if prompt_masks.shape != prompt_images.shape:
            raise ValueError(
                f"prompt_masks {list(prompt_masks.shape)} and prompt_images {list(prompt_images.shape)} differ"
            )
        if query.shape != (B, channels, H, W):
            raise ValueError(f"query must be {[B, channels, H, W]}, not {list(query.shape)}")
        if H % self.config.patch_size or W % self.config.patch_size:
            raise ValueError(f"height {H} and width {W} must be multiples of {self.config.patch_size}")

    def _embed(
        self, prompt_images: Tensor, prompt_masks: Tensor, query: Tensor, kind: str, grid: tuple[int, int]
    ) -> Tensor:
        """Tokens of both stacks, `[2B, P + 1, N, C]`; image stack first."""
        B, P = prompt_images.shape[:2]
        pixels = torch.cat([prompt_images.flatten(0, 1), prompt_masks.flatten(0, 1), query])
        seen = self.patch_embed(pixels)
        prompts = seen[: 2 * B * P].unflatten(0, (2, B, P))
        hidden = self.mask_token[0].expand(B, grid[0] * grid[1], -1)
        below = torch.stack([seen[2 * B * P :], hidden])[:, :, None]
        kind_token = self.type_token_cls if kind == "semantic" else self.type_token_ins
        stack = torch.stack([self.segment_token_x, self.segment_token_y])  # [2, 1, 1, 1, C]
        above_position, below_position = self._positions(grid)
        prompts = prompts + (stack + above_position + kind_token)
        below = below + (stack + below_position + kind_token)
        return torch.cat([prompts, below], dim=2).flatten(0, 1)

    def _positions(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Absolute positions `[N, C]` of the prompt half and of the query half."""
        table = self.pos_embed[0, 1:]
        side = int(table.shape[0] ** 0.5)
        wanted = (2 * grid[0], grid[1])
        square = table.reshape(side, side, -1)
        if (side, side) != wanted:
            down, right = (_bicubic(side, size, table.device) for size in wanted)
            with torch.autocast(table.device.type, enabled=False):
                square = torch.einsum("yh,xw,hwc->yxc", down, right, square.float()).to(table.dtype)
        above, below = square.flatten(0, 1).chunk(2)
        return above, below

    def _decode(self, latents: Tensor, grid: tuple[int, int]) -> Tensor:
        """`[B, (h + 1) * w, layers * C]`, halo row first, to `[B, 3, H, W]`."""
        patch, D = self.config.patch_size, self.config.decoder_embed_dim
        maps = self.decoder_embed(latents).reshape(-1, grid[0] + 1, grid[1], patch, patch, D)
        maps = maps.permute(0, 1, 3, 2, 4, 5).reshape(-1, (grid[0] + 1) * patch, grid[1] * patch, D)
        painted: Tensor = self.decoder_pred(maps.permute(0, 3, 1, 2))
        return painted[:, :, patch:]


def _bicubic(size: int, wanted: int, device: torch.device) -> Tensor:
    """`[wanted, size]`: how an axis is enlarged bicubically, for CUDA is slow where there are many channels."""
    one_by_one = torch.eye(size, device=device)[None, :, :, None]
    along = F.interpolate(one_by_one, size=(wanted, 1), mode="bicubic", align_corners=False)
    return along[0, :, :, 0].t()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def painting_loss(painted: Tensor, target: Tensor, valid: Tensor, masked: Tensor | None = None) -> Tensor:
    """Smooth-L1 (beta 0.01) on the pixels that were masked and are valid, as in the paper.

    Args:
        painted: `[B, 3, H, W]`, the network's output.
        target: `[B, 3, H, W]`, the painted mask that was hidden, normalised.
        valid: broadcastable to `target`, 1 where the target is known, else 0.
        masked: `[B, 1, H, W]`, 1 on patches hidden from the network; None where the whole query was hidden.

    Returns:
        A scalar; 0 where nothing is valid.
    """
    weight = valid.expand_as(target) if masked is None else (valid * masked).expand_as(target)
    error = F.smooth_l1_loss(painted, target, reduction="none", beta=0.01)
    return (error * weight).sum() / weight.sum().clamp(min=1e-8)
