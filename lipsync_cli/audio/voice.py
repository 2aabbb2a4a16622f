"""Voice activity in steps of 10 ms, enough to say why there is nothing to sync to: silence, noise, music.

Speech is told by three things together, over a second: its level falls and rises with syllables, part of it has a
pitch, and that pitch glides. Noise has no pitch, tones and most instruments hold theirs. It is a rule of thumb, not a
trained detector: singing passes for speech.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import minimum_filter1d, uniform_filter1d

STEP_S = 0.01
SILENCE_DB = -60.0  # of full scale; below is silence whatever the rest of the sound
_WINDOW_S = 0.032  # holds two periods of the lowest pitch
_BAND_HZ = (100.0, 6000.0)
_PITCH_HZ = (70.0, 400.0)
_PERIODIC = 0.6  # autocorrelation at the pitch, of 1
_BELOW_LOUD_DB = 40.0  # quieter than the loud parts by this is silence
_ABOVE_FLOOR_DB = 5.0  # speech stands above the background by this
_CONTEXT_STEPS = 100  # one second
_FLOOR_STEPS = 300
_CHUNK_STEPS = 3000  # analysed at once, so that an hour stays small

# where each sign of speech is absent and where it is certain
_LEVEL_SWING_DB = (3.0, 5.0)
_VOICED_SHARE = (0.05, 0.15)
_GLIDE_SHARE = (0.2, 0.35)
_GLIDE_SEMITONES = (0.05, 1.5)  # change of pitch between steps that counts as gliding


@dataclass(frozen=True)
class VoiceActivity:
    """One value a step of `step_s` seconds, all of one length; step k is centred on k * step_s.

    level_db: float32, RMS between 100 and 6000 Hz, dB of full scale (a full sine is -3).
    speech: bool.  music: float32 0..1, how much a sounding step is music or noise rather than speech; 0 in silence.
    """

    step_s: float
    level_db: np.ndarray
    speech: np.ndarray
    music: np.ndarray
    sounding: np.ndarray

    @property
    def speech_s(self) -> float:
        """Seconds of speech."""
        return float(self.speech.sum() * self.step_s)

    @property
    def is_silent(self) -> bool:
        return not self.sounding.any()

    @property
    def music_likeness(self) -> float:
        """Mean of `music` over the steps that sound; 0 when none does."""
        return float(self.music[self.sounding].mean()) if self.sounding.any() else 0.0


def voice_activity(samples: np.ndarray, sample_rate_hz: int) -> VoiceActivity:
    """Find speech in `samples`, float mono (n,), -1..1, at 8000 Hz or more.

    Raises: ValueError for another shape or a lower rate.
    """
    if samples.ndim != 1 or sample_rate_hz < 8000:
        raise ValueError("mono samples of at least 8000 Hz are wanted")
    level_db, periodicity, semitones = _features(samples, sample_rate_hz)
    if not len(level_db):
        empty = np.zeros(0, bool)
        return VoiceActivity(STEP_S, level_db, empty, level_db, empty)
    smooth_db = uniform_filter1d(level_db, 5)
    sounding = smooth_db > max(SILENCE_DB, float(np.percentile(smooth_db, 98)) - _BELOW_LOUD_DB)
    voiced = (periodicity > _PERIODIC) & sounding
    glides = np.abs(np.diff(semitones, prepend=semitones[:1]))
    pairs = voiced & np.roll(voiced, 1)
    pairs[0] = False
    gliding = pairs & (glides > _GLIDE_SEMITONES[0]) & (glides < _GLIDE_SEMITONES[1])
    likeness = np.minimum.reduce(
        [
            _ramp(_swing(np.maximum(smooth_db, SILENCE_DB)), _LEVEL_SWING_DB),
            _ramp(_share(voiced, sounding), _VOICED_SHARE),
            _ramp(_share(gliding, pairs), _GLIDE_SHARE),
        ]
    )
    floor_db = minimum_filter1d(uniform_filter1d(smooth_db, 5), _FLOOR_STEPS)
    speech = sounding & (likeness > 0.5) & (smooth_db > floor_db + _ABOVE_FLOOR_DB)
    music = np.where(sounding, 1 - likeness, 0).astype(np.float32)
    return VoiceActivity(STEP_S, level_db, speech, music, sounding)


def _features(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """level_db, periodicity 0..1 and pitch in semitones, each float32 (steps,)."""
    steps, window = round(len(samples) / (STEP_S * rate)), round(_WINDOW_S * rate)
    taper = np.hanning(window + 1)[:-1].astype(np.float32)
    size = 2 ** int(np.ceil(np.log2(2 * window)))
    frequency = np.fft.rfftfreq(size, 1 / rate)
    band = (frequency > _BAND_HZ[0]) & (frequency < _BAND_HZ[1])
    lags = np.arange(int(rate / _PITCH_HZ[1]), int(rate / _PITCH_HZ[0]) + 1)
    own = np.fft.irfft(np.abs(np.fft.rfft(taper, size)) ** 2)  # a window alone falls off; taken out
    padded = np.pad(samples.astype(np.float32), (window, 2 * window))
    out = np.zeros((3, steps), np.float32)
    for first in range(0, steps, _CHUNK_STEPS):
        numbers = np.arange(first, min(first + _CHUNK_STEPS, steps))
        at = np.round(numbers * STEP_S * rate).astype(int) + window - window // 2
        frames = padded[at[:, None] + np.arange(window)] * taper
        power = np.abs(np.fft.rfft(frames, size)) ** 2
        mean_square = 2 * power[:, band].sum(1) / size / (taper**2).sum()
        auto = np.fft.irfft(power, axis=1)
        fit = auto[:, lags] / np.maximum(auto[:, :1], 1e-9) / (own[lags] / own[0])
        out[0, numbers] = 10 * np.log10(mean_square + 1e-12)
        out[1, numbers] = fit.max(1)
        out[2, numbers] = -12 * np.log2(lags[fit.argmax(1)] / rate)
    return out[0], out[1], out[2]


def _swing(level_db: np.ndarray) -> np.ndarray:
    """Standard deviation of the level over the context."""
    mean = uniform_filter1d(level_db.astype(np.float64), _CONTEXT_STEPS)
    square = uniform_filter1d(level_db.astype(np.float64) ** 2, _CONTEXT_STEPS)
    return np.sqrt(np.maximum(square - mean**2, 0))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Share of `part` in `whole` over the context; 0 where there is no whole."""
    above = uniform_filter1d(part.astype(np.float64), _CONTEXT_STEPS)
    below = uniform_filter1d(whole.astype(np.float64), _CONTEXT_STEPS)
    return np.where(below > 1e-6, above / np.maximum(below, 1e-6), 0)


def _ramp(value: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return np.clip((value - limits[0]) / (limits[1] - limits[0]), 0, 1)
