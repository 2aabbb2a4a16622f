"""StableSyncNet: whether 16 frames of a mouth and 0.65 s of sound belong together (LatentSync §3.3).

Both encoders are Stable Diffusion's way down without what conditions it. Names and numbers are those of the
published code in its released configuration, which has self-attention (the paper's best has none).

Shapes: B pairs, C channels, H × W pixels, E embedding width (2048).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from lipsync_cli.networks.latentsync.attention import Attention, FeedForward

GROUPS, EPSILON, HEADS = 32, 1e-6, 8


@dataclass(frozen=True)
class SyncEncoderConfig:
    """channels, strides (down, across): of each block.  attention_after: blocks followed by self-attention."""

    channels_in: int
    channels: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]
    attention_after: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.strides):
            raise ValueError(f"{len(self.channels)} channels and {len(self.strides)} strides are given")


@dataclass(frozen=True)
class StableSyncNetConfig:
    """The defaults are the released weights'.

    frames: pictures seen at once.  crop_px: side of the aligned face of which the lower half is seen.
    mel_columns: heard at once, 80 a second.
    """

    audio: SyncEncoderConfig = field(
        default_factory=lambda: SyncEncoderConfig(
            channels_in=1,
            channels=(32, 64, 128, 256, 512, 1024, 2048),
            strides=((2, 1), (2, 2), (2, 2), (1, 1), (2, 2), (2, 2), (2, 3)),
            attention_after=(3, 4),
        )
    )
    visual: SyncEncoderConfig = field(
        default_factory=lambda: SyncEncoderConfig(
            channels_in=48,
            channels=(64, 128, 256, 256, 512, 1024, 2048, 2048),
            strides=((1, 2), *[(2, 2)] * 7),
            attention_after=(4, 5),
        )
    )
    frames: int = 16
    crop_px: int = 256
    mel_columns: int = 52


class StableSyncNet(nn.Module):
    def __init__(self, config: StableSyncNetConfig) -> None:
        super().__init__()
        self.config = config
        self.audio_encoder = SyncEncoder(config.audio)
        self.visual_encoder = SyncEncoder(config.visual)

    def embed_frames(self, frames: Tensor) -> Tensor:
        """Lower halves (B, 3·16, 128, 256) in −1…1, see `lower_half`, → (B, E), unit norm."""
        return F.normalize(self.visual_encoder(frames).flatten(1), dim=1)

    def embed_mel(self, mel: Tensor) -> Tensor:
        """Mel windows (B, 1, 80, 52), see `mel`, → (B, E), unit norm."""
        return F.normalize(self.audio_encoder(mel).flatten(1), dim=1)

    def forward(self, frames: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of what is seen and heard; their products are cosines, of 0…1 as nothing in them is negative."""
        return self.embed_frames(frames), self.embed_mel(mel)


def lower_half(faces: Tensor) -> Tensor:
    """Aligned faces (B, F, 3, S, S) in −1…1 → what the network sees, (B, F·3, S/2, S)."""
    return faces[:, :, :, faces.shape[3] // 2 :].flatten(1, 2)


class SyncEncoder(nn.Module):
    """(B, C, H, W) → (B, channels[-1], h, w), nothing negative."""

    def __init__(self, config: SyncEncoderConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(config.channels_in, config.channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()  # residual and attention blocks in one list, as published
        before = config.channels[0]
        for index, (channels, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
            self.down_blocks.append(ResidualDown(before, channels, stride))
            if index in config.attention_after:
                self.down_blocks.append(AttentionBlock(channels))
            before = channels
        self.norm_out = nn.GroupNorm(GROUPS, before, eps=EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv_in(maps)
        for block in self.down_blocks:
            maps = block(maps)
        return F.relu(self.norm_out(maps))


class ResidualDown(nn.Module):
    """A residual block, then a strided convolution unless the stride is 1."""

    def __init__(self, channels_in: int, channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels_in, eps=EPSILON)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels, eps=EPSILON)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else None
        self.downsample_conv = nn.Conv2d(channels, channels, 3, stride=stride) if stride != (1, 1) else None
        # A direction that is not shrunk is filled on both sides, one that is shrunk only at its end.
        self._padding = (int(stride[1] == 1), 1, int(stride[0] == 1), 1)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(maps)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        maps = hidden + (maps if self.conv_shortcut is None else self.conv_shortcut(maps))
        return maps if self.downsample_conv is None else self.downsample_conv(F.pad(maps, self._padding))


class AttentionBlock(nn.Module):
    """Self-attention over the places of a map, then feed-forward."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=EPSILON)
        self.conv_in = nn.Conv2d(channels, channels, 1)
        self.norm2 = nn.LayerNorm(channels)
        self.attn = Attention(channels, HEADS, bias=True)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)
        self.conv_out = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = self.conv_in(self.norm1(maps)).flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.norm2(tokens))
        tokens = tokens + self.ff(self.norm3(tokens))
        return maps + self.conv_out(tokens.transpose(1, 2).unflatten(2, maps.shape[2:]))
