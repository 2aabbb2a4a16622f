"""The one-step latent editor of FlashLips (§3.1.1, §A.3, tables A.1 and A.2).

Shapes: N frames, R references, C latent channels, h × w latent grid, M lips numbers, F reference features.
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
    num_references, warp: above 1, true: not in the paper, see `ReferenceMixer` and `blend_references`.
    warp_reach: the furthest a reference is moved, in sides of the picture.
    warp_unfold: side of the square of pixels that one latent holds (`PixelShuffleCodec.factor`), so that flows move
    pixels and not blocks; 1 for latents that are not pixels.
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
    num_references: int = 1
    warp: bool = False
    warp_reach: float = 0.25
    warp_unfold: int = 1

    @property
    def input_channels(self) -> int:
        """52 in the paper (§A.3)."""
        return self.latent_channels + self.reference_channels + self.lips_numbers

    @property
    def output_channels(self) -> int:
        """The residual, and with `warp` a flow and a weight per reference and one weight for the frame itself."""
        return self.latent_channels + (3 * self.num_references + 1 if self.warp else 0)


class LatentEditor(nn.Module):
    """A frame's latent with its mouth masked, reference latents and a lips vector in; the frame's latent out."""

    def __init__(self, config: EditorConfig) -> None:
        super().__init__()
        self.config = config
        self.reference = ReferenceBackbone(config)
        self.mixer = ReferenceMixer(config) if config.num_references > 1 else None
        self.backbone = UNet(config) if config.kind == "unet" else GridTransformer(config)

    def forward(self, z_masked: Tensor, z_references: Tensor, lips: Tensor) -> Tensor:
        """ẑ_src of eq. 3.  (N, C, h, w), (N, R, C, h, w), (N, M) → (N, C, h, w)."""
        return self.edit(z_masked, z_references, self.reference_features(z_references), lips)

    def reference_features(self, z_references: Tensor) -> Tensor:
        """f_ref, the same for every reference.  (N, R, C, h, w) → (N, R, F, h, w); of a clip, computed once."""
        return self.reference(z_references.flatten(0, 1)).unflatten(0, z_references.shape[:2])

    def edit(self, z_masked: Tensor, z_references: Tensor, features: Tensor, lips: Tensor) -> Tensor:
        """`forward`, with the references' features (N, R, F, h, w) given."""
        expanded = lips[:, :, None, None].expand(-1, -1, *z_masked.shape[2:])
        mixed = features[:, 0] if self.mixer is None else self.mixer(z_masked, features, expanded)
        out = self.backbone(torch.cat([z_masked, mixed, expanded], 1))  # eq. 1
        residual = out[:, : self.config.latent_channels]
        if not self.config.warp:
            return z_masked + residual  # eq. 3
        return blend_references(z_masked, z_references, out[:, residual.shape[1] :], self.config) + residual


class ReferenceMixer(nn.Module):
    """Mixes the features of several references, at every place by weights that fit the frame and the lips.

    # differs from the paper: it has one reference
    """

    def __init__(self, config: EditorConfig) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Conv2d(config.input_channels, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 1, 3, padding=1)
        )

    def forward(self, z_masked: Tensor, features: Tensor, lips: Tensor) -> Tensor:
        """(N, C, h, w), (N, R, F, h, w), (N, M, h, w) → (N, F, h, w)."""
        rows = [self.score(torch.cat([z_masked, features[:, r], lips], 1)) for r in range(features.shape[1])]
        weights = torch.stack(rows, 1).softmax(1)  # (N, R, 1, h, w)
        return (weights * features).sum(1)


def blend_references(z_masked: Tensor, z_references: Tensor, fields: Tensor, config: EditorConfig) -> Tensor:
    """References moved by flows, and the frame itself, blended by a softmax: texture of the clip's own frames.

    # differs from the paper, where the residual alone draws the mouth

    fields: (N, 3R + 1, h, w): 2R flows before tanh (x and y of each reference), R + 1 logits (the frame's own last).
    """
    n, r = z_references.shape[:2]
    k = config.warp_unfold
    fields = F.interpolate(fields, scale_factor=k, mode="bilinear", align_corners=False) if k > 1 else fields
    own = F.pixel_shuffle(z_masked, k)
    moved = F.pixel_shuffle(z_references.flatten(0, 1), k)  # (N·R, c, H, W)
    flow = 2 * config.warp_reach * fields[:, : 2 * r].unflatten(1, (r, 2)).flatten(0, 1).tanh()
    grid = _identity_grid(moved) + flow.permute(0, 2, 3, 1).to(moved.dtype)
    moved = F.grid_sample(moved, grid, padding_mode="border", align_corners=False).unflatten(0, (n, r))
    weights = fields[:, 2 * r :].softmax(1)[:, :, None]  # (N, R + 1, 1, H, W)
    return F.pixel_unshuffle((weights * torch.cat([moved, own[:, None]], 1)).sum(1), k)


def _identity_grid(image: Tensor) -> Tensor:
    """(1, H, W, 2): where `grid_sample` finds each pixel of an image that is not moved."""
    height, width = image.shape[2:]
    y = (2 * torch.arange(height, device=image.device, dtype=image.dtype) + 1) / height - 1
    x = (2 * torch.arange(width, device=image.device, dtype=image.dtype) + 1) / width - 1
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]


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
        last = nn.Conv2d(width, config.output_channels, 3, padding=1)
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
        last = nn.Conv2d(stem, config.output_channels, 1)
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
