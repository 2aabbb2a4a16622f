"""The change of the sound, measured: silence and tones give no answer, places show a drift."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.core.errors import InconclusiveError
from lipsync_cli.media.measure import measure_change, measure_places
from tests.media_clips import Clip, write_clip
from tests.unit.audio.test_load import write_wav


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(48000 * seconds).astype(np.float32)


@pytest.mark.parametrize("shift", [0, 1, 4800, -4800, 60000])
def test_shift_is_found_to_the_sample(tmp_path, shift):
    sound = noise(20)
    write_wav(tmp_path / "a.wav", sound, 48000)
    write_wav(tmp_path / "b.wav", np.roll(sound, shift) + noise(20, 1) * 0.3, 48000)
    assert measure_change(tmp_path / "a.wav", tmp_path / "b.wav") == Fraction(shift, 48000)


def test_places_follow_a_break_in_the_middle(tmp_path):
    sound = noise(60)
    later = np.concatenate([sound[: 48000 * 30], np.zeros(2400, np.float32), sound[48000 * 30 :]])
    write_wav(tmp_path / "a.wav", sound, 48000)
    write_wav(tmp_path / "b.wav", later, 48000)
    delays = [place.delay for place in measure_places(tmp_path / "a.wav", tmp_path / "b.wav")]
    assert delays[:2] == [0, 0] and delays[-2:] == [Fraction(1, 20)] * 2


@pytest.mark.parametrize(
    "sound",
    [np.zeros(96000, np.float32), np.sin(np.arange(48000 * 8) * 2 * np.pi * 440 / 48000).astype(np.float32)],
    ids=["silence", "tone"],
)
def test_what_cannot_be_told_is_not_told(tmp_path, sound):
    write_wav(tmp_path / "a.wav", sound, 48000)
    with pytest.raises(InconclusiveError, match="cannot be measured") as caught:
        measure_change(tmp_path / "a.wav", tmp_path / "a.wav")
    assert caught.value.exit_code == 4


def test_another_sound_is_not_a_move(tmp_path):
    write_wav(tmp_path / "a.wav", noise(4), 48000)
    write_wav(tmp_path / "b.wav", noise(4, 5), 48000)
    with pytest.raises(InconclusiveError):
        measure_change(tmp_path / "a.wav", tmp_path / "b.wav")


def test_change_counts_against_the_picture(tmp_path):
    """The same sound under a picture that starts 80 ms later is 80 ms earlier."""
    write_clip(tmp_path / "a.mp4", Clip(audio_codec="pcm_s16le"))
    write_clip(tmp_path / "b.mp4", Clip(audio_codec="pcm_s16le", video_start=Fraction(8, 100)))
    assert measure_change(tmp_path / "a.mp4", tmp_path / "b.mp4") == Fraction(-8, 100)
