"""Opening media files and decoding their streams on the container's timeline.

The container's timeline is what a player follows: presentation timestamps after edit lists, encoder priming
and start offsets, in exact seconds. Pictures (`media`) and sound (`audio`) are both placed on it and on
nothing else.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import EOFError as EndOfFileError
from av.error import FFmpegError, InvalidDataError

from lipsync_cli.core.errors import InputError

_SEEK_EARLY_S = 1  # codecs of sound have settled by then
_REORDER_PACKETS = 32  # pictures that may be stored before one that is shown earlier
_TAIL_ERRORS = (InvalidDataError, EndOfFileError)


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """Open `path` for reading.

    Raises: InputError when it is missing, empty, a folder, unreadable, no media file, or cannot be decoded.
    """
    check_readable(path)
    try:
        # the protocol prefix keeps names such as "a:b.mp4" from being taken for a URL
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            if container.format.name == "tty":  # FFmpeg draws any text file as a terminal picture
                raise InputError(f"{path}: a text file, not a media file.", "give an audio or video file")
            yield container
    except FFmpegError as error:
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


def decode_from(path: Path, pick: Callable[[InputContainer], Any], start: Fraction | None) -> Iterator[Any]:
    """As `decode`, beginning no later than `start` (seconds on the container's timeline), at a key frame before it.

    pick: chooses the stream.  Seeking in a transport stream may land late; then the file is read from its beginning.
    """
    if start is not None and start > 0:
        with open_container(path) as container:
            stream = pick(container)
            container.seek(math.floor((start - _SEEK_EARLY_S) / stream.time_base), stream=stream)
            frames = decode(container, stream, path)
            try:
                first = next(frames, None)
            except InputError:
                first = None
            if first is not None and first.pts is not None and first.pts * first.time_base <= start:
                yield first
                yield from frames
                return
    with open_container(path) as container:
        yield from decode(container, pick(container), path)


def picture_shift(path: Path, index: int) -> Fraction:
    """Seconds to add to every picture time that the demuxer gives for stream `index`.

    Where an MP4 or MOV edit list begins inside a picture, as in clips trimmed on a phone, FFmpeg moves the first whole
    picture to the start of the edit: up to one frame out of sync with the sound, which it cuts exactly. Reading the
    stored times without its edit-list handling tells by how much. 0 everywhere else.
    """
    with av.open(f"file:{path}", metadata_errors="replace", options={"advanced_editlist": "0"}) as container:
        if "mp4" not in container.format.name:
            return Fraction(0)
        stream: Any = container.streams[index]
        container.seek(0, stream=stream)
        hidden, shown = False, []
        for packet in container.demux(stream):
            if packet.pts is not None:
                hidden = hidden or packet.pts < 0
                shown += [packet.pts] if packet.pts >= 0 else []
            if len(shown) > _REORDER_PACKETS or (shown and not hidden):
                break
        return min(shown) * Fraction(stream.time_base) if hidden and shown else Fraction(0)


def disk_is_full(error: BaseException) -> bool:
    """Whether an error of the media libraries means that nothing more can be written."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
