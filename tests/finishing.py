"""A whole finishing run without a network: read, edit, write pieces, join."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from lipsync_cli.media.deliver import Delivery
from lipsync_cli.media.encode import PIECE_SUFFIX, EncodeSettings, PieceWriter
from lipsync_cli.media.join import join_pieces
from lipsync_cli.media.native import NativeFrame, read_native
from lipsync_cli.media.probe import probe

Edit = Callable[[av.VideoFrame], av.VideoFrame]


def remake(
    source: Path,
    out: Path,
    *,
    edit: Edit = lambda picture: picture,
    sound: Callable[[Fraction, Fraction], Delivery] | None = None,
    each: int = 13,
    end: Fraction | None = None,
    **choices: Any,
) -> tuple[EncodeSettings, tuple[str, ...]]:
    """`source` written anew to `out` in pieces of `each` pictures.  sound: from the picture's start and end."""
    info = probe(source)
    settings = EncodeSettings.follow(info, out, **{k: v for k, v in choices.items() if k != "tags"})
    frames: list[NativeFrame] = list(read_native(source, end=end))
    pieces = []
    for first in range(0, len(frames), each):
        pieces.append(out.with_name(f"{out.stem}{first:04d}{PIECE_SUFFIX}"))
        with PieceWriter(pieces[-1], settings) as writer:
            for frame in frames[first : first + each]:
                writer.write(edit(frame.picture), frame.time)
    begin, close = frames[0].time, frames[-1].time + frames[-1].duration
    dropped = join_pieces(
        pieces,
        info,
        out,
        settings,
        close,
        sound=sound(begin, close) if sound else None,
        until=end,
        tags=choices.get("tags"),
    )
    return settings, dropped


def shown(path: Path) -> list[tuple[Fraction, Fraction]]:
    """(time, duration) of every picture."""
    return [(frame.time, frame.duration) for frame in read_native(path)]
