"""Decoded sound on the container's timeline, at the file's own rate, without gaps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lipsync_cli.core.container import decode_from
from lipsync_cli.core.errors import InputError

GAP_TOLERANCE_S = Fraction(3, 1000)  # timestamps in milliseconds or of live recorders jitter less than this


@dataclass(frozen=True)
class SoundBlock:
    """start: seconds on the container's timeline; samples: (channels, n) in the codec's own sample type."""

    start: Fraction
    sample_rate_hz: int
    samples: np.ndarray


def read_sound(frames: Iterable[Any], path: Path) -> Iterator[SoundBlock]:
    """Make decoded audio frames gapless blocks: gaps in its timestamps become silence, overlaps are dropped.

    Encoder priming and edit lists are honoured by the demuxer and the decoder, so the first block starts
    where a player starts. The channel count may change between blocks. Raises: InputError as `decode` does,
    and when the sample rate changes midway.
    """
    start, rate, written = Fraction(0), 0, 0
    for frame in frames:
        samples = planar(frame)
        if not rate:
            start = Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base)
            rate = frame.sample_rate
        if frame.sample_rate != rate:
            raise InputError(f"{path}: the sample rate changes from {rate} to {frame.sample_rate} Hz midway.")
        late = 0
        if frame.pts is not None:
            late_s = frame.pts * frame.time_base - start - Fraction(written, rate)
            if abs(late_s) > max(GAP_TOLERANCE_S, 2 * frame.time_base):
                late = round(late_s * rate)
        for piece in _fit(samples, late, rate):
            yield SoundBlock(start + Fraction(written, rate), rate, piece)
            written += piece.shape[1]


def _fit(samples: np.ndarray, late: int, rate: int) -> Iterator[np.ndarray]:
    """`samples` after `late` samples of silence, or without its first `-late` samples."""
    while late > 0:  # in pieces, so that an hour's gap costs no memory
        count = min(late, 10 * rate)
        yield np.full((samples.shape[0], count), silence(samples.dtype), samples.dtype)
        late -= count
    if -late < samples.shape[1]:
        yield samples[:, -late:] if late else samples


def silence(dtype: np.dtype) -> int:
    """The sample value of silence: 128 for unsigned bytes, else 0."""
    return 128 if dtype == np.uint8 else 0


def planar(frame: av.AudioFrame) -> np.ndarray:
    """The samples of a frame as (channels, n) in the frame's own sample type."""
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


def read_mono(
    path: Path, track: int, start: Fraction | None, end: Fraction | None
) -> Iterator[tuple[Fraction, int, np.ndarray]]:
    """(time, rate, float32 mono) blocks at the file's own rate, contiguous, from exactly `start` to `end`.

    track: sound track, from 0.  Raises: InputError for an unusable file, a missing track, or damage midway.
    """
    begun = False
    frames = decode_from(path, lambda container: sound_track(container, track, path), start)
    for block in read_sound(frames, path):
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


def sound_track(container: Any, track: int, path: Path) -> Any:
    """Stream of sound track `track`, from 0. Raises: InputError when there is none."""
    tracks = container.streams.audio
    if not tracks:
        raise InputError(f"{path}: no sound track.", "give a file with sound")
    if not 0 <= track < len(tracks):
        raise InputError(f"{path}: no sound track {track}.", f"choose a track from 0 to {len(tracks) - 1}")
    return tracks[track]


def to_mono(samples: np.ndarray) -> np.ndarray:
    """(channels, n) of any sample type to float32 (n,) in -1..1: the mean over channels."""
    return to_float(samples if samples.shape[0] == 1 else samples.mean(axis=0, keepdims=True), samples.dtype)[
        0
    ]


def to_float(samples: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
    """Samples of the integer or float type `dtype` (their own by default) to float32 in -1..1, same shape."""
    dtype = dtype or samples.dtype
    if dtype.kind == "f":
        return np.ascontiguousarray(samples, dtype=np.float32)
    if dtype == np.uint8:
        return ((samples - 128.0) / 128.0).astype(np.float32)
    return (samples / float(-np.iinfo(dtype).min)).astype(np.float32)
