"""The example clip says what its script says, and the script puts the sound where it is asked to."""

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lipsync_cli.audio.load import load_audio
from lipsync_cli.media.frames import read_frames
from lipsync_cli.media.probe import probe

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLIP = EXAMPLES / "talking_photo.mp4"


def script():
    pytest.importorskip("hibari", reason="the voice comes with the test extra: pip install -e '.[test]'")
    spec = importlib.util.spec_from_file_location("make_talking_photo", EXAMPLES / "make_talking_photo.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def heard_later_s(path: Path, spoken: np.ndarray) -> float:
    """By how much the sound of a clip comes after `spoken` (24 kHz) played from container time 0."""
    heard = load_audio(path, sample_rate_hz=24_000, end=Fraction(2))
    size = 1 << 17
    product = np.fft.rfft(heard.samples, size) * np.fft.rfft(spoken[:48_000], size).conj()
    shift = int(np.fft.irfft(product, size).argmax())
    return (shift - size if shift > size // 2 else shift) / 24_000 + float(heard.start)


@pytest.fixture(scope="module")
def talking():
    return script()


@pytest.fixture(scope="module")
def spoken(talking):
    return talking.speak(talking.TEXT)


def test_the_clip_is_small_and_plain():
    info = probe(CLIP)
    assert CLIP.stat().st_size < 400_000
    assert (info.video[0].codec, info.video[0].rate, info.video[0].start) == ("h264", 25, 0)
    assert info.audio[0].codec == "aac" and 5 < info.duration < 8


def test_the_clips_sound_is_early_by_120_ms(spoken):
    assert heard_later_s(CLIP, spoken[0]) == pytest.approx(-0.120, abs=0.001)


@pytest.mark.parametrize("lead_ms", [-200, 80])
def test_the_sound_lands_where_it_is_asked_to(talking, spoken, lead_ms, tmp_path):
    talking.make(tmp_path / "clip.mp4", lead_ms, 2.0)
    info = probe(tmp_path / "clip.mp4")
    assert (info.video[0].width, info.video[0].height) == (480, 480)
    assert heard_later_s(tmp_path / "clip.mp4", spoken[0]) == pytest.approx(-lead_ms / 1000, abs=0.001)
    times = [frame.time for frame in read_frames(tmp_path / "clip.mp4", long_side_px=48)]
    assert times == [Fraction(k, 25) for k in range(50)]


def test_lips_are_shut_for_m_and_open_for_ah(talking):
    sound = talking.Sound
    said = [sound("m", 0.2, 0.3), sound("ɑ", 0.3, 0.45), sound("m", 0.45, 0.55), sound("u", 0.55, 0.7)]
    gap, width = talking.articulate(said, np.array([0.0, 0.25, 0.375, 0.5, 0.625]))
    assert gap[0] < 0.05 and gap[1] < 0.15 and gap[3] < 0.15
    assert gap[2] > 0.5
    assert width[4] < -0.5
