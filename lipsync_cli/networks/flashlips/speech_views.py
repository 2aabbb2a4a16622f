"""A clip said in another voice: few speakers made to sound like many, while lips and sound stay together.

Shapes: F frames at 25 Hz, M lips numbers, P pose numbers; samples at 16 kHz, 640 a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLES_PER_FRAME = 640
PACE = 0.22  # at strength 1 speech is up to so much slower or faster, lower or higher
GAIN_DB, COLOUR_DB, NOISE_DB = 12.0, 9.0, (12.0, 45.0)


@dataclass(frozen=True, eq=False)
class Spoken:
    """A clip as it is needed here.  samples: (F·640,).  lips: (F, M).  pose: (F, P)."""

    samples: np.ndarray
    lips: np.ndarray
    pose: np.ndarray


def in_another_voice(clip: Spoken, strength: float, least_frames: int, rng: np.random.Generator) -> Spoken:
    """The clip played at another pace, by which pitch and formants move too, in another room, louder or softer.

    strength: 0 gives the clip back.  least_frames: the clip stays that long.
    """
    if strength == 0:
        return clip
    fastest = min(np.log(len(clip.lips) / (least_frames + 1)), PACE * strength)
    pace = np.exp(rng.uniform(-PACE * strength, max(-PACE * strength, fastest)))
    frames = int((len(clip.lips) - 1) / pace) + 1
    at = np.arange(frames) * pace
    samples = played(clip.samples, pace, frames * SAMPLES_PER_FRAME)
    samples = coloured(samples, COLOUR_DB * strength, rng)
    level = np.sqrt(np.mean(np.square(samples)) + 1e-12)
    noise = coloured(rng.standard_normal(len(samples)).astype(np.float32), 2 * COLOUR_DB * strength, rng)
    noise *= level / (np.sqrt(np.mean(np.square(noise))) + 1e-12)
    samples = samples + noise * 10 ** (-rng.uniform(*NOISE_DB) / 20)
    gain = 10 ** (rng.uniform(-GAIN_DB, GAIN_DB) * strength / 20)
    return Spoken(
        np.clip(samples * gain, -1, 1).astype(np.float32), _between(clip.lips, at), _between(clip.pose, at)
    )


def played(samples: np.ndarray, pace: float, length: int) -> np.ndarray:
    """Sample i is what was at i·pace.  Linear: speech has little near the highest frequencies."""
    at = np.arange(length) * pace
    return np.interp(at, np.arange(len(samples)), samples, right=0.0).astype(np.float32)


def coloured(samples: np.ndarray, strength_db: float, rng: np.random.Generator) -> np.ndarray:
    """Through a filter without delay, smooth over frequency, of up to ±strength."""
    spectrum = np.fft.rfft(samples)
    knots = rng.uniform(-strength_db, strength_db, 8)
    place = np.log1p(np.arange(len(spectrum)) / len(spectrum) * 80) / np.log(81) * (len(knots) - 1)
    gain = 10 ** (np.interp(place, np.arange(len(knots)), knots) / 20)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def _between(rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Rows (F, D) at fractional places."""
    before = np.clip(np.floor(at).astype(int), 0, len(rows) - 1)
    after = np.minimum(before + 1, len(rows) - 1)
    share = (at - before)[:, None]
    return (rows[before] * (1 - share) + rows[after] * share).astype(np.float32)
