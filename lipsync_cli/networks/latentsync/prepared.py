"""LatentSync's squares out of clips as `lipsync prepare` leaves them, for training.

Shapes: T frames of a clip, n of them taken, C side of the clip's pictures, S side of the square, 478 landmarks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lipsync_cli.core.errors import UsageError
from lipsync_cli.data.clips import ClipData, ClipStore
from lipsync_cli.data.manifest import ClipChoice, choose_clips, read_manifest
from lipsync_cli.networks.latentsync.align import brows_and_nose, cut_faces, fit_canvas
from lipsync_cli.networks.latentsync.embed import canvas_on_crop

FACE_SHARE = 8 / 9  # of a clip's picture: `lipsync prepare` leaves a sixteenth of the face beside it
EDGE_SHARE = 1 / 8  # by how much of its side a picture is continued where the canvas is larger


def clip_store(manifest: str, choice: ClipChoice, num_frames: int, cache_gb: float) -> ClipStore:
    """The chosen clips of a manifest, those of at least `num_frames`.  Raises: UsageError when there are none."""
    path = Path(manifest)
    chosen = choose_clips(read_manifest(path), choice)
    long = [clip for clip in chosen if clip.num_frames >= num_frames]
    if not long:
        raise UsageError(
            f"{path}: no clip of {', '.join(choice.keys)} has {num_frames} frames, twice what is seen at once.",
            "lipsync prepare FOOTAGE OUT",
        )
    return ClipStore(path if path.is_dir() else path.parent, long, grey=False, cache_gb=cache_gb)


def check_side(store: ClipStore, wanted_px: int) -> None:
    """Raises: UsageError when the crops are smaller than the network's."""
    side = store.load(store.clips[0]).frames.shape[1]
    if side < wanted_px:
        raise UsageError(
            f"the prepared crops are {side} px wide where {wanted_px} px are wanted.",
            f"lipsync prepare FOOTAGE OUT --face-px {wanted_px}",
        )


def canvases(clip: ClipData, size_px: int) -> np.ndarray:
    """Where LatentSync's canvas lies in each picture: (T, 2, 3) float32, picture pixels → canvas pixels.

    Fitted to the clip's landmarks, one track; a clip prepared before they were kept has it in one place.
    """
    if clip.landmarks is not None:
        return fit_canvas(brows_and_nose(clip.landmarks), size_px).astype(np.float32)
    side = clip.frames.shape[1]
    matrix = canvas_on_crop(side, round(side * FACE_SHARE), size_px)
    return np.broadcast_to(matrix.astype(np.float32), (len(clip.frames), 2, 3))


def squares_of(pictures: Tensor, matrices: Tensor, size_px: int) -> Tensor:
    """Aligned squares of a clip's pictures: (n, C, C, 3) uint8, (n, 2, 3) → (n, 3, S, S) in −1…1.

    # differs from the published code: the canvas is a little higher than a clip's pictures, whose edges are repeated
    # there instead of grey, which no network would see when it dubs.
    """
    edge = round(pictures.shape[1] * EDGE_SHARE)
    frames = F.pad(pictures.permute(0, 3, 1, 2).float(), (edge,) * 4, mode="replicate")
    moved = matrices.clone()
    moved[:, :, 2] -= matrices[:, :, :2].sum(2) * edge
    return cut_faces(frames, moved, size_px) / 127.5 - 1


def window_pictures(clip: ClipData, matrices: np.ndarray, start: int, frames: int) -> tuple[Tensor, Tensor]:
    """Pictures (n, C, C, 3) uint8 from frame `start` on, and their canvases (n, 2, 3)."""
    part = slice(start, start + frames)
    return torch.from_numpy(clip.frames[part]), torch.from_numpy(np.array(matrices[part]))
