"""Sound on the container's timeline, as mono float32 at the rate a network wants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lipsync_cli.core.container import open_container, read_sound
from lipsync_cli.core.errors import InputError

_PREROLL_S = 1  # decoded before a requested start, so that codecs with memory have settled


@dataclass(frozen=True)
class AudioBlock:
    """start: seconds on the container's timeline of the first sample; samples: float32 mono (n,), -1..1."""

    start: Fraction
    samples: np.ndarray


@dataclass(frozen=True)
class Waveform:
    """Sample i is at start + i / sample_rate_hz seconds on the container's timeline. samples: float32 mono
    (n,).
    """

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
    """Contiguous blocks of track `track` (from 0) between start and end (seconds on the container's
    timeline).

    Without `start` the first block begins with the first sample that is played. Gaps in the file, and the
    time from a given `start` to the first sample, are zeros; overlaps are dropped. Mono is the mean of all
    channels: no channel is favoured and speech in one of two channels keeps its timing. Resampling is
    libswresample, without delay.
    Raises: InputError for an unusable file, a missing track, or damage midway.
    """
    mono = _mono(path, track, start, end)
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


def _mono(
    path: Path, track: int, start: Fraction | None, end: Fraction | None
) -> Iterator[tuple[Fraction, int, np.ndarray]]:
    """(time, rate, float32 mono) at the file's own rate, contiguous, from exactly `start` to `end`."""
    with open_container(path) as container:
        stream = _track(container, track, path)
        if start is not None and start > _PREROLL_S and stream.time_base:
            container.seek(math.floor((start - _PREROLL_S) / stream.time_base), stream=stream)
        begun = False
        for block in read_sound(container, stream, path):
            time, rate, samples = block.start, block.sample_rate_hz, block.samples
            if start is not None and not begun:
                skip = round((start - time) * rate)  # to the nearest sample of the file: 10 µs at 48 kHz
                if skip >= samples.shape[1]:
                    continue
                samples = samples[:, max(skip, 0) :]
                time = start
                if skip < 0:
                    yield time, rate, np.zeros(-skip, np.float32)
                    time += Fraction(-skip, rate)
            begun = True
            if end is not None:
                samples = samples[:, : max(0, math.ceil((end - time) * rate))]
            if samples.shape[1] == 0:
                return
            yield time, rate, to_mono(samples)


def _track(container: Any, track: int, path: Path) -> Any:
    tracks = container.streams.audio
    if not tracks:
        raise InputError(f"{path}: no sound track.", "give a file with sound")
    if not 0 <= track < len(tracks):
        raise InputError(f"{path}: no sound track {track}.", f"choose a track from 0 to {len(tracks) - 1}")
    return tracks[track]


def to_mono(samples: np.ndarray) -> np.ndarray:
    """(channels, n) of any sample type to float32 (n,) in -1..1: the mean over channels."""
    mean = samples[0] if samples.shape[0] == 1 else samples.mean(axis=0, dtype=np.float64)
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(mean, dtype=np.float32)
    if samples.dtype == np.uint8:
        return ((mean - 128.0) / 128.0).astype(np.float32)
    return (mean / float(-np.iinfo(samples.dtype).min)).astype(np.float32)
