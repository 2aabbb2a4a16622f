"""Prepared clips in memory: pictures and sound of one face on one 25 Hz grid."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from lipsync_cli.audio.load import load_audio
from lipsync_cli.data.manifest import Clip
from lipsync_cli.media.frames import read_frames

FRAME_RATE = Fraction(25)
SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // 25


@dataclass(frozen=True, eq=False)
class ClipData:
    """frames: (T, S, S, 3 or 1) uint8 RGB or grey.  samples: (T·640,) float32, −1…1."""

    frames: np.ndarray
    samples: np.ndarray


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
        self._used += data.frames.nbytes + data.samples.nbytes
        while self._used > self._budget and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._used -= old.frames.nbytes + old.samples.nbytes
        return data


def load_clip(folder: Path, clip: Clip, *, grey: bool) -> ClipData:
    """Decode one prepared clip; sound is cut or filled with silence to the picture's length."""
    pictures = [frame.image for frame in read_frames(folder / clip.picture, threads=1)]
    if grey:
        pictures = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] for picture in pictures]
    frames = np.stack(pictures)
    samples = np.zeros(len(frames) * SAMPLES_PER_FRAME, np.float32)
    heard = load_audio(folder / clip.sound, sample_rate_hz=SAMPLE_RATE_HZ).samples[: len(samples)]
    samples[: len(heard)] = heard
    return ClipData(frames, samples)
