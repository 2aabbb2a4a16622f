"""The front end finds the true lead of the sound in every rate, container and codec."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from lipsync_cli.audio.load import load_audio
from lipsync_cli.media.frames import read_frames
from tests.media_clips import SAMPLE_RATE_HZ, Clip, find_burst, write_clip

RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "50": Fraction(50),
    "59.94": Fraction(60000, 1001),
    "120": Fraction(120),
    "VFR": None,
}
CONTAINERS = (
    ("mp4", "aac"),
    ("mp4", "pcm_s16le"),
    ("mov", "aac"),
    ("mov", "pcm_s24le"),
    ("mkv", "aac"),
    ("mkv", "pcm_s16le"),
    ("ts", "aac"),
    ("mxf", "pcm_s16le"),
)
# how a clip comes by its lead: in the samples, or by where the sound or the picture starts
WAYS = ("samples", "audio_late", "audio_early", "video_late", "video_early")
LEADS_MS = (-500, -120, -40, -7, 0, 7, 40, 120, 500)
ALL = [
    (rate, suffix, codec, way, lead)
    for rate, (suffix, codec), way, lead in product(RATES, CONTAINERS, WAYS, LEADS_MS)
    if not (suffix == "mxf" and (rate in ("120", "VFR") or way != "samples"))  # MXF has no timestamps to move
    and not (way in ("audio_late", "video_early") and lead > 0)
    and not (way in ("audio_early", "video_late") and lead <= 0)
]


def thinned() -> list:
    """One clip of each rate x container x codec, the ways and leads taking turns."""
    chosen = {}
    for number, case in enumerate(ALL):
        cases = [c for c in ALL if c[:3] == case[:3]]
        chosen.setdefault(case[:3], cases[(7 * len(chosen) + number % 3) % len(cases)])
    return list(chosen.values())


def measured_lead(path: Path) -> tuple[Fraction, float]:
    """(flash time, flash - burst in seconds) through the product's own reading."""
    flash = next(f.time for f in read_frames(path) if f.image.mean() > 160)
    sound = load_audio(path, sample_rate_hz=SAMPLE_RATE_HZ)
    return flash, float(flash - sound.start) - find_burst(sound.samples) / SAMPLE_RATE_HZ


def make(path: Path, rate: str, codec: str, way: str, lead_ms: int):
    lead = Fraction(lead_ms, 1000)
    moved = {
        "samples": {"beep": 1 - lead},
        "audio_late": {"audio_start": -lead},
        "audio_early": {"audio_start": -lead},
        "video_late": {"video_start": lead},
        "video_early": {"video_start": lead},  # in MP4 the first pictures fall before an edit list's start
    }[way]
    return write_clip(path, Clip(rate=RATES[rate], audio_codec=codec, **moved))


def check(tmp_path: Path, rate: str, suffix: str, codec: str, way: str, lead_ms: int) -> None:
    path = tmp_path / f"clip.{suffix}"
    truth = make(path, rate, codec, way, lead_ms)
    _, lead = measured_lead(path)
    # Matroska keeps milliseconds for pictures and sound alike; elsewhere PCM is exact to the sample
    limit_s = 1e-3 if suffix == "mkv" or codec == "aac" else 1 / SAMPLE_RATE_HZ
    assert abs(lead - float(truth.audio_lead)) <= limit_s + 1e-9


@pytest.mark.parametrize(("rate", "suffix", "codec", "way", "lead_ms"), thinned())
def test_lead_is_recovered(tmp_path, rate, suffix, codec, way, lead_ms):
    check(tmp_path, rate, suffix, codec, way, lead_ms)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "suffix", "codec", "way", "lead_ms"), ALL)
def test_lead_is_recovered_everywhere(tmp_path, rate, suffix, codec, way, lead_ms):
    check(tmp_path, rate, suffix, codec, way, lead_ms)


def test_matrix_covers_what_it_says():
    cases = thinned()
    assert {c[0] for c in cases} == set(RATES)
    assert {c[1:3] for c in cases} == set(CONTAINERS)
    assert {c[3] for c in cases} == set(WAYS)
    assert len({c[4] for c in cases}) >= 7 and len(cases) >= 60
