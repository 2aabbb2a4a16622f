"""Sound lands on the container's timeline: no delay of the resampler, no shift at block borders, gaps filled."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from lipsync_cli.audio.load import load_audio, stream_audio
from tests.media_clips import Clip, find_burst, write_clip


@pytest.mark.parametrize("source_hz", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("target_hz", [16000, 48000])
def test_resampling_does_not_shift(tmp_path, source_hz, target_hz):
    """A Gaussian pulse keeps its centre of gravity to a hundredth of a sample of the slower rate."""
    time = np.arange(2 * source_hz) / source_hz
    centre, width = 1.0003, 0.002
    pulse = np.exp(-0.5 * ((time - centre) / width) ** 2).astype(np.float32)
    write_wav(tmp_path / "p.wav", pulse, source_hz)
    sound = load_audio(tmp_path / "p.wav", sample_rate_hz=target_hz)
    times = float(sound.start) + np.arange(len(sound.samples)) / target_hz
    weights = np.where(np.abs(times - centre) < 8 * width, sound.samples, 0).astype(np.float64)
    assert abs((times * weights).sum() / weights.sum() - centre) < 0.01 / min(source_hz, target_hz)
    assert abs(len(sound.samples) - 2 * target_hz) <= 1


def write_wav(path, samples, rate, codec="pcm_f32le"):
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            samples.reshape(1, -1).astype(np.float32), format="flt", layout="mono"
        )
        frame.sample_rate, frame.pts = rate, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "pcm_s16le"), ("ts", "aac")])
def test_blocks_join_to_the_whole(tmp_path, suffix, codec):
    path = tmp_path / f"c.{suffix}"
    write_clip(path, Clip(audio_codec=codec, duration=Fraction(3)))
    whole = load_audio(path)
    blocks = list(stream_audio(path, block_s=0.35))
    assert np.array_equal(np.concatenate([b.samples for b in blocks]), whole.samples)
    at = blocks[0].start
    for block in blocks:
        assert block.start == at and block.samples.dtype == np.float32
        at += Fraction(len(block.samples), 16000)
    assert [len(b.samples) for b in blocks[:-1]] == [5600] * (len(blocks) - 1)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "aac"), ("mov", "pcm_s16le"), ("mkv", "flac"), ("ts", "aac")]
)
def test_a_part_is_the_part_of_the_whole(tmp_path, suffix, codec):
    path = tmp_path / f"c.{suffix}"
    write_clip(path, Clip(audio_codec=codec, duration=Fraction(4), beep=Fraction(3), flash=Fraction(3)))
    whole = load_audio(path, sample_rate_hz=48000)
    part = load_audio(path, sample_rate_hz=48000, start=Fraction(5, 2), end=Fraction(7, 2))
    assert part.start == Fraction(5, 2) and len(part.samples) == 48000
    in_whole = float(whole.start) + find_burst(whole.samples) / 48000
    assert abs(2.5 + find_burst(part.samples) / 48000 - in_whole) < (1e-3 if suffix == "mkv" else 1.5 / 48000)


def test_time_before_the_sound_is_zeros(tmp_path):
    write_clip(tmp_path / "c.mov", Clip(audio_codec="pcm_s16le", audio_start=Fraction(1, 2)))
    assert load_audio(tmp_path / "c.mov").start == Fraction(1, 2)
    padded = load_audio(tmp_path / "c.mov", sample_rate_hz=48000, start=Fraction(0))
    assert padded.start == 0 and not padded.samples[:24000].any() and padded.samples[24000:24100].any()


def test_gaps_become_zeros_and_overlaps_are_dropped(tmp_path):
    """Packets of a Matroska file moved by hand: 0.5 s missing after 1 s, then 496 samples told twice."""
    ramp = np.linspace(0.1, 0.9, 3 * 8000, dtype=np.float32)
    with av.open(str(tmp_path / "g.mkv"), "w") as out:
        stream = out.add_stream("pcm_f32le", rate=8000, layout="mono")
        for at in range(0, len(ramp), 800):
            late = 0 if at < 8000 else 4000 if at < 16000 else 3504
            frame = av.AudioFrame.from_ndarray(ramp[None, at : at + 800], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, at + late, Fraction(1, 8000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    sound = load_audio(tmp_path / "g.mkv", sample_rate_hz=8000).samples
    expected = np.concatenate([ramp[:8000], np.zeros(4000, np.float32), ramp[8000:16000], ramp[16496:]])
    assert len(sound) == len(expected) and np.allclose(sound, expected, atol=1e-6)


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "flac"]
)
def test_every_sample_type_has_the_same_scale(tmp_path, codec):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)
    suffix = "flac" if codec == "flac" else "wav"
    write_wav(tmp_path / f"t.{suffix}", tone, 8000, codec)
    sound = load_audio(tmp_path / f"t.{suffix}", sample_rate_hz=8000).samples
    assert np.abs(sound - tone).max() < (0.01 if codec == "pcm_u8" else 1e-4)


def test_mono_is_the_mean_and_tracks_are_told_apart(tmp_path):
    clip = Clip(audio_codec="pcm_s16le", tracks=2, layout="5.1")
    write_clip(tmp_path / "c.mov", clip)
    first, second = (load_audio(tmp_path / "c.mov", track=n, sample_rate_hz=48000).samples for n in (0, 1))
    assert abs(np.abs(first).max() / np.abs(second).max() - 2) < 0.05  # track 1 is written 6 dB quieter
    left = np.zeros((2, 800), np.int16)
    left[0] = 16384
    with av.open(str(tmp_path / "l.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(left.T.reshape(1, -1).copy(), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 8000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert np.allclose(load_audio(tmp_path / "l.wav", sample_rate_hz=8000).samples, 0.25)
