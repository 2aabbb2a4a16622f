"""How far the sound of a file really moved against its picture: two files compared by ear, not by header."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median_low

import numpy as np
from scipy.fft import next_fast_len

from lipsync_cli.core.errors import InconclusiveError
from lipsync_cli.core.sound import SoundBlock, read_mono
from lipsync_cli.media.picture import PictureSummary, picture_summary
from lipsync_cli.media.probe import probe, require_audio
from lipsync_cli.media.retime import change_tempo

_WINDOW_S = 8  # of sound compared at each place
_PLACES = 5
_MIN_LEVEL = 1e-4  # full scale 1; quieter windows say nothing
_MAX_RIVAL = 0.95  # a second place that fits this nearly as well makes the first no proof
_MIN_SCORE = 0.5  # normalised correlation of the same sound, re-encoded or not


@dataclass(frozen=True)
class Moved:
    """Sound in one place. time: seconds from the picture's start; delay: seconds, > 0 = later than before."""

    time: Fraction
    delay: Fraction


def measure_change(
    before: Path,
    after: Path,
    *,
    track: int = 0,
    search_s: Fraction = Fraction(2),
    pictures: tuple[PictureSummary, PictureSummary] | None = None,
    tempo: Fraction = Fraction(1),
) -> Fraction:
    """Seconds by which the sound of `after` comes later against its picture than that of `before`.

    The median over the places of `measure_places`, exact to one sample of the track.
    Raises: InputError for unusable files, InconclusiveError when the track is silent or nothing matches.
    """
    places = measure_places(before, after, track=track, search_s=search_s, pictures=pictures, tempo=tempo)
    return median_low([place.delay for place in places])


def measure_places(
    before: Path,
    after: Path,
    *,
    track: int = 0,
    search_s: Fraction = Fraction(2),
    pictures: tuple[PictureSummary, PictureSummary] | None = None,
    tempo: Fraction = Fraction(1),
) -> tuple[Moved, ...]:
    """The change at up to five places of the programme, by cross-correlation of the decoded sound.

    search_s: the largest change looked for, either way.  tempo: what the sound was sped up by about the
    picture's start, which is taken out.  Raises: as `measure_change`.
    """
    info = probe(before)
    rate = require_audio(info, track).sample_rate_hz
    require_audio(probe(after), track)
    origin_before, origin_after = (
        p.first for p in pictures or (picture_summary(before), picture_summary(after))
    )
    begin = info.audio[track].start - origin_before
    span = max(info.start + info.duration - info.audio[track].start, Fraction(0))
    window = min(Fraction(_WINDOW_S), max(span, Fraction(1, 10)))
    places = []
    for number in range(_PLACES if span > 2 * window else 1):
        time = begin + (span - window) * number / max(_PLACES - 1, 1)
        old = _window(before, track, rate, origin_before + time, window)
        new = _window(after, track, rate, origin_after + time / tempo - search_s, window + 2 * search_s)
        lag = _lag(_at_tempo(old, rate, tempo), new, apart=rate // 500)
        if lag is not None:
            places.append(Moved(time, Fraction(lag, rate) - search_s))
    if not places:
        raise InconclusiveError(
            f"{after}: the change of sound track {track} cannot be measured: silent, a steady tone, or no longer alike.",
            "listen to the file, or choose other tracks",
        )
    return tuple(places)


def _window(path: Path, track: int, rate: int, start: Fraction, length: Fraction) -> np.ndarray:
    """`length` seconds of mono from `start`, at `rate`; silence where the file has no sound."""
    count = round(length * rate)
    samples = [piece for _, _, piece in read_mono(path, track, start, start + length)]
    joined = np.concatenate(samples) if samples else np.zeros(0, np.float32)
    return np.pad(joined[:count], (0, max(0, count - len(joined))))


def _at_tempo(samples: np.ndarray, rate: int, tempo: Fraction) -> np.ndarray:
    if tempo == 1:
        return samples
    blocks = change_tempo(iter([SoundBlock(Fraction(0), rate, samples[None])]), tempo, Fraction(0))
    return np.concatenate([block.samples[0] for block in blocks])


def _lag(old: np.ndarray, new: np.ndarray, *, apart: int) -> int | None:
    """Where in `new` the sound `old` begins, in samples; None for silence, another sound or a steady tone.

    A tone fits at every period: it is told by a second place, more than `apart` samples off, that fits as well.
    """
    if np.sqrt(np.mean(old**2)) < _MIN_LEVEL or np.sqrt(np.mean(new**2)) < _MIN_LEVEL:
        return None
    size = next_fast_len(len(old) + len(new), real=True)
    old64, new64 = old.astype(np.float64), new.astype(np.float64)
    score = np.fft.irfft(np.fft.rfft(new64, size) * np.conj(np.fft.rfft(old64, size)), size)[
        : len(new) - len(old) + 1
    ]
    energy = np.concatenate([[0.0], np.cumsum(new64**2)])
    energy = energy[len(old) :] - energy[: len(new) - len(old) + 1]
    # sound that left the window at an end lowers the score there, so the energy floor is that of `old`
    score /= np.sqrt((old64**2).sum() * np.maximum(energy, 0.1 * (old64**2).sum()))
    best = int(score.argmax())
    elsewhere = np.concatenate([score[: max(0, best - apart)], score[best + apart :]])
    ambiguous = elsewhere.size > 0 and elsewhere.max() > _MAX_RIVAL * score[best]
    return None if score[best] < _MIN_SCORE or ambiguous else best
