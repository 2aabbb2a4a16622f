"""Published weights → ours, strictly: the U-Net, StableSyncNet, Whisper's encoder.

Our names are the published ones, so that converting is unwrapping and checking. LatentSync 1.5 and 1.6 are one graph,
which only the size of the pictures they were trained on tells apart: a file is either known by its hash, or its folder
says which it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lipsync_cli.core.config import build_config
from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.catalogue import read_catalogue
from lipsync_cli.hub.checksums import sha256_of
from lipsync_cli.hub.model_folder import WEIGHTS_NAME, ModelFolder, read_weights, write_model_folder
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, StableSyncNetConfig
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig

if TYPE_CHECKING:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

UNET_NETWORK, SYNCNET_NETWORK = "latentsync", "stable-syncnet"
PUBLISHED_UNET, PUBLISHED_SYNCNET = "latentsync_unet.pt", "stable_syncnet.pt"
SIZES_PX = {"latentsync-1.5": 256, "latentsync-1.6": 512}  # by catalogue name


def from_published(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The tensors of a published checkpoint, which wraps them: {"state_dict": …, "global_step": …}."""
    return checkpoint.get("state_dict", checkpoint)


def load_unet(folder: ModelFolder) -> tuple[LatentSyncUNet, int]:
    """The U-Net of a model folder, in evaluation mode on the CPU, and the side in pixels of the faces it was trained on.

    Raises: WeightsError when the weights are missing, damaged, of another network, or of a version nobody can tell.
    """
    config = build_config(folder.config, UNetConfig, source=str(folder.path / "config.json"))
    path = folder.files.get(WEIGHTS_NAME) or folder.file(PUBLISHED_UNET)
    size_px = folder.preprocess.get("size_px") or size_of(path, folder.name)
    with torch.device("meta"):
        network = LatentSyncUNet(config)
    load_strictly(network, from_published(read_weights(path)), path)
    return network.eval(), int(size_px)


def size_of(path: Path, name: str) -> int:
    """Side of the faces a published U-Net file was trained on.

    name: of the model; a name of the catalogue stands for the hash that the file was held to when it was pulled.
    Raises: WeightsError when neither name nor hash is known.
    """
    if name in SIZES_PX:
        return SIZES_PX[name]
    digest = sha256_of(path)
    for known, size_px in SIZES_PX.items():
        if any(file.sha256 == digest for file in read_catalogue()[known].files):
            return size_px
    raise WeightsError(
        f"{path}: neither LatentSync 1.5 nor 1.6 by its hash.",
        'say which in config.json: "preprocess": {"size_px": 256} for 1.5, 512 for 1.6',
    )


def load_syncnet(folder: ModelFolder) -> StableSyncNet:
    """StableSyncNet of a model folder, in evaluation mode on the CPU.

    Raises: WeightsError when the weights are missing, damaged or of another network.
    """
    config = build_config(folder.config, StableSyncNetConfig, source=str(folder.path / "config.json"))
    path = folder.files.get(WEIGHTS_NAME) or folder.file(PUBLISHED_SYNCNET)
    with torch.device("meta"):
        network = StableSyncNet(config)
    load_strictly(network, from_published(read_weights(path)), path)
    return network.eval()


def save_unet(
    network: LatentSyncUNet,
    size_px: int,
    folder: Path,
    licence: str,
    preprocess: Mapping[str, Any] | None = None,
) -> None:
    """Write the U-Net as a model folder with safetensors.  preprocess: what is known of it beside its size (metrics)."""
    write_model_folder(
        folder,
        network=UNET_NETWORK,
        config=asdict(network.config),
        preprocess={"size_px": size_px, **(preprocess or {})},
        weights=network.state_dict(),
        licence=licence,
    )


def save_syncnet(
    network: StableSyncNet, folder: Path, licence: str, preprocess: Mapping[str, Any] | None = None
) -> None:
    """Write StableSyncNet as a model folder.  preprocess: what is known of it beside its sizes (calibration, metrics)."""
    write_model_folder(
        folder,
        network=SYNCNET_NETWORK,
        config=asdict(network.config),
        preprocess=preprocess or {},
        weights=network.state_dict(),
        licence=licence,
    )


def load_whisper(path: Path, hint: str = "lipsync models pull whisper-tiny") -> WhisperEncoder:
    """The encoder of Whisper, in evaluation mode on the CPU.

    path: OpenAI's checkpoint (tiny.pt), or model.safetensors of transformers with config.json beside it.  hint: the
    command that brings it.
    Raises: WeightsError when the file is missing, damaged, or not Whisper's.
    """
    from transformers import WhisperConfig

    if not path.is_file():
        raise WeightsError(f"{path}: Whisper's weights are missing.", hint)
    state: Any = read_weights(path)
    if "model_state_dict" in state:
        return _whisper(openai_config(state["dims"]), from_openai(state["model_state_dict"]), path)
    try:
        config = WhisperConfig.from_json_file(path.with_name("config.json"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: there is no readable config.json beside it.", hint) from error
    named = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    encoder = {n.removeprefix("encoder."): t for n, t in named.items() if n.startswith("encoder.")}
    return _whisper(config, encoder, path)


def _whisper(config: WhisperConfig, state: Mapping[str, Tensor], path: Path) -> WhisperEncoder:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    with torch.device("meta"):
        encoder = WhisperEncoder(config)
    load_strictly(encoder, state, path)
    return encoder.float().eval()


def openai_config(dims: Mapping[str, int]) -> WhisperConfig:
    """The sizes that OpenAI stores beside its weights, as transformers wants them."""
    from transformers import WhisperConfig

    return WhisperConfig(
        num_mel_bins=dims["n_mels"],
        d_model=dims["n_audio_state"],
        encoder_layers=dims["n_audio_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        max_source_positions=dims["n_audio_ctx"],
    )


OPENAI_NAMES = {  # within a block
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}


def from_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's names of the encoder → transformers'; the decoder is left out, unknown names are not."""
    return {
        _from_openai(name.removeprefix("encoder.")): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.")
    }


def _from_openai(name: str) -> str:
    if name == "positional_embedding":
        return "embed_positions.weight"
    module, _, kind = name.rpartition(".")
    if module == "ln_post":
        return f"layer_norm.{kind}"
    if module.startswith("blocks."):
        _, block, part = module.split(".", 2)
        return f"layers.{block}.{OPENAI_NAMES.get(part, part)}.{kind}"
    return name
