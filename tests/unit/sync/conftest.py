"""Planted signals: lips and sound that are samples of one smooth random process, at exactly known times."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest


class Process:
    """A smooth random D-vector of time: a sum of cosines, so it can be sampled exactly at any instant."""

    def __init__(self, rng, dims=16, waves=8, bandwidth_hz=3.0):
        self.frequency = rng.normal(0, bandwidth_hz, (waves, dims))
        self.phase = rng.uniform(0, 2 * np.pi, (waves, dims))

    def at(self, times_s):
        out = np.empty((len(times_s), self.phase.shape[1]))
        for start in range(0, len(times_s), 4096):
            times = times_s[start : start + 4096, None, None]
            angles = 2 * np.pi * self.frequency * times + self.phase
            out[start : start + 4096] = np.cos(angles).mean(axis=1) * np.sqrt(2 * len(self.phase))
        return out


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def plant(
    seed, *, frames=250, lead_ms=0.0, noise=0.0, audio_rate=Fraction(100), audio_start_s=Fraction(0), dims=16
):
    """(vocal, audio) whose sound comes early by lead_ms: a number, or a function of picture time in seconds.

    noise: standard deviation, relative to the signal, of an unrelated and equally smooth process added to
    each side.
    """
    rng = np.random.default_rng(seed)
    signal, noise_v, noise_a = (Process(rng, dims) for _ in range(3))
    video_s = np.arange(frames) / 25
    audio_s = float(audio_start_s) + np.arange(int(frames / 25 * audio_rate)) / float(audio_rate)
    lead_s = (lead_ms(audio_s) if callable(lead_ms) else lead_ms) / 1000
    vocal = signal.at(video_s) + noise * noise_v.at(video_s)
    audio = signal.at(audio_s + lead_s) + noise * noise_a.at(audio_s)  # early: now heard, later seen
    return unit(vocal), unit(audio)


@pytest.fixture(name="plant")
def plant_fixture():
    return plant


@pytest.fixture
def random_unit():
    """(seed, rows, dims) → independent unit vectors."""
    return lambda seed, rows, dims=32: unit(np.random.default_rng(seed).normal(size=(rows, dims)))
