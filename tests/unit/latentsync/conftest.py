from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import WhisperConfig, WhisperModel

from lipsync_cli.hub.model_folder import write_model_folder
from lipsync_cli.networks.latentsync.convert import save_syncnet
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, StableSyncNetConfig, SyncEncoderConfig
from lipsync_cli.networks.latentsync.trepa import VideoEncoder, VideoEncoderConfig
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig

TINY_UNET = UNetConfig(channels=(32, 64), layers=1, heads=4, audio_width=16, groups=8)
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
    unet = LatentSyncUNet(TINY_UNET).eval()
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
    """Whisper's encoder and decoder, 16 wide, with Whisper's own 30 s and tiny's four blocks."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=4,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        max_source_positions=1500,
        vocab_size=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return WhisperModel(config).eval()


TINY_VIDEO = VideoEncoderConfig(
    width=16, layers=2, heads=2, inner_width=24, patch_px=14, tube_frames=4, frames=16, size_px=28
)


@pytest.fixture(scope="session")
def tiny_vae():
    """Stable Diffusion's autoencoder, four levels of four channels."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        sample_size=64,
    ).eval()


@pytest.fixture(scope="session")
def teachers(tmp_path_factory, tiny_vae) -> dict[str, Path]:
    """Folders of tiny frozen networks, each as it is published or as we write it."""
    root = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    tiny_vae.save_pretrained(root / "vae")
    whisper = WhisperConfig(
        d_model=16, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=16, max_source_positions=150, vocab_size=8, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    WhisperModel(whisper).save_pretrained(root / "whisper")
    save_syncnet(StableSyncNet(TINY_SYNCNET), root / "syncnet", "CC0-1.0")
    write_model_folder(root / "videomae", network="videomae2", config=asdict(TINY_VIDEO), preprocess={},
                       weights=VideoEncoder(TINY_VIDEO).state_dict(), licence="CC0-1.0")  # fmt: skip
    return {name: root / name for name in ("vae", "whisper", "syncnet", "videomae")}
