"""The fixed file: sound where it was asked to be, picture packets untouched, everything else kept."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lipsync_cli.audio.load import load_audio
from lipsync_cli.core.container import open_container
from lipsync_cli.core.errors import InputError, ResourceError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.sound import read_sound
from lipsync_cli.media import carry
from lipsync_cli.media.frames import read_frames
from lipsync_cli.media.measure import measure_change
from lipsync_cli.media.picture import picture_summary
from lipsync_cli.media.remux import Correction, is_lossless, write_corrected
from tests.media_clips import Clip, write_clip
from tests.unit.media.test_timeline import measured_lead

CASES = [
    (suffix, codec, mode)
    for suffix, codec in (
        ("mp4", "aac"),
        ("mp4", "ac3"),
        ("mp4", "alac"),
        ("mov", "aac"),
        ("mov", "pcm_s24le"),
        ("mkv", "aac"),
        ("mkv", "flac"),
        ("mkv", "pcm_s16le"),
        ("mkv", "libopus"),
        ("ts", "aac"),
        ("mxf", "pcm_s16le"),
    )
    for mode in (("samples",) if is_lossless(codec) else ("reencode-audio",))
    + (("edit",) if suffix != "mxf" else ())
]


@pytest.mark.parametrize(("suffix", "codec", "mode"), CASES)
@pytest.mark.parametrize("delay_ms", [120, -83])
def test_sound_moves_and_picture_stays(tmp_path, suffix, codec, mode, delay_ms):
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    rate = Fraction(24000, 1001) if delay_ms < 0 else Fraction(25)
    write_clip(source, Clip(rate=rate, audio_codec=codec))
    delay = Fraction(delay_ms, 1000)
    assert write_corrected(source, target, Correction(delay, mode)) == ()
    before, after = picture_summary(source), picture_summary(target)
    assert before.packets > 40 and (before.sha256, before.packets) == (after.sha256, after.packets)
    heard = measured_lead(source)[1] - measured_lead(target)[1]
    assert abs(heard - delay_ms / 1000) <= (1 / 48000 if mode == "samples" else 1e-3)
    assert abs(float(measure_change(source, target)) - heard) <= 1.01 / 48000


def test_mxf_ignores_timestamps_and_the_measurement_says_so(tmp_path):
    write_clip(tmp_path / "in.mxf", Clip(audio_codec="pcm_s16le"))
    write_corrected(tmp_path / "in.mxf", tmp_path / "out.mxf", Correction(Fraction(12, 100), "edit"))
    assert measure_change(tmp_path / "in.mxf", tmp_path / "out.mxf") == 0


def native(path, track=0):
    with open_container(path) as container:
        stream = container.streams.audio[track]
        blocks = read_sound((f for p in container.demux(stream) for f in p.decode()), path)
        return np.concatenate([b.samples for b in blocks], axis=1)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mov", "pcm_s24le"), ("mkv", "flac"), ("mxf", "pcm_s16le"), ("mp4", "alac")]
)
@pytest.mark.parametrize("shift", [4001, -4001])
def test_samples_mode_is_bit_exact(tmp_path, suffix, codec, shift):
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    write_clip(source, Clip(audio_codec=codec))
    write_corrected(source, target, Correction(Fraction(shift, 48000), "samples"))
    old, new = native(source), native(target)
    assert old.shape == new.shape and old.dtype == new.dtype
    kept = slice(shift, None) if shift > 0 else slice(None, shift)
    from_ = slice(None, -shift) if shift > 0 else slice(-shift, None)
    assert np.array_equal(new[:, kept], old[:, from_]) and old.any()


def flac_bits(path):
    with av.open(str(path)) as container:  # RFC 9639, 8.2
        return (
            int.from_bytes(container.streams.audio[0].codec_context.extradata[10:14], "big") >> 4 & 31
        ) + 1


def test_flac_of_24_bits_stays_flac_of_24_bits(tmp_path):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_clip(tmp_path / "plain.mkv", Clip(audio_codec=None))
    with av.open(str(tmp_path / "plain.mkv")) as plain, av.open(str(source), "w") as out:
        picture = out.add_stream_from_template(plain.streams.video[0])
        sound = out.add_stream(
            "flac", rate=48000, layout="mono", options={"bits_per_raw_sample": "24"}, format="s32"
        )
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = picture
                out.mux(packet)
        noise = (np.random.default_rng(0).integers(-(2**22), 2**22, (1, 96000)) << 8).astype(np.int32)
        frame = av.AudioFrame.from_ndarray(noise, format="s32", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        out.mux([*sound.encode(frame), *sound.encode(None)])
    write_corrected(source, target, Correction(Fraction(1, 100), "samples"))
    assert flac_bits(source) == flac_bits(target) == 24
    assert np.array_equal(native(source)[:, :-480], native(target)[:, 480:])


def test_there_and_back_is_the_same_place(tmp_path):
    paths = [tmp_path / f"{n}.mp4" for n in range(3)]
    write_clip(paths[0])
    write_corrected(paths[0], paths[1], Correction(Fraction(-12, 100), "edit"))
    write_corrected(paths[1], paths[2], Correction(Fraction(12, 100), "edit"))
    assert measured_lead(paths[2])[1] == pytest.approx(measured_lead(paths[0])[1], abs=1 / 48000)


def first_edit(path):
    """Where the first track's edit list begins in its media, in seconds (ISO 14496-12 8.6.6 and 8.4.2, version 0)."""
    data = path.read_bytes()
    media_time = int.from_bytes(data[(at := data.index(b"elst") + 4) + 12 : at + 16], "big")
    timescale = int.from_bytes(data[(at := data.index(b"mdhd") + 4) + 12 : at + 16], "big")
    times = data.index(b"ctts") + 4
    reordering = int.from_bytes(data[times + 12 : times + 16], "big")  # of the first picture
    return (media_time - reordering) / timescale


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_pictures_hidden_by_an_edit_list_stay_hidden(tmp_path, suffix):
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    write_clip(
        source, Clip(rate=Fraction(24), video_start=Fraction(-12, 100))
    )  # begins inside the third picture
    write_corrected(source, target, Correction(Fraction(-5, 100), "edit"))
    assert picture_summary(source).sha256 == picture_summary(target).sha256
    assert len(list(read_frames(source))) == len(list(read_frames(target)))
    assert measured_lead(source)[1] - measured_lead(target)[1] == pytest.approx(-0.05, abs=1e-3)
    if suffix in ("mp4", "mov"):
        assert first_edit(source) == first_edit(target) == pytest.approx(0.12, abs=1e-4)


def test_only_the_chosen_track_moves(tmp_path):
    write_clip(tmp_path / "in.mov", Clip(audio_codec="pcm_s16le", tracks=3))
    write_corrected(
        tmp_path / "in.mov", tmp_path / "out.mov", Correction(Fraction(1, 10), "samples", tracks=(1,))
    )
    changes = [measure_change(tmp_path / "in.mov", tmp_path / "out.mov", track=n) for n in range(3)]
    assert changes == [0, Fraction(1, 10), 0]
    assert np.array_equal(native(tmp_path / "in.mov", 2), native(tmp_path / "out.mov", 2))


def rich(path):
    """A file with everything: two languages, chapters, titles, timecode or an attachment."""
    plain = path.with_suffix(".plain.mp4")
    write_clip(plain, Clip(audio_codec=None))
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        out.metadata.update({"title": "A film", "artist": "Someone"})
        tick = Fraction(1, 1000)
        titles = enumerate(("One", "Two"))
        chapters = [
            (n, {"start": n * 1000, "end": n * 1000 + 1000, "metadata": {"title": t}}) for n, t in titles
        ]
        out.set_chapters([{"id": n, "time_base": tick, **chapter} for n, chapter in chapters])
        video = out.add_stream_from_template(source.streams.video[0])
        if path.suffix == ".mov":
            video.metadata["timecode"] = "10:00:00:00"
        sounds = [
            out.add_stream("pcm_s16le" if path.suffix == ".mov" else "flac", rate=48000, layout="mono")
            for _ in range(2)
        ]
        for sound, language, disposition in zip(sounds, ("eng", "fra"), (0, 1), strict=True):
            sound.metadata["language"] = language
            sound.disposition = disposition
        if path.suffix == ".mkv":
            out.add_attachment("notes.txt", "text/plain", b"kept")
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        noise = (np.random.default_rng(0).standard_normal((1, 96000)) * 3000).astype(np.int16)
        for sound in sounds:
            frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            out.mux(sound.encode(frame))
            out.mux(sound.encode(None))


def described(path):
    with av.open(str(path)) as container:
        return {
            "tags": {
                key.lower(): container.metadata.get(key)
                for key in container.metadata
                if key.lower() in ("title", "artist")
            },
            "chapters": [
                (float(c["start"] * c["time_base"]), c["metadata"].get("title")) for c in container.chapters()
            ],
            "sound": [(s.language, int(s.disposition)) for s in container.streams.audio],
            "timecode": [s.metadata["timecode"] for s in container.streams if "timecode" in s.metadata],
            "attachments": [(s.name, bytes(s.data)) for s in container.streams if s.type == "attachment"],
        }


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
@pytest.mark.parametrize("mode", ["samples", "edit"])
def test_everything_else_is_kept(tmp_path, suffix, mode):
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    rich(source)
    write_corrected(source, target, Correction(Fraction(7, 100), mode))
    kept = described(target)
    assert kept == described(source)
    assert kept["tags"] == {"title": "A film", "artist": "Someone"}
    assert [name for _, name in kept["chapters"]] == ["One", "Two"]
    assert kept["sound"][0][0] == "eng" and kept["sound"][1] == ("fra", 1)
    assert (
        kept["timecode"] == ["10:00:00:00"] * 2
        if suffix == "mov"
        else kept["attachments"] == [("notes.txt", b"kept")]
    )


def centre(path):
    """Where the energy of the burst lies, in seconds on the container's timeline."""
    sound = load_audio(path, sample_rate_hz=48000)
    energy = np.where(np.abs(sound.samples) > 0.02, sound.samples, 0).astype(np.float64) ** 2
    return float(sound.start) + (energy * np.arange(len(energy))).sum() / energy.sum() / 48000


@pytest.mark.parametrize("tempo", [Fraction(1000145, 1000000), Fraction(25, 24)])
@pytest.mark.parametrize(
    ("suffix", "codec", "mode"), [("mov", "pcm_s16le", "samples"), ("mp4", "aac", "reencode-audio")]
)
def test_drift_is_taken_out(tmp_path, tempo, suffix, codec, mode):
    """The burst at 1.5 s lands at 1.5 / tempo."""
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    clip = Clip(audio_codec=codec, duration=Fraction(3), beep=Fraction(3, 2), flash=Fraction(3, 2))
    write_clip(source, clip)
    write_corrected(source, target, Correction(Fraction(0), mode, tempo=tempo))
    assert centre(target) == pytest.approx(centre(source) / float(tempo), abs=1e-4)
    assert picture_summary(source).sha256 == picture_summary(target).sha256


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    write_clip(tmp_path / "in.mp4")
    real = av.open

    def full(name, mode="r", **options):
        if mode == "w":
            raise av.error.OSError(errno.ENOSPC, "No space left on device", str(name))
        return real(name, mode, **options)

    monkeypatch.setattr(carry.av, "open", full)
    with (
        pytest.raises(ResourceError, match="disk is full") as caught,
        atomic_path(tmp_path / "out.mp4") as path,
    ):
        write_corrected(tmp_path / "in.mp4", path, Correction(Fraction(1, 10), "edit"))
    assert caught.value.exit_code == 6 and sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_full(tmp_path):
    write_clip(tmp_path / "in.ts")
    (tmp_path / "out.ts").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match="disk is full"):
        write_corrected(tmp_path / "in.ts", tmp_path / "out.ts", Correction(Fraction(1, 10), "edit"))


def test_a_container_that_cannot_hold_it_is_refused(tmp_path):
    write_clip(tmp_path / "in.mkv", Clip(audio_codec="flac"))
    with pytest.raises(InputError, match=r"cannot be written as \.mxf") as caught:
        write_corrected(tmp_path / "in.mkv", tmp_path / "out.mxf", Correction(Fraction(0), "edit"))
    assert caught.value.exit_code == 3


def test_killed_midway_leaves_no_half_file_under_the_name(tmp_path):
    write_clip(tmp_path / "in.mov", Clip(audio_codec="pcm_s16le"))
    script = f"""
import os, signal
from fractions import Fraction
from pathlib import Path
from lipsync_cli.core.output import atomic_path
from lipsync_cli.media import carry, remux
from lipsync_cli.media.frames import read_frames
step = carry.copied_packets
def cut(*a):
    for number, job in enumerate(step(*a)):
        if number == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        yield job
carry.copied_packets = cut
with atomic_path(Path({str(tmp_path / "out.mov")!r})) as path:
    remux.write_corrected(Path({str(tmp_path / "in.mov")!r}), path, remux.Correction(Fraction(1, 10), "samples"))
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.mov").exists()
