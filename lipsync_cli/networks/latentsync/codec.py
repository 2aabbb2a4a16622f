"""The published networks around the U-Net, which LatentSync never trains: Stable Diffusion's autoencoder.

Shapes: N pictures of side S, latents S/8.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import read_weights
from lipsync_cli.networks.blocks.weights import load_strictly

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

VAE_CONFIG, VAE_WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"  # diffusers' layout
# Attention's names when the weights were published → now.
OLDER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
PICTURES_AT_ONCE = 8


class PictureCodec(nn.Module):
    """Stable Diffusion's autoencoder: pictures of −1…1 to latents of about unit variance, and back."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self._scale = float(vae.config["scaling_factor"])
        self._shift = float(vae.config.get("shift_factor") or 0.0)

    def encode(self, pictures: Tensor, *, draw: bool = False) -> Tensor:
        """(N, 3, S, S) → (N, 4, S/8, S/8) float32.

        draw: draw each latent from its distribution, as LatentSync does, instead of taking the middle, which flickers less.
        """
        pictures = pictures.to(self.vae.dtype)
        found = [self.vae.encode(some, return_dict=False)[0] for some in pictures.split(PICTURES_AT_ONCE)]
        latents = torch.cat([each.sample() if draw else each.mode() for each in found])
        return (latents.float() - self._shift) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """(N, 4, h, w) → (N, 3, 8·h, 8·w) float32, not clamped."""
        given: Any = (latents / self._scale + self._shift).to(self.vae.dtype)
        pieces = [self.vae.decode(some, return_dict=False)[0] for some in given.split(PICTURES_AT_ONCE)]
        return torch.cat(pieces).float()


def load_codec(folder: Path, hint: str) -> PictureCodec:
    """The autoencoder of a folder in diffusers' layout, frozen, in evaluation mode on the CPU.

    hint: the command that brings it.  Raises: WeightsError when it is missing, damaged or not an autoencoder.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    try:
        config = json.loads((folder / VAE_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}: there is no readable {VAE_CONFIG} of an autoencoder.", hint) from error
    vae: Any = AutoencoderKL.from_config(config)
    load_strictly(vae, from_older(read_weights(folder / VAE_WEIGHTS)), folder / VAE_WEIGHTS, hint)
    return PictureCodec(vae.requires_grad_(False).eval())


def from_older(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as published → diffusers' now."""
    return {_renamed(name): tensor for name, tensor in state.items()}


def _renamed(name: str) -> str:
    parts = name.split(".")
    if "attentions" in parts and parts[-2] in OLDER_NAMES:
        parts[-2] = OLDER_NAMES[parts[-2]]
    return ".".join(parts)
