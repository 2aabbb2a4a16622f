"""Sound on the container's timeline, as mono float32 at the rate a network wants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lipsync_cli.core.sound import read_mono


@dataclass(frozen=True)
class AudioBlock:
    """start: seconds on the container's timeline of the first sample; samples: float32 mono (n,), -1..1."""

    start: Fraction
    samples: np.ndarray


@dataclass(frozen=True)
class Waveform:
    """samples: float32 mono (n,); sample i is at start + i / sample_rate_hz seconds of the container."""

    samples: np.ndarray
    sample_rate_hz: int
    start: Fraction

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz


def load_audio(
    path: Path,
    *,
    track: int = 0,
    sample_rate_hz: int = 16000,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> Waveform:
    """The whole of `stream_audio` at once. An hour at 16 kHz takes 230 MB. Raises: as `stream_audio`."""
    blocks = list(stream_audio(path, track=track, sample_rate_hz=sample_rate_hz, start=start, end=end))
    if not blocks:
        return Waveform(np.zeros(0, np.float32), sample_rate_hz, start or Fraction(0))
    return Waveform(np.concatenate([b.samples for b in blocks]), sample_rate_hz, blocks[0].start)


def stream_audio(
    path: Path,
    *,
    track: int = 0,
    sample_rate_hz: int = 16000,
    block_s: float = 10.0,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> Iterator[AudioBlock]:
    """Contiguous blocks of track `track` (from 0) between start and end, seconds of the container.

    Without `start` the first block begins with the first sample that is played. Gaps in the file, and the
    time from a given `start` to the first sample, are zeros; overlaps are dropped. Mono is the mean of all
    channels: no channel is favoured and speech in one of two channels keeps its timing. Resampling is
    libswresample, without delay. Raises: InputError for an unusable file, a missing track, or damage midway.
    """
    mono = read_mono(path, track, start, end)
    first = next(mono, None)
    if first is None:
        return
    time, rate, samples = first
    pieces = _resampled(samples, (piece for _, _, piece in mono), rate, sample_rate_hz)
    yield from _blocks(pieces, time, sample_rate_hz, round(block_s * sample_rate_hz))


def _blocks(pieces: Iterator[np.ndarray], start: Fraction, rate: int, size: int) -> Iterator[AudioBlock]:
    written, held, kept = 0, 0, []
    for piece in pieces:
        kept.append(piece)
        held += len(piece)
        if held < size:
            continue
        joined = np.concatenate(kept)
        while len(joined) >= size:
            yield AudioBlock(start + Fraction(written, rate), joined[:size])
            written += size
            joined = joined[size:]
        kept, held = [joined], len(joined)
    if held:
        yield AudioBlock(start + Fraction(written, rate), np.concatenate(kept))


def _resampled(
    first: np.ndarray, rest: Iterator[np.ndarray], source_hz: int, target_hz: int
) -> Iterator[np.ndarray]:
    if source_hz == target_hz:
        yield first
        yield from rest
        return
    resampler = av.AudioResampler(format="flt", layout="mono", rate=target_hz)
    read = 0

    def push(piece: np.ndarray) -> Iterator[np.ndarray]:
        nonlocal read
        frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = source_hz, read, Fraction(1, source_hz)
        read += len(piece)
        yield from (out.to_ndarray()[0] for out in resampler.resample(frame))

    yield from push(first)
    for piece in rest:
        yield from push(piece)
    yield from (out.to_ndarray()[0] for out in resampler.resample(None))
