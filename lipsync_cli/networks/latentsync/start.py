"""Where training the U-Net starts: from random numbers, from LatentSync, or from Stable Diffusion 1.5 (LatentSync §3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import WEIGHTS_NAME, load_model_folder, read_weights
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.latentsync.convert import PUBLISHED_UNET, UNET_NETWORK, from_published
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig

STABLE_DIFFUSION, STABLE_DIFFUSION_WEIGHTS = "stable-diffusion", "unet/diffusion_pytorch_model.safetensors"
# What Stable Diffusion has of another size, and LatentSync learns anew: 13 channels in, sound instead of text.
OWN = ("conv_in.weight", "attn2.to_k.weight", "attn2.to_v.weight")
MOTION = "motion_modules."


def start_unet(config: UNetConfig, start: str) -> LatentSyncUNet:
    """The U-Net with weights to go on from, in training mode on the CPU.

    start: a model by name or folder; "" for random numbers. Motion modules that it lacks begin as if they were not there;
    those it has in levels where `config.motion` has none are left out.
    Raises: WeightsError when its weights do not fit.
    """
    network = LatentSyncUNet(config)
    if not start:
        return network
    folder = load_model_folder(start)
    if folder.network not in (UNET_NETWORK, STABLE_DIFFUSION):
        raise WeightsError(
            f"{start}: a model of '{folder.network}' is no start for LatentSync.", "lipsync models list"
        )
    name = STABLE_DIFFUSION_WEIGHTS if folder.network == STABLE_DIFFUSION else PUBLISHED_UNET
    path = folder.files.get(WEIGHTS_NAME) or folder.file(name)
    given = from_published(read_weights(path))
    own = network.state_dict()
    if folder.network == STABLE_DIFFUSION:
        given = {**given, **{name: tensor for name, tensor in own.items() if name.endswith(OWN)}}
    load_strictly(network, _with_motion(given, own), path)
    return network


def _with_motion(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`given`, with our motion modules where it has none, without those of levels where we have none."""
    ours = {name: tensor for name, tensor in own.items() if MOTION in name and name not in given}
    theirs = {name: tensor for name, tensor in given.items() if MOTION not in name or name in own}
    return {name: torch.as_tensor(tensor).float() for name, tensor in (ours | theirs).items()}
