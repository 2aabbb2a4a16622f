"""Pictures to packets, in pieces that are complete or not there.

A result is encoded in pieces, each a file of its own that begins with a key frame and refers to nothing outside, so
that a killed run goes on where it stopped. `join.join_pieces` lays them end to end without encoding again.
"""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from lipsync_cli.core.output import atomic_path
from lipsync_cli.media.codecs import VIDEO_CODECS
from lipsync_cli.media.encode_settings import EncodeSettings, configure

PIECE_SUFFIX = ".piece"


class PieceWriter:
    """Consecutive pictures in a file of their own, which appears under its name only when it is complete.

    Use as a context manager; an exception inside leaves no file.
    Raises: ResourceError when the disk is full, InputError when the folder cannot be written.
    """

    def __init__(self, path: Path, settings: EncodeSettings) -> None:
        self._path, self._settings = path, settings
        self._open = ExitStack()

    def __enter__(self) -> PieceWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            self._container = stack.enter_context(_open_piece(temporary, self._settings))
            self._stream = add_encoder(self._container, self._settings)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *failure: Any) -> None:
        if failure[0] is not None:
            self._open.__exit__(*failure)
            return
        with self._open:
            self._container.mux(self._stream.encode(None))

    def write(self, picture: av.VideoFrame, time: Fraction) -> None:
        """Encode `picture`, shown at `time` (seconds on the container's timeline, ascending). It is not changed."""
        settings = self._settings
        frame = fitted(picture, settings)
        kept = frame.pts, frame.time_base, frame.pict_type
        try:
            frame.pts, frame.time_base = round(time / settings.time_base), settings.time_base
            frame.pict_type = 0  # a decoded picture says what kind it was, which encoders take for an order
            self._container.mux(self._stream.encode(frame))
        finally:
            frame.pts, frame.time_base, frame.pict_type = kept


def _open_piece(path: Path, settings: EncodeSettings) -> Any:
    """A container that keeps times exactly: NUT does in any time base, but knows no ProRes or DNxHD; QuickTime does
    when the ticks of the movie, in which it counts a late start, are those of the picture."""
    if VIDEO_CODECS[settings.codec].name in ("prores", "dnxhd"):
        options = {"movie_timescale": str(settings.time_base.denominator)}
        return av.open(f"file:{path}", "w", format="mov", options=options)
    return av.open(f"file:{path}", "w", format="nut", options={"avoid_negative_ts": "disabled"})


def add_encoder(container: Any, settings: EncodeSettings) -> Any:
    """A picture stream of `container` that encodes by `settings`."""
    stream = container.add_stream(settings.encoder, rate=settings.rate, options=dict(settings.options))
    configure(stream.codec_context, settings)
    return stream


def fitted(picture: av.VideoFrame, settings: EncodeSettings) -> av.VideoFrame:
    """`picture` itself, or converted to the format, matrix and range of the settings."""
    if picture.format.name == settings.pixel_format:
        return picture
    # One thread: with several, swscale spoils the chroma of 16-bit R'G'B' where their slices meet, now and then.
    return picture.reformat(
        threads=1,
        format=settings.pixel_format,
        src_colorspace=int(picture.colorspace),
        dst_colorspace=settings.colour.matrix,
        src_color_range=int(picture.color_range),
        dst_color_range=settings.colour.range,
        interpolation="BICUBIC",
    )
