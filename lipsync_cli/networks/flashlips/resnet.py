"""A plain ResNet (He et al. 2016): a picture to one vector.

Shapes: N pictures of C channels and H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECK_DEPTH = 50  # from here on a block is three convolutions, the middle one narrow


@dataclass(frozen=True)
class ResNetConfig:
    """depth: 10, 18, 34 or 50.  width: of the first of four stages, each twice as wide as the one before."""

    depth: int = 50
    width: int = 64

    @property
    def features(self) -> int:
        """Length of the vector: 2048 for ResNet-50, 512 below."""
        return self.width * 8 * (4 if self.depth >= BOTTLENECK_DEPTH else 1)


class ResNet(nn.Module):
    """(N, 3, H, W) → (N, features): mean over the places of the last stage.

    GroupNorm in place of BatchNorm: batches are a few frames per process, and a frozen network then stays what it was.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        bottleneck = config.depth >= BOTTLENECK_DEPTH
        self.stem = nn.Sequential(
            nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False),
            _norm(config.width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks, inputs = [], config.width
        for stage, count in enumerate(BLOCKS[config.depth]):
            width = config.width * 2**stage
            for number in range(count):
                blocks.append(Block(inputs, width, 2 if stage and not number else 1, bottleneck))
                inputs = width * (4 if bottleneck else 1)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x)).mean((2, 3))


class Block(nn.Module):
    """Two 3 × 3 convolutions, or 1 × 1, 3 × 3 and 1 × 1 to four times the width, beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        if bottleneck:
            sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        else:
            sizes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        layers: list[nn.Module] = []
        for c_in, c_out, kernel, step in sizes:
            layers += [
                nn.Conv2d(c_in, c_out, kernel, step, kernel // 2, bias=False),
                _norm(c_out),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 8), channels)
