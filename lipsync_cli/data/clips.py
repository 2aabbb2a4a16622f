"""Prepared clips in memory: pictures and sound of one face on one 25 Hz grid."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from lipsync_cli.audio.load import load_audio
from lipsync_cli.core.errors import InputError
from lipsync_cli.data.manifest import Clip
from lipsync_cli.media.frames import read_frames

FRAME_RATE = Fraction(25)
SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // 25
LANDMARK_STEPS_PER_PX = 64  # landmarks are stored as whole numbers of these, 16 bits


@dataclass(frozen=True, eq=False)
class ClipData:
    """frames: (T, S, S, 3 or 1) uint8 RGB or grey.  samples: (T·640,) float32, −1…1.

    landmarks: (T, 478, 2) float32, crop pixels; None in data prepared before they were kept.
    """

    frames: np.ndarray
    samples: np.ndarray
    landmarks: np.ndarray | None = None


class ClipStore:
    """Loads clips, keeping the most recently used ones decoded within a memory budget."""

    def __init__(self, folder: Path, clips: list[Clip], *, grey: bool, cache_gb: float) -> None:
        """folder: of the manifest.  cache_gb: gigabytes of decoded clips kept per process."""
        self.clips = clips
        self._folder, self._grey = folder, grey
        self._budget = int(cache_gb * 1e9)
        self._used = 0
        self._cache: OrderedDict[str, ClipData] = OrderedDict()

    def load(self, clip: Clip) -> ClipData:
        """Raises: InputError when the clip's files are missing or damaged."""
        if clip.key in self._cache:
            self._cache.move_to_end(clip.key)
            return self._cache[clip.key]
        data = load_clip(self._folder, clip, grey=self._grey)
        self._cache[clip.key] = data
        self._used += _num_bytes(data)
        while self._used > self._budget and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._used -= _num_bytes(old)
        return data


def _num_bytes(data: ClipData) -> int:
    landmarks = 0 if data.landmarks is None else data.landmarks.nbytes
    return data.frames.nbytes + data.samples.nbytes + landmarks


def load_clip(folder: Path, clip: Clip, *, grey: bool) -> ClipData:
    """Decode one prepared clip; sound is cut or filled with silence to the picture's length."""
    pictures = [frame.image for frame in read_frames(folder / clip.picture, threads=1)]
    if grey:
        pictures = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] for picture in pictures]
    frames = np.stack(pictures)
    samples = np.zeros(len(frames) * SAMPLES_PER_FRAME, np.float32)
    heard = load_audio(folder / clip.sound, sample_rate_hz=SAMPLE_RATE_HZ).samples[: len(samples)]
    samples[: len(heard)] = heard
    landmarks = read_landmarks(folder / clip.landmarks, len(frames)) if clip.landmarks else None
    return ClipData(frames, samples, landmarks)


def write_landmarks(path: Path, landmarks: np.ndarray) -> None:
    """(T, 478, 2), crop pixels, to within 1/128 of one."""
    with path.open("wb") as file:
        np.save(file, np.round(landmarks * LANDMARK_STEPS_PER_PX).clip(-32768, 32767).astype(np.int16))


def read_landmarks(path: Path, num_frames: int) -> np.ndarray:
    """(T, 478, 2) float32, crop pixels.  Raises: InputError when missing, damaged or of another length."""
    try:
        steps = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the landmarks cannot be read.", "lipsync prepare FOOTAGE OUT") from error
    if steps.shape != (num_frames, 478, 2):
        raise InputError(
            f"{path}: landmarks of shape {steps.shape} beside {num_frames} frames.",
            "lipsync prepare FOOTAGE OUT",
        )
    return steps.astype(np.float32) / LANDMARK_STEPS_PER_PX
