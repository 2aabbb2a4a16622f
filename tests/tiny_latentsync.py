"""LatentSync with made-up weights, small enough for tests: a model folder with autoencoder and Whisper below it."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import WhisperConfig, WhisperModel

from lipsync_cli.networks.latentsync.convert import save_unet
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig

SIZE_PX = 64
UNET = UNetConfig(channels=(32, 64), layers=1, heads=4, audio_width=16, groups=8)


def tiny_vae() -> AutoencoderKL:
    """Stable Diffusion's autoencoder, four levels of four channels."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        sample_size=SIZE_PX,
    ).eval()


def tiny_whisper() -> WhisperModel:
    """Whisper, 16 wide, with its own 30 s and tiny's four blocks."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=4,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        max_source_positions=1500,
        vocab_size=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return WhisperModel(config).eval()


def write_tiny_latentsync(folder: Path) -> Path:
    """A folder that `--engine` takes."""
    torch.manual_seed(0)
    save_unet(LatentSyncUNet(UNET), SIZE_PX, folder, "CC0-1.0")
    tiny_vae().save_pretrained(folder / "vae")
    tiny_whisper().save_pretrained(folder / "whisper")
    return folder
