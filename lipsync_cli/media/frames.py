"""Pictures by presentation timestamp, streamed: never by frame index, never all at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer

from lipsync_cli.core.container import decode_from, picture_shift
from lipsync_cli.core.errors import InputError
from lipsync_cli.media.probe import clockwise_rotation, frame_time, is_cover, nominal_rate


@dataclass(frozen=True)
class Frame:
    """time: seconds on the container's timeline; image: uint8 (H, W, 3) RGB, upright, C-contiguous."""

    time: Fraction
    image: np.ndarray


def read_frames(
    path: Path,
    *,
    long_side_px: int | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
    threads: int = 0,
) -> Iterator[Frame]:
    """Every decodable frame with start <= time < end (seconds), in presentation order.

    long_side_px: shrink so that the longer side is at most this.  threads: of the decoder, 0 = all cores.
    Raises: InputError for an unusable file, no picture, or damage midway (at the tail it ends the frames).
    """
    for time, _, frame in decoded_frames(path, start, threads):
        if end is not None and time >= end:
            return
        if start is None or time >= start:
            yield Frame(time, to_image(frame, long_side_px))


def sample_frames(
    path: Path,
    *,
    rate: Fraction = Fraction(25),
    long_side_px: int | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
    threads: int = 0,
) -> Iterator[Frame]:
    """Frames on the grid k / rate (k an integer, container time) from the first frame to the end of the last.

    Each is the frame on screen at the grid time, or the next one where that begins within half a nominal
    frame interval: the nearest in a steady clip, and never a picture from after a freeze. `time` is the grid
    time. A source frame that serves several grid times is converted once; one that serves none is not.
    Raises: as `read_frames`.
    """
    k = 0
    shown: tuple[Fraction, Fraction, Any] | None = None
    for following in decoded_frames(path, start, threads):
        if shown is not None:
            until = following[0] - following[1] / 2
            k = yield from _serve(shown[2], k, until, rate, long_side_px, end)
        else:
            k = math.ceil(max(following[0], start if start is not None else following[0]) * rate)
        shown = following
        if end is not None and k / rate >= end:
            return
    if shown is not None:
        yield from _serve(shown[2], k, shown[0] + _shown_for(shown), rate, long_side_px, end, last=True)


def _serve(
    frame: Any,
    k: int,
    until: Fraction,
    rate: Fraction,
    long_side_px: int | None,
    end: Fraction | None,
    *,
    last: bool = False,
) -> Iterator[Frame]:
    """Yield `frame` at each grid time up to `until`; return the next grid number."""
    image = None
    while True:
        time = Fraction(k) / rate
        over = time >= until if last else time > until
        if over or (end is not None and time >= end):
            return k
        if image is None:
            image = to_image(frame, long_side_px)
        yield Frame(time, image)
        k += 1


def _shown_for(shown: tuple[Fraction, Fraction, Any]) -> Fraction:
    _, interval, frame = shown
    return frame.duration * Fraction(frame.time_base) if frame.duration else interval


def decoded_frames(
    path: Path, start: Fraction | None, threads: int
) -> Iterator[tuple[Fraction, Fraction, Any]]:
    """(time, nominal interval, frame as decoded) with rising times, from the key frame before `start`.

    time: seconds on the container's timeline.  Raises: as `read_frames`.
    """
    interval, shift = Fraction(1, 25), Fraction(0)

    def pick(container: InputContainer) -> Any:
        nonlocal interval, shift
        streams = [s for s in container.streams.video if not is_cover(s)]
        if not streams:
            raise InputError(f"{path}: no picture, only sound.", "give a video file")
        stream: Any = streams[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        interval, shift = 1 / nominal_rate(stream), picture_shift(path, stream.index)
        return stream

    last: Fraction | None = None
    for frame in decode_from(path, pick, start):
        time = shift + frame_time(frame, Fraction(0) if last is None else last - shift + interval)
        if last is None or time > last:
            last = time
            yield time, interval, frame


def to_image(frame: Any, long_side_px: int | None = None) -> np.ndarray:
    """uint8 (H, W, 3) RGB, upright, C-contiguous, the longer side at most `long_side_px`; never enlarged."""
    width, height = frame.width, frame.height
    if long_side_px is not None and max(width, height) > long_side_px:
        scale = Fraction(long_side_px, max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    # one thread: swscale's own spend half as much CPU time again; AREA keeps small faces free of aliasing
    image = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA", threads=1)
    turned = clockwise_rotation(frame)
    return np.ascontiguousarray(np.rot90(image, -turned // 90)) if turned else image
