"""Speech is told from silence, noise, tones and music."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import resample_poly

from lipsync_cli.audio.voice import voice_activity

RATE = 16000
TIME = np.arange(4 * RATE) / RATE
RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def speech():
    hibari = pytest.importorskip("hibari", reason="hibari-tts, the test speaker, is not installed")
    said = hibari.Hibari()("The quick brown fox jumps over the lazy dog, and then it sleeps for a while.")
    return resample_poly(np.asarray(said), 2, 3).astype(np.float32)


def note(hz, seconds, decay):
    time = np.arange(int(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * hz * k * time) / k**1.5 for k in range(1, 7))
    return tone * np.exp(-decay * time) * np.minimum(1, time * 100)


def melody(seconds, decay):
    keys = np.random.default_rng(5).integers(0, 13, int(4 / seconds))
    return 0.2 * np.concatenate([note(220 * 2 ** (key / 12), seconds, decay) for key in keys])


def drums():
    hits = np.zeros(len(TIME))
    for at in range(0, len(hits) - 2000, RATE // 4):
        hits[at : at + 2000] += RNG.standard_normal(2000) * np.exp(-np.arange(2000) / 300)
    return 0.2 * hits


NOT_SPEECH = {
    "white noise": lambda: 0.1 * RNG.standard_normal(len(TIME)),
    "noise beating at the rate of syllables": lambda: (
        0.1 * RNG.standard_normal(len(TIME)) * (1 + np.sin(8 * np.pi * TIME))
    ),
    "tone": lambda: 0.3 * np.sin(2 * np.pi * 440 * TIME),
    "mains hum": lambda: sum(0.1 * np.sin(100 * np.pi * k * TIME) / k for k in range(1, 9)),
    "piano": lambda: melody(0.2, 6),
    "strings": lambda: melody(0.4, 0.3),
    "drums": drums,
}


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_other_sounds_are_not_speech(name):
    voice = voice_activity(NOT_SPEECH[name]().astype(np.float32), RATE)
    assert voice.speech.mean() < 0.05 and not voice.is_silent and voice.music_likeness > 0.8


@pytest.mark.parametrize("level", [0.0, 3e-4])
def test_silence_is_silence(level):
    voice = voice_activity((level * RNG.standard_normal(len(TIME))).astype(np.float32), RATE)
    assert voice.is_silent and voice.speech_s == 0 and voice.music_likeness == 0


def test_speech_is_speech_and_its_pauses_are_not(speech):
    """One second of silence, the sentence, one second of silence."""
    pause = np.zeros(RATE, np.float32)
    voice = voice_activity(np.concatenate([pause, speech, pause]), RATE)
    length = len(speech) // 160
    assert voice.speech[100 : 100 + length].mean() > 0.6 and voice.music_likeness < 0.2
    assert not voice.speech[:90].any() and not voice.speech[110 + length :].any()
    assert len(voice.speech) == len(voice.level_db) == len(voice.music) == 200 + round(len(speech) / 160)


@pytest.mark.parametrize("snr_db", [20, 10])
def test_speech_in_noise(speech, snr_db):
    noise = RNG.standard_normal(len(speech)) * np.sqrt(np.mean(speech**2)) * 10 ** (-snr_db / 20)
    clean = voice_activity(speech, RATE).speech
    noisy = voice_activity((speech + noise).astype(np.float32), RATE).speech
    assert noisy[clean].mean() > 0.6


def test_level_is_decibels_of_full_scale():
    sine = (0.5 * np.sin(2 * np.pi * 1000 * TIME)).astype(np.float32)
    assert voice_activity(sine, RATE).level_db[50:-50] == pytest.approx(
        20 * np.log10(0.5 / np.sqrt(2)), abs=0.1
    )


def test_other_rates_and_short_sounds(speech):
    high = resample_poly(speech, 3, 1).astype(np.float32)
    assert abs(voice_activity(high, 48000).speech.mean() - voice_activity(speech, RATE).speech.mean()) < 0.05
    assert len(voice_activity(np.zeros(0, np.float32), RATE).speech) == 0
    assert len(voice_activity(np.zeros(480, np.float32), RATE).speech) == 3
    with pytest.raises(ValueError, match="mono"):
        voice_activity(np.zeros((2, 100), np.float32), RATE)
