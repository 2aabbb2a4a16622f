"""What a file holds: every stream, where it starts on the container's timeline, and whether it decodes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition

from lipsync_cli.core.container import decode, open_container, picture_shift
from lipsync_cli.core.errors import InputError

_RATE_PACKETS = 120  # picture packets looked at to tell a variable rate


@dataclass(frozen=True)
class VideoStream:
    """One picture stream. Times are seconds on the container's timeline.

    width, height: as displayed, after rotation, in stored (not stretched) pixels.
    rotation: clockwise degrees the stored picture is turned for display: 0, 90, 180 or 270.
    rate: average frames per second.  variable_rate: best guess from the first frames.
    """

    index: int
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    rate: Fraction
    start: Fraction
    bit_depth: int
    pixel_format: str
    variable_rate: bool


@dataclass(frozen=True)
class AudioStream:
    """One sound track. start: seconds on the container's timeline of the first sample that is played."""

    index: int
    codec: str
    sample_rate_hz: int
    channels: int
    layout: str
    language: str
    start: Fraction


@dataclass(frozen=True)
class OtherStream:
    """Subtitles, timecode, attachments, cover pictures."""

    index: int
    kind: str
    codec: str


@dataclass(frozen=True)
class MediaInfo:
    """What `probe` found. start and duration: seconds; container: FFmpeg's names of the format."""

    path: Path
    container: str
    start: Fraction
    duration: Fraction
    video: tuple[VideoStream, ...]
    audio: tuple[AudioStream, ...]
    others: tuple[OtherStream, ...]


def probe(path: Path) -> MediaInfo:
    """Read the headers of `path` and decode the first frame of every picture and sound stream.

    Raises: InputError when it is missing, empty, a folder, unreadable, cut short, or holds no picture and no
    sound.
    """
    with open_container(path) as container:
        _check_complete(container, path)
        video = tuple(_video_stream(path, s) for s in container.streams.video if not is_cover(s))
        audio = tuple(_audio_stream(path, s) for s in container.streams.audio)
        others = tuple(
            OtherStream(s.index, "cover" if s.type == "video" else s.type, _codec(s))
            for s in container.streams
            if s.type not in ("video", "audio") or is_cover(s)
        )
        if not video and not audio:
            raise InputError(f"{path}: holds neither picture nor sound.", "give an audio or video file")
        start = min(s.start for s in (*video, *audio))
        return MediaInfo(path, container.format.name, start, _duration(container), video, audio, others)


def require_video(info: MediaInfo) -> VideoStream:
    """The picture that is read. Raises: InputError when there is none."""
    if not info.video:
        raise InputError(f"{info.path}: no picture, only sound.", "give a video file")
    return info.video[0]


def require_audio(info: MediaInfo, track: int = 0) -> AudioStream:
    """Sound track number `track`, counted from 0. Raises: InputError when there is none."""
    if not info.audio:
        raise InputError(f"{info.path}: no sound track.", "give a file with sound")
    if not 0 <= track < len(info.audio):
        tracks = f"0 to {len(info.audio) - 1}" if len(info.audio) > 1 else "0 only"
        raise InputError(f"{info.path}: no sound track {track}.", f"choose a track: {tracks}")
    return info.audio[track]


def is_cover(stream: Any) -> bool:
    """Whether a picture stream is only cover art."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _codec(stream: Any) -> str:
    return stream.codec_context.name if stream.codec_context is not None else ""


def _video_stream(path: Path, stream: Any) -> VideoStream:
    index = stream.index
    with open_container(path) as container:  # each stream is read from the start by a container of its own
        opened: Any = container.streams[index]
        opened.thread_type = "SLICE"
        frame = next(decode(container, opened, path))
    turned = clockwise_rotation(frame)
    width, height = (frame.height, frame.width) if turned in (90, 270) else (frame.width, frame.height)
    context = stream.codec_context
    return VideoStream(
        index=index,
        codec=context.name,
        width=width,
        height=height,
        coded_width=frame.width,
        coded_height=frame.height,
        rotation=turned,
        rate=nominal_rate(stream),
        start=frame_time(frame, Fraction(0)) + picture_shift(path, index),
        bit_depth=max(component.bits for component in frame.format.components),
        pixel_format=frame.format.name,
        variable_rate=_variable_rate(path, index),
    )


def _audio_stream(path: Path, stream: Any) -> AudioStream:
    with open_container(path) as container:
        frame = next(decode(container, container.streams[stream.index], path))
    return AudioStream(
        index=stream.index,
        codec=stream.codec_context.name,
        sample_rate_hz=frame.sample_rate,  # HE-AAC headers give half the rate that is decoded
        channels=frame.layout.nb_channels,
        layout=frame.layout.name,
        language=stream.language or "und",
        start=frame_time(frame, Fraction(0)),
    )


def nominal_rate(stream: Any) -> Fraction:
    """Average frames per second by the headers; 25 where they say nothing."""
    return Fraction(stream.average_rate or stream.guessed_rate or 25)


def frame_time(frame: Any, default: Fraction) -> Fraction:
    """The frame's presentation time in seconds; `default` where the file gives none."""
    return default if frame.pts is None else frame.pts * Fraction(frame.time_base)


def clockwise_rotation(frame: av.VideoFrame) -> int:
    """Clockwise degrees to turn the stored picture for display: 0, 90, 180 or 270."""
    return round(-frame.rotation / 90) % 4 * 90  # the display matrix counts counter-clockwise


def _variable_rate(path: Path, index: int) -> bool:
    times = []
    with open_container(path) as container:
        for packet in container.demux(container.streams[index]):
            if packet.pts is not None and not packet.is_discard:
                times.append(packet.pts * Fraction(packet.time_base))
            if len(times) >= _RATE_PACKETS:
                break
        tick = Fraction(container.streams[index].time_base or 0)
    times.sort()
    if len(times) == _RATE_PACKETS:
        times = times[:-16]  # pictures that are shown before these may come in later packets
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return bool(gaps) and max(gaps) - min(gaps) > max(2 * tick, Fraction(1, 1000))


def _duration(container: InputContainer) -> Fraction:
    if container.duration is not None:
        return Fraction(container.duration, av.time_base)
    ends = [s.duration * s.time_base for s in container.streams if s.duration and s.time_base]
    return max(ends, default=Fraction(0))


def _check_complete(container: InputContainer, path: Path) -> None:
    """An MP4 or MOV index says where its packets lie; a copy that stopped midway is shorter than that."""
    needed = 0
    for stream in container.streams:
        entries = stream.index_entries
        if "mp4" in container.format.name and len(entries):
            needed = max(needed, entries[-1].pos + entries[-1].size)
    size = path.stat().st_size
    if needed > size:
        raise InputError(
            f"{path}: the file is cut short ({size} of at least {needed} bytes).",
            "copy it again from its source",
        )
