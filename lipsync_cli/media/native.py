"""Pictures exactly as the decoder gives them: own pixel format, own bit depth, own times. Nothing is converted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from lipsync_cli.media.frames import decoded_frames


@dataclass(frozen=True, eq=False)
class NativeFrame:
    """One picture of the source.

    time: seconds on the container's timeline, as in `read_frames`.  pts: the same instant in ticks of the stream, as
    the file gives it (None where it gives none).  duration: seconds until the next picture; of the last, what the
    file says.  picture: untouched, not turned upright.
    """

    time: Fraction
    pts: int | None
    duration: Fraction
    picture: av.VideoFrame


def read_native(
    path: Path, start: Fraction | None = None, end: Fraction | None = None, *, threads: int = 0
) -> Iterator[NativeFrame]:
    """Every decodable picture with start <= time < end (seconds), once, in presentation order.

    Two pictures and the decoder's own are held at a time.  threads: of the decoder, 0 = all cores.
    Raises: InputError for an unusable file, no picture, or damage midway (at the tail it ends the frames).
    """
    held: NativeFrame | None = None
    for time, interval, picture in decoded_frames(path, start, threads):
        if held is not None:
            yield replace(held, duration=time - held.time)
            held = None
        if end is not None and time >= end:
            return
        if start is None or time >= start:
            told = picture.duration * Fraction(picture.time_base) if picture.duration else interval
            held = NativeFrame(time, picture.pts, told, picture)
    if held is not None:
        yield held
