"""A lip reader from a model folder: ours, or the published Auto-AVSR weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lipsync_cli.core.config import build_config
from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.checksums import check_sum, model_files
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder, read_weights
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.synclipmae.embed import SyncLipMAEEmbedder
from lipsync_cli.networks.synclipmae.weights import load_model
from lipsync_cli.networks.vsr.beam import BeamOptions
from lipsync_cli.networks.vsr.convert import from_published
from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig
from lipsync_cli.networks.vsr.mouths import PUBLISHED_WINDOW, FaceView, MouthWindow
from lipsync_cli.networks.vsr.units import Units

PUBLISHED_WEIGHTS, PUBLISHED_CONFIG = "model.pth", "model.json"
PUBLISHED_WINDOW_FRAMES = 400  # Auto-AVSR trains on clips of 16 s
PUBLISHED_SIZES = {
    "adim": "width",
    "aheads": "heads",
    "eunits": "ffn_width",
    "elayers": "encoder_blocks",
    "dlayers": "decoder_blocks",
    "cnn_module_kernel": "kernel_frames",
}


@dataclass(frozen=True, eq=False)
class LoadedReader:
    """A lip reader with all it takes to use it.

    window: of the mouth, when it reads video.  embedder: makes the tokens it reads otherwise, and views: of the face,
    whose tokens are averaged.
    window_frames: longest clip it was trained on.  decode: how its makers decode.
    """

    reader: LipReader
    units: Units
    window: MouthWindow
    embedder: SyncLipMAEEmbedder | None
    views: tuple[FaceView, ...]
    window_frames: int
    decode: BeamOptions


def find_reader(source: str) -> ModelFolder:
    """A lip reader that is on this machine: `load_model_folder`, or a folder of the published files as they are.

    Raises: WeightsError.
    """
    path = Path(source)
    if "/" not in source or (path / "config.json").exists() or not (path / PUBLISHED_WEIGHTS).is_file():
        return load_model_folder(source, network="vsr")
    return ModelFolder(
        name=source,
        path=path,
        network="vsr",
        config={},
        preprocess={},
        files=model_files(path),
        licence="none stated",
        origin=source,
    )


def load_reader(folder: ModelFolder, device: torch.device) -> LoadedReader:
    """Raises: WeightsError when the weights or their description are missing, damaged or of another shape."""
    if PUBLISHED_WEIGHTS in folder.files:
        return _load_published(folder, device)
    described = dict(folder.config)
    units = Units(tuple(described.pop("unit_names", ())))
    described.pop("metrics", None)
    source = str(folder.path / "config.json")
    config = build_config(described, LipReaderConfig, source=source)
    embedder = None
    if config.reads == "tokens":
        tokens = load_model_folder(folder.preprocess["tokens"], network="synclipmae")
        # tokens of other weights would be read as nonsense, without a word
        check_sum(
            tokens.weights, folder.preprocess["tokens_sha256"], hint="train the reader again on these tokens"
        )
        embedder = SyncLipMAEEmbedder(load_model(tokens), device, {})
    reader = LipReader(config)
    load_strictly(reader, read_weights(folder.weights), folder.weights)
    return LoadedReader(
        reader.to(device).eval(),
        units,
        build_config(folder.preprocess.get("mouth", {}), MouthWindow, source=source),
        embedder,
        tuple(build_config(view, FaceView, source=source) for view in folder.preprocess.get("views", [{}])),
        int(folder.preprocess.get("window_frames", PUBLISHED_WINDOW_FRAMES)),
        build_config(folder.preprocess.get("decode", {}), BeamOptions, source=source),
    )


def _load_published(folder: ModelFolder, device: torch.device) -> LoadedReader:
    try:
        _, _, arguments = json.loads(folder.file(PUBLISHED_CONFIG).read_text(encoding="utf-8"))
        units = Units(tuple(arguments["char_list"]))
        sizes: dict[str, Any] = {
            ours: int(arguments[name]) for name, ours in PUBLISHED_SIZES.items() if name in arguments
        }
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder.path / PUBLISHED_CONFIG}: not the description of a lip reader.", "lipsync models verify"
        ) from error
    reader = LipReader(LipReaderConfig(units=len(units), **sizes))
    path = folder.file(PUBLISHED_WEIGHTS)
    load_strictly(reader, from_published(read_weights(path)), path)
    return LoadedReader(
        reader.to(device).eval(), units, PUBLISHED_WINDOW, None, (), PUBLISHED_WINDOW_FRAMES, BeamOptions()
    )
