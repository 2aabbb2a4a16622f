"""What is heard with the result: the given sound as it is, copied where nothing has to be done to it.

Sound is encoded only where the container cannot hold its codec, or where several files are put together; then at
the highest rate and with the most channels among them, without loss where the container has a codec for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log10
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from lipsync_cli.core.container import open_container
from lipsync_cli.core.sound import SoundBlock, sound_track
from lipsync_cli.media.carry import Job
from lipsync_cli.media.encode_settings import codecs_of_container
from lipsync_cli.media.encode_sound import as_integers, encoded_sound, is_lossless
from lipsync_cli.media.mix import Laid, mixed, true_peak
from lipsync_cli.media.probe import AudioStream, probe, require_audio

_PEAK = 10 ** (-1 / 20)  # −1 dB true peak: what a lossy codec adds still fits
_COPIED = {  # codecs that are copied into a container, beyond those its players know
    ".mp4": {"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"},
    ".m4v": {"aac", "ac3", "eac3", "alac"},
    ".webm": {"opus", "vorbis"},
    ".ts": {"aac", "mp2", "mp3", "ac3", "eac3"},
    ".mxf": {"pcm_s16le", "pcm_s24le"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac"},
}
_COPIED[".m2ts"] = _COPIED[".mts"] = _COPIED[".ts"]
_MATROSKA = (".mkv", ".mka")
_PCM = {16: "pcm_s16le", 24: "pcm_s24le"}
_LAYOUTS = {  # of files that give a number of channels alone
    f"{n} channels": name
    for n, name in enumerate(("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"), start=1)
}
_BIT_RATE = 160_000  # of each channel, where a codec has losses
_OPUS_HZ = _MXF_HZ = 48_000
_AAC_RATES_HZ = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


@dataclass(frozen=True)
class SoundPart:
    """Sound track `track` of a file; the beginning of the file's timeline lies at `start` of the result's (seconds).

    It is heard until `end`; where it is shorter, silence follows.
    """

    path: Path
    start: Fraction
    end: Fraction
    track: int = 0


@dataclass(frozen=True)
class Delivery:
    """How the sound of the result is made.

    copied: packet by packet, from the only part.  codec, sample_rate_hz, layout: of the new track.
    gain: applied to all, 1 unless the sum would clip.  notes: one sentence for each thing a user should know.
    """

    parts: tuple[SoundPart, ...]
    under: Path | None
    background: Path | None
    start: Fraction
    end: Fraction
    copied: bool
    codec: str
    encoder: str
    sample_rate_hz: int
    layout: str
    language: str
    gain: float
    notes: tuple[str, ...]


def plan_delivery(
    out: Path,
    parts: tuple[SoundPart, ...],
    start: Fraction,
    end: Fraction,
    *,
    under: Path | None = None,
    background: Path | None = None,
) -> Delivery:
    """Settle how `parts` become the sound of a result named `out` that is shown from `start` to `end` (seconds).

    parts: in order of time, one at least.  under: a file whose own sound, on the timeline of the result, is heard
    where there is no part; None = silence.  background: a file mixed in at unity from `start` on; where the sum would
    exceed −1 dB true peak all of it is made softer, which takes a pass over the sound.
    Raises: InputError for a file without sound.
    """
    infos = [probe(part.path) for part in parts]
    tracks = [require_audio(info, part.track) for info, part in zip(infos, parts, strict=True)]
    others = [require_audio(probe(path)) for path in (under, background) if path is not None]
    alone = len(parts) == 1 and not others
    first, suffix = tracks[0], out.suffix.lower()
    copied = alone and _can_copy(out, parts[0], first)
    rate = max(track.sample_rate_hz for track in (*tracks, *others))
    widest = max((*tracks, *others), key=lambda track: track.channels)
    encoder, rate_made = _encoder(suffix, tracks + others, rate)
    delivery = Delivery(
        parts=parts,
        under=under,
        background=background,
        start=start,
        end=end,
        copied=copied,
        codec=first.codec if copied else encoder.removeprefix("lib"),
        encoder="" if copied else encoder,
        sample_rate_hz=first.sample_rate_hz if copied else rate_made,
        layout=_LAYOUTS.get(widest.layout, widest.layout),
        language=first.language,
        gain=1.0,
        notes=(),
    )
    return delivery if copied else _with_notes(delivery, first, rate)


def sound_packets(out: Any, delivery: Delivery) -> Job:
    """Add the sound track to the container `out`, and give its packets. Raises: InputError for an unusable file."""
    part = delivery.parts[0]
    if not delivery.copied:
        return _encoded(out, delivery)
    with open_container(part.path) as container:
        stream = out.add_stream_from_template(sound_track(container, part.track, part.path))
    _say_language(stream, delivery)
    return _copied(stream, part)


def _can_copy(out: Path, part: SoundPart, track: AudioStream) -> bool:
    suffix = out.suffix.lower()
    if suffix == ".mxf" and track.sample_rate_hz != _MXF_HZ:
        return False
    known = _COPIED.get(suffix)
    if known is None:
        return track.codec in codecs_of_container(out) and not (
            suffix in _MATROSKA and _is_primed(part, track)
        )
    return track.codec in known or (suffix == ".mov" and track.codec.startswith("pcm_"))


def _is_primed(part: SoundPart, track: AudioStream) -> bool:
    """Whether packets lie before the first sample that is played, for which Matroska has no edit list."""
    with open_container(part.path) as container:
        first = next(iter(container.demux(sound_track(container, part.track, part.path))))
        return track.codec != "opus" and (first.pts or 0) * Fraction(first.time_base or 1) < track.start


def _encoder(suffix: str, tracks: list[AudioStream], rate: int) -> tuple[str, int]:
    """(encoder, sample rate) of sound that is made anew for a container."""
    depth = 16 if len(tracks) == 1 and tracks[0].codec in ("pcm_s16le", "pcm_s16be") else 24
    match suffix:
        case ".mov" | ".avi" | ".wav" | ".nut":
            return _PCM[depth], rate
        case ".mkv" | ".mka":
            return "flac", rate
        case ".mxf":
            return _PCM[depth], _MXF_HZ
        case ".webm":
            return "libopus", _OPUS_HZ
    return "aac", rate if rate in _AAC_RATES_HZ else 48_000


def _with_notes(delivery: Delivery, first: AudioStream, rate: int) -> Delivery:
    notes = []
    alone = len(delivery.parts) == 1 and delivery.under is delivery.background is None
    if alone and not is_lossless(delivery.codec):
        notes.append(
            f"the sound is {first.codec}, which the container does not hold: encoded as {delivery.codec}"
        )
    if delivery.sample_rate_hz != rate:
        notes.append(
            f"the sound goes from {rate} to {delivery.sample_rate_hz} Hz, as the container or its codec asks"
        )
    gain = 1.0
    if delivery.background is not None:
        peak = true_peak(_blocks(delivery))
        gain = min(1.0, _PEAK / peak) if peak else 1.0
    if gain < 1:
        notes.append(f"speech and background together would clip: both are {-20 * log10(gain):.1f} dB softer")
    return replace(delivery, gain=gain, notes=tuple(notes))


def _blocks(delivery: Delivery) -> Iterator[SoundBlock]:
    parts = [Laid(p.path, p.track, p.start, p.end, probe(p.path).start) for p in delivery.parts]
    under, beside = delivery.under, delivery.background
    start, end = delivery.start, delivery.end
    return mixed(
        start,
        end,
        delivery.sample_rate_hz,
        delivery.layout,
        parts=parts,
        under=Laid(under, 0, start, end, start) if under else None,
        beside=Laid(beside, 0, start, end, probe(beside).start) if beside else None,
    )


def _encoded(out: Any, delivery: Delivery) -> Job:
    # 24 bits in FLAC: few players take the 32 of its newest form
    flac: dict[str, Any] = {"format": "s32", "options": {"bits_per_raw_sample": "24"}}
    chosen = flac if delivery.encoder == "flac" else {}
    stream = out.add_stream(delivery.encoder, rate=delivery.sample_rate_hz, layout=delivery.layout, **chosen)
    context = stream.codec_context
    if not is_lossless(delivery.codec):
        context.bit_rate = _BIT_RATE * context.layout.nb_channels
    _say_language(stream, delivery)
    return encoded_sound(stream, _finished(delivery, context.format.name), delivery.layout)


def _finished(delivery: Delivery, sample_format: str) -> Iterator[SoundBlock]:
    """The blocks at their final level, in the sample type of the encoder."""
    gain = np.float32(delivery.gain)
    blocks = (replace(block, samples=block.samples * gain) for block in _blocks(delivery))
    bits = sample_format.removesuffix("p").removeprefix("s")
    return as_integers(blocks, int(bits)) if bits.isdigit() else blocks


def _say_language(stream: Any, delivery: Delivery) -> None:
    if delivery.language != "und":
        stream.metadata["language"] = delivery.language
    stream.disposition = Disposition.default


def _copied(stream: Any, part: SoundPart) -> Job:
    with open_container(part.path) as container:
        track = sound_track(container, part.track, part.path)
        tick, context = Fraction(track.time_base), track.codec_context
        shift = round((part.start - probe(part.path).start) / tick)
        for packet in container.demux(track):
            if not packet.size or packet.pts is None:
                continue
            packet.pts += shift
            packet.dts = packet.pts
            time = packet.pts * tick
            if time >= part.end:
                break
            if context.name.startswith("pcm_"):
                packet = _cut(packet, round((part.end - time) * context.sample_rate), context)
            packet.stream = stream
            yield time, [packet]


def _cut(packet: av.Packet, count: int, context: Any) -> av.Packet:
    """The first `count` samples of a packet of PCM."""
    bits = int("".join(c for c in context.name.removeprefix("pcm_") if c.isdigit()) or 8)
    size = count * context.layout.nb_channels * (bits // 8)
    if packet.size <= size:
        return packet
    short = av.Packet(bytes(packet)[:size])
    short.pts, short.dts, short.time_base = packet.pts, packet.dts, packet.time_base
    short.duration = round(Fraction(count, context.sample_rate) / packet.time_base)
    return short
