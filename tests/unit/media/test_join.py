"""The result is the source but for what was edited: pictures, times, tags, tracks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lipsync_cli.media.carry import write_anew
from lipsync_cli.media.native import read_native
from lipsync_cli.media.patch import paste
from lipsync_cli.media.pixels import pixel_layout, samples
from lipsync_cli.media.probe import probe
from tests.finishing import remake, shown
from tests.media_clips import Clip, write_clip
from tests.unit.media.test_remux import described, rich

WILD = Path(__file__).resolve().parents[4] / "shared" / "clips" / "wild"
TIMELINES = {
    "23.976": Clip(rate=Fraction(24000, 1001)),
    "29.97": Clip(rate=Fraction(30000, 1001)),
    "59.94": Clip(rate=Fraction(60000, 1001), duration=Fraction(1)),
    "variable": Clip(rate=None),
    "late picture": Clip(video_start=Fraction(4, 10)),
    "late sound": Clip(audio_start=Fraction(3, 10)),
    "no sound": Clip(audio_codec=None),
}


def timeline_of(path: Path) -> list[Fraction]:
    """When each picture comes; how long the last one stays is what no reordered stream can say."""
    return [time for time, _ in shown(path)]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("timeline", list(TIMELINES))
def test_every_picture_comes_out_when_it_was_shown(tmp_path, suffix, timeline):
    source, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    write_clip(source, TIMELINES[timeline])
    settings, dropped = remake(source, out)
    assert dropped == settings.notes == ()
    assert len(shown(source)) > 40
    assert timeline_of(out) == timeline_of(source)
    old, new = probe(source), probe(out)
    assert (new.start, new.video[0].start) == (old.start, old.video[0].start)
    assert abs(new.duration - old.duration) <= Fraction(1, 100)  # FFmpeg rounds the last block in Matroska
    assert new.video[0].rate == pytest.approx(old.video[0].rate, rel=1e-2)
    assert new.audio == old.audio


def test_a_picture_trimmed_by_an_edit_list_stays_trimmed(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_clip(source, Clip(rate=Fraction(24), video_start=Fraction(-12, 100)))
    remake(source, out)
    assert shown(out) == shown(source)


@pytest.mark.parametrize("each", [1, 2, 1000])
def test_pieces_of_any_length_make_the_same_timeline(tmp_path, each):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_clip(source, Clip(rate=None, duration=Fraction(1)))
    remake(source, out, each=each)
    assert timeline_of(out) == timeline_of(source)


def blot(picture: av.VideoFrame) -> av.VideoFrame:
    """Green where columns 20 to 39 and rows 11 to 30 are."""
    return paste(
        picture, np.broadcast_to(np.float32((0, 1, 0)), (20, 20, 3)), np.ones((20, 20), np.float32), 20, 11
    )


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p12le"])
def test_outside_the_edit_a_lossless_result_has_the_samples_of_the_source(tmp_path, pixel_format):
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_clip(source, Clip(video_codec="ffv1", pixel_format=pixel_format, duration=Fraction(1)))
    settings, _ = remake(source, out, edit=blot)
    assert (settings.codec, settings.pixel_format) == ("ffv1", pixel_format)
    count = 0
    for old, new in zip(read_native(source), read_native(out), strict=True):
        for number, channel in enumerate(pixel_layout(pixel_format).channels):
            a, b = samples(old.picture, channel), samples(new.picture, channel)
            inside = np.zeros(a.shape, bool)
            inside[
                11 // channel.down : -(-31 // channel.down), 20 // channel.across : 40 // channel.across
            ] = True
            assert (a[~inside] == b[~inside]).all()
            assert number or (a[inside] != b[inside]).mean() > 0.9
        count += 1
    assert count == 25


def test_h264_to_lossless_keeps_what_was_decoded(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mkv"
    write_clip(source, Clip(duration=Fraction(1)))
    remake(source, out, video_codec="ffv1")
    for old, new in zip(read_native(source), read_native(out), strict=True):
        for channel in pixel_layout("yuv420p").channels:
            assert (samples(old.picture, channel) == samples(new.picture, channel)).all()


def psnr(source: Path, out: Path) -> float:
    """Of luma, in dB of the full range of its depth."""
    errors, top = [], 1
    for old, new in zip(read_native(source), read_native(out), strict=True):
        channel, other = (pixel_layout(f.picture.format.name).channels[0] for f in (old, new))
        a, b = samples(old.picture, channel).astype(float), samples(new.picture, other).astype(float)
        top = 2**channel.bits - 1
        errors.append(((a - b / 2 ** (other.bits - channel.bits)) ** 2).mean())
    return 10 * np.log10(top**2 / max(np.mean(errors), 1e-9))


@pytest.mark.parametrize(
    ("codec", "profile", "pixel_format"),
    [
        ("prores_ks", "3", "yuv422p10le"),
        ("prores_ks", "4", "yuva444p10le"),
        ("dnxhd", "dnxhr_hqx", "yuv422p10le"),
        ("libx264", None, "yuv422p10le"),
        ("libx265", None, "yuv420p10le"),
    ],
)
def test_codec_profile_and_depth_are_kept(tmp_path, codec, profile, pixel_format):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    with av.open(str(source), "w") as target:
        options = {"profile": profile} if profile else {"preset": "ultrafast"}
        stream = target.add_stream(codec, rate=Fraction(24000, 1001), options=options)
        stream.width, stream.height, stream.pix_fmt = 256, 144, pixel_format
        ramp = np.linspace(0, 255, 256, dtype=np.uint8)
        for number in range(9):
            image = np.broadcast_to(np.roll(ramp, 3 * number)[None, :, None], (144, 256, 3))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1001, 24000)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    settings, _ = remake(source, out, each=4)
    # FFmpeg decodes ProRes 4444 to 12 bits and encodes it from 10
    assert settings.notes == (() if profile != "4" else ("pixel format yuva444p12le becomes yuva444p10le",))
    with av.open(str(source)) as a, av.open(str(out)) as b:
        old, new = a.streams.video[0], b.streams.video[0]
        assert (old.codec_context.name, old.profile) == (new.codec_context.name, new.profile)
        if profile:
            assert old.codec_context.codec_tag == new.codec_context.codec_tag
        assert old.codec_context.pix_fmt == new.codec_context.pix_fmt
    assert shown(out) == shown(source)
    assert psnr(source, out) > 45


def test_mpeg4_becomes_h264_and_says_so(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_clip(source, Clip(video_codec="mpeg4"))
    settings, _ = remake(source, out)
    assert probe(out).video[0].codec == "h264" and "mpeg4" in settings.notes[0]
    assert shown(out) == shown(source)


HDR = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"


def test_hdr10_tags_and_light_levels_are_kept(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    with av.open(str(source), "w") as target:
        stream = target.add_stream(
            "libx265", rate=25, options={"preset": "ultrafast", "x265-params": f"log-level=none:{HDR}"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1
        for number in range(5):
            frame = av.VideoFrame(64, 48, "yuv420p10le")
            for plane in frame.planes:
                plane.update(b"\x00\x02" * (plane.buffer_size // 2))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    settings, _ = remake(source, out, each=3)
    old, new = next(read_native(source)).picture, next(read_native(out)).picture
    for picture in (old, new):
        tags = picture.color_primaries, picture.color_trc, picture.colorspace, picture.color_range
        assert tuple(int(tag) for tag in tags) == (9, 16, 9, 1)
    light = [
        {d.type.name: bytes(d) for d in p.side_data if "LIGHT" in d.type.name or "MASTER" in d.type.name}
        for p in (old, new)
    ]
    assert len(light[0]) == 2 and light[0] == light[1]
    assert (
        settings.colour.mastering == HDR.split(":")[0].split("=")[1] and settings.colour.light == "1000,400"
    )
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_and_pixel_shape_are_kept(tmp_path, suffix, rotation):
    source, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    with av.open(str(source), "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(-rotation)
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    remake(source, out)
    old, new = probe(source).video[0], probe(out).video[0]
    assert old.rotation == rotation and (new.rotation, new.width, new.height) == (
        rotation,
        old.width,
        old.height,
    )
    with av.open(str(out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_everything_beside_the_picture_is_kept(tmp_path, suffix):
    source, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    rich(source)
    remake(source, out)
    kept = described(out)
    assert kept == described(source)
    assert [name for _, name in kept["chapters"]] == ["One", "Two"] and kept["tags"]["title"] == "A film"
    assert [language for language, _ in kept["sound"]] == ["eng", "fra"]
    assert kept["timecode"] == ["10:00:00:00"] * 2 if suffix == "mov" else kept["attachments"]
    assert shown(out) == shown(source)


def started(job):
    """A maker of packets whose stream is there before the first packet is asked for."""

    def start(target):
        packets = job(target)
        first = next(packets)
        return iter([first, *packets])

    return start


def lines_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def test_subtitles_are_kept(tmp_path):
    write_clip(tmp_path / "plain.mkv")
    (tmp_path / "a.srt").write_text(
        "1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,000 --> 00:00:01,500\nyou\n"
    )
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"

    def lines(target):
        with av.open(str(tmp_path / "a.srt")) as text:
            stream = target.add_stream_from_template(text.streams.subtitles[0])
            stream.metadata["language"] = "eng"
            for packet in text.demux():
                if packet.size:
                    packet.stream = stream
                    yield Fraction(0), [packet]

    write_anew(tmp_path / "plain.mkv", source, lambda stream: None, added=[started(lines)])
    remake(source, out)
    assert [text for _, text in lines_of(out)] == [b"Hello", b"you"]
    assert lines_of(out) == lines_of(source)
    with av.open(str(out)) as container:
        assert container.streams.subtitles[0].language == "eng"


def test_a_preview_ends_where_it_is_asked_to(tmp_path):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    rich(source)
    remake(source, out, end=Fraction(4, 5))
    assert shown(out) == shown(source)[:20]
    info = probe(out)
    assert info.duration == pytest.approx(Fraction(4, 5), abs=0.05) and len(info.audio) == 2
    assert [title for _, title in described(out)["chapters"]] == ["One"]


@pytest.mark.real
@pytest.mark.parametrize("name", ["garden", "talk2", "talk4"])
def test_real_clips(tmp_path, name):
    source, out = WILD / f"{name}.mp4", tmp_path / f"{name}.mp4"
    if not source.exists():
        pytest.skip(f"{source} is not here")
    remake(source, out, end=Fraction(1), each=10)
    times = [(f.time, f.duration) for f in read_native(source, end=Fraction(1))]
    assert shown(out) == times and len(times) > 20
    pairs = zip(read_native(source), read_native(out), strict=False)
    luma = pixel_layout("yuv420p").channels[0]
    error = [
        ((samples(a.picture, luma) - samples(b.picture, luma).astype(float)) ** 2).mean() for a, b in pairs
    ]
    assert 10 * np.log10(255**2 / np.mean(error)) > 42
