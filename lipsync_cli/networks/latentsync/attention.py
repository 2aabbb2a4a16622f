"""Transformer parts of the U-Net and of StableSyncNet, under the published names (diffusers' layout).

Shapes: N sequences, L tokens, D width; (N, C, H, W) maps, one a frame.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lipsync_cli.networks.blocks.attention import attention


class Attention(nn.Module):
    """Multi-head attention.

    context_width: of what is looked at; None looks at the queries themselves.  positions: added to the queries first.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        context_width: int | None = None,
        *,
        bias: bool = False,
        positions: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.pos_encoder = positions
        context_width = context_width or width
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context_width, width, bias=bias)
        self.to_v = nn.Linear(context_width, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])  # a list, as published, where dropout followed

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, L, D) looking at (N, M, D') → (N, L, D)."""
        if self.pos_encoder is not None:
            tokens = self.pos_encoder(tokens)
        context = tokens if context is None else context
        q, k, v = self.to_q(tokens), self.to_k(context), self.to_v(context)
        heads = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        return self.to_out[0](attention(*heads).transpose(1, 2).flatten(2))


class GatedLinear(nn.Module):
    """GEGLU (Shazeer 2020): half of the projection, gated by the GELU of the other half."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner_width)

    def forward(self, tokens: Tensor) -> Tensor:
        value, gate = self.proj(tokens).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Four times wider in the middle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # the second place was dropout's: it keeps the last layer's published name, net.2
        self.net = nn.Sequential(GatedLinear(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens)


class AudioBlock(nn.Module):
    """Self-attention over a frame, cross-attention to what is heard at it, feed-forward (paper, "Audio layers")."""

    def __init__(self, width: int, heads: int, audio_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, audio_width)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, tokens: Tensor, audio: Tensor) -> Tensor:
        tokens = tokens + self.attn1(self.norm1(tokens))
        tokens = tokens + self.attn2(self.norm2(tokens), audio)
        return tokens + self.ff(self.norm3(tokens))


class AudioTransformer(nn.Module):
    """An `AudioBlock` over the pixels of each frame's map, with 1 × 1 convolutions around it."""

    def __init__(self, channels: int, heads: int, audio_width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)  # of each frame alone, unlike the U-Net's others
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([AudioBlock(channels, heads, audio_width)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor, audio: Tensor) -> Tensor:
        """(N, C, H, W) maps hearing (N, tokens, audio width) → (N, C, H, W)."""
        tokens = self.proj_in(self.norm(maps)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, audio)
        return maps + self.proj_out(tokens.transpose(1, 2).unflatten(2, maps.shape[2:]))
