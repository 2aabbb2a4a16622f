"""Training views of faces for the small editor: few people made to look like many.

Everything random is drawn per example with numpy; the pictures are then moved and coloured in batches with torch.

Shapes: B examples, R references, pictures 1 + R of each, the frame to be edited first; S side of the network's picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ViewConfig:
    """Strengths of the augmentation.

    Of an example as a whole: colour, sharpness (blur to sharpening), bend_px (of the face's shape).  Of each picture:
    turn_deg, scale, shift_px, own_bend_px, as heads that move.
    """

    colour: float = 0.4
    sharpness: float = 1.0
    bend_px: float = 4.0
    turn_deg: float = 4.0
    scale: float = 0.05
    shift_px: float = 2.5
    own_bend_px: float = 1.5


def draw_geometry(rng: np.random.Generator, config: ViewConfig, num_pictures: int) -> dict[str, np.ndarray]:
    """matrices: (1 + R, 2, 2) and shifts: (1 + R, 2) px.  bend: (1 + R, 2, 4, 4) px, on a coarse grid."""
    common = rng.normal(0, 0.5, 4)
    own = rng.normal(0, 0.5, (num_pictures, 4)) + common
    angle = np.radians(config.turn_deg) * own[:, 0]
    scale = np.exp(config.scale * own[:, 1])
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    own_bend = config.own_bend_px * rng.normal(0, 0.5, (num_pictures, 2, 4, 4))
    return {
        "matrices": (turn * scale[:, None, None]).astype(np.float32),
        "shifts": (config.shift_px * own[:, 2:]).astype(np.float32),
        "bend": (config.bend_px * rng.normal(0, 0.5, (2, 4, 4)) + own_bend).astype(np.float32),
    }


def draw_colour(rng: np.random.Generator, strength: float) -> np.ndarray:
    """(3, 4): a colour as a linear map of a colour: brightness, contrast, saturation, hue and tint."""
    grey = np.full((3, 3), 1 / 3)
    saturation = 1 + 1.2 * strength * rng.uniform(-1, 1)
    angle = np.pi * 0.35 * strength * rng.uniform(-1, 1)
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    hue = np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * axis @ axis  # about grey
    contrast = np.exp(strength * rng.uniform(-1, 1))
    linear = contrast * np.diag(np.exp(0.3 * strength * rng.uniform(-1, 1, 3))) @ hue
    linear = linear @ (saturation * np.eye(3) + (1 - saturation) * grey)
    shift = strength * rng.uniform(-1, 1)
    return np.concatenate([linear, np.full((3, 1), shift)], 1).astype(np.float32)


def sampling_grid(matrices: Tensor, shifts: Tensor, bend: Tensor, window: Tensor, side_px: int) -> Tensor:
    """Where each pixel of the view comes from, for `grid_sample`.

    matrices: (B, P, 2, 2).  shifts: (B, P, 2) px.  bend: (B, P, 2, 4, 4).  window: (4,) left, top, width of the view
    in the prepared crop and the crop's own side, px.  Returns (B · P, S, S, 2).
    """
    left, top, width, whole = window.tolist()
    place = (torch.arange(side_px) + 0.5) / side_px * width  # px of the view, from its edge
    y, x = torch.meshgrid(place, place, indexing="ij")
    middle = width / 2
    view = torch.stack([x, y], -1) - middle
    moved = torch.einsum("bpij,hwj->bphwi", matrices, view) + shifts[:, :, None, None]
    bent = F.interpolate(bend.flatten(0, 1), size=(side_px, side_px), mode="bicubic", align_corners=False)
    moved = moved + bent.permute(0, 2, 3, 1).view_as(moved) + middle + torch.tensor([left, top])
    return (2 * moved / whole - 1).flatten(0, 1)


def coloured(pictures: Tensor, colours: Tensor) -> Tensor:
    """(B, P, 3, S, S) in −1…1, (B, 3, 4) → the same shape, clamped."""
    linear, shift = colours[:, :, :3], colours[:, None, :, 3, None, None]
    return (torch.einsum("bij,bpjhw->bpihw", linear, pictures) + shift).clamp(-1, 1)


def sharpened(pictures: Tensor, amounts: Tensor) -> Tensor:
    """Unsharp masking, or with a negative amount (to −1) blur.  (B, P, 3, S, S), (B,)."""
    flat = pictures.flatten(0, 1)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1).view_as(pictures)
    return (pictures + amounts[:, None, None, None, None] * (pictures - soft)).clamp(-1, 1)
