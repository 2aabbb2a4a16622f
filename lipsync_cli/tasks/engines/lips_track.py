"""Lips numbers over time: what the mouth is to do, moved from one face to another and shut in silence.

Shapes: T frames, M lips numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EASE_FRAMES = 3  # 120 ms, over which the mouth closes and opens at the edges of speech
HOLD_FRAMES = 2  # the mouth opens before a sound is heard and closes after it


@dataclass(frozen=True, eq=False)
class LipsTrack:
    """times_s: (T,), ascending.  lips: (T, M) float32."""

    times_s: np.ndarray
    lips: np.ndarray

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Linearly between frames, and as at the ends beyond them.  (N,) → (N, M) float32."""
        columns = [np.interp(times_s, self.times_s, column) for column in self.lips.T]
        return np.stack(columns, -1).astype(np.float32)


def retargeted(lips: np.ndarray, rest: np.ndarray, other_rest: np.ndarray) -> np.ndarray:
    """The same movement by another face: what is done from rest is done from its rest.  (T, M), (M,), (M,)."""
    return (lips - rest + other_rest).astype(np.float32)


def closed_in_silence(lips: np.ndarray, rest: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """The mouth goes to rest where no voice is heard, and comes from there.

    lips: (T, M).  rest: (M,).  speech: (T,) bool.  Returns (T, M) float32.
    """
    heard = np.convolve(speech, np.ones(2 * HOLD_FRAMES + 1), "same") > 0
    ease = np.hanning(2 * EASE_FRAMES + 1)[1:-1]  # spans EASE_FRAMES before and after
    padded = np.pad(heard.astype(float), EASE_FRAMES - 1, mode="edge")
    share = np.convolve(padded, ease / ease.sum(), "valid")[:, None]
    return (rest + share * (lips - rest)).astype(np.float32)
