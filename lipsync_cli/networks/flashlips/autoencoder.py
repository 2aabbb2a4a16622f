"""Between pictures and the latents that the editor works on (§3.1.1).

Shapes: N pictures of H × W pixels, −1…1; latents (N, C, H / stride, W / stride).
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SDXL_SCALING = 0.13025


class Autoencoder(Protocol):
    """Frozen; gradients pass through `decode`, never into weights."""

    @property
    def stride(self) -> int: ...

    @property
    def channels(self) -> int: ...

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...


class PixelShuffleCodec(nn.Module):
    """Squares of pixels as channels: exact, nothing learnt.  (N, 3, H, W) ↔ (N, 3·factor², H / factor, W / factor).

    # differs from the paper, whose latents are the SDXL VAE's: for models that must be small
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.stride = factor
        self.channels = 3 * factor**2

    def encode(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, self.stride)

    def decode(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, self.stride)


class SdxlVae(nn.Module):
    """The SDXL VAE of diffusers, frozen: stride 8, 4 channels, scaled to about unit variance."""

    stride = 8
    channels = 4

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SdxlVae:
        """Stays in evaluation mode whatever it is part of."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The mean of the posterior: the same latents at every call."""
        return self.vae.encode(x).latent_dist.mode() * SDXL_SCALING  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]

    def decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z / SDXL_SCALING).sample  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
