"""Probing, and every way a file can be unusable."""

from __future__ import annotations

import os
from fractions import Fraction

import pytest

from lipsync_cli.audio.load import load_audio
from lipsync_cli.core.errors import InputError
from lipsync_cli.media.frames import read_frames, sample_frames
from lipsync_cli.media.probe import probe, require_audio, require_video
from tests.media_clips import Clip, write_clip


def test_streams_are_described(tmp_path):
    path = tmp_path / "a:b %03d.mkv"  # a name that FFmpeg would read as a protocol or a pattern
    write_clip(path, Clip(rate=Fraction(30000, 1001), audio_codec="flac", tracks=2, size=(66, 50)))
    info = probe(path)
    video = require_video(info)
    assert (video.codec, video.width, video.height, video.rotation) == ("h264", 66, 50, 0)
    assert (video.bit_depth, video.variable_rate) == (8, False)
    assert abs(video.rate - Fraction(30000, 1001)) < Fraction(1, 1000)
    assert [(t.codec, t.sample_rate_hz, t.channels, t.language) for t in info.audio] == [
        ("flac", 48000, 2, "eng"),
        ("flac", 48000, 2, "deu"),
    ]
    assert abs(info.duration - 2) < Fraction(1, 20)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_variable_rate_is_told_from_steady(tmp_path, suffix):
    write_clip(tmp_path / f"v.{suffix}", Clip(rate=None, audio_codec=None))
    write_clip(tmp_path / f"s.{suffix}", Clip(rate=Fraction(24000, 1001), audio_codec=None))
    assert probe(tmp_path / f"v.{suffix}").video[0].variable_rate
    assert not probe(tmp_path / f"s.{suffix}").video[0].variable_rate


@pytest.mark.parametrize(
    ("layout", "channels", "codec"), [("mono", 1, "aac"), ("5.1", 6, "aac"), ("7.1", 8, "pcm_s24le")]
)
def test_channel_layouts(tmp_path, layout, channels, codec):
    write_clip(tmp_path / "c.mov", Clip(layout=layout, audio_codec=codec, video=False))
    info = probe(tmp_path / "c.mov")
    assert (info.audio[0].channels, info.video) == (channels, ())


def test_ten_bit_is_seen(tmp_path):
    write_clip(tmp_path / "c.mkv", Clip(video_codec="ffv1", pixel_format="yuv422p10le", audio_codec=None))
    assert probe(tmp_path / "c.mkv").video[0].bit_depth == 10


def test_later_sound_starts_later(tmp_path):
    write_clip(tmp_path / "c.mp4", Clip(audio_codec="pcm_s16le", audio_start=Fraction(1, 4)))
    info = probe(tmp_path / "c.mp4")
    assert (info.start, info.video[0].start, info.audio[0].start) == (0, 0, Fraction(1, 4))


def unusable(tmp_path):
    good = tmp_path / "good.mp4"
    write_clip(good, Clip(options=(("movflags", "+faststart"),)))
    late_index = tmp_path / "late.mp4"
    write_clip(late_index, Clip())
    for name, content in {
        "empty.mp4": b"",
        "text.mp4": b"hello world\n" * 500,
        "notes.txt": b"hello world\n" * 500,
        "zeros.mov": bytes(100_000),
        "cut short.mp4": good.read_bytes()[: good.stat().st_size // 2],
        "no index.mp4": late_index.read_bytes()[: late_index.stat().st_size // 2],
    }.items():
        (tmp_path / name).write_bytes(content)
    return {
        "missing.mp4": "no such file",
        "empty.mp4": "empty",
        "text.mp4": "not a media file",
        "notes.txt": "text file",
        "zeros.mov": "not a media file",
        "cut short.mp4": "cut short",
        "no index.mp4": "cut short or damaged",
        ".": "folder",
    }


def test_unusable_files_say_why(tmp_path):
    cases = unusable(tmp_path)
    for name, words in cases.items():
        path = tmp_path / name
        with pytest.raises(InputError, match=words) as caught:
            probe(path)
        assert caught.value.exit_code == 3
        assert str(path) in caught.value.message and caught.value.hint, name
    assert len(cases) == 8


@pytest.mark.parametrize("name", ["missing.mp4", "empty.mp4", "text.mp4"])
def test_readers_refuse_what_probe_refuses(tmp_path, name):
    words = unusable(tmp_path)[name]
    for read in (lambda p: list(read_frames(p)), lambda p: list(sample_frames(p)), load_audio):
        with pytest.raises(InputError, match=words):
            read(tmp_path / name)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "secret.mp4"
    write_clip(path)
    if os.geteuid() == 0:  # root reads everything, so the refusal is played
        refuse = PermissionError(13, "Permission denied")
        monkeypatch.setattr(type(path), "open", lambda *a, **k: (_ for _ in ()).throw(refuse))
    else:
        path.chmod(0)
    with pytest.raises(InputError, match="cannot be read") as caught:
        probe(path)
    assert caught.value.exit_code == 3


def test_missing_halves_are_named(tmp_path):
    write_clip(tmp_path / "silent.mp4", Clip(audio_codec=None))
    write_clip(tmp_path / "blind.mp4", Clip(video=False))
    with pytest.raises(InputError, match="no sound track"):
        require_audio(probe(tmp_path / "silent.mp4"))
    with pytest.raises(InputError, match="no sound track"):
        load_audio(tmp_path / "silent.mp4")
    with pytest.raises(InputError, match="no picture"):
        require_video(probe(tmp_path / "blind.mp4"))
    with pytest.raises(InputError, match="no picture"):
        list(read_frames(tmp_path / "blind.mp4"))
    with pytest.raises(InputError, match="no sound track 1"):
        require_audio(probe(tmp_path / "blind.mp4"), 1)
    with pytest.raises(InputError, match="no sound track 7"):
        load_audio(tmp_path / "blind.mp4", track=7)
