"""What the dubbing pipeline asks of a network: aligned crops and a drive in, crops with a new mouth out.

The pipeline knows shots, tracks, files and source pixels; an engine knows none of them. It is used like this, once per
segment and face: `align` the track's landmarks, `prepare` with frames of the face and what drives the mouth, `generate`
window after window in order of time, `release`. Every engine passes tests/contract/test_engines.py.

Shapes: N frames, S = `spec.side_px`, 478 landmarks (face mesh v2). Times are seconds from the start of the segment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

MODEL_RATE = Fraction(25)
SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is, and how it wants its frames.

    name: as in `--engine`.  model: of the weights, name and SHA-256, for the record.  side_px: of its crops.
    drives: "audio", "video" or both.  window_frames: at most so many go into one `generate`.  overlap_frames: so many
    of them, or more in the last window, were the last of the window before; the pipeline cross-fades the two answers.
    any_rate: takes frames at any times; otherwise they are 1/25 s apart, on the segment's own 25 Hz grid.
    reference_frames: how many frames of the face, spread over the track, `prepare` can make use of.
    """

    name: str
    model: str
    side_px: int
    drives: frozenset[str]
    window_frames: int
    overlap_frames: int
    any_rate: bool
    reference_frames: int


@dataclass(frozen=True, eq=False)
class Crops:
    """Aligned crops of one face. Landmarks of frames to edit are steadied over time, by a few hundredths of a second.

    images: (N, S, S, 3) uint8 RGB.  landmarks: (N, 478, 2) float32, crop pixels.  times_s: (N,) float64, ascending.
    """

    images: np.ndarray
    landmarks: np.ndarray
    times_s: np.ndarray


@dataclass(frozen=True, eq=False)
class SoundDrive:
    """Speech that drives the mouth.

    samples: (n,) float32 mono at 16 kHz, −1…1, the first at time 0.  speech: (k,) bool, whether a voice is heard in
    each 1/25 s; elsewhere the mouth is to be closed.
    """

    samples: np.ndarray
    speech: np.ndarray


@dataclass(frozen=True, eq=False)
class FaceDrive:
    """Another performance that drives the mouth: its face, aligned by the engine's own `align`."""

    crops: Crops


Drive = SoundDrive | FaceDrive
Tell = Callable[[str, int, int], None]  # what is being done, how many steps of it are done, of how many


class DubEngine(Protocol):
    """A network that gives a face a new mouth."""

    @property
    def spec(self) -> EngineSpec: ...

    def align(self, landmarks: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """Similarities source pixels → crop pixels of one unbroken track.  (N, 478, 2), (N,) → (N, 2, 3) float64."""
        ...

    def prepare(self, references: Crops, drive: Drive, seed: int, tell: Tell) -> None:
        """Get ready for one segment.

        references: at most `spec.reference_frames` frames of the face as it is, in order of time.  The same arguments
        give the same frames, bit for bit on a CPU.
        Raises: InputError when the drive holds nothing to go by; ResourceError when memory runs out.
        """
        ...

    def generate(self, crops: Crops) -> np.ndarray:
        """The same crops with the mouth of the drive at their times: (N, S, S, 3) uint8, 1 ≤ N ≤ window_frames.

        Windows come in order of time. The answer follows from what was prepared and this window alone: a killed run
        goes on at a later window, and must give the same frames. What lies outside the mouth may differ from what came
        in: the pipeline does not take it.
        """
        ...

    def release(self) -> None:
        """Let go of the segment; `prepare` may follow."""
        ...
