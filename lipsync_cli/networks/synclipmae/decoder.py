"""The MAE decoder whose every block is self-attention, then cross-attention to (identity, ambient, c) (§3.2).

Shapes: n frames, N patches, V visible, D encoder width, d decoder width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lipsync_cli.networks.blocks.attention import attention


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder; the defaults are ViTMAE-B's."""

    width: int = 512
    layers: int = 8
    heads: int = 16
    mlp_ratio: float = 4.0


class PromptBlock(nn.Module):
    """Self-attention over all patches, cross-attention to the prompts, MLP; each pre-norm and residual."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm_cross = nn.LayerNorm(width, eps=1e-6)
        self.cross_q = nn.Linear(width, width)
        self.cross_kv = nn.Linear(width, 2 * width)
        self.cross_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        hidden = int(width * config.mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        n, length, _ = x.shape
        return x.reshape(n, length, parts, self.heads, -1).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        """x: (n, N, d).  prompts: (n, 3, d).  Returns (n, N, d)."""
        q, k, v = self._heads(self.qkv(self.norm1(x)), 3)
        x = x + self.proj(attention(q, k, v).transpose(1, 2).flatten(2))
        (q,) = self._heads(self.cross_q(self.norm_cross(x)), 1)
        k, v = self._heads(self.cross_kv(prompts), 2)
        x = x + self.cross_proj(attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class PromptDecoder(nn.Module):
    """Restores a frame from bypass-1 patches and three prompts; the same weights serve both passes."""

    position: Tensor

    def __init__(
        self, config: DecoderConfig, encoder_width: int, num_patches: int, patch_values: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, config.width)
        self.embed_prompts = nn.Linear(encoder_width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(config.width))
        self.register_buffer("position", sincos_position(num_patches, config.width), persistent=False)
        self.blocks = nn.ModuleList(PromptBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.head = nn.Linear(config.width, patch_values)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, patches: Tensor, visible: Tensor, prompts: Tensor) -> Tensor:
        """Restore every patch's pixels.

        patches: (n, V, D) encoded, bypass 1.  visible: (n, V) their places.  prompts: (n, 3, D): identity, ambient, c.
        Returns (n, N, C·P·P), in `patchify`'s order.
        """
        visible_embedded = self.embed(patches)
        n, width = len(patches), visible_embedded.shape[-1]
        x = self.mask_token.to(visible_embedded.dtype).expand(n, len(self.position), width)
        x = x.scatter(1, visible[..., None].expand(-1, -1, width), visible_embedded) + self.position
        conditions = self.embed_prompts(prompts)
        for block in self.blocks:
            x = block(x, conditions)
        return self.head(self.norm(x))


def sincos_position(num_patches: int, width: int) -> Tensor:
    """Fixed two-dimensional sine-cosine positions of MAE (He et al. 2022, App. A): (N, width)."""
    grid = round(num_patches**0.5)
    frequency = 1.0 / 10_000 ** (torch.arange(width // 4) / (width // 4))
    angle = torch.arange(grid)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], 1)  # (grid, width/2)
    rows = axis[:, None].expand(grid, grid, -1)
    columns = axis[None].expand(grid, grid, -1)
    return torch.cat([columns, rows], -1).reshape(num_patches, width)
