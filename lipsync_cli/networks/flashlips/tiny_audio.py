"""Audio to lips for the small model: its lips numbers, and the folder with everything a dub needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lipsync_cli.data.clips import ClipData
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.flashlips.audio2lips import AudioToLips
from lipsync_cli.networks.flashlips.mesh_lips import rest_of
from lipsync_cli.networks.flashlips.objective_audio import AudioToLipsObjective, AudioToLipsRecipe, LipsSource
from lipsync_cli.networks.flashlips.tiny import NETWORK, TinyFlashLips, load_tiny, save_tiny, windows_of


def build_audio_objective(recipe: AudioToLipsRecipe) -> AudioToLipsObjective:
    """Training for the model that `recipe.start` holds, small or as published."""
    folder = load_model_folder(Path(recipe.start))
    return AudioToLipsObjective(recipe, tiny_source(load_tiny(folder)) if folder.network == NETWORK else None)


def tiny_source(start: TinyFlashLips, margin_px: int = 8) -> LipsSource:
    """margin_px: of the prepared crops."""
    rests: list[np.ndarray] = []

    @torch.inference_mode()
    def read(clip: ClipData) -> np.ndarray:
        assert clip.landmarks is not None
        lips = start.read_lips(windows_of(clip.frames, margin_px), clip.landmarks).numpy()
        rests.append(rest_of(lips, clip.landmarks))
        return lips

    def save(network: AudioToLips, folder: Path, licence: str, metrics: dict[str, float]) -> None:
        whole = TinyFlashLips(replace(start.config, audio2lips=network.config))
        parts = {f"audio2lips.{name}": tensor for name, tensor in network.state_dict().items()}
        whole.load_state_dict(
            start.state_dict() | parts | {"rest": torch.from_numpy(np.mean(rests, 0)).float()}
        )
        save_tiny(whole, folder, licence, {"validation": metrics})

    return LipsSource(start.config.lips.numbers, read, save)
