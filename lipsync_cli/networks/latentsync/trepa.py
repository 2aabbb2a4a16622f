"""TREPA: generated frames must move as real ones do, judged by VideoMAE-v2 (LatentSync §3.2, equation 7).

The encoder is VideoMAE-v2's (Wang et al. 2023) under its published names, frozen. It sees 16 frames of 224² as tubes of
2 × 14 × 14 pixels and gives one vector of them.

Shapes: B windows, F frames, S side in pixels, D width (1408).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lipsync_cli.core.config import build_config
from lipsync_cli.hub.model_folder import WEIGHTS_NAME, ModelFolder, read_weights
from lipsync_cli.networks.blocks.attention import attention
from lipsync_cli.networks.blocks.weights import load_strictly

NETWORK = "videomae2"
PUBLISHED = "auxiliary/vit_g_hybrid_pt_1200e_ssv2_ft.pth"
EPSILON = 1e-6


@dataclass(frozen=True)
class VideoEncoderConfig:
    """The defaults are ViT-g/14's.  inner_width: of the feed-forward layers."""

    width: int = 1408
    layers: int = 40
    heads: int = 16
    inner_width: int = 6144
    patch_px: int = 14
    tube_frames: int = 2
    frames: int = 16
    size_px: int = 224


class VideoEncoder(nn.Module):
    """VideoMAE-v2's encoder.  recompute: layers are run again for gradients instead of kept, which saves memory."""

    position: Tensor

    def __init__(self, config: VideoEncoderConfig, *, recompute: bool = False) -> None:
        super().__init__()
        self.config, self.recompute = config, recompute
        tube = (config.tube_frames, config.patch_px, config.patch_px)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, config.width, tube, stride=tube)})
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.fc_norm = nn.LayerNorm(config.width, EPSILON)
        tubes = config.frames // config.tube_frames * (config.size_px // config.patch_px) ** 2
        self.register_buffer("position", sines(tubes, config.width), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, F, S, S) in 0…1, not normalised by ImageNet's colours, → (B, D)."""
        tokens = self.patch_embed["proj"](frames).flatten(2).transpose(1, 2)
        tokens = tokens + self.position.to(tokens)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return self.fc_norm(tokens.mean(1))


class Block(nn.Module):
    def __init__(self, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, EPSILON)
        self.attn = SelfAttention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, EPSILON)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(config.width, config.inner_width),
                "fc2": nn.Linear(config.inner_width, config.width),
            }
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(tokens))))


class SelfAttention(nn.Module):
    """Queries and values have a bias, keys have none."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(tokens, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return self.proj(attention(q, k, v).transpose(1, 2).flatten(2))


def sines(places: int, width: int) -> Tensor:
    """(1, places, width): sines and cosines by turns (Vaswani et al. 2017, §3.5)."""
    frequencies = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(places)[:, None] * frequencies
    table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, places, -1)
    return torch.from_numpy(table[..., :width]).float()


def movement_distance(encoder: VideoEncoder, made: Tensor, real: Tensor) -> Tensor:
    """Mean square of the difference between the unit vectors of two films (equation 7); gradients reach `made`.

    made, real: (B, F, 3, S, S) in −1…1, F that of the encoder.  Returns a scalar.
    """
    with torch.no_grad():
        wanted = F.normalize(encoder(_as_seen(encoder, real)).float(), dim=1)
    found = F.normalize(encoder(_as_seen(encoder, made)).float(), dim=1)
    return F.mse_loss(found, wanted)


def _as_seen(encoder: VideoEncoder, frames: Tensor) -> Tensor:
    side = encoder.config.size_px
    small = F.interpolate(frames.flatten(0, 1).float(), (side, side), mode="bicubic", align_corners=False)
    seen = (small / 2 + 0.5).clamp(0, 1).unflatten(0, frames.shape[:2]).transpose(1, 2)
    return seen.to(encoder.fc_norm.weight.dtype)


def load_video_encoder(folder: ModelFolder, *, recompute: bool = False) -> VideoEncoder:
    """VideoMAE-v2's encoder of a model folder, frozen, in evaluation mode on the CPU.

    Raises: WeightsError when the weights are missing, damaged or of another network.
    """
    config = build_config(folder.config, VideoEncoderConfig, source=str(folder.path / "config.json"))
    path = folder.files.get(WEIGHTS_NAME) or folder.file(PUBLISHED)
    state: Any = read_weights(path)
    state = state.get("module", state.get("model", state))
    encoder = VideoEncoder(config, recompute=recompute)
    kept = {name: tensor.float() for name, tensor in state.items() if not name.startswith("head.")}
    load_strictly(encoder, kept, path)
    return encoder.requires_grad_(False).eval()
