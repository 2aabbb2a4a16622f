"""The small FlashLips as a model folder: the editor that moves pieces of references, lips numbers, audio to lips.

Shapes: N frames, M lips numbers, S' side of a window's pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_cli.core.config import build_config
from lipsync_cli.faces.align import CropGeometry, fit_similarity, smooth_matrices
from lipsync_cli.hub.model_folder import ModelFolder, read_weights, write_model_folder
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.flashlips.audio2lips import AudioToLips, AudioToLipsConfig
from lipsync_cli.networks.flashlips.mesh_lips import MeshLips, MeshLipsConfig
from lipsync_cli.networks.flashlips.warp_editor import WarpEditor, WarpEditorConfig, shrink

NETWORK = "flashlips-warp"
# The window of the aligned crop that is edited: its left and top edge and its side, in sides of the crop.
WINDOW_LEFT, WINDOW_TOP, WINDOW_SIDE = 0.125, 0.3125, 0.75
MOUTH_X, MOUTH_Y = 0.5, 0.47  # the mouth's middle, in sides of the window
HOLE_FEATHER = 0.047  # soft edge of the hole, in sides of the window
SMOOTHING_S = 0.08  # of the alignment, as in prepared clips


@dataclass(frozen=True)
class TinyConfig:
    """audio2lips: None before that part is trained."""

    editor: WarpEditorConfig = field(default_factory=WarpEditorConfig)
    lips: MeshLipsConfig = field(default_factory=MeshLipsConfig)
    audio2lips: AudioToLipsConfig | None = None


class TinyFlashLips(nn.Module):
    """rest: (M,) lips numbers of closed mouths, the mean over the training clips."""

    rest: Tensor

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.editor = WarpEditor(config.editor)
        self.lips = MeshLips(config.lips)
        self.audio2lips = AudioToLips(config.audio2lips) if config.audio2lips else None
        self.register_buffer("rest", torch.zeros(config.lips.numbers))

    def read_lips(self, windows: Tensor, landmarks: np.ndarray) -> Tensor:
        """Lips numbers of frames of one face.  (T, 3, S', S') in −1…1, (T, 478, 2) → (T, M)."""
        shapes = torch.from_numpy(self.lips.shape(landmarks)).to(windows.device)
        seen = shrink(windows, self.config.editor.side_px)
        return torch.cat([shapes, self.lips.look(cut_mouths(seen, self.config.lips.mouth_px))], 1)


def cut_mouths(windows: Tensor, side_px: int) -> Tensor:
    """The mouth's square.  (N, C, S, S) → (N, C, side_px, side_px)."""
    whole = windows.shape[-1]
    left, top = round(MOUTH_X * whole) - side_px // 2, round(MOUTH_Y * whole) - side_px // 2
    return windows[:, :, top : top + side_px, left : left + side_px]


def windows_of(frames: np.ndarray, margin_px: int) -> Tensor:
    """The windows of prepared crops with a margin: (T, s, s, 3) uint8 → (T, 3, S', S') in −1…1."""
    size = frames.shape[1] - 2 * margin_px
    left, top, side = (round(part * size) for part in (WINDOW_LEFT, WINDOW_TOP, WINDOW_SIDE))
    inner = frames[:, margin_px + top : margin_px + top + side, margin_px + left : margin_px + left + side]
    return torch.from_numpy(np.ascontiguousarray(inner)).permute(0, 3, 1, 2).float() / 127.5 - 1


def align_windows(landmarks: np.ndarray, times_s: np.ndarray, side_px: int) -> np.ndarray:
    """Similarities source pixels → pixels of the window.  (N, 478, 2), (N,) → (N, 2, 3)."""
    size = side_px / WINDOW_SIDE
    matrices = smooth_matrices(fit_similarity(landmarks, CropGeometry(128)), times_s, SMOOTHING_S)
    scale = size / 128
    corner = size * np.array([WINDOW_LEFT, WINDOW_TOP])
    # Pixel u of the crop covers u·scale − corner … (u + 1)·scale − corner, whose middle is what OpenCV calls a pixel.
    matrices = matrices * scale
    matrices[:, :, 2] += (scale - 1) / 2 - corner
    return matrices


def save_tiny(network: TinyFlashLips, folder: Path, licence: str, preprocess: Mapping[str, Any]) -> None:
    """Write a model folder; half precision keeps it small.  preprocess: what is known of it (validation)."""
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    write_model_folder(
        folder,
        network=NETWORK,
        config=asdict(network.config),
        preprocess=preprocess,
        weights=weights,
        licence=licence,
    )


def load_tiny(folder: ModelFolder) -> TinyFlashLips:
    """In evaluation mode, on the CPU, in float32.  Raises: WeightsError when weights are missing or of another shape."""
    network = TinyFlashLips(build_config(folder.config, TinyConfig, source=str(folder.path / "config.json")))
    state = {name: tensor.float() for name, tensor in read_weights(folder.weights).items()}
    load_strictly(network, state, folder.weights, "lipsync models verify")
    return network.eval()
