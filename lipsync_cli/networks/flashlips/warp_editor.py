"""The small editor: the mouth is put together from the clip's own frames, moved by predicted flows.

# differs from the paper, whose 250 M parameters draw every pixel: a small network cannot draw a face it has not seen, but
# it can learn which piece of which reference belongs where. It sees the face coarsely; the pieces are moved at whatever
# resolution the references have.

Shapes: N frames, R references, M lips numbers, S side of the network's picture, S' = k·S side of the references'
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class WarpEditorConfig:
    """Sizes.

    side_px: S, a multiple of 8.  lips_numbers: M.  channels: at 1/2, 1/4 and 1/8 of the side.  flow_channels: of the
    flow's own layers at 1/4 and 1/8.  reach: the furthest a reference is moved, in sides of the picture.
    """

    side_px: int = 96
    lips_numbers: int = 12
    channels: tuple[int, int, int] = (24, 64, 128)
    flow_channels: tuple[int, int] = (48, 96)
    blocks: int = 2
    reach: float = 0.25


@dataclass(frozen=True, eq=False)
class References:
    """References ready for use.  images: (N, R, 3, S', S').  levels: features at 1/2, 1/4, 1/8.  lips: (N, R, M)."""

    images: Tensor
    levels: tuple[Tensor, ...]
    lips: Tensor

    def pick(self, chosen: Tensor) -> References:
        """Some references of a single set for each frame.  chosen: (N, r) numbers into R; the set's own N is 1."""
        return References(
            self.images[0][chosen], tuple(level[0][chosen] for level in self.levels), self.lips[0][chosen]
        )


@dataclass(frozen=True, eq=False)
class Drawn:
    """picture: the frames with their new mouths.  moved: the moved references alone.  Both (N, 3, S', S').

    flows: (N, R, 2, S/2, S/2) in the units of `grid_sample`.
    """

    picture: Tensor
    moved: Tensor
    flows: Tensor


class WarpEditor(nn.Module):
    """A frame with a hole where the mouth is, references and a lips vector in; the frame with a mouth out."""

    def __init__(self, config: WarpEditorConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.channels
        self.target = Pyramid(4, config)
        self.reference = Pyramid(3, config)
        self.flow = FlowNet(config)
        self.blend8 = Conditioned(2 * eighth, eighth, config.lips_numbers, config.blocks)
        self.blend4 = Conditioned(2 * quarter + eighth, quarter + half, config.lips_numbers, config.blocks)
        self.blend2 = Conditioned(3 * half + quarter, 2 * half, config.lips_numbers, 1)
        self.residual = from_zero(nn.Conv2d(2 * half, 12, 3, padding=1))

    def look(self, images: Tensor, lips: Tensor) -> References:
        """Prepare references, once per clip.  (N, R, 3, S', S') in −1…1, (N, R, M)."""
        flat = shrink(images.flatten(0, 1), self.config.side_px)
        levels = [level.unflatten(0, images.shape[:2]) for level in self.reference(flat)]
        return References(images, tuple(levels), lips)

    def forward(self, frames: Tensor, holes: Tensor, references: References, lips: Tensor) -> Drawn:
        """New mouths.  frames: (N, 3, S', S') in −1…1.  holes: (N, 1, S', S'), 1 where the mouth is drawn.

        lips: (N, M).
        """
        hole = shrink(holes, self.config.side_px)
        seen = shrink(frames, self.config.side_px) * (1 - hole)
        target = self.target(torch.cat([seen, hole], 1))
        flows, logits = self.flow(target, references, lips)
        weights = logits.softmax(1)  # (N, R, 1, S/2, S/2)
        fused = [fuse(level, flows, weights) for level in references.levels]
        x = self.blend8(torch.cat([target[2], fused[2]], 1), lips)
        x = self.blend4(torch.cat([target[1], fused[1], double(x)], 1), lips)
        x = self.blend2(torch.cat([target[0], fused[0], double(x)], 1), lips)
        residual = F.pixel_shuffle(self.residual(x), 2)
        moved = fuse(references.images, flows, weights)
        drawn = moved + torch.tanh(resize(residual, frames.shape[-1]).to(moved.dtype))
        return Drawn(frames + holes * (drawn - frames), moved, flows)


class FlowNet(nn.Module):
    """Where each reference's pixels belong, and how much each is to be believed; every reference is treated alike."""

    def __init__(self, config: WarpEditorConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        width4, width8 = config.flow_channels
        lips = 3 * config.lips_numbers
        self.coarse = Conditioned(2 * eighth, width8, lips, config.blocks)
        self.middle = Conditioned(2 * quarter + width8, width4, lips, config.blocks)
        self.fine = nn.Sequential(
            nn.Conv2d(2 * half + width4, 24, 3, padding=1), nn.SiLU(), nn.Conv2d(24, 3, 3, padding=1)
        )
        from_zero(self.fine[2])  # type: ignore[arg-type]
        self.reach = config.reach

    def forward(
        self, target: tuple[Tensor, ...], references: References, lips: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Flows (N, R, 2, S/2, S/2) in the units of `grid_sample`, and logits (N, R, 1, S/2, S/2)."""
        count = references.lips.shape[1]
        wanted = lips[:, None].expand_as(references.lips)
        told = torch.cat([wanted, references.lips, wanted - references.lips], -1).flatten(0, 1)

        def both(level: int) -> Tensor:
            shown = target[level][:, None].expand_as(references.levels[level])
            return torch.cat([shown, references.levels[level]], 2).flatten(0, 1)

        x = self.coarse(both(2), told)
        x = self.middle(torch.cat([both(1), double(x)], 1), told)
        x = self.fine(torch.cat([both(0), double(x)], 1)).unflatten(0, (-1, count)).float()
        return 2 * self.reach * torch.tanh(x[:, :, :2]), x[:, :, 2:]


class Pyramid(nn.Module):
    """Features of pictures at 1/2, 1/4 and 1/8 of their side.  (N, C, S, S) → three of (N, c, s, s)."""

    def __init__(self, inputs: int, config: WarpEditorConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        self.stem = nn.Conv2d(4 * inputs, half, 3, padding=1)
        self.at2 = Residual(half)
        self.at4 = nn.Sequential(
            nn.Conv2d(half, quarter, 4, 2, 1), *(Residual(quarter) for _ in range(config.blocks))
        )
        self.at8 = nn.Sequential(
            nn.Conv2d(quarter, eighth, 4, 2, 1), *(Residual(eighth) for _ in range(config.blocks))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = self.at2(self.stem(F.pixel_unshuffle(x, 2)))
        quarter = self.at4(F.silu(half))
        return half, quarter, self.at8(F.silu(quarter))


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which alone passes anything at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = from_zero(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class Conditioned(nn.Module):
    """Mixes its inputs, then residual blocks whose channels the lips numbers scale and shift."""

    def __init__(self, inputs: int, width: int, lips: int, blocks: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, width, 1)
        self.lips = nn.Sequential(nn.Linear(lips, 64), nn.SiLU(), nn.Linear(64, 2 * width * blocks))
        self.blocks = nn.ModuleList(Residual(width) for _ in range(blocks))

    def forward(self, x: Tensor, lips: Tensor) -> Tensor:
        x = self.mix(x)
        told = self.lips(lips).to(x.dtype)[:, :, None, None].chunk(2 * len(self.blocks), 1)
        for number, block in enumerate(self.blocks):
            x = block(x * (1 + told[2 * number]) + told[2 * number + 1])
        return F.silu(x)


def fuse(levels: Tensor, flows: Tensor, weights: Tensor) -> Tensor:
    """References moved by their flows and blended.

    (N, R, C, s, s), (N, R, 2, f, f), (N, R, 1, f, f) with f ≠ s allowed → (N, C, s, s).
    """
    side = levels.shape[-1]
    flat = resize(flows.flatten(0, 1), side) + identity_grid(side, flows)
    # In float32: a flow of eight significant bits would move pixels in steps.
    moved = F.grid_sample(
        levels.flatten(0, 1).float(), flat.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    scale = resize(weights.flatten(0, 1), side).unflatten(0, weights.shape[:2])
    return (scale * moved.unflatten(0, levels.shape[:2])).sum(1).to(levels.dtype)


def identity_grid(side: int, like: Tensor) -> Tensor:
    """(1, 2, side, side): x and y of every pixel, as `grid_sample` counts them."""
    place = (2 * torch.arange(side, device=like.device, dtype=like.dtype) + 1) / side - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    return torch.stack([x, y])[None]


def resize(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    if x.shape[-1] > side:
        return F.interpolate(x, size=(side, side), mode="area")
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def shrink(x: Tensor, side: int) -> Tensor:
    """Averages over squares of pixels: S' is a multiple of S."""
    factor = x.shape[-1] // side
    return F.avg_pool2d(x, factor) if factor > 1 else x


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def from_zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
