"""The delivered sound: the given file's own samples, where they belong, and a mix that cannot clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lipsync_cli.core.container import decode_from
from lipsync_cli.core.errors import InputError
from lipsync_cli.core.sound import SoundBlock, read_sound, to_float
from lipsync_cli.media.deliver import SoundPart, plan_delivery
from lipsync_cli.media.mix import to_channels, true_peak
from lipsync_cli.media.probe import probe
from tests.finishing import remake
from tests.media_clips import Clip, find_burst, write_clip


def write_sound(path: Path, samples: np.ndarray, rate: int, codec: str = "pcm_s16le") -> None:
    """float (channels, n) to a file of sound alone."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        name = stream.codec_context.format.name
        kind = {"s16": "i2", "s32": "i4", "fltp": "f4"}[name]
        top = {"s16": 2**15 - 1, "s32": 2**31 - 1, "fltp": 1}[name]
        whole = np.round(samples * top, 0 if top > 1 else 9).astype(kind)
        packed = whole if name.endswith("p") else whole.T.reshape(1, -1)
        for at in range(0, samples.shape[1], 1024):
            width = 1 if name.endswith("p") else len(samples)
            piece = np.ascontiguousarray(packed[:, at * width : (at + 1024) * width])
            frame = av.AudioFrame.from_ndarray(piece, format=name, layout=layout)
            frame.sample_rate, frame.pts = rate, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def sound_of(path: Path, track: int = 0) -> tuple[Fraction, np.ndarray]:
    """When its first sample is heard, and the samples in their own type."""
    frames = decode_from(path, lambda container: container.streams.audio[track], None)
    blocks = list(read_sound(frames, path))
    return blocks[0].start, np.concatenate([block.samples for block in blocks], axis=1)


def payload(path: Path, track: int = 0) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[track]) if packet.size]


def speech(seconds: float, rate: int, channels: int = 1, seed: int = 0, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((channels, round(seconds * rate))).clip(-3, 3) * level).astype(np.float32)


def alone(path: Path, out: Path, **more):
    return lambda start, end: plan_delivery(out, (SoundPart(path, start, end),), start, end, **more)


@pytest.mark.parametrize(("rate", "channels", "codec"), [(44100, 2, "pcm_s16le"), (24000, 1, "pcm_s24le")])
@pytest.mark.parametrize("late", [Fraction(0), Fraction(4, 10)])
@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_pcm_is_copied_sample_by_sample(tmp_path, rate, channels, codec, late, suffix):
    source, out, wav = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}", tmp_path / "new.wav"
    write_clip(source, Clip(video_start=late, duration=Fraction(2)))
    write_sound(wav, speech(2, rate, channels), rate, codec)
    remake(source, out, sound=alone(wav, out))
    track = probe(out).audio
    assert [(t.codec, t.sample_rate_hz, t.channels) for t in track] == [(codec, rate, channels)]
    begin, heard = sound_of(out)
    assert abs(begin - probe(source).video[0].start) <= Fraction(1, 1000)
    given = sound_of(wav)[1]
    assert given.any() and np.array_equal(heard, given[:, : heard.shape[1]]) and heard.shape[1] >= 1.99 * rate


def test_longer_sound_ends_with_the_picture_to_the_sample(tmp_path):
    source, out, wav = tmp_path / "in.mov", tmp_path / "out.mov", tmp_path / "new.wav"
    write_clip(source, Clip(duration=Fraction(1)))
    write_sound(wav, speech(3, 48000, 2), 48000)
    remake(source, out, sound=alone(wav, out))
    heard = sound_of(out)[1]
    assert heard.shape[1] == 48000 and np.array_equal(heard, sound_of(wav)[1][:, :48000])


def test_aac_is_copied_packet_by_packet_and_stays_in_place(tmp_path):
    source, out, given = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "new.mp4"
    write_clip(source)
    write_clip(given, Clip(beep=Fraction(3, 4), sample_rate_hz=44100))
    remake(source, out, sound=alone(given, out))
    assert payload(out) == payload(given)[: len(payload(out))] and len(payload(out)) > 80
    begin, heard = sound_of(out)
    assert float(begin) + find_burst(heard[0], 44100) / 44100 == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("ts", "aac"), ("mxf", "pcm_s24le")])
def test_what_the_container_does_not_hold_is_encoded_at_its_own_rate_and_channels(tmp_path, suffix, codec):
    source, out, wav = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}", tmp_path / "new.wav"
    write_clip(source, Clip(audio_codec="pcm_s16le" if suffix == "mxf" else "aac", size=(256, 144)))
    noise = speech(2, 48000, 2)
    noise[:, 36000:36960] = write_burst()
    write_sound(wav, noise, 48000, "pcm_s32le" if suffix == "mxf" else "pcm_s16le")
    settings = alone(wav, out)(Fraction(0), Fraction(2))
    assert not settings.copied and (codec == "aac") == bool(settings.notes)
    remake(source, out, sound=alone(wav, out))
    info = probe(out)
    assert [(t.codec, t.sample_rate_hz, t.channels) for t in info.audio] == [(codec, 48000, 2)]
    begin, heard = sound_of(out)
    at = float(begin - info.video[0].start) + find_burst(to_float(heard)[0]) / 48000
    assert at == pytest.approx(0.75, abs=1.5e-3)


def write_burst() -> np.ndarray:
    from tests.media_clips import BURST

    return BURST


def test_primed_sound_does_not_move_the_picture_in_matroska(tmp_path):
    source, out, given = tmp_path / "in.mkv", tmp_path / "out.mkv", tmp_path / "new.mp4"
    write_clip(source, Clip(audio_codec="flac"))
    write_clip(given, Clip(beep=Fraction(3, 4)))
    remake(source, out, sound=alone(given, out))
    assert probe(out).video[0].start == probe(source).video[0].start == 0
    with av.open(
        str(out)
    ) as container:  # RFC 9639, 8.2: bits of a sample, less one, after 28 bits of rate and channels
        head = container.streams.audio[0].codec_context.extradata
    assert (int.from_bytes(head[10:14], "big") >> 4 & 31) + 1 == 24
    begin, heard = sound_of(out)
    assert float(begin) + find_burst(to_float(heard)[0]) / 48000 == pytest.approx(0.75, abs=1e-3)


def test_the_other_tracks_stay_and_the_new_one_has_its_own_language(tmp_path):
    source, out, wav = tmp_path / "in.mov", tmp_path / "out.mov", tmp_path / "new.wav"
    write_clip(source, Clip(audio_codec="pcm_s16le", tracks=3))
    write_sound(wav, speech(2, 48000, 2), 48000)
    remake(source, out, sound=alone(wav, out))
    assert [t.language for t in probe(source).audio] == ["eng", "und", "fra"]  # QuickTime has no "deu"
    assert [t.language for t in probe(out).audio] == ["und", "und", "fra"]
    assert b"".join(payload(out, 1)) == b"".join(payload(source, 1))
    assert np.array_equal(sound_of(out)[1], sound_of(wav)[1])


def test_a_silent_clip_gets_a_track(tmp_path):
    source, out, wav = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "new.wav"
    write_clip(source, Clip(audio_codec=None))
    write_sound(wav, speech(2, 48000), 48000)
    remake(source, out, sound=alone(wav, out))
    assert len(probe(out).audio) == 1


def test_kept_sound_is_the_sources_own(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_clip(source)
    remake(source, out)
    assert payload(out) == payload(source)


def test_speech_and_background_are_added_at_unity(tmp_path):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    voice, music = tmp_path / "voice.wav", tmp_path / "music.wav"
    write_clip(source)
    write_sound(voice, speech(2, 48000, 1, seed=1), 48000)
    write_sound(music, speech(1.5, 48000, 2, seed=2), 48000)
    made = alone(voice, out, background=music)(Fraction(0), Fraction(2))
    assert made.gain == 1 and made.notes == () and not made.copied
    remake(source, out, sound=alone(voice, out, background=music))
    heard = to_float(sound_of(out)[1])
    expected = np.repeat(to_float(sound_of(voice)[1]), 2, axis=0)
    expected[:, :72000] += to_float(sound_of(music)[1])
    assert probe(out).audio[0].codec == "pcm_s24le" and heard.shape == expected.shape
    assert abs(heard - expected).max() <= 2**-23


def below_16_khz(samples: np.ndarray) -> np.ndarray:
    """As sound is: close to half the rate the standard's filter misses a part of the peak."""
    spectrum = np.fft.rfft(samples, axis=1)
    spectrum[:, spectrum.shape[1] * 2 // 3 :] = 0
    return np.fft.irfft(spectrum, samples.shape[1], axis=1).astype(np.float32)


def oversampled_peak(samples: np.ndarray) -> float:
    """By zero-padding the spectrum: every value of the band-limited signal at 8 points for each sample."""
    spectrum = np.fft.rfft(samples, axis=1)
    return float(abs(np.fft.irfft(spectrum, 8 * samples.shape[1], axis=1) * 8).max())


def test_a_mix_that_would_clip_is_softer_and_says_so(tmp_path):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    voice, music = tmp_path / "voice.wav", tmp_path / "music.wav"
    write_clip(source)
    write_sound(voice, below_16_khz(speech(2, 48000, 2, seed=1, level=0.3)), 48000)
    write_sound(music, below_16_khz(speech(2, 48000, 2, seed=2, level=0.3)), 48000)
    made = alone(voice, out, background=music)(Fraction(0), Fraction(2))
    assert made.gain < 1 and "softer" in made.notes[0]
    remake(source, out, sound=alone(voice, out, background=music))
    heard = to_float(sound_of(out)[1])
    sum_ = to_float(sound_of(voice)[1]) + to_float(sound_of(music)[1])
    assert abs(sum_).max() > 1
    assert abs(heard - made.gain * sum_).max() <= 2**-22  # one gain for all of it
    assert 0.85 < oversampled_peak(heard) <= 10 ** (-1 / 20) + 0.01


def test_true_peak_lies_between_the_samples():
    """A tone of a quarter of the rate, sampled at 45 degrees: samples reach 0.707 of its peak."""
    tone = np.sin(np.pi / 2 * np.arange(48000) + np.pi / 4)[None].astype(np.float32)
    assert abs(tone).max() == pytest.approx(0.7071, abs=1e-3)
    blocks = (SoundBlock(Fraction(n, 48), 48000, tone[:, n * 1000 : n * 1000 + 1000]) for n in range(48))
    assert true_peak(blocks) == pytest.approx(1, abs=0.06)  # the ends, where the tone begins, ring a little


def test_background_of_another_rate_stays_in_time(tmp_path):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    voice, music = tmp_path / "voice.wav", tmp_path / "music.mov"
    write_clip(source)
    write_sound(voice, np.zeros((1, 48000), np.float32), 24000)
    write_clip(music, Clip(audio_codec="pcm_s16le", video=False, beep=Fraction(3, 2), sample_rate_hz=48000))
    remake(source, out, sound=alone(voice, out, background=music))
    assert probe(out).audio[0].sample_rate_hz == 48000
    begin, heard = sound_of(out)
    assert float(begin) + find_burst(to_float(heard)[0]) / 48000 == pytest.approx(1.5, abs=1e-4)


def test_parts_lie_over_the_clips_own_sound(tmp_path):
    source, out = tmp_path / "in.mov", tmp_path / "out.mov"
    line = tmp_path / "line.wav"
    write_clip(source, Clip(audio_codec="pcm_s16le"))
    write_sound(line, speech(0.25, 48000, 2, level=0.2), 48000)

    def plan(start, end):
        parts = (
            SoundPart(line, Fraction(1, 2), Fraction(3, 4)),
            SoundPart(line, Fraction(5, 4), Fraction(3, 2)),
        )
        return plan_delivery(out, parts, start, end, under=source)

    remake(source, out, sound=plan)
    own, new, given = (to_float(sound_of(p)[1]) for p in (source, out, line))
    assert own.shape == new.shape
    for first in (24000, 60000):
        assert np.array_equal(new[:, first + 240 : first + 11760], given[:, 240:11760])
        assert not np.array_equal(new[:, first : first + 240], given[:, :240])  # fades in
    rest = np.ones(96000, bool)
    rest[24000:36000] = rest[60000:72000] = False
    assert np.array_equal(new[:, rest], own[:, rest])


def test_mono_goes_to_the_centre_or_to_both_sides():
    one = np.float32([[1, 2]])
    assert to_channels(one, av.AudioLayout("stereo")).tolist() == [[1, 2], [1, 2]]
    assert to_channels(one, av.AudioLayout("5.1"))[:, 0].tolist() == [0, 0, 1, 0, 0, 0]


def test_a_file_without_sound_is_refused(tmp_path):
    write_clip(tmp_path / "mute.mp4", Clip(audio_codec=None))
    with pytest.raises(InputError, match="no sound") as caught:
        alone(tmp_path / "mute.mp4", tmp_path / "out.mp4")(Fraction(0), Fraction(1))
    assert caught.value.exit_code == 3
