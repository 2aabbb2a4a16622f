"""Sound moved by whole samples or played a touch faster: blocks in, blocks out, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from lipsync_cli.core.sound import SoundBlock, silence, to_float

_HALF_TAPS = 32  # samples each side of the interpolation filter
_KAISER_BETA = 9.0  # stop band 90 dB down
_PHASES = 1024  # table entries between two samples, interpolated linearly: error 110 dB down


def shift_samples(blocks: Iterator[SoundBlock], shift: int) -> Iterator[SoundBlock]:
    """Delay the samples by `shift` (negative: advance) inside the track's own span.

    The track keeps its start and length: what moves over one end is dropped, silence fills the other. Every
    sample that stays is bit-identical.
    """
    held: np.ndarray | None = None
    last: SoundBlock | None = None
    written, dropped = 0, 0
    for block in blocks:
        samples = block.samples
        if held is None:
            held = _silence(samples, max(shift, 0))
        if shift > 0:  # a delay line
            joined = np.concatenate([held, samples], axis=1)
            samples, held = joined[:, : samples.shape[1]], joined[:, samples.shape[1] :]
        elif dropped < -shift:
            cut = min(-shift - dropped, samples.shape[1])
            samples, dropped = samples[:, cut:], dropped + cut
        last = last or block
        if samples.shape[1]:
            yield _later(last, written, samples)
            written += samples.shape[1]
    if last is not None and dropped:
        yield _later(last, written, _silence(last.samples, dropped))


def _later(first: SoundBlock, written: int, samples: np.ndarray) -> SoundBlock:
    return replace(first, start=first.start + Fraction(written, first.sample_rate_hz), samples=samples)


def _silence(like: np.ndarray, count: int) -> np.ndarray:
    return np.full((like.shape[0], count), silence(like.dtype), like.dtype)


def change_tempo(blocks: Iterator[SoundBlock], tempo: Fraction, origin: Fraction) -> Iterator[SoundBlock]:
    """Play the sound `tempo` times as fast (pitch moves with it); the instant `origin` (seconds) stays in
    place.

    Output sample m is the input at m * tempo exactly, however long the programme, by a windowed sinc. For
    drift of parts per million up to 25/24. Samples come out float32 (channels, n), -1..1.
    """
    table = _sinc_table(min(1.0, float(1 / tempo)))
    first: SoundBlock | None = None
    buffer = np.zeros((0, 0), np.float32)  # begins with input sample `base`
    base = read = made = 0
    for block in blocks:
        samples = to_float(block.samples)
        if first is None:
            first = replace(block, start=origin + (block.start - origin) / tempo)
            buffer, base = np.zeros((samples.shape[0], _HALF_TAPS), np.float32), -_HALF_TAPS
        buffer = np.concatenate([buffer, samples], axis=1)
        read += samples.shape[1]
        ready = int((read - _HALF_TAPS) / tempo)
        if ready > made:
            yield _later(first, made, _interpolate(buffer, base, made, ready, tempo, table))
            made = ready
            spent = int(made * tempo) - _HALF_TAPS - base
            buffer, base = buffer[:, spent:], base + spent
    if first is not None and (total := round(read / tempo)) > made:
        buffer = np.pad(buffer, ((0, 0), (0, 2 * _HALF_TAPS)))
        yield _later(first, made, _interpolate(buffer, base, made, total, tempo, table))


def _sinc_table(cutoff: float) -> np.ndarray:
    """(_PHASES + 1, taps): the filter at each fraction of a sample."""
    taps = np.arange(-_HALF_TAPS + 1, _HALF_TAPS + 1)[None, :]
    x = taps - np.arange(_PHASES + 1)[:, None] / _PHASES
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (x / _HALF_TAPS) ** 2, 0, 1))) / np.i0(_KAISER_BETA)
    table = cutoff * np.sinc(cutoff * x) * window
    return (table / table.sum(axis=1, keepdims=True)).astype(np.float32)


def _interpolate(
    buffer: np.ndarray, base: int, first: int, last: int, tempo: Fraction, table: np.ndarray
) -> np.ndarray:
    """Output samples first..last-1; positions by whole-number arithmetic, so nothing adds up over hours."""
    numbers = np.arange(first, last, dtype=np.int64).astype(object) * tempo.numerator
    whole = np.array([n // tempo.denominator for n in numbers], np.int64)
    part = np.array([n % tempo.denominator for n in numbers], np.float64) / tempo.denominator * _PHASES
    phase = part.astype(np.int64)
    blend = (part - phase).astype(np.float32)[:, None]
    weights = table[phase] * (1 - blend) + table[phase + 1] * blend
    reach = whole[:, None] - base + np.arange(-_HALF_TAPS + 1, _HALF_TAPS + 1)[None, :]
    return np.stack([np.einsum("nt,nt->n", channel[reach], weights) for channel in buffer])
