"""The noise LatentSync is trained with: how much at which timestep, shared between frames, and taken away in one step.

Shapes: B windows, F frames, h × w latent pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012  # Stable Diffusion's


def signal_power(device: torch.device | None = None) -> Tensor:
    """(1000,) float32: what share of a noisy latent's power is the picture, ᾱ_t of equation 1."""
    roots = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float32)
    return (1 - roots.square()).cumprod(0).to(device)


def mixed_noise(shape: tuple[int, int, int, int], shared: float, generator: torch.Generator) -> Tensor:
    """Noise of unit variance, part of it the same in all frames (equation 6; Ge et al. 2023, §4.1).

    shape: 4, F, h, w.  shared: α, the ratio of the shared part's deviation to the rest's; 1 halves the variance between
    them, 0 shares nothing.
    """
    channels, frames, height, width = shape
    common = torch.randn(channels, 1, height, width, generator=generator)
    own = torch.randn(channels, frames, height, width, generator=generator)
    return (shared * common + own) / (1 + shared**2) ** 0.5


def add_noise(clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """√ᾱ·clean + √(1−ᾱ)·noise.  (B, 4, F, h, w) twice, (B,)."""
    power = _per_window(timestep)
    return power.sqrt() * clean + (1 - power).sqrt() * noise


def remove_noise(noisy: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """What was there before the noise was added, in one step (equation 1)."""
    power = _per_window(timestep)
    return (noisy - (1 - power).sqrt() * noise) / power.sqrt()


def _per_window(timestep: Tensor) -> Tensor:
    return signal_power(timestep.device)[timestep.long()][:, None, None, None, None]
