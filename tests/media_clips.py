"""Test clips of known truth, made on the spot: a white flash and a burst of noise at known instants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SAMPLE_RATE_HZ = 48000
BURST = np.random.default_rng(7).standard_normal(960).astype(np.float32).clip(-2, 2) * 0.3 * np.hanning(960)
VIDEO_CODEC = {".mxf": "mpeg2video"}


@dataclass(frozen=True)
class Clip:
    """What a clip is made of. Times are seconds; `audio_start` moves the sound by timestamps only.

    rate: None makes a variable rate.  beep: where the burst lies among the samples, before `audio_start`.
    """

    rate: Fraction | None = Fraction(25)
    audio_codec: str | None = "aac"
    duration: Fraction = Fraction(2)
    flash: Fraction = Fraction(1)
    beep: Fraction = Fraction(1)
    audio_start: Fraction = Fraction(0)
    video_start: Fraction = Fraction(0)
    size: tuple[int, int] = (64, 48)
    layout: str = "stereo"
    sample_rate_hz: int = SAMPLE_RATE_HZ
    tracks: int = 1
    video: bool = True
    video_codec: str | None = None
    pixel_format: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Truth:
    """Where the flash and the burst begin on the intended timeline; a muxer may move both together."""

    flash: Fraction
    beep: Fraction

    @property
    def audio_lead(self) -> Fraction:
        return self.flash - self.beep


def write_clip(path: Path, clip: Clip | None = None) -> Truth:
    """Write the clip; the container is told by the suffix."""
    clip = clip or Clip()
    times = list(frame_times(clip)) if clip.video else []
    shown = next((t for t in times if t >= clip.flash), Fraction(0))
    beep = Fraction(round(clip.beep * clip.sample_rate_hz), clip.sample_rate_hz)
    with av.open(str(path), "w", options=dict(clip.options)) as out:
        jobs = []
        if clip.video:
            jobs.append(_pictures(out, path, clip, times, shown))
        if clip.audio_codec:
            jobs += [_sound(out, clip, beep, track) for track in range(clip.tracks)]
        for packets in _interleave(jobs):
            out.mux(packets)
    tick = picture_tick(clip)
    late = Fraction(round(clip.audio_start * clip.sample_rate_hz), clip.sample_rate_hz)
    return Truth(round((shown + clip.video_start) / tick) * tick, beep + late)


def frame_times(clip: Clip) -> Iterator[Fraction]:
    gaps = [1 / clip.rate] if clip.rate else [Fraction(n, 90000) for n in (3000, 3750, 1500, 6000, 4500)]
    time, number = Fraction(0), 0
    while time < clip.duration:
        yield time
        time += gaps[number % len(gaps)]
        number += 1


def picture_tick(clip: Clip) -> Fraction:
    """What picture timestamps are whole multiples of: the frame interval where that can say them."""
    steady = clip.rate is not None and clip.video_start == 0
    return 1 / Fraction(clip.rate) if steady else Fraction(1, 90000)


def _interleave(jobs: list[Iterator[tuple[Fraction, Sequence[av.Packet]]]]) -> Iterator[Sequence[av.Packet]]:
    heads = [next(job, None) for job in jobs]
    while any(head is not None for head in heads):
        first = min((head[0], n) for n, head in enumerate(heads) if head is not None)[1]
        head = heads[first]
        assert head is not None
        yield head[1]
        heads[first] = next(jobs[first], None)


def _pictures(out, path, clip, times, shown):
    codec = clip.video_codec or VIDEO_CODEC.get(path.suffix, "libx264")
    stream = out.add_stream(codec, rate=clip.rate or Fraction(25))
    stream.width, stream.height = clip.size
    stream.pix_fmt = clip.pixel_format
    if codec == "libx264":
        stream.options = {"preset": "veryfast", "crf": "30", "bf": "2", "threads": "1"}
        stream.codec_context.thread_count = 1
    base = picture_tick(clip)
    stream.codec_context.time_base = base
    ramp = np.linspace(16, 90, clip.size[0], dtype=np.uint8)[None, :, None]

    def frames():
        for number, time in enumerate(times):
            level = 255 if time == shown else 0
            image = np.broadcast_to(
                np.maximum(np.roll(ramp, number, 1), level), (clip.size[1], clip.size[0], 3)
            )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round((time + clip.video_start) / base), base
            yield time, stream.encode(frame)
        yield clip.duration, stream.encode(None)

    return frames()


def samples_of(clip: Clip, beep: Fraction, track: int = 0) -> np.ndarray:
    """float32 (n,): silence, a little hiss, and the burst. Track n is n octaves' worth quieter."""
    count = round(clip.duration * clip.sample_rate_hz)
    samples = np.random.default_rng(track).standard_normal(count).astype(np.float32) * 1e-3
    at = round(beep * clip.sample_rate_hz)
    first, last = max(at, 0), min(at + len(BURST), count)
    samples[first:last] += BURST[first - at : last - at].astype(np.float32) / 2**track
    return samples


def _sound(out, clip, beep, track):
    stream = out.add_stream(clip.audio_codec, rate=clip.sample_rate_hz, layout=clip.layout)
    if clip.tracks > 1:
        stream.metadata["language"] = ("eng", "deu", "fra", "spa")[track % 4]
    context = stream.codec_context
    mono = samples_of(clip, beep, track)
    channels = context.layout.nb_channels
    start = round(clip.audio_start * clip.sample_rate_hz)
    format_ = context.format

    def frames():
        size = context.frame_size or 1024
        for at in range(0, len(mono), size):
            piece = np.repeat(mono[None, at : at + size], channels, axis=0)
            frame = av.AudioFrame.from_ndarray(
                to_format(piece, format_), format=format_.name, layout=clip.layout
            )
            frame.sample_rate, frame.pts, frame.time_base = (
                clip.sample_rate_hz,
                at + start,
                Fraction(1, clip.sample_rate_hz),
            )
            yield Fraction(at, clip.sample_rate_hz), stream.encode(frame)
        yield clip.duration, stream.encode(None)

    return frames()


def to_format(samples: np.ndarray, format_: av.AudioFormat) -> np.ndarray:
    """float (channels, n) in -1..1 to what a frame of `format_` is made from."""
    name = format_.name.removesuffix("p")
    if name == "u8":
        samples = (samples * 127 + 128).round().astype(np.uint8)
    elif name in ("s16", "s32"):
        bits = int(name[1:])
        samples = (samples.astype(np.float64) * (2 ** (bits - 1) - 1)).round().astype(f"int{bits}")
    else:
        samples = samples.astype({"flt": np.float32, "dbl": np.float64}[name])
    return np.ascontiguousarray(samples) if format_.is_planar else samples.T.reshape(1, -1).copy()


def find_burst(samples: np.ndarray, sample_rate_hz: int = SAMPLE_RATE_HZ) -> float:
    """Where the burst begins, in samples, by matched filter with a parabola at the peak."""
    burst = BURST
    if sample_rate_hz != SAMPLE_RATE_HZ:
        count = round(len(BURST) * sample_rate_hz / SAMPLE_RATE_HZ)
        spectrum = np.fft.rfft(BURST)[: count // 2 + 1]
        burst = np.fft.irfft(spectrum, count)
    score = np.correlate(samples, burst, mode="full")
    peak = int(score.argmax())
    left, top, right = score[peak - 1 : peak + 2]
    return peak + 0.5 * (left - right) / (left - 2 * top + right) - (len(burst) - 1)
