"""Another voice: sound and lips stay together."""

import numpy as np
import pytest

from lipsync_cli.networks.flashlips.speech_views import Spoken, in_another_voice

FRAMES = 75


def spoken() -> Spoken:
    """A tone whose loudness is the first lips number."""
    rng = np.random.default_rng(0)
    curve = np.convolve(rng.random(FRAMES + 20), np.hanning(7) / 3, "same")[10 : 10 + FRAMES]
    fine = np.interp(np.arange(FRAMES * 640) / 640, np.arange(FRAMES), curve)
    samples = (0.3 * fine * np.sin(2 * np.pi * 300 * np.arange(FRAMES * 640) / 16_000)).astype(np.float32)
    return Spoken(
        samples, np.stack([curve, np.arange(FRAMES)], 1).astype(np.float32), np.zeros((FRAMES, 0), np.float32)
    )


@pytest.mark.parametrize("seed", range(6))
def test_sound_and_lips_stay_together(seed):
    other = in_another_voice(spoken(), 1.0, 50, np.random.default_rng(seed))
    assert len(other.samples) == 640 * len(other.lips) and len(other.lips) >= 50
    level = np.sqrt(np.square(other.samples).reshape(-1, 160).mean(1))  # 10 ms
    wanted = np.interp(np.arange(len(level)) / 4, np.arange(len(other.lips)), other.lips[:, 0])
    inner = slice(40, -40)
    scores = [np.corrcoef(level[inner], np.roll(wanted, lag)[inner])[0, 1] for lag in range(-12, 13)]
    assert abs(int(np.argmax(scores)) - 12) <= 2 and max(scores) > 0.8


def test_paces_differ():
    lengths = {
        len(in_another_voice(spoken(), 1.0, 50, np.random.default_rng(seed)).lips) for seed in range(12)
    }
    assert min(lengths) < 70 and max(lengths) > 80


def test_strength_nothing_gives_the_clip_back():
    clip = spoken()
    assert in_another_voice(clip, 0.0, 50, np.random.default_rng(0)) is clip


def test_a_clip_of_the_least_length_is_not_made_shorter():
    clip = spoken()
    for seed in range(8):
        assert len(in_another_voice(clip, 1.0, FRAMES - 1, np.random.default_rng(seed)).lips) >= FRAMES - 1
