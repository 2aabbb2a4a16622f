"""Blocks of sound to packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from lipsync_cli.core.sound import SoundBlock
from lipsync_cli.media.carry import Job

_STEP = 1024  # samples handed to an encoder that takes any number


def is_lossless(codec: str) -> bool:
    """Whether sound of this codec can be written again without any loss."""
    return codec.startswith("pcm_") or codec in ("flac", "alac", "wavpack", "tta")


def encoded_sound(stream: Any, blocks: Iterator[SoundBlock], layout: str) -> Job:
    """Packets of `stream` from contiguous blocks, with the seconds at which they are due."""
    time = Fraction(0)
    for frame in _frames(blocks, layout):
        time = Fraction(frame.pts or 0, frame.sample_rate)
        yield time, stream.encode(frame)
    yield time, stream.encode(None)


def _frames(blocks: Iterator[SoundBlock], layout: str) -> Iterator[av.AudioFrame]:
    base: int | None = None
    written = 0
    for block in blocks:
        samples = block.samples
        if base is None:
            base = round(block.start * block.sample_rate_hz)
        name = {"u1": "u8p", "i2": "s16p", "i4": "s32p", "f4": "fltp", "f8": "dblp"}[samples.dtype.str[1:]]
        for at in range(0, samples.shape[1], _STEP):
            piece = np.ascontiguousarray(samples[:, at : at + _STEP])
            frame = av.AudioFrame.from_ndarray(piece, format=name, layout=layout)
            frame.sample_rate, frame.time_base = block.sample_rate_hz, Fraction(1, block.sample_rate_hz)
            frame.pts = base + written
            written += piece.shape[1]
            yield frame


def as_integers(blocks: Iterator[SoundBlock], bits: int) -> Iterator[SoundBlock]:
    """Blocks of float samples as integers of 16 or 32 bits, of which float32 fills 24."""
    depth = min(bits, 24)
    top = 2 ** (depth - 1)
    for block in blocks:
        whole = np.clip(np.rint(block.samples.astype(np.float64) * top), -top, top - 1).astype(
            f"i{bits // 8}"
        )
        yield replace(block, samples=whole << (bits - depth))
