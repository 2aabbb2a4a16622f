"""Motion modules: attention over the frames of a window, at every place of the picture (AnimateDiff §4.2).

The paper says LatentSync has no temporal layers; the published 1.5 and 1.6 code and weights have them.
Shapes: B windows, F frames, (B·F, C, H, W) maps with the frames of a window side by side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lipsync_cli.networks.latentsync.attention import Attention, FeedForward

GROUPS = 32  # whatever the rest of the network uses


class MotionModule(nn.Module):
    def __init__(self, channels: int, heads: int, max_frames: int) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, heads, max_frames)

    def forward(self, maps: Tensor, frames: int) -> Tensor:
        """(B·F, C, H, W) → the same.  frames: F."""
        return self.temporal_transformer(maps, frames)


class TemporalTransformer(nn.Module):
    def __init__(self, channels: int, heads: int, max_frames: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels, heads, max_frames)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)  # so that it starts as if it were not there
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, maps: Tensor, frames: int) -> Tensor:
        height, width = maps.shape[2:]
        tokens = self.proj_in(self.norm(maps).flatten(2).transpose(1, 2))  # (B·F, H·W, C)
        tokens = tokens.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # (B·H·W, F, C)
        for block in self.transformer_blocks:
            tokens = block(tokens)
        tokens = self.proj_out(tokens).unflatten(0, (-1, height * width)).transpose(1, 2).flatten(0, 1)
        return maps + tokens.transpose(1, 2).unflatten(2, (height, width))


class TemporalBlock(nn.Module):
    """Twice self-attention, then feed-forward, over (n, F, C)."""

    def __init__(self, width: int, heads: int, max_frames: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList(
            Attention(width, heads, positions=FramePositions(width, max_frames)) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.ff = FeedForward(width)
        self.ff_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        for attend, norm in zip(self.attention_blocks, self.norms, strict=True):
            tokens = tokens + attend(norm(tokens))
        return tokens + self.ff(self.ff_norm(tokens))


class FramePositions(nn.Module):
    """Adds sines and cosines of the frame's place in the window (Vaswani et al. 2017, §3.5)."""

    pe: Tensor

    def __init__(self, width: int, max_frames: int) -> None:
        super().__init__()
        frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
        angles = torch.arange(max_frames)[:, None] * frequencies
        self.register_buffer("pe", torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None])

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.pe[:, : tokens.shape[1]]
