"""Frames by timestamp: order, grid, seeking, rotation, sizes, damage."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest

from lipsync_cli.core.errors import InputError
from lipsync_cli.media import frames
from lipsync_cli.media.frames import read_frames, sample_frames
from lipsync_cli.media.probe import probe
from tests.media_clips import Clip, frame_times, write_clip


def numbered(path, times, rate=Fraction(25), tick=Fraction(1, 1000)):
    """A lossless clip whose frame n has brightness n at times[n]."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "gray"
        stream.codec_context.time_base = tick
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
            frame.pts, frame.time_base = round(time / tick), tick
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def number(frame):
    return int(frame.image[0, 0, 0])


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(60000, 1001), None])
def test_every_frame_once_in_order(tmp_path, rate):
    clip = Clip(rate=rate, audio_codec=None)
    write_clip(tmp_path / "c.mp4", clip)
    times = [f.time for f in read_frames(tmp_path / "c.mp4")]
    assert times == list(frame_times(clip))


def test_images_are_upright_contiguous_rgb(tmp_path):
    write_clip(tmp_path / "c.mp4")
    frame = next(read_frames(tmp_path / "c.mp4"))
    assert frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous and frame.time == 0


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30), Fraction(50), Fraction(60000, 1001)])
def test_grid_takes_the_nearest_frame(tmp_path, rate):
    times = [n / rate for n in range(round(2 * rate))]
    numbered(tmp_path / "c.mkv", times, rate)
    sampled = list(sample_frames(tmp_path / "c.mkv"))
    assert [f.time for f in sampled] == [
        Fraction(k, 25) for k in range(51) if Fraction(k, 25) < times[-1] + 1 / rate
    ]
    for frame in sampled:
        best = min(abs(t - frame.time) for t in times)
        assert abs(times[number(frame)] - frame.time) <= best + Fraction(1, 500)  # Matroska rounds to 1 ms


def test_a_freeze_never_shows_the_future(tmp_path):
    times = [Fraction(n, 25) for n in range(10)] + [Fraction(2) + Fraction(n, 25) for n in range(10)]
    numbered(tmp_path / "c.mkv", times)
    frozen = [
        number(f) for f in sample_frames(tmp_path / "c.mkv") if Fraction(2, 5) <= f.time < Fraction(19, 10)
    ]
    assert len(frozen) > 30 and set(frozen) == {9}


def test_frames_are_converted_only_when_used(tmp_path, monkeypatch):
    write_clip(tmp_path / "c.mp4", Clip(rate=Fraction(50), audio_codec=None))
    converted = []
    convert = frames.to_image
    monkeypatch.setattr(frames, "to_image", lambda *a: converted.append(1) or convert(*a))
    assert len(list(sample_frames(tmp_path / "c.mp4", rate=Fraction(5)))) == len(converted) == 10
    converted.clear()
    assert len(list(sample_frames(tmp_path / "c.mp4", rate=Fraction(200)))) == 400
    assert len(converted) == 100


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_part_is_the_part_of_the_whole(tmp_path, suffix):
    path = tmp_path / f"c.{suffix}"
    write_clip(path, Clip(duration=Fraction(4), audio_codec=None, rate=Fraction(24000, 1001)))
    start, end = Fraction(5, 2), Fraction(13, 4)
    for read in (read_frames, sample_frames):
        whole = [f for f in read(path) if start <= f.time < end]
        part = list(read(path, start=start, end=end))
        assert [f.time for f in part] == [f.time for f in whole] and len(part) > 15
        assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole, strict=True))


@pytest.mark.parametrize(
    ("size", "limit", "shape"), [((1920, 1080), 640, (360, 640)), ((64, 48), 640, (48, 64))]
)
def test_long_side(tmp_path, size, limit, shape):
    write_clip(tmp_path / "c.mp4", Clip(size=size, duration=Fraction(1, 10), audio_codec=None))
    assert next(read_frames(tmp_path / "c.mp4", long_side_px=limit)).image.shape[:2] == shape


def test_odd_sizes_and_tall_8k(tmp_path):
    odd = Clip(
        size=(67, 45), video_codec="ffv1", pixel_format="yuv444p", duration=Fraction(1, 5), audio_codec=None
    )
    write_clip(tmp_path / "odd.mkv", odd)
    assert next(read_frames(tmp_path / "odd.mkv")).image.shape == (45, 67, 3)
    tall = Clip(size=(4320, 7680), duration=Fraction(1, 25), audio_codec=None)
    write_clip(tmp_path / "tall.mp4", tall)
    assert [f.image.shape for f in read_frames(tmp_path / "tall.mp4", long_side_px=640)] == [(640, 360, 3)]


@pytest.mark.parametrize("duration", [Fraction(1, 25), Fraction(3, 10)])
def test_short_clips(tmp_path, duration):
    write_clip(tmp_path / "c.mp4", Clip(duration=duration, flash=Fraction(0), beep=Fraction(0)))
    info = probe(tmp_path / "c.mp4")
    assert info.video[0].start == 0
    assert len(list(read_frames(tmp_path / "c.mp4"))) == len(list(sample_frames(tmp_path / "c.mp4")))
    assert len(list(read_frames(tmp_path / "c.mp4"))) == -(-duration * 25 // 1)


def turned(path, clockwise):
    """Write a matrix for display into the track header of an MP4 (ISO 14496-12 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of fields
    one, minus = 0x10000, 0xFFFF0000
    a, b, c, d = {
        0: (one, 0, 0, one),
        90: (0, one, minus, 0),
        180: (minus, 0, 0, minus),
        270: (0, minus, one, 0),
    }[clockwise]
    for n, value in enumerate((a, b, 0, c, d, 0, 0, 0, 0x40000000)):
        data[at + 4 * n : at + 4 * n + 4] = value.to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_rotation_is_undone(tmp_path, clockwise):
    path = tmp_path / "c.mp4"
    write_clip(path, Clip(duration=Fraction(1, 10), audio_codec=None))
    stored = next(read_frames(path)).image
    turned(path, clockwise)
    video = probe(path).video[0]
    upright = next(read_frames(path)).image
    assert video.rotation == clockwise
    assert upright.shape[:2] == (video.height, video.width)
    # clockwise by hand: the left column, read upwards, becomes the top row
    by_hand = stored
    for _ in range(clockwise // 90):
        by_hand = by_hand[::-1].transpose(1, 0, 2)
    assert np.array_equal(upright, by_hand)


def test_damage_midway_is_an_error_and_at_the_tail_is_not(tmp_path):
    path = tmp_path / "c.mov"
    clip = Clip(video_codec="png", pixel_format="rgb24", audio_codec=None)
    write_clip(path, clip)
    data = path.read_bytes()
    heads = [n for n in range(len(data)) if data.startswith(b"\x89PNG", n)]
    assert len(heads) >= 40

    def spoil(which):
        spoiled = bytearray(data)
        for n in which:
            spoiled[heads[n] : heads[n] + 60] = bytes(60)
        path.write_bytes(spoiled)

    spoil([20])
    with pytest.raises(InputError, match="damaged") as caught:
        list(read_frames(path))
    assert caught.value.exit_code == 3
    spoil([len(heads) - 1])
    assert len(list(read_frames(path))) == len(heads) - 1


def test_a_cut_off_recording_ends_where_it_was_cut(tmp_path):
    path = tmp_path / "c.ts"
    write_clip(path)
    whole = len(list(read_frames(path)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 < len(list(read_frames(path))) < whole


def test_reading_holds_few_frames(tmp_path):
    write_clip(tmp_path / "c.mp4", Clip(duration=Fraction(20), audio_codec=None))
    first = list(islice(read_frames(tmp_path / "c.mp4"), 3))
    assert [f.time for f in first] == [0, Fraction(1, 25), Fraction(2, 25)]
