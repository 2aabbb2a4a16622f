"""The visual front end: 3-D convolution over space and time, then a ResNet-18 on each frame (Auto-AVSR §3).

Parameter names are those of the published Auto-AVSR code, so its weights load as they are.
Shapes: B clips, T frames, H × W pixels, C channels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d, pad, silu


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
        features = self.trunk(self._stem(video))  # every frame on its own
        return features.unflatten(0, video.shape[:2])

    def _stem(self, video: torch.Tensor) -> torch.Tensor:
        """`frontend3D`, frame by frame: (B · T, C, H/4, W/4).

        A 3-D convolution over one grey channel is a 2-D one over five neighbouring frames as channels: the same
        numbers, and on processors, channels last, less than half the time.
        """
        convolution = cast(nn.Conv3d, self.frontend3D[0])
        frames = video.shape[1]
        padded = pad(video[:, :, 0], (0, 0, 0, 0, 2, 2))
        stacked = torch.stack([padded[:, shift : shift + frames] for shift in range(5)], dim=2).flatten(0, 1)
        maps = conv2d(
            stacked.contiguous(memory_format=torch.channels_last),
            convolution.weight[:, 0].contiguous(memory_format=torch.channels_last),
            stride=2,
            padding=3,
        )
        maps = self.frontend3D[1](maps[:, :, None])[:, :, 0]  # one frame deep: the norm is a 3-D one
        return max_pool2d(silu(maps), 3, stride=2, padding=1)


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
        maps = silu(self.bn1(self.conv1(maps)))
        return silu(self.bn2(self.conv2(maps)) + residual)


def _stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(channels_in, channels, stride), ResidualBlock(channels, channels, stride=1)
    )
