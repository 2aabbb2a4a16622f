"""Sound put together on one timeline: pieces laid over other sound, sounds added. Bounded memory whatever the length.

Samples are float32 (channels, n), full scale 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import resample_poly

from lipsync_cli.core.container import decode_from
from lipsync_cli.core.sound import SoundBlock, read_sound, sound_track, to_float

_FADE_S = Fraction(5, 1000)  # where sound is laid over other sound
_OVERSAMPLING = 4  # ITU-R BS.1770-4, annex 2
_EDGE = 64  # samples around a block that the interpolation filter sees


@dataclass(frozen=True)
class Laid:
    """Sound track `track` of a file, heard from `start` to `end` (seconds on the result's timeline).

    begin: the instant of the file's own timeline that lies at `start`.
    """

    path: Path
    track: int
    start: Fraction
    end: Fraction
    begin: Fraction


def mixed(
    start: Fraction,
    end: Fraction,
    rate: int,
    layout: str,
    *,
    parts: Sequence[Laid],
    under: Laid | None = None,
    beside: Laid | None = None,
) -> Iterator[SoundBlock]:
    """One second at a time: `parts` in place of `under` (silence without it), and `beside` added to all.

    start, end: seconds on the result's timeline.  rate, layout: of what comes out.  Where a part meets `under`, the
    two change over within 5 ms.  Raises: InputError for an unusable file.
    """
    total = round((end - start) * rate)
    readers = [_Reader(part, start, rate, layout) for part in parts]
    ground = _Reader(under, start, rate, layout) if under else None
    added = _Reader(beside, start, rate, layout) if beside else None
    channels = av.AudioLayout(layout).nb_channels
    for first in range(0, total, rate):
        count = min(rate, total - first)
        heard = ground.take(first, count) if ground else np.zeros((channels, count), np.float32)
        for reader in readers:
            fade = round(_FADE_S * rate) if ground else 0
            share = reader.share(first, count, fade)
            if share.any():
                heard += share * (reader.take(first, count) - heard)
        if added:
            heard += added.take(first, count)
        yield SoundBlock(start + Fraction(first, rate), rate, heard)


def true_peak(blocks: Iterator[SoundBlock]) -> float:
    """The largest value between the samples too: four times oversampled, as ITU-R BS.1770-4, annex 2, has it."""
    peak = 0.0
    before: np.ndarray | None = None
    for block in blocks:
        samples = block.samples
        joined = samples if before is None else np.concatenate([before, samples], axis=1)
        if joined.size:
            peak = max(peak, float(np.abs(resample_poly(joined, _OVERSAMPLING, 1, axis=1)).max()))
        before = joined[:, -2 * _EDGE :]
    return peak


class _Reader:
    """Samples of one `Laid`, on the grid of the result, read forwards once."""

    def __init__(self, laid: Laid, origin: Fraction, rate: int, layout: str) -> None:
        self._first, self._last = (round((time - origin) * rate) for time in (laid.start, laid.end))
        self._pieces = _samples(laid, rate, layout)
        self._channels = av.AudioLayout(layout).nb_channels
        self._held = np.zeros((self._channels, 0), np.float32)
        self._at = self._first  # grid number of the first sample that is held

    def share(self, first: int, count: int, fade: int) -> np.ndarray:
        """(count,) 0..1: how much of what is heard from grid number `first` on comes from here."""
        numbers = np.arange(first, first + count)
        if not fade:
            return ((numbers >= self._first) & (numbers < self._last)).astype(np.float32)
        ramp = np.minimum(numbers - self._first + 1, self._last - numbers) / (fade + 1)
        return np.clip(ramp, 0, 1).astype(np.float32)

    def take(self, first: int, count: int) -> np.ndarray:
        """Samples from grid number `first` on, zeros where there are none; `first` never goes back."""
        taken = np.zeros((self._channels, count), np.float32)
        while self._at + self._held.shape[1] < first + count:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held = np.concatenate([self._held, piece], axis=1)
            self._drop(first)
        self._drop(first)
        inside = max(0, self._at - first)
        piece = self._held[:, : max(0, count - inside)]
        taken[:, inside : inside + piece.shape[1]] = piece
        taken[:, max(0, self._last - first) :] = 0
        return taken

    def _drop(self, first: int) -> None:
        spent = min(max(0, first - self._at), self._held.shape[1])
        self._held, self._at = self._held[:, spent:], self._at + spent


def _samples(laid: Laid, rate: int, layout: str) -> Iterator[np.ndarray]:
    """float32 (channels, n) from exactly `laid.begin` on, at another rate and layout."""
    frames = decode_from(
        laid.path,
        lambda container: sound_track(container, laid.track, laid.path),
        laid.begin if laid.begin > 0 else None,
    )
    skip: int | None = None
    resampler = None
    for block in read_sound(frames, laid.path):
        samples, own = to_float(block.samples), block.sample_rate_hz
        if skip is None:
            skip = round((laid.begin - block.start) * own)
            if skip < 0:
                samples, skip = np.pad(samples, ((0, 0), (-skip, 0))), 0
        dropped = min(skip, samples.shape[1])
        samples, skip = samples[:, dropped:], skip - dropped
        resampler = resampler or _Resampler(own, rate, layout)
        yield resampler.push(samples)
    if resampler is not None:
        yield resampler.push(None)


class _Resampler:
    """To another rate by libswresample, without delay, and to another layout, at unity: no level changes."""

    def __init__(self, own: int, rate: int, layout: str) -> None:
        self._own, self._rate, self._layout = own, rate, av.AudioLayout(layout)
        self._resampler = None
        self._read = 0

    def push(self, samples: np.ndarray | None) -> np.ndarray:
        channels = self._layout.nb_channels
        if samples is not None:
            samples = to_channels(samples, self._layout)
            if self._own == self._rate:
                return samples
        if self._own == self._rate or (samples is not None and not samples.shape[1]):
            return np.zeros((channels, 0), np.float32)
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        frame = None
        if samples is not None:
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout.name)
            frame.sample_rate, frame.pts = self._own, self._read
            frame.time_base = Fraction(1, self._own)
            self._read += samples.shape[1]
        made = [out.to_ndarray() for out in self._resampler.resample(frame)]
        return np.concatenate(made, axis=1) if made else np.zeros((channels, 0), np.float32)


def to_channels(samples: np.ndarray, layout: av.AudioLayout) -> np.ndarray:
    """(channels, n) to the channels of `layout`, by place and without a change of level.

    One channel goes to the centre, where the layout has one, or to left and right; several fill the first places.
    """
    have, want = samples.shape[0], layout.nb_channels
    if have == want:
        return np.ascontiguousarray(samples)
    made = np.zeros((want, samples.shape[1]), np.float32)
    if have == 1:
        names = [channel.name for channel in layout.channels]
        made[[names.index("FC")] if "FC" in names else slice(0, 2)] = samples
    else:
        made[:have] = samples
    return made
