from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from lipsync_cli.hub.model_folder import write_model_folder
from lipsync_cli.networks.latentsync.convert import save_syncnet
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, StableSyncNetConfig, SyncEncoderConfig
from lipsync_cli.networks.latentsync.trepa import VideoEncoder, VideoEncoderConfig
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet
from tests import tiny_latentsync

TINY_SYNCNET = (
    StableSyncNetConfig(  # at the end 128 channels, so that a group of four is there to be normalised
        audio=SyncEncoderConfig(1, (32, 32, 128), ((5, 4), (4, 4), (4, 4)), attention_after=(1,)),
        visual=SyncEncoderConfig(48, (32, 32, 128), ((4, 8), (4, 4), (2, 2)), attention_after=(1,)),
        crop_px=64,
    )
)


@pytest.fixture
def tiny_unet():
    torch.manual_seed(0)
    unet = LatentSyncUNet(tiny_latentsync.UNET).eval()
    for name, parameter in unet.named_parameters():  # motion modules begin as nothing
        if "temporal_transformer.proj_out" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return unet


@pytest.fixture
def tiny_syncnet():
    torch.manual_seed(0)
    return StableSyncNet(TINY_SYNCNET).eval()


@pytest.fixture
def tiny_whisper():
    return tiny_latentsync.tiny_whisper()


TINY_VIDEO = VideoEncoderConfig(
    width=16, layers=2, heads=2, inner_width=24, patch_px=14, tube_frames=4, frames=16, size_px=28
)


@pytest.fixture(scope="session")
def tiny_vae():
    return tiny_latentsync.tiny_vae()


@pytest.fixture(scope="session")
def teachers(tmp_path_factory, tiny_vae) -> dict[str, Path]:
    """Folders of tiny frozen networks, each as it is published or as we write it."""
    root = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    tiny_vae.save_pretrained(root / "vae")
    tiny_latentsync.tiny_whisper().save_pretrained(root / "whisper")
    save_syncnet(StableSyncNet(TINY_SYNCNET), root / "syncnet", "CC0-1.0")
    write_model_folder(root / "videomae", network="videomae2", config=asdict(TINY_VIDEO), preprocess={},
                       weights=VideoEncoder(TINY_VIDEO).state_dict(), licence="CC0-1.0")  # fmt: skip
    return {name: root / name for name in ("vae", "whisper", "syncnet", "videomae")}
