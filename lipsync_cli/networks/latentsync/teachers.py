"""The frozen networks that the U-Net is trained with: autoencoder, Whisper, SyncNet, LPIPS, VideoMAE-v2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder
from lipsync_cli.networks.blocks.lpips import LPIPS, load_lpips
from lipsync_cli.networks.latentsync.audio import WhisperStates
from lipsync_cli.networks.latentsync.codec import PictureCodec, load_codec
from lipsync_cli.networks.latentsync.convert import load_syncnet, load_whisper
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet
from lipsync_cli.networks.latentsync.trepa import VideoEncoder, load_video_encoder

FRAMES_AT_ONCE = 4  # decoded or compared together, so that only their inner maps are in memory


@dataclass(frozen=True)
class TeacherNames:
    """Models by name, or folders: the defaults are the published ones. A network whose loss has no weight is not loaded."""

    vae: str = "sd-vae-ft-mse"
    whisper: str = "whisper-tiny"
    syncnet: str = "stable-syncnet"
    lpips: str = "lpips-vgg"
    videomae: str = "videomae2-g-ssv2"


@dataclass(frozen=True, eq=False)
class Teachers:
    """Frozen, in evaluation mode; None where the losses do without."""

    codec: PictureCodec
    syncnet: StableSyncNet | None = None
    lpips: LPIPS | None = None
    movement: VideoEncoder | None = None

    def to(self, device: torch.device) -> Teachers:
        """Moved there, once; they stay the same objects."""
        for network in (self.codec, self.syncnet, self.lpips, self.movement):
            if network is not None and next(network.parameters()).device != device:
                network.to(device)
        return self

    def decode(self, latents: Tensor, *, recompute: bool) -> Tensor:
        """(N, 4, h, w) → (N, 3, S, S), a few at a time.  recompute: decode again for gradients."""
        return torch.cat([_run(self.codec.decode, recompute, some) for some in latents.split(FRAMES_AT_ONCE)])

    def picture_distance(self, made: Tensor, real: Tensor, *, recompute: bool) -> Tensor:
        """Mean LPIPS of pictures (N, 3, H, W) in −1…1, a few at a time."""
        assert self.lpips is not None
        pairs = zip(made.split(FRAMES_AT_ONCE), real.split(FRAMES_AT_ONCE), strict=True)
        return torch.cat([_run(self.lpips, recompute, *pair) for pair in pairs]).mean()


def _run(function: Callable[..., Tensor], recompute: bool, *tensors: Tensor) -> Tensor:
    if recompute and torch.is_grad_enabled():
        return checkpoint(function, *tensors, use_reentrant=False)  # pyright: ignore[reportReturnType]
    return function(*tensors)


def load_teachers(names: TeacherNames, losses: Sequence[str], *, recompute: bool) -> Teachers:
    """losses: of "sync", "picture", "movement".  Raises: WeightsError naming the command that brings what is missing."""
    syncnet = lpips = movement = None
    if "sync" in losses:
        syncnet = load_syncnet(load_model_folder(names.syncnet, network="stable-syncnet"))
        syncnet.requires_grad_(False)
    if "picture" in losses:
        lpips = load_lpips(load_model_folder(names.lpips, network="lpips"))
    if "movement" in losses:
        folder = load_model_folder(names.videomae, network="videomae2")
        movement = load_video_encoder(folder, recompute=recompute)
    return Teachers(find_codec(names.vae), syncnet, lpips, movement)


def find_codec(name: str) -> PictureCodec:
    """The autoencoder by name, or of a folder in diffusers' layout."""
    path, hint = _folder(name)
    return load_codec(path, hint)


def load_ear(name: str) -> WhisperStates:
    """Whisper by name, or of a folder with model.safetensors and config.json, or of OpenAI's tiny.pt."""
    path, hint = _folder(name)
    if path.is_dir():
        path = path / "tiny.pt" if (path / "tiny.pt").is_file() else path / "model.safetensors"
    return WhisperStates(load_whisper(path, hint))


def _folder(name: str) -> tuple[Path, str]:
    """Where a model of others is, and the command that brings it."""
    if "/" in name:
        return Path(name), f"ls -l '{name}'"
    folder: ModelFolder = load_model_folder(name)
    return folder.path, f"lipsync models pull {name}"
