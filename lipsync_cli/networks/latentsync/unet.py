"""LatentSync's U-Net: what noise was added to the latents of a window of frames, given mask, references and sound.

The published 1.5 and 1.6 weights share this graph: Stable Diffusion 1.5's U-Net with 13 channels in, audio instead
of text, and a motion module after every layer on the way down and up. Names and numbers are those of the published
code, which was AnimateDiff's. Input channels: 4 noisy latents, 1 mask (1 = keep), 4 latents of the masked picture,
4 of the reference.

Shapes: B windows, F frames, C channels, H × W latent pixels. Inside, maps are (B·F, C, H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lipsync_cli.networks.latentsync.attention import AudioTransformer
from lipsync_cli.networks.latentsync.motion import MotionModule


@dataclass(frozen=True)
class UNetConfig:
    """The shape of the U-Net; the defaults are LatentSync 1.5's and 1.6's.

    channels: of each level, the finest first; the last level has no audio attention.  layers: of each level on the way
    down, one more on the way up.  motion: ways with motion modules: both, or none in the first stage of training, or
    "up" alone in its memory-saving second.  max_frames: longest window whose frames those can tell apart.
    """

    in_channels: int = 13
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    heads: int = 8
    audio_width: int = 384
    groups: int = 32
    motion: tuple[Literal["down", "up"], ...] = ("down", "up")
    max_frames: int = 24


class LatentSyncUNet(nn.Module):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_embedding = TimeEmbedding(first)
        levels = range(len(config.channels))
        self.down_blocks = nn.ModuleList(down_level(config, level) for level in levels)
        self.mid_block = MidBlock(config, last)
        self.up_blocks = nn.ModuleList(up_level(config, level) for level in reversed(levels))
        self.conv_norm_out = WindowNorm(config.groups, first)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)

    def forward(self, latents: Tensor, timestep: Tensor, audio: Tensor) -> Tensor:
        """Predicted noise.

        latents: (B, 13, F, H, W).  timestep: (B,) or scalar, 0…999.  audio: (B, F, 50, 384).  Returns (B, 4, F, H, W).
        Raises: ValueError when there are more frames than `max_frames`, or H and W do not halve at every level.
        """
        return self.with_deep(latents, timestep, audio)[0]

    def with_deep(self, latents: Tensor, timestep: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """`forward`, and the maps before the very last layer, (B·F, C, H, W), which change little between steps."""
        given = self._given(latents, timestep, audio)
        deep = self.deep_layers(*given)
        return self.last_layer(*given, deep), deep

    def from_deep(self, latents: Tensor, timestep: Tensor, audio: Tensor, deep: Tensor) -> Tensor:
        """`forward` with the maps of an earlier step: only the first convolution and the last layer are run.

        That is DeepCache (Ma, Fang, Wang 2024, §3.2) with the shallowest of its branches.
        """
        return self.last_layer(*self._given(latents, timestep, audio), deep)

    def _given(self, latents: Tensor, timestep: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """What all layers are given: first maps (B·F, C, H, W), embedded time, sound, F."""
        batch, _, frames, *size = latents.shape
        self._check(frames, size)
        time = self.time_embedding(timestep.expand(batch), latents.dtype).repeat_interleave(frames, 0)
        return self.conv_in(latents.transpose(1, 2).flatten(0, 1)), time, audio.flatten(0, 1), frames

    def deep_layers(self, maps: Tensor, time: Tensor, heard: Tensor, frames: int) -> Tensor:
        """All layers but the last on the way up; what that one is joined with is the first maps."""
        skips = [maps]
        for level in self.down_blocks:
            maps = level(maps, skips, time, heard, frames)
        maps = self.mid_block(maps, time, heard, frames)
        for level in self.up_blocks[:-1]:
            maps = level(maps, skips, time, heard, frames)
        return self.up_blocks[-1](maps, skips, time, heard, frames, stop=-1)

    def last_layer(self, maps: Tensor, time: Tensor, heard: Tensor, frames: int, deep: Tensor) -> Tensor:
        """The last layer on the way up and out, over first maps and `deep`: (B, 4, F, H, W)."""
        level = self.up_blocks[-1]
        assert isinstance(level, Level)
        maps = level.layer(-1, torch.cat([deep, maps], 1), time, heard, frames)
        noise = self.conv_out(F.silu(self.conv_norm_out(maps, frames)))
        return noise.unflatten(0, (-1, frames)).transpose(1, 2)

    def compile_layers(self) -> None:
        """Have torch compile the network for the sizes it is first run with: minutes then, less at every later step."""
        self.deep_layers = torch.compile(self.deep_layers)
        self.last_layer = torch.compile(self.last_layer)

    def recompute(self) -> None:
        """Run layers again for gradients instead of keeping what they gave: training takes less memory, more time."""
        for level in self.modules():
            if isinstance(level, Level):
                level.recompute = True

    def _check(self, frames: int, size: list[int]) -> None:
        step = 2 ** (len(self.config.channels) - 1)
        if frames > self.config.max_frames:
            raise ValueError(f"a window has at most {self.config.max_frames} frames, not {frames}")
        if any(side % step for side in size):
            raise ValueError(f"latents must be a multiple of {step} wide and high, not {size}")


class TimeEmbedding(nn.Module):
    """Sines and cosines of the timestep (cosines first), through two layers: (B,) → (B, 4 · width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, 4 * width)
        self.linear_2 = nn.Linear(4 * width, 4 * width)

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        half = torch.arange(self.width // 2, device=timestep.device, dtype=torch.float32) / (self.width // 2)
        angles = timestep.float()[:, None] * torch.exp(-math.log(10_000.0) * half)
        waves = torch.cat([angles.cos(), angles.sin()], -1).to(dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))


class WindowNorm(nn.GroupNorm):
    """Group normalisation whose statistics run over all frames of a window, as the published code has it.

    A shorter window therefore gives other results for the same frames: windows are padded, never shortened.
    """

    def forward(self, maps: Tensor, frames: int) -> Tensor:
        together = maps.unflatten(0, (-1, frames)).transpose(1, 2)  # (B, C, F, H, W)
        return super().forward(together).transpose(1, 2).flatten(0, 1)


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, time_width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = WindowNorm(groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, channels)
        self.norm2 = WindowNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else None

    def forward(self, maps: Tensor, time: Tensor, frames: int) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(maps, frames)))
        hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden, frames)))
        return (maps if self.conv_shortcut is None else self.conv_shortcut(maps)) + hidden


class Level(nn.Module):
    """One size of maps, on the way down or up: residual block, audio attention, motion module, several times.

    way: "down" halves the size at the end, unless `last`, "up" doubles it.  channels_in: of each residual block.
    hears: whether there is audio attention.
    """

    def __init__(
        self,
        config: UNetConfig,
        way: Literal["down", "up"],
        channels_in: list[int],
        channels: int,
        *,
        hears: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.way, self.recompute = way, False
        time_width = 4 * config.channels[0]
        self.resnets = nn.ModuleList(
            ResidualBlock(before, channels, time_width, config.groups) for before in channels_in
        )
        self.attentions = self.motion_modules = self.downsamplers = self.upsamplers = None
        if hears:
            self.attentions = nn.ModuleList(
                AudioTransformer(channels, config.heads, config.audio_width, config.groups)
                for _ in channels_in
            )
        if way in config.motion:
            self.motion_modules = nn.ModuleList(
                MotionModule(channels, config.heads, config.max_frames) for _ in channels_in
            )
        if not last and way == "down":
            self.downsamplers = nn.ModuleList([Halve(channels)])
        if not last and way == "up":
            self.upsamplers = nn.ModuleList([Double(channels)])

    def forward(
        self,
        maps: Tensor,
        skips: list[Tensor],
        time: Tensor,
        heard: Tensor,
        frames: int,
        stop: int | None = None,
    ) -> Tensor:
        """(B·F, C, H, W) → the next size.  skips: the way down leaves its maps there, the way up takes the last.

        stop: the layer before which to leave off; None runs all.
        """
        for index in range(len(self.resnets))[:stop]:
            if self.way == "up":
                maps = torch.cat([maps, skips.pop()], 1)
            if self.recompute and torch.is_grad_enabled():
                maps = checkpoint(self.layer, index, maps, time, heard, frames, use_reentrant=False)
            else:
                maps = self.layer(index, maps, time, heard, frames)
            if self.way == "down":
                skips.append(maps)
        if self.downsamplers is not None:
            maps = self.downsamplers[0](maps)
            skips.append(maps)
        return maps if self.upsamplers is None else self.upsamplers[0](maps)

    def layer(self, index: int, maps: Tensor, time: Tensor, heard: Tensor, frames: int) -> Tensor:
        """One residual block, with audio attention and motion module where there are any."""
        maps = self.resnets[index](maps, time, frames)
        if self.attentions is not None:
            maps = self.attentions[index](maps, heard)
        return maps if self.motion_modules is None else self.motion_modules[index](maps, frames)


def down_level(config: UNetConfig, index: int) -> Level:
    channels, deepest = config.channels[index], index == len(config.channels) - 1
    channels_in = [config.channels[max(index - 1, 0)]] + [channels] * (config.layers - 1)
    return Level(config, "down", channels_in, channels, hears=not deepest, last=deepest)


def up_level(config: UNetConfig, index: int) -> Level:
    channels, deepest = config.channels[index], index == len(config.channels) - 1
    arriving = [config.channels[min(index + 1, len(config.channels) - 1)]] + [channels] * config.layers
    skipped = [channels] * config.layers + [config.channels[max(index - 1, 0)]]
    channels_in = [a + b for a, b in zip(arriving, skipped, strict=True)]
    return Level(config, "up", channels_in, channels, hears=not deepest, last=index == 0)


class MidBlock(nn.Module):
    """Residual block, audio attention, residual block; no motion module."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        time_width = 4 * config.channels[0]
        self.attentions = nn.ModuleList(
            [AudioTransformer(channels, config.heads, config.audio_width, config.groups)]
        )
        self.resnets = nn.ModuleList(
            ResidualBlock(channels, channels, time_width, config.groups) for _ in range(2)
        )

    def forward(self, maps: Tensor, time: Tensor, heard: Tensor, frames: int) -> Tensor:
        maps = self.attentions[0](self.resnets[0](maps, time, frames), heard)
        return self.resnets[1](maps, time, frames)


class Halve(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(maps)


class Double(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(F.interpolate(maps, scale_factor=2.0, mode="nearest"))
