"""Two-bypass face-aware masking (§3.2): which patches each view of a frame may see.

Shapes: B clips, T frames, N = grid² patches, V visible patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Regions of the aligned crop as (left, top, right, bottom) fractions of its side; see faces.align for the template.
FACE_REGION = (0.12, 0.08, 0.88, 0.98)  # brows to chin, ear to ear
MOUTH_REGION = (0.28, 0.55, 0.72, 0.95)  # under the nose to chin, cheek to cheek


def keep_weights(grid: int, face: float, mouth: float) -> Tensor:
    """How likely each patch is to stay visible, relative to background (1).

    face, mouth: weights of patches whose centre lies in the face or mouth region.  Returns (N,), row by row.
    """
    centre = (torch.arange(grid) + 0.5) / grid
    weights = torch.ones(grid, grid)
    for (left, top, right, bottom), weight in ((FACE_REGION, face), (MOUTH_REGION, mouth)):
        inside = ((centre >= top) & (centre <= bottom))[:, None] & ((centre >= left) & (centre <= right))[
            None
        ]
        weights[inside] = weight
    return weights.flatten()


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Patches left visible when `mask_ratio` of them are hidden; at least one."""
    return max(1, round(num_patches * (1 - mask_ratio)))


def sample_visible(
    weights: Tensor, frames: tuple[int, int], mask_ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the visible patches of every frame without replacement, in proportion to `weights`.

    weights: (N,) positive; equal weights give MAE's uniform mask (bypass 1), `keep_weights` the face-preserving one
    (bypass 2).  frames: (B, T).  Returns (B, T, V) sorted indices.  Gumbel top-k: Efraimidis & Spirakis 2006.
    """
    noise = torch.rand(*frames, weights.numel(), generator=generator, device=weights.device)
    keys = weights.log() - (-noise.clamp_min(1e-20).log()).log()
    return keys.topk(num_visible(weights.numel(), mask_ratio), dim=-1).indices.sort(-1).values


def likeliest_visible(weights: Tensor, frames: tuple[int, int], mask_ratio: float) -> Tensor:
    """The visible patches that `sample_visible` would most often choose: the fixed view used when measuring.

    Returns (B, T, V).  Ties are broken towards the centre line, then downwards, so the choice is symmetric when V is
    even.
    """
    grid = round(weights.numel() ** 0.5)
    index = torch.arange(weights.numel(), device=weights.device)
    column, row = (index % grid - (grid - 1) / 2).abs(), index // grid
    score = weights.cpu().double() - 1e-4 * column.cpu() + 1e-7 * row.cpu()
    best = score.topk(num_visible(weights.numel(), mask_ratio)).indices.sort().values.to(weights.device)
    return best.expand(*frames, -1)
