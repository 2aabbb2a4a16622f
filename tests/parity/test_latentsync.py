"""Our LatentSync and StableSyncNet against figures that the published code computed with made-up weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lipsync_cli.networks.latentsync.mel import mel_windows, syncnet_mel
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, StableSyncNetConfig, SyncEncoderConfig
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig

pytestmark = pytest.mark.parity

HERE = Path(__file__).parent
TOLERANCE = 1e-4  # relative


def relative_error(ours: torch.Tensor, published: torch.Tensor) -> float:
    assert ours.shape == published.shape
    return float((ours - published).norm() / published.norm())


def weights(figures: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("weights."): tensor
        for name, tensor in figures.items()
        if name.startswith("weights.")
    }


def names_and_shapes(module: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def test_every_name_and_shape_of_the_unet_at_real_size():
    published = json.loads((HERE / "latentsync_unet_keys.json").read_text())
    with torch.device("meta"):
        ours = LatentSyncUNet(UNetConfig())
    assert len(published) == 1246
    assert names_and_shapes(ours) == published


@torch.no_grad()
def test_small_unet():
    figures = load_file(HERE / "latentsync_unet_tiny.safetensors")
    # its code looks for motion modules at 1/4 and 1/8 of the size on the way up, which a two-level network lacks
    config = UNetConfig(channels=(32, 64), layers=1, heads=4, audio_width=48, groups=8, motion=("down",))
    ours = LatentSyncUNet(config).eval()
    ours.load_state_dict(weights(figures))
    audio = figures["in.audio"].unflatten(0, (2, 5))
    noise = ours(figures["in.sample"], figures["in.timestep"], audio)
    assert relative_error(noise, figures["out"]) < TOLERANCE


@torch.no_grad()
def test_a_shorter_window_would_change_its_frames():
    figures = load_file(HERE / "latentsync_unet_tiny.safetensors")
    config = UNetConfig(channels=(32, 64), layers=1, heads=4, audio_width=48, groups=8, motion=("down",))
    ours = LatentSyncUNet(config).eval()
    ours.load_state_dict(weights(figures))
    audio = figures["in.audio"].unflatten(0, (2, 5))
    noise = ours(figures["in.sample"][:, :, :3], figures["in.timestep"], audio[:, :3])
    assert relative_error(noise, figures["out"][:, :, :3]) > 10 * TOLERANCE


def test_every_name_and_shape_of_stable_syncnet_at_real_size():
    published = json.loads((HERE / "stable_syncnet_keys.json").read_text())
    with torch.device("meta"):
        ours = StableSyncNet(StableSyncNetConfig())
        seen, heard = ours(torch.empty(1, 48, 128, 256), torch.empty(1, 1, 80, 52))
    assert len(published) == 266
    assert names_and_shapes(ours) == published
    assert seen.shape == heard.shape == (1, 2048)


@torch.no_grad()
def test_small_stable_syncnet():
    figures = load_file(HERE / "stable_syncnet_tiny.safetensors")
    channels = (32, 32, 64)
    config = StableSyncNetConfig(
        audio=SyncEncoderConfig(1, channels, ((2, 1), (2, 2), (2, 3)), attention_after=(1,)),
        visual=SyncEncoderConfig(6, channels, ((1, 2), (2, 2), (2, 2)), attention_after=(2,)),
    )
    ours = StableSyncNet(config).eval()
    ours.load_state_dict(weights(figures))
    seen, heard = ours(figures["in.frames"], figures["in.mel"])
    assert relative_error(seen, figures["out.visual"]) < TOLERANCE
    assert relative_error(heard, figures["out.audio"]) < TOLERANCE
    assert torch.allclose(seen.norm(dim=1), torch.ones(3)) and torch.allclose(
        heard.norm(dim=1), torch.ones(3)
    )


def test_mel_and_its_windows():
    figures = load_file(HERE / "syncnet_mel.safetensors")
    mel = syncnet_mel(figures["wave"])
    assert relative_error(mel, figures["mel"]) < TOLERANCE
    starts = 3 * torch.arange(len(figures["windows"]))
    assert relative_error(mel_windows(mel, starts, 52), figures["windows"]) < TOLERANCE
