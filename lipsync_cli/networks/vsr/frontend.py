"""The visual front end: 3-D convolution over space and time, then a ResNet-18 on each frame (Auto-AVSR §3).

Parameter names are those of the published Auto-AVSR code, so its weights load as they are.
Shapes: B clips, T frames, H × W pixels, C channels.
"""

from __future__ import annotations

import torch
from torch import nn


class VisualFrontend(nn.Module):
    """Grey mouth crops (B, T, 1, H, W), normalised → one vector a frame (B, T, 8 · width).

    width: channels of the first stage; each of the four stages doubles them (64 is Auto-AVSR's, output 512).
    A frame sees two neighbours on either side; beyond the ends of the tensor they are zeros.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.trunk = ResidualTrunk(width)
        self.frontend3D = nn.Sequential(
            nn.Conv3d(1, width, (5, 7, 7), stride=(1, 2, 2), padding=(2, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.SiLU(),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        )

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        clips, frames = video.shape[:2]
        maps = self.frontend3D(video.transpose(1, 2))  # (B, C, T, H/4, W/4)
        features = self.trunk(maps.transpose(1, 2).flatten(0, 1))  # every frame on its own
        return features.unflatten(0, (clips, frames))


class ResidualTrunk(nn.Module):
    """ResNet-18 without its stem: (N, width, H, W) → (N, 8 · width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return maps.mean(dim=(-2, -1))


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        residual = maps if self.downsample is None else self.downsample(maps)
        maps = nn.functional.silu(self.bn1(self.conv1(maps)))
        return nn.functional.silu(self.bn2(self.conv2(maps)) + residual)


def _stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(channels_in, channels, stride), ResidualBlock(channels, channels, stride=1)
    )
