"""What drives the mouth: speech with its pauses, refused when there is none."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lipsync_cli.core.errors import InputError
from lipsync_cli.dubbing.drive import driving_track, expect_speech, sound_drive, speech_frames
from lipsync_cli.dubbing.look import Look

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "talking_photo.mp4"


def write_wave(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def test_speech_is_given_with_a_flag_for_every_25th_of_a_second(tmp_path):
    drive = sound_drive(EXAMPLE, Fraction(36, 5), tmp_path / "a")
    assert drive.samples.dtype == np.float32 and len(drive.samples) == 7.2 * 16_000
    assert len(drive.speech) == 180 and 0.3 < drive.speech.mean() <= 1


def test_silence_follows_speech_that_is_shorter_than_its_segment(tmp_path):
    drive = sound_drive(EXAMPLE, Fraction(9), tmp_path / "a")
    assert len(drive.samples) == 9 * 16_000 and len(drive.speech) == 225
    assert not drive.samples[-16_000:].any() and not drive.speech[-25:].any()


def test_only_the_segments_length_is_taken(tmp_path):
    short, whole = (sound_drive(EXAMPLE, Fraction(s), tmp_path / "a") for s in (2, 7))  # the file is the same
    assert np.array_equal(short.samples, whole.samples[: 2 * 16_000])


def test_a_frame_speaks_when_a_voice_is_heard_within_an_eighth_of_a_second():
    speech = np.zeros(200, bool)
    speech[100] = True  # 1 s
    frames = np.flatnonzero(speech_frames(speech, 50))
    assert (frames[0] / 25, (frames[-1] + 1) / 25) == pytest.approx((0.88, 1.13), abs=0.04)


def test_a_gap_within_a_word_does_not_shut_the_mouth_and_a_pause_does():
    speech = np.ones(300, bool)
    speech[100:115] = False
    speech[200:260] = False
    frames = speech_frames(speech, 75)
    assert frames[20:35].all() and not frames[54:60].any()


@pytest.mark.parametrize(
    ("samples", "word"),
    [
        (np.zeros(32_000), "only silence"),
        (0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000), "music or noise"),
        (0.1 * np.random.default_rng(0).standard_normal(48_000), "music or noise"),
    ],
)
def test_sound_without_speech_is_refused(tmp_path, samples, word):
    path = write_wave(tmp_path / "new.wav", samples)
    with pytest.raises(InputError, match=word) as caught:
        expect_speech(path)
    assert caught.value.exit_code == 3 and "no speech" in caught.value.message


def test_a_video_without_a_face_drives_nothing():
    with pytest.raises(InputError, match="no face"):
        driving_track(Path("ref.mp4"), Look((64, 64), (Fraction(0),), Fraction(1), np.zeros(0, int), ()))
