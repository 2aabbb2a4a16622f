"""Cosine similarity of lips and sound at every frame and every candidate lead (SyncLipMAE §4.1).

Only the band of candidate leads is ever computed, in chunks: an hour at ±0.6 s in 10 ms steps is 90 000 × 121
float32 (44 MB). A shift that would reach beyond the sound, or into sound or picture marked invalid, is NaN:
padding with zeros instead pulls short clips towards the ends of the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np
from numpy.lib.stride_tricks import as_strided

FRAME_RATE = Fraction(25)  # Hz, the video grid every network of this project runs on
CHUNK_FRAMES = (
    64  # one matrix product per chunk: bigger wastes products outside the band, smaller wastes calls
)


@dataclass(frozen=True, eq=False)
class Band:
    """Similarities along the diagonal band of candidate leads.

    values: (T, L) float32 in -1..1, NaN where the pair is invalid.  leads_ms: (L,) float64, ascending, evenly
    spaced. frame_rate: Hz of the T axis.
    """

    values: np.ndarray
    leads_ms: np.ndarray
    frame_rate: Fraction = FRAME_RATE

    def between(self, first_frame: int, end_frame: int) -> Band:
        """The band of frames first_frame ≤ t < end_frame, sharing memory."""
        return Band(self.values[first_frame:end_frame], self.leads_ms, self.frame_rate)


def banded_similarity(
    vocal: np.ndarray,
    audio: np.ndarray,
    *,
    audio_rate: Fraction,
    frame_rate: Fraction = FRAME_RATE,
    audio_start_s: Fraction = Fraction(0),
    max_lead_ms: float = 600.0,
    vocal_valid: np.ndarray | None = None,
    audio_valid: np.ndarray | None = None,
) -> Band:
    """S[t, l] = <vocal_t, the audio token at the time of frame t minus lead l>.

    vocal: (T, D) unit norm, frame k at k / frame_rate seconds.  audio: (n, D) unit norm, token j centred at
    audio_start_s + j / audio_rate seconds on the same clock.  vocal_valid (T,), audio_valid (n,): bool,
    default all True; rows marked invalid may hold anything.  The leads are those that land exactly on audio
    tokens, so they include 0 only when audio_start_s is a multiple of the audio step.

    Raises: ValueError when shapes disagree, or audio_rate is no whole multiple of frame_rate.
    """
    step = audio_rate / frame_rate
    if step.denominator != 1 or step < 1:
        raise ValueError(f"audio_rate {audio_rate} is no whole multiple of frame_rate {frame_rate}")
    if vocal.ndim != 2 or audio.ndim != 2 or vocal.shape[1] != audio.shape[1]:
        raise ValueError(f"vocal {vocal.shape} and audio {audio.shape} must be (T, D) and (n, D)")
    vocal_valid = _valid(vocal_valid, len(vocal))
    audio_valid = _valid(audio_valid, len(audio))
    # Frame k and token j = step·k - m are `m / audio_rate - audio_start_s` apart: one lead per integer m.
    max_lead_s = Fraction(max_lead_ms) / 1000
    first = ceil((audio_start_s - max_lead_s) * audio_rate)
    last = floor((audio_start_s + max_lead_s) * audio_rate)
    leads_ms = np.array([float((m / audio_rate - audio_start_s) * 1000) for m in range(first, last + 1)])
    values = np.empty((len(vocal), len(leads_ms)), np.float32)
    for start in range(0, len(vocal), CHUNK_FRAMES):
        frames = slice(start, min(start + CHUNK_FRAMES, len(vocal)))
        _fill(
            values[frames],
            vocal[frames],
            vocal_valid[frames],
            audio,
            audio_valid,
            int(step) * start - last,
            int(step),
        )
    return Band(values, leads_ms, frame_rate)


def _fill(out, vocal, vocal_valid, audio, audio_valid, first_token: int, step: int) -> None:
    """Write one chunk of the band. out: (t, L); its last lead at its first row is the token `first_token`."""
    frames, leads = out.shape
    width = step * (frames - 1) + leads
    begin, end = np.clip([first_token, first_token + width], 0, len(audio))
    tokens = np.zeros((width, audio.shape[1]), np.float32)
    usable = np.zeros(width, bool)
    tokens[begin - first_token : end - first_token] = audio[begin:end]
    usable[begin - first_token : end - first_token] = audio_valid[begin:end]
    products = (
        np.ascontiguousarray(vocal, np.float32) @ tokens.T
    )  # (t, width), of which the band is a diagonal stripe
    row, column = products.strides
    stripe = as_strided(products, (frames, leads), (row + step * column, column), writeable=False)
    pairs = as_strided(
        usable, (frames, leads), (step * usable.strides[0], usable.strides[0]), writeable=False
    )
    out[:] = np.where(pairs & vocal_valid[:, None], stripe, np.nan)[:, ::-1]  # tokens ascend as leads descend


def _valid(mask: np.ndarray | None, length: int) -> np.ndarray:
    if mask is None:
        return np.ones(length, bool)
    if mask.shape != (length,):
        raise ValueError(f"a mask of shape {mask.shape} does not fit {length} rows")
    return mask.astype(bool)
