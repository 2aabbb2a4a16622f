"""The one-step latent editor of FlashLips (§3.1.1, §A.3, tables A.1 and A.2).

Shapes: N frames, C latent channels, h × w latent grid, M lips numbers, F reference features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipsync_cli.networks.blocks.attention import attention


@dataclass(frozen=True)
class EditorConfig:
    """Sizes of the editor; the defaults are the paper's.

    kind: "unet" or "transformer".  lips_numbers: M.  reference_channels: F, 52 input channels less latent and lips.
    channels, blocks: of the U-Net's levels, and ResNet blocks in each.  groups: of every GroupNorm.
    stem, width, depth, heads: of the Transformer.
    reference_width, reference_blocks: of f_ref, whose size the paper does not give (README).
    """

    kind: str = "unet"
    latent_channels: int = 4
    reference_channels: int = 36
    lips_numbers: int = 12
    channels: tuple[int, ...] = (384, 512, 640)
    blocks: int = 4
    groups: int = 32
    stem: int = 128
    width: int = 1024
    depth: int = 16
    heads: int = 16
    reference_width: int = 384
    reference_blocks: int = 13

    @property
    def input_channels(self) -> int:
        """52 in the paper (§A.3)."""
        return self.latent_channels + self.reference_channels + self.lips_numbers


class LatentEditor(nn.Module):
    """A frame's latent, its mouth masked, a reference's and lips numbers in; the latent of the frame as it should be out.

    The reconstruction editor is given masked frames; LipsChange, which is the same network, whole ones.
    """

    def __init__(self, config: EditorConfig) -> None:
        super().__init__()
        self.config = config
        self.reference = ReferenceBackbone(config)
        self.backbone = UNet(config) if config.kind == "unet" else GridTransformer(config)

    def forward(self, z_masked: Tensor, z_reference: Tensor, lips: Tensor) -> Tensor:
        """ẑ_src of eq. 3.  (N, C, h, w), (N, C, h, w), (N, M) → (N, C, h, w)."""
        return self.edit(z_masked, self.reference(z_reference), lips)

    def edit(self, z_masked: Tensor, features: Tensor, lips: Tensor) -> Tensor:
        """`forward`, with the reference's features (N or 1, F, h, w) given: of a clip they are made once."""
        count, _, height, width = z_masked.shape
        expanded = lips[:, :, None, None].expand(-1, -1, height, width)
        z_input = torch.cat([z_masked, features.expand(count, -1, -1, -1), expanded], 1)  # eq. 1
        return z_masked + self.backbone(z_input)  # eq. 3


class ReferenceBackbone(nn.Module):
    """f_ref (§3.1.1): a reference latent to features.  (N, C, h, w) → (N, F, h, w)."""

    def __init__(self, config: EditorConfig) -> None:
        super().__init__()
        width, groups = config.reference_width, config.groups
        self.layers = nn.Sequential(
            nn.Conv2d(config.latent_channels, width, 3, padding=1),
            *(ResNet2D(width, width, groups) for _ in range(config.reference_blocks)),
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            nn.Conv2d(width, config.reference_channels, 3, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class ResNet2D(nn.Module):
    """GroupNorm, SiLU and convolution, twice, beside a shortcut; resized between the first two when asked."""

    def __init__(self, inputs: int, outputs: int, groups: int, resize: str = "") -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        sizes = {"": nn.Identity(), "half": nn.AvgPool2d(2), "double": nn.Upsample(scale_factor=2)}
        self.resize = sizes[resize]

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.resize(F.silu(self.norm1(x))))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(self.resize(x)) + h


class UNet(nn.Module):
    """Table A.1, without attention: every output of the way down is concatenated to one block of the way up.

    (N, input_channels, h, w) → (N, output_channels, h, w); h and w multiples of 2^(levels − 1).
    """

    def __init__(self, config: EditorConfig) -> None:
        super().__init__()
        channels, groups = config.channels, config.groups
        self.input = nn.Conv2d(config.input_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        skips = [width := channels[0]]
        for level, outputs in enumerate(channels):
            resizes = [""] * config.blocks + ["half"] * (level + 1 < len(channels))
            for resize in resizes:
                self.down.append(ResNet2D(width, outputs, groups, resize))
                skips.append(width := outputs)
        self.middle = nn.Sequential(*(ResNet2D(width, width, groups) for _ in range(2)))
        self.up = nn.ModuleList()
        for level, outputs in reversed(list(enumerate(channels))):
            for _ in range(config.blocks + 1):
                self.up.append(ResNet2D(width + skips.pop(), outputs, groups))
                width = outputs
            # A doubling block stands at the end of its level, as in the table.
            self.up.append(ResNet2D(width, width, groups, "double") if level else nn.Identity())
        last = nn.Conv2d(width, config.latent_channels, 3, padding=1)
        self.output = nn.Sequential(nn.GroupNorm(groups, width), nn.SiLU(), _from_zero(last))
        self.blocks = config.blocks

    def forward(self, x: Tensor) -> Tensor:
        skips = [x := self.input(x)]
        for block in self.down:
            skips.append(x := block(x))
        x = self.middle(x)
        for number, block in enumerate(self.up):
            level_ends = number % (self.blocks + 2) == self.blocks + 1
            x = block(x if level_ends else torch.cat([x, skips.pop()], 1))
        return self.output(x)


class GridTransformer(nn.Module):
    """Table A.2: every place of the grid is a token; no positions are added, as the table names none.

    (N, input_channels, h, w) → (N, output_channels, h, w).
    """

    def __init__(self, config: EditorConfig) -> None:
        super().__init__()
        stem, width = config.stem, config.width
        self.input = nn.Sequential(
            nn.Conv2d(config.input_channels, stem, 1),
            nn.GroupNorm(config.groups, stem),
            nn.Conv2d(stem, width, 1),
        )
        self.blocks = nn.ModuleList(TransformerBlock(width, config.heads) for _ in range(config.depth))
        last = nn.Conv2d(stem, config.latent_channels, 1)
        self.output = nn.Sequential(nn.Conv2d(width, stem, 1), _from_zero(last))

    def forward(self, x: Tensor) -> Tensor:
        grid = self.input(x)
        tokens = grid.flatten(2).transpose(1, 2)  # (N, h·w, width)
        for block in self.blocks:
            tokens = block(tokens)
        return self.output(tokens.transpose(1, 2).reshape(grid.shape))


class TransformerBlock(nn.Module):
    """LayerNorm, self-attention, LayerNorm, GEGLU of four times the width.  (N, L, D) → the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.gate = nn.Linear(width, 8 * width)
        self.down = nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attention(q, k, v).transpose(1, 2).flatten(2))
        value, gate = self.gate(self.norm2(x)).chunk(2, -1)
        return x + self.down(value * F.gelu(gate))


def _from_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """An untrained editor then returns its input: training starts from a residual of nothing."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
