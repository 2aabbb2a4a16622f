"""Frames of prepared clips as the lips encoders and the editor are trained on them.

Shapes: S side of the face square, S' = S + 2·margin of a prepared crop, 478 landmarks (face mesh v2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.data.clips import ClipData, ClipStore
from lipsync_cli.data.manifest import ClipChoice, choose_clips, read_manifest
from lipsync_cli.faces.mouth import mouth_mask
from lipsync_cli.networks.flashlips.augment import AugmentConfig, colour_jitter
from lipsync_cli.networks.flashlips.lips import OUTER_LIPS


@dataclass(frozen=True)
class FrameData:
    """What is trained on.

    manifest: of `lipsync prepare`, with landmarks.  train, validate: which clips; validation clips are never trained on.
    validate_every: frames between the frames of a validation clip that are looked at.
    cache_gb: decoded clips kept in memory by each process.
    """

    manifest: str
    train: ClipChoice = ClipChoice()
    validate: ClipChoice = ClipChoice()
    augment: AugmentConfig = AugmentConfig()
    validate_every: int = 10
    cache_gb: float = 2.0


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.  face: (S, S, 3) float32 RGB, 0…1.  mouth, lips: masks (S, S) float32 of what may change, and of the lips
    with all that is between them.
    """

    face: np.ndarray
    mouth: np.ndarray
    lips: np.ndarray


class FrameClips:
    """Prepared clips with landmarks, and frames out of them."""

    def __init__(self, data: FrameData, image_px: int) -> None:
        manifest = Path(data.manifest)
        folder = manifest if manifest.is_dir() else manifest.parent
        clips = read_manifest(manifest)
        if not all(clip.landmarks for clip in clips):
            raise InputError(f"{manifest}: a clip has no landmarks.", "lipsync prepare FOOTAGE OUT")
        self.image_px = image_px
        self.train = ClipStore(folder, choose_clips(clips, data.train), grey=False, cache_gb=data.cache_gb)
        self.validate = ClipStore(folder, choose_clips(clips, data.validate), grey=False, cache_gb=0)

    def draw(self, rng: np.random.Generator) -> ClipData:
        """Any training clip."""
        return self.train.load(self.train.clips[int(rng.integers(len(self.train.clips)))])

    def frame(self, clip: ClipData, number: int) -> Frame:
        """Raises: UsageError when the crops are too small."""
        margin = margin_of(clip.frames, self.image_px)
        inner = slice(margin, margin + self.image_px)
        assert clip.landmarks is not None
        landmarks = clip.landmarks[number : number + 1] - margin
        return Frame(
            clip.frames[number, inner, inner].astype(np.float32) / 255,
            mouth_mask(landmarks, self.image_px)[0],
            lips_mask(landmarks[0], self.image_px),
        )


def mirrored(frame: Frame) -> Frame:
    """Left for right."""
    return Frame(*(np.ascontiguousarray(a[:, ::-1]) for a in (frame.face, frame.mouth, frame.lips)))


def jittered(faces: list[np.ndarray], config: AugmentConfig, rng: np.random.Generator) -> list[np.ndarray]:
    """Faces (S, S, 3) of one example in other colours, the same for all."""
    return list(colour_jitter(np.stack(faces), config, rng))


def lips_mask(landmarks: np.ndarray, side_px: int) -> np.ndarray:
    """M_lips of eq. 6: all within the outer edge of the lips.  (478, 2) crop pixels → (S, S) float32.

    # differs from the paper, which parses the face: the face mesh draws the same edge
    """
    mask = np.zeros((side_px, side_px), np.uint8)
    edge = np.round(landmarks[list(OUTER_LIPS)] * 16).astype(np.int32)
    cv2.fillPoly(mask, [edge], 1, shift=4)
    return mask.astype(np.float32)


def margin_of(frames: np.ndarray, image_px: int) -> int:
    """Pixels around the face square of prepared crops (n, S', S', 3).  Raises: UsageError when S' < S."""
    side = frames.shape[1]
    if side < image_px:
        raise UsageError(
            f"the prepared crops are {side} px wide where {image_px} px are wanted.",
            f"lipsync prepare FOOTAGE OUT --face-px {image_px}",
        )
    return (side - image_px) // 2


def face_of(frames: np.ndarray, image_px: int) -> Tensor:
    """The face square of prepared crops: (n, S', S', 3) uint8 → (n, 3, S, S), −1…1."""
    margin = margin_of(frames, image_px)
    inner = slice(margin, margin + image_px)
    return picture(frames[:, inner, inner].astype(np.float32) / 255)


def picture(faces: np.ndarray) -> Tensor:
    """(…, S, S, 3), 0…1 → (…, 3, S, S), −1…1."""
    return torch.from_numpy(np.moveaxis(faces, -1, -3) * 2 - 1).contiguous()
