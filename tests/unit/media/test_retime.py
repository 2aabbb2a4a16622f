"""Shifts are exact and bit-identical; a tempo change keeps its line over any length."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.core.sound import SoundBlock
from lipsync_cli.media.retime import change_tempo, shift_samples

RATE = 48000


def blocks(samples, size=700, start=Fraction(1, 3)):
    for at in range(0, samples.shape[1], size):
        yield SoundBlock(start + Fraction(at, RATE), RATE, samples[:, at : at + size])


def joined(result):
    result = list(result)
    at = result[0].start
    for block in result:
        assert block.start == at
        at += Fraction(block.samples.shape[1], RATE)
    return np.concatenate([b.samples for b in result], axis=1)


@pytest.mark.parametrize(
    "shift", [0, 1, 5, 699, 700, 701, 3000, 9999, 10000, 20000, -1, -700, -3000, -9999, -20000]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_shift_moves_bits_unchanged(shift, dtype):
    samples = (np.arange(20000).reshape(2, 10000) % 251).astype(dtype)
    quiet = 128 if dtype == np.uint8 else 0
    expected = np.full_like(samples, quiet)
    if abs(shift) < 10000:
        if shift >= 0:
            expected[:, shift:] = samples[:, : 10000 - shift]
        else:
            expected[:, :shift] = samples[:, -shift:]
    moved = joined(shift_samples(blocks(samples), shift))
    assert moved.dtype == dtype and np.array_equal(moved, expected)


@pytest.mark.parametrize(
    "tempo", [Fraction(1000145, 1000000), Fraction(1001, 1000), Fraction(25, 24), Fraction(24, 25)]
)
def test_tempo_follows_the_formula(tempo):
    """A sine of f Hz becomes one of f * tempo Hz with the phase of the formula t' = origin + (t - origin) / tempo."""
    origin, start, frequency = Fraction(1, 10), Fraction(1, 3), 997.0
    old = float(start) + np.arange(RATE * 3) / RATE
    samples = np.sin(2 * np.pi * frequency * old).astype(np.float32)[None]
    result = list(change_tempo(blocks(samples, 4096, start), tempo, origin))
    assert result[0].start == origin + (start - origin) / tempo
    made = joined(result)[0]
    assert abs(len(made) - 3 * RATE / tempo) <= 1
    new = float(result[0].start) + np.arange(len(made)) / RATE
    expected = np.sin(2 * np.pi * frequency * (float(origin) + (new - float(origin)) * float(tempo)))
    assert np.abs(made - expected)[100:-100].max() < 2e-4


def test_tempo_keeps_silence_and_channels():
    made = joined(change_tempo(blocks(np.zeros((6, 5000), np.int16)), Fraction(25, 24), Fraction(0)))
    assert made.shape[0] == 6 and not made.any()
