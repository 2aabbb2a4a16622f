"""A copy of a file with its sound moved and everything else as it was.

Picture packets, subtitles, attachments, timecode, chapters, metadata, languages and dispositions are copied.
Sound is either copied with other timestamps (`edit`) or decoded, moved by whole samples and encoded to its
own codec (`samples` for codecs without loss, `reencode-audio` for the others).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from lipsync_cli.core.container import decode, disk_is_full, open_container, picture_shift
from lipsync_cli.core.errors import InputError, LipsyncError, ResourceError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.core.sound import SoundBlock, read_sound
from lipsync_cli.media.retime import change_tempo, shift_samples

Mode = Literal["samples", "edit", "reencode-audio"]
_MADE_BIT_RATE = 192_000  # where the source does not say
_STEP = 1024  # samples handed to an encoder that takes any number
_Job = Iterator[tuple[Fraction, Sequence[Any]]]


@dataclass(frozen=True)
class Correction:
    """What to do to the sound.

    delay: seconds, > 0 moves the sound later.  tracks: numbers of the sound tracks, from 0; None = all.
    tempo: > 1 plays the sound faster, about `origin` (seconds on the container's timeline); not with `edit`.
    """

    delay: Fraction
    mode: Mode
    tracks: tuple[int, ...] | None = None
    tempo: Fraction = Fraction(1)
    origin: Fraction = Fraction(0)

    def moves(self, track: int) -> bool:
        return self.tracks is None or track in self.tracks


def is_lossless(codec: str) -> bool:
    """Whether sound of this codec can be written again without any loss."""
    return codec.startswith("pcm_") or codec in ("flac", "alac", "wavpack", "tta")


def write_corrected(
    source: Path, target: Path, correction: Correction, progress: Progress = SILENT
) -> tuple[str, ...]:
    """Write `source` with its sound corrected to `target`, in the container that the suffix of `target`
    names.

    Raises: InputError when the source cannot be read or the container cannot hold its streams, ResourceError
    when the disk is full. A failed `target` is left half-written: give a temporary name.
    """
    with ExitStack() as stack:
        container = stack.enter_context(open_container(source))
        try:
            with av.open(f"file:{target}", "w", options=_muxer_options(container, target)) as out:
                return _write(container, out, source, correction, progress, stack)
        except (FFmpegError, OSError, ValueError) as error:
            raise _write_error(source, target, error) from error


def _write_error(source: Path, target: Path, error: Exception) -> LipsyncError:
    if disk_is_full(error):
        return ResourceError(
            f"{target}: the disk is full.", "free space, or choose another folder with --out"
        )
    return InputError(
        f"{source}: cannot be written as {target.suffix} ({error}).", "choose another container with --out"
    )


def _muxer_options(container: InputContainer, target: Path) -> dict[str, str]:
    if target.suffix.lower() not in (".mp4", ".mov", ".m4a", ".m4v"):
        return {}
    # edit lists count in ticks of the movie: one sample of sound each instead of a millisecond
    rate = max((s.codec_context.sample_rate for s in container.streams.audio), default=48000)
    options = {"movie_timescale": str(rate)}
    if any(
        key.startswith("com.") for key in container.metadata
    ):  # camera keys have no place in the plain form
        options["movflags"] = "+use_metadata_tags"
    return options


def _write(
    container: InputContainer,
    out: OutputContainer,
    source: Path,
    correction: Correction,
    progress: Progress,
    stack: ExitStack,
) -> tuple[str, ...]:
    out.metadata.update(container.metadata)
    if chapters := container.chapters():
        out.set_chapters(chapters)
    copied: dict[int, tuple[Any, Fraction]] = {}  # source index -> (stream of the copy, delay)
    made: list[_Job] = []
    dropped: list[str] = []
    for stream in container.streams:
        if stream.type == "data" and not _carry_data(out, stream, dropped):
            continue
        track = container.streams.audio.index(stream) if stream.type == "audio" else -1
        if track >= 0 and correction.moves(track) and correction.mode != "edit":
            own = stack.enter_context(open_container(source))
            made.append(_made_sound(own, out, stream, source, correction))
        elif (target := _copied_stream(out, stream)) is not None:
            delay = correction.delay if track >= 0 and correction.moves(track) else Fraction(0)
            if stream.type == "video":
                delay = picture_shift(source, stream.index)
            copied[stream.index] = (target, delay)
    total = round((container.duration or 0) / av.time_base)
    with progress.stage("writing", total or None, "s") as stage:
        done = 0
        for time, packets in heapq.merge(_copied_packets(container, copied), *made, key=lambda job: job[0]):
            out.mux(packets)
            if time > done + 1:
                stage.advance(int(time) - done)
                done = int(time)
    return tuple(dropped)


def _copied_stream(out: OutputContainer, stream: Any) -> Any:
    if stream.type == "attachment":
        name, kind = (
            stream.metadata.get("filename", "attachment"),
            stream.mimetype or "application/octet-stream",
        )
        out.add_attachment(name, kind, stream.data)
        return None
    copy = out.add_stream_from_template(stream)
    _describe(copy, stream)
    return copy


def _carry_data(out: OutputContainer, stream: Any, dropped: list[str]) -> bool:
    """Whether a data stream is copied packet by packet; what MP4 and MOV writers make anew is not."""
    if "timecode" in stream.metadata:  # they make the track from this, and read the reel name beside it
        for key in ("timecode", "reel_name"):
            if key in stream.metadata:
                out.metadata.setdefault(key, stream.metadata[key])
                for picture in out.streams.video:
                    picture.metadata.setdefault(key, stream.metadata[key])
        return False
    if stream.name == "bin_data" and out.chapters():  # the chapters' text
        return False
    if stream.name not in out.supported_codecs:
        dropped.append(f"data stream {stream.index} ({stream.name or 'unknown'})")
        return False
    return True


def _describe(copy: Any, stream: Any) -> None:
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition


def _copied_packets(container: InputContainer, copied: dict[int, tuple[Any, Fraction]]) -> _Job:
    reached: dict[int, int] = {}
    for packet in container.demux([container.streams[index] for index in copied]):
        if packet.dts is None and packet.pts is None:
            continue
        target, delay = copied[packet.stream_index]
        tick = Fraction(packet.time_base)
        if packet.dts is None:  # Matroska stores none, and the first cannot be derived by the demuxer
            packet.dts = _first_dts(packet, reached.get(packet.stream_index))
        reached[packet.stream_index] = packet.dts
        shift = round(delay / tick)
        if packet.pts is not None:
            packet.pts += shift
        packet.dts += shift
        time = packet.dts * tick
        packet.stream = target
        yield time, [packet]


def _first_dts(packet: Any, before: int | None) -> int:
    step = packet.duration or 1
    if before is not None:
        return before + step
    return packet.pts - step * getattr(packet.stream.codec_context, "reorder_depth", 0)


def _made_sound(
    own: InputContainer, out: OutputContainer, stream: Any, source: Path, correction: Correction
) -> _Job:
    context = stream.codec_context
    encoder = context.codec.canonical_name if not is_lossless(context.name) else context.name
    options = {"strict": "experimental"}
    made = out.add_stream(encoder, rate=context.sample_rate, layout=context.layout.name, options=options)
    _describe(made, stream)
    target = made.codec_context
    if is_lossless(context.name):
        target.format = context.format
    else:
        target.bit_rate = context.bit_rate or _MADE_BIT_RATE
    blocks = read_sound(decode(own, own.streams[stream.index], source), source)
    if correction.tempo != 1:
        blocks = change_tempo(blocks, correction.tempo, correction.origin)
    blocks = shift_samples(blocks, round(correction.delay * context.sample_rate))
    return _encoded(made, _frames(blocks, context.layout.name))


def _frames(blocks: Iterator[SoundBlock], layout: str) -> Iterator[av.AudioFrame]:
    base: int | None = None
    written = 0
    for block in blocks:
        samples = block.samples
        if base is None:
            base = round(block.start * block.sample_rate_hz)
        name = {"u1": "u8p", "i2": "s16p", "i4": "s32p", "f4": "fltp", "f8": "dblp"}[samples.dtype.str[1:]]
        for at in range(0, samples.shape[1], _STEP):
            piece = np.ascontiguousarray(samples[:, at : at + _STEP])
            frame = av.AudioFrame.from_ndarray(piece, format=name, layout=layout)
            frame.sample_rate, frame.time_base = block.sample_rate_hz, Fraction(1, block.sample_rate_hz)
            frame.pts = base + written
            written += piece.shape[1]
            yield frame


def _encoded(stream: Any, frames: Iterator[av.AudioFrame]) -> _Job:
    time = Fraction(0)
    for frame in frames:
        time = Fraction(frame.pts or 0, frame.sample_rate)
        yield time, stream.encode(frame)
    yield time, stream.encode(None)
