"""Opening media files and decoding their streams on the container's timeline.

The container's timeline is what a player follows: presentation timestamps after edit lists, encoder priming
and start offsets, in exact seconds. Pictures (`media`) and sound (`audio`) are both placed on it and on
nothing else.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from lipsync_cli.core.errors import InputError

GAP_TOLERANCE_S = Fraction(3, 1000)  # timestamps in milliseconds or of live recorders jitter less than this
_TAIL_ERRORS = (av.error.InvalidDataError, av.error.EOFError)


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """Open `path` for reading.

    Raises: InputError when it is missing, empty, a folder, unreadable or no media file, and when decoding it
    fails.
    """
    check_readable(path)
    try:
        # the protocol prefix keeps names such as "a:b.mp4" from being taken for a URL
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            if container.format.name == "tty":  # FFmpeg draws any text file as a terminal picture
                raise InputError(f"{path}: a text file, not a media file.", "give an audio or video file")
            yield container
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path}: not a media file, cut short or damaged ({error.strerror}).", _hint(path)
        ) from error


def check_readable(path: Path) -> None:
    """Raises: InputError, in plain words, when `path` is not a readable, non-empty file."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: a folder, not a file.", f"name a file in it: ls '{path}'")
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path}: the file is empty.", "copy it again from its source")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.", f"ls '{path.parent}'") from error
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror}).", f"ls -l '{path}'") from error


def _hint(path: Path) -> str:
    return f"check that it plays, or copy it again from its source: ls -l '{path}'"


def decode(container: InputContainer, stream: Any, path: Path) -> Iterator[Any]:
    """Every frame of `stream` that can be decoded, in presentation order.

    Damage before the first frame (a recording that starts between key frames) and at the tail (a recording
    that was cut off) costs only the frames it hit. Raises: InputError for damage in between, or when nothing
    decodes.
    """
    damaged = False
    last: Fraction | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except _TAIL_ERRORS:
            break
        if packet is None:
            break
        try:
            frames = packet.decode()
        except _TAIL_ERRORS:
            damaged = True
            continue
        for frame in frames:
            if damaged and last is not None:
                raise InputError(f"{path}: {stream.type} is damaged after {float(last):.2f} s.", _hint(path))
            damaged = False
            if frame.pts is not None:
                last = frame.pts * frame.time_base
            yield frame
    if last is None:
        raise InputError(f"{path}: no {stream.type} frame can be decoded.", _hint(path))


@dataclass(frozen=True)
class SoundBlock:
    """Decoded sound. start: seconds on the container's timeline; samples: (channels, n), the codec's own
    type.
    """

    start: Fraction
    sample_rate_hz: int
    samples: np.ndarray


def read_sound(container: InputContainer, stream: Any, path: Path) -> Iterator[SoundBlock]:
    """Decode an audio stream to gapless blocks: gaps in its timestamps become silence, overlaps are dropped.

    Encoder priming and edit lists are honoured by the demuxer and the decoder, so the first block starts
    where a player starts. The channel count may change between blocks. Raises: InputError as `decode` does,
    and when the sample rate changes midway.
    """
    start: Fraction | None = None
    rate, written, samples = 0, 0, np.zeros((0, 0), np.float32)
    for frame in decode(container, stream, path):
        samples = planar(frame)
        if start is None:
            start = Fraction(0) if frame.pts is None else frame.pts * frame.time_base
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


def disk_is_full(error: BaseException) -> bool:
    """Whether an error of the media libraries means that nothing more can be written."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
