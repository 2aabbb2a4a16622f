"""The visual encoder: a Vision Transformer over visible patches with three prompt tokens per frame (§3.2).

Shapes: B clips, T frames, C channels, S picture side, P patch side, N = (S/P)² patches, V visible patches, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lipsync_cli.networks.blocks.attention import attention

MOTION_GAIN = 4.0
IDENTITY, AMBIENT, VOCAL = range(3)  # order of the prompt tokens: Z = [z_id, z_amb, z_voc]


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the visual encoder.

    context_frames: frames the patch stem sees around each frame (odd; 1 = single-frame, as in the paper).
    stem: "linear" (one projection of the patch, as in ViT) or "deep" (quarters of the patch first, then the patch).
    """

    image_px: int = 256
    patch_px: int = 16
    channels: int = 3
    context_frames: int = 1
    stem: str = "linear"
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0
    checkpointing: bool = False

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_px // self.patch_px

    @property
    def num_patches(self) -> int:
        return self.grid**2


class FrameTokens(NamedTuple):
    """What the encoder says of every frame: prompts (B, T, 3, D) and visible patches (B, T, V, D)."""

    prompts: Tensor
    patches: Tensor


def patchify(frames: Tensor, patch_px: int) -> Tensor:
    """(B, T, C, S, S) → (B, T, N, C, P, P), patches row by row."""
    b, t, c, side, _ = frames.shape
    grid = side // patch_px
    tiles = frames.reshape(b, t, c, grid, patch_px, grid, patch_px)
    return tiles.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, t, grid * grid, c, patch_px, patch_px)


def visible_tubes(
    patches: Tensor, visible: Tensor, context_frames: int, chosen: Tensor | None = None
) -> Tensor:
    """Cut each visible patch out of the frames around its own; the ends of the clip repeat.

    patches: (B, T, N, C, P, P).  visible: (B, T, V) patch indices.  chosen: (B, t) frames to cut, all when None.
    Returns (B, t, V, context·C, P, P): the frame itself where context is 1, otherwise [..., x_t, ...] with the other
    frames given as MOTION_GAIN times their difference from x_t, or a still face would drown the motion of its lips.
    """
    b, t, _, c, p, _ = patches.shape
    half = context_frames // 2
    clip = torch.arange(b, device=patches.device)[:, None, None]
    time = torch.arange(t, device=patches.device).expand(b, -1) if chosen is None else chosen
    places = visible[clip[:, :, 0], time]
    steps = [
        patches[clip, (time[..., None] + step).clamp(0, t - 1), places] for step in range(-half, half + 1)
    ]
    now = steps[half]
    steps = [now if step is now else MOTION_GAIN * (step - now) for step in steps]
    return torch.stack(steps, 3).reshape(b, time.shape[1], places.shape[2], context_frames * c, p, p)


class PatchStem(nn.Module):
    """Embeds a patch (or a tube of one patch over a few frames) without looking at its neighbours."""

    QUARTERS = 4  # sub-patches along one side of a patch, in the two-step stem
    QUARTER_WIDTH = 48

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        channels, side = config.channels * config.context_frames, config.patch_px
        if config.stem == "linear":
            convolutions = [nn.Conv2d(channels, config.width, side, side)]
        else:
            # differs from the paper: two steps with a bend between learn motion from few speakers better than one
            quarter = side // self.QUARTERS
            convolutions = [
                nn.Conv2d(channels, self.QUARTER_WIDTH, quarter, quarter),
                nn.Conv2d(self.QUARTER_WIDTH, config.width, self.QUARTERS, self.QUARTERS),
            ]
        self.layers = nn.ModuleList(convolutions)

    def forward(self, tubes: Tensor) -> Tensor:
        """(..., channels, P, P) → (..., D)."""
        x = tubes.flatten(0, -4)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            x = tiled_convolution(F.gelu(x) if index else x, layer.weight, layer.bias)
        return x.reshape(*tubes.shape[:-3], -1)


def tiled_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution whose stride is its kernel, as one matrix product: on a CPU four times as fast as conv2d.

    x: (n, C, H, W).  weight: (D, C, k, k).  Returns (n, D, H/k, W/k).
    """
    n, c, height, width = x.shape
    k = weight.shape[-1]
    tiles = x.reshape(n, c, height // k, k, width // k, k).permute(0, 2, 4, 1, 3, 5).flatten(3)
    return F.linear(tiles, weight.flatten(1), bias).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Pre-norm Transformer block: self-attention, then MLP."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, L, D) → (n, L, D)."""
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = attention(qkv[0], qkv[1], qkv[2])
        x = x + self.proj(attended.transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


class VisualEncoder(nn.Module):
    """ViT that consumes only visible patches and three learnt prompt tokens per frame."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = PatchStem(config)
        self.position = nn.Parameter(torch.zeros(config.num_patches, config.width))
        self.prompts = nn.Parameter(torch.zeros(3, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        nn.init.trunc_normal_(self.position, std=0.02)
        nn.init.trunc_normal_(self.prompts, std=0.02)

    def forward(self, frames: Tensor, visible: Tensor, chosen: Tensor | None = None) -> FrameTokens:
        """Encode frames, or only the chosen ones of each clip.

        frames: (B, T, C, S, S), normalised.  visible: (B, T, V) indices of the patches to look at, 0…N−1.
        chosen: (B, t) frame indices, all frames when None.
        """
        tubes = visible_tubes(
            patchify(frames, self.config.patch_px), visible, self.config.context_frames, chosen
        )
        places = (
            visible
            if chosen is None
            else visible[torch.arange(len(chosen), device=chosen.device)[:, None], chosen]
        )
        return self._encode(tubes, places)

    def _encode(self, tubes: Tensor, places: Tensor) -> FrameTokens:
        b, t, v = places.shape
        patches = self.stem(tubes) + self.position[places]
        prompts = self.prompts.to(patches.dtype).expand(b, t, -1, -1)
        x = torch.cat([prompts, patches], 2).reshape(b * t, 3 + v, -1)
        recompute = self.config.checkpointing and self.training
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        x = self.norm(x).reshape(b, t, 3 + v, -1)
        return FrameTokens(prompts=x[:, :, :3], patches=x[:, :, 3:])
