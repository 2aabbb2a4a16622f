"""Lips numbers over time: what the mouth is to do, moved from one face to another and shut in silence.

Shapes: T frames, M lips numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipsync_cli.faces.crops import INNER_LIPS

CLOSED_SHARE = 0.15  # of the frames of a face: the most closed ones show its mouth at rest
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


def rest_of(lips: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Lips numbers of the mouth at rest: the mean over the frames in which it is most closed.

    lips: (T, M).  landmarks: (T, 478, 2) of the same frames.  Returns (M,).
    """
    gap = np.linalg.norm(landmarks[:, INNER_LIPS[:, 0]] - landmarks[:, INNER_LIPS[:, 1]], axis=-1).mean(-1)
    count = max(1, round(CLOSED_SHARE * len(gap)))
    return lips[np.argsort(gap, kind="stable")[:count]].mean(0)


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
