"""Settings that follow the source, refusals that name the choices, pieces that are whole or not there."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lipsync_cli.core.errors import LipsyncError, UsageError
from lipsync_cli.media.codecs import VIDEO_CODECS, follow_codec
from lipsync_cli.media.encode import PieceWriter, fitted
from lipsync_cli.media.encode_settings import EncodeSettings
from lipsync_cli.media.join import join_pieces
from lipsync_cli.media.native import read_native
from lipsync_cli.media.pixel_formats import loses, nearest_format
from lipsync_cli.media.probe import VideoStream, probe
from tests.finishing import remake, shown
from tests.media_clips import Clip, write_clip


@pytest.fixture
def clip(tmp_path) -> Path:
    write_clip(tmp_path / "in.mp4", Clip(duration=Fraction(1)))
    return tmp_path / "in.mp4"


def follow(clip: Path, name: str = "out.mp4", **choices) -> EncodeSettings:
    return EncodeSettings.follow(probe(clip), clip.with_name(name), **choices)


@pytest.mark.parametrize(
    ("codec", "profile", "choice"),
    [
        ("h264", "High", "h264"),
        ("hevc", "Main 10", "hevc"),
        ("prores", "LT", "prores-lt"),
        ("prores", "HQ", "prores-422-hq"),
        ("dnxhd", "DNXHR SQ", "dnxhr-sq"),
        ("ffv1", None, "ffv1"),
        ("mpeg2video", "Main", "h264"),
        ("v210", None, "ffv1"),
    ],
)
def test_the_codec_follows_the_source(codec, profile, choice):
    source = VideoStream(0, codec, 64, 48, 64, 48, 0, Fraction(25), Fraction(0), 8, "yuv420p", False)
    every = frozenset(known.name for known in VIDEO_CODECS.values())
    chosen, note = follow_codec(source, profile, False, every)
    assert chosen == choice and bool(note) == (codec in ("mpeg2video", "v210"))


@pytest.mark.parametrize(
    ("source", "formats", "best"),
    [
        ("yuv420p", ("yuv444p", "yuv420p"), "yuv420p"),
        ("yuv420p10le", ("yuv420p", "yuv422p10le", "yuv444p"), "yuv422p10le"),
        ("yuv411p", ("yuv420p", "yuv422p"), "yuv422p"),
        ("nv12", ("nv21", "yuv420p", "yuvj420p"), "yuv420p"),
        ("rgb24", ("yuv420p", "yuv444p10le", "gbrp"), "gbrp"),
        ("yuva444p12le", ("yuv444p10le", "yuva444p10le"), "yuva444p10le"),
        ("gray", ("yuv420p", "gray10le"), "gray10le"),
    ],
)
def test_the_nearest_pixel_format_loses_least(source, formats, best):
    assert nearest_format(source, formats) == best


def test_what_is_lost_is_told_from_what_is_only_written_otherwise():
    assert (
        loses("yuv420p10le", "yuv420p") and loses("yuv444p", "yuv422p10le") and loses("yuva420p", "yuv420p")
    )
    assert (
        not loses("nv12", "yuv420p")
        and not loses("yuvj420p", "yuv420p")
        and not loses("yuv420p", "yuv422p10le")
    )


@pytest.mark.parametrize(
    ("choices", "says", "offers"),
    [
        ({"video_codec": "divx"}, "no video codec 'divx'", "prores-422-hq"),
        ({"video_codec": "prores-422-hq"}, "cannot hold prores-422-hq", ".mov"),
        ({"name": "out.mov", "video_codec": "ffv1"}, "cannot hold ffv1", ".mkv"),
        ({"pixel_format": "yuv410p"}, "cannot hold pixel format 'yuv410p'", "yuv420p10le"),
        ({"quality": 52}, "quality 52", "0 to 51"),
        ({"name": "out.mov", "video_codec": "prores-lt", "quality": 5}, "no quality to choose", "--quality"),
        ({"name": "out.mov", "video_codec": "dnxhr-hq"}, "cannot hold a picture of 64 x 48", "prores-422"),
        ({"name": "out.xyz"}, "no container", ".mkv"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_choices(clip, choices, says, offers):
    with pytest.raises(UsageError, match=says) as caught:
        follow(clip, **choices)
    assert caught.value.exit_code == 2 and offers in caught.value.hint


def test_choices_are_taken(clip):
    settings = follow(clip, video_codec="hevc", quality=30, pixel_format="yuv422p10le")
    assert (settings.encoder, settings.pixel_format) == ("libx265", "yuv422p10le")
    assert dict(settings.options)["crf"] == "30"
    assert follow(clip, "out.mov", video_codec="prores-422-hq").pixel_format == "yuv422p10le"
    assert not clip.with_name("out.mp4").exists() and not clip.with_name("out.mov").exists()


def test_better_quality_is_a_bigger_file(clip):
    sizes = []
    for quality in (10, 30):
        remake(clip, clip.with_name(f"{quality}.mp4"), quality=quality)
        sizes.append(clip.with_name(f"{quality}.mp4").stat().st_size)
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize("full", [False, True])
def test_a_change_of_format_keeps_matrix_and_range(tmp_path, full):
    """4:4:4 to 10 bits: every code times four, by definition of both ranges' lower end."""
    picture = av.VideoFrame(16, 16, "yuv444p")
    rng = np.random.default_rng(0)
    for plane in picture.planes:
        plane.update(rng.integers(60, 200, plane.buffer_size, np.uint8).tobytes())
    picture.colorspace, picture.color_range = 1, 2 if full else 1
    write_clip(tmp_path / "in.mov", Clip(duration=Fraction(1, 5)))
    settings = follow(tmp_path / "in.mov", "out.mov")
    changed = type(settings)(**{**vars(settings), "pixel_format": "yuv444p10le"})
    tags = type(settings.colour)(1, 1, 1, 2 if full else 1, "", "")
    changed = type(settings)(**{**vars(changed), "colour": tags})
    out = fitted(picture, changed)
    for old, new in zip(picture.planes, out.planes, strict=True):
        a = np.frombuffer(old, np.uint8).reshape(16, -1)[:, :16].astype(float)
        b = np.frombuffer(new, "<u2").reshape(16, -1)[:, :16]
        assert abs(b - a * (1023 / 255 if full else 4)).max() <= 3


def test_a_piece_appears_when_it_is_whole(clip, tmp_path):
    settings, path = follow(clip), tmp_path / "a.piece"
    frames = list(read_native(clip))
    with PieceWriter(path, settings) as writer:
        for frame in frames:
            kinds = frame.picture.pict_type, frame.picture.pts, frame.picture.time_base
            writer.write(frame.picture, frame.time)
            assert kinds == (frame.picture.pict_type, frame.picture.pts, frame.picture.time_base)
            assert not path.exists()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert packets[0].is_keyframe and len(packets) == len(frames)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.piece", "in.mp4"]


def test_a_piece_that_failed_leaves_nothing(clip, tmp_path):
    frames = read_native(clip)
    with (
        pytest.raises(RuntimeError, match="engine"),
        PieceWriter(tmp_path / "a.piece", follow(clip)) as writer,
    ):
        writer.write(next(frames).picture, Fraction(0))
        raise RuntimeError("the engine broke")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_pieces_of_the_same_pictures_do_not_join(clip, tmp_path):
    settings = follow(clip)
    for name in "ab":
        with PieceWriter(tmp_path / name, settings) as writer:
            writer.write(next(read_native(clip)).picture, Fraction(0))
    with pytest.raises(LipsyncError, match="overlap"):
        join_pieces(
            [tmp_path / "a", tmp_path / "b"], probe(clip), tmp_path / "out.mp4", settings, Fraction(1)
        )


def test_pieces_of_different_settings_do_not_join(clip, tmp_path):
    frames = list(read_native(clip))[:2]
    for name, frame, quality in zip("ab", frames, (10, 30), strict=True):
        with PieceWriter(tmp_path / name, follow(clip, quality=quality)) as writer:
            writer.write(frame.picture, frame.time)
    with pytest.raises(LipsyncError, match="encoded in another way"):
        join_pieces(
            [tmp_path / "a", tmp_path / "b"], probe(clip), tmp_path / "out.mp4", follow(clip), Fraction(1)
        )


def test_odd_sizes_keep_every_column(tmp_path):
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_clip(source, Clip(video_codec="mpeg4", size=(63, 47), duration=Fraction(1, 2)))
    settings, _ = remake(source, out)
    video = probe(out).video[0]
    assert (video.width, video.height, settings.pixel_format) == (63, 47, "yuv444p") and shown(out) == shown(
        source
    )


def test_rgb_becomes_bt709_and_says_so(tmp_path):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    with av.open(str(source), "w") as target:
        stream = target.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 0] = 255
        target.mux([*stream.encode(av.VideoFrame.from_ndarray(red, "rgb24")), *stream.encode(None)])
    settings, _ = remake(source, out)
    assert settings.codec == "prores-4444" and "qtrle" in settings.notes[0]
    picture = next(read_native(out)).picture
    assert (int(picture.colorspace), int(picture.color_range)) == (1, 1)
    luma = np.frombuffer(picture.planes[0], "<u2").reshape(48, -1)[20, 20] / 2 ** (settings_bits(picture) - 8)
    assert luma == pytest.approx(16 + 219 * 0.2126, abs=1)  # red by BT.709


def settings_bits(picture: av.VideoFrame) -> int:
    return picture.format.components[0].bits


def test_dnxhd_of_another_size_becomes_dnxhr(tmp_path):
    source = tmp_path / "in.mov"
    write_clip(source, Clip(size=(256, 144), duration=Fraction(1, 5)))
    settings = follow(source, "out.mov", video_codec="dnxhd")
    assert settings.codec == "dnxhr-hq" and "256 x 144" in settings.notes[0]


def test_interlaced_pictures_stay_interlaced_and_the_note_says_what_that_means(tmp_path):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    with av.open(str(source), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 50 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    settings, _ = remake(source, out)
    assert settings.interlaced and "not on fields" in settings.notes[0]
    assert all(frame.picture.interlaced_frame for frame in read_native(out))


def test_what_matroska_will_not_say_of_the_pixels_is_said_here(tmp_path):
    source = tmp_path / "in.mov"
    with av.open(str(source), "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        target.mux([*stream.encode(picture), *stream.encode(None)])
    assert follow(source, "out.mkv").notes == follow(source, "out.mov").notes == ()
    assert "4/3" in follow(source, "out.mkv", video_codec="ffv1").notes[0]
