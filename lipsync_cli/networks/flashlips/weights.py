"""FlashLips as a model folder: config.json and model.safetensors, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from lipsync_cli.core.config import build_config
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder, read_weights, write_model_folder
from lipsync_cli.networks.blocks.speech import load_speech_encoder
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.flashlips.audio2lips import AudioToLipsConfig
from lipsync_cli.networks.flashlips.model import FlashLips, FlashLipsConfig, build_flashlips

NETWORK = "flashlips"
SPEECH_PREFIX = "audio2lips.speech.encoder."  # frozen, published elsewhere: not stored again


def save_flashlips(model: FlashLips, folder: Path, licence: str, preprocess: Mapping[str, Any]) -> None:
    """Write the networks that there are as a model folder.  preprocess: what is known of them beside their sizes."""
    weights = {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith(SPEECH_PREFIX)
    }
    write_model_folder(
        folder,
        network=NETWORK,
        config=asdict(model.config),
        preprocess=preprocess,
        weights=weights,
        licence=licence,
    )


def load_flashlips(source: str | Path | ModelFolder) -> FlashLips:
    """Build and fill the networks of a model folder, in evaluation mode, on the CPU.

    Raises: WeightsError when the weights are missing, damaged or of another shape.
    """
    folder = source if isinstance(source, ModelFolder) else load_model_folder(source, network=NETWORK)
    config = build_config(folder.config, FlashLipsConfig, source=str(folder.path / "config.json"))
    model = build_flashlips(config, load_ear(config.audio2lips))
    weights = dict(read_weights(folder.weights))
    weights |= {name: own for name, own in model.state_dict().items() if name.startswith(SPEECH_PREFIX)}
    load_strictly(model, weights, folder.weights)
    return model.eval()


def load_ear(config: AudioToLipsConfig | None) -> nn.Module | None:
    """wav2vec 2.0 for networks that hear with it.  Raises: WeightsError when it is not on this machine."""
    if config is None or config.speech.branch != "wav2vec2":
        return None
    return load_speech_encoder(load_model_folder(config.speech.pretrained))
