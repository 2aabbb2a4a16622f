"""SyncLipMAE as a model folder: config.json and model.safetensors, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lipsync_cli.core.config import build_config
from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder, read_weights, write_model_folder
from lipsync_cli.networks.blocks.speech import load_speech_encoder
from lipsync_cli.networks.synclipmae.model import SyncLipMAE, SyncLipMAEConfig

NETWORK = "synclipmae"
SPEECH_PREFIX = "audio.encoder."  # frozen, published elsewhere: not stored again


def save_model(network: SyncLipMAE, folder: Path, licence: str, preprocess: Mapping[str, Any]) -> None:
    """Write the network as a model folder.  preprocess: what is known of it beside its sizes (calibration, metrics)."""
    weights = {
        name: tensor for name, tensor in network.state_dict().items() if not name.startswith(SPEECH_PREFIX)
    }
    write_model_folder(
        folder,
        network=NETWORK,
        config=asdict(network.config),
        preprocess=preprocess,
        weights=weights,
        licence=licence,
    )


def load_model(folder: ModelFolder) -> SyncLipMAE:
    """Build and fill the network of a model folder, in evaluation mode, on the CPU.

    Raises: WeightsError when the weights are missing, damaged or of another shape.
    """
    config = build_config(folder.config, SyncLipMAEConfig, source=str(folder.path / "config.json"))
    speech = None
    if config.audio.branch == "wav2vec2":
        speech = load_speech_encoder(load_model_folder(config.audio.pretrained))
    network = SyncLipMAE(config, speech)
    try:
        outcome = network.load_state_dict(read_weights(folder.weights), strict=False)
    except RuntimeError as error:
        raise WeightsError(
            f"{folder.weights}: not the weights of its config.json: {' '.join(str(error).split())}",
            "lipsync models verify",
        ) from error
    missing = [name for name in outcome.missing_keys if not name.startswith(SPEECH_PREFIX)]
    if missing or outcome.unexpected_keys:
        names = ", ".join((missing + list(outcome.unexpected_keys))[:3])
        raise WeightsError(f"{folder.weights}: missing or unknown weights: {names}.", "lipsync models verify")
    return network.eval()
