"""A file written anew from another: some streams made again, all others copied packet by packet.

Picture, sound, subtitles, attachments, timecode, chapters, metadata, languages and dispositions come along.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from lipsync_cli.core.container import disk_is_full, open_container, picture_shift
from lipsync_cli.core.errors import InputError, LipsyncError, ResourceError
from lipsync_cli.core.progress import SILENT, Progress

Job = Iterator[
    tuple[Fraction, Sequence[Any]]
]  # packets of one stream, with the seconds at which they are due
Maker = Callable[[OutputContainer, Any], Job]  # (result, stream of the source) → a new stream's packets

_OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")  # every file has its own


def write_anew(
    source: Path,
    target: Path,
    maker: Callable[[Any], Maker | None],
    *,
    added: Sequence[Callable[[OutputContainer], Job]] = (),
    delay: Callable[[Any], Fraction] = lambda stream: Fraction(0),
    tags: Mapping[str, str] | None = None,
    until: Fraction | None = None,
    progress: Progress = SILENT,
) -> tuple[str, ...]:
    """Write `source` to `target`, in the container that the suffix of `target` names; what could not be carried.

    maker: tells for a stream of the source how it is made again; None = its packets are copied, shown later by
    `delay` (seconds).  added: streams that the source does not have.  tags: of the container, over the source's.
    until: seconds on the container's timeline after which nothing is copied.
    Raises: InputError when the source cannot be read or the container cannot hold its streams, ResourceError
    when the disk is full. A failed `target` is left half-written: give a temporary name.
    """
    with open_container(source) as container:
        try:
            with av.open(f"file:{target}", "w", options=_muxer_options(container, target)) as out:
                out.metadata.update(
                    {k: v for k, v in container.metadata.items() if k.lower() not in _OWN_TAGS}
                )
                out.metadata.update(tags or {})
                return _write(container, out, source, maker, added, delay, until, progress)
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
    # camera keys have no place in the plain form
    if any(key.startswith("com.") for key in container.metadata):
        options["movflags"] = "+use_metadata_tags"
    return options


def _write(
    container: InputContainer,
    out: OutputContainer,
    source: Path,
    maker: Callable[[Any], Maker | None],
    added: Sequence[Callable[[OutputContainer], Job]],
    delay: Callable[[Any], Fraction],
    until: Fraction | None,
    progress: Progress,
) -> tuple[str, ...]:
    if chapters := _chapters(container, until):
        out.set_chapters(chapters)
    copied: dict[int, tuple[Any, Fraction]] = {}  # source index -> (stream of the copy, delay)
    jobs: list[Job] = []
    dropped: list[str] = []
    for stream in container.streams:
        if stream.type == "data" and not _carry_data(out, stream, dropped):
            continue
        if (make := maker(stream)) is not None:
            jobs.append(make(out, stream))
        elif (target := _copied_stream(out, stream)) is not None:
            shift = picture_shift(source, stream.index) if stream.type == "video" else Fraction(0)
            copied[stream.index] = (target, delay(stream) + shift)
    jobs += [add(out) for add in added]
    total = round((container.duration or 0) / av.time_base)
    with progress.stage("writing", total or None, "s") as stage:
        done = 0
        for time, packets in heapq.merge(
            copied_packets(container, copied, until), *jobs, key=lambda job: job[0]
        ):
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
    describe(copy, stream)
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


def describe(copy: Any, stream: Any) -> None:
    """Give a new stream the metadata and the disposition of the one that it stands for."""
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition


def _chapters(container: InputContainer, until: Fraction | None) -> list[Any]:
    """The chapters that begin before `until`, none of which ends later."""
    kept: list[Any] = []
    for chapter in container.chapters():
        tick = Fraction(chapter["time_base"] or 1)
        if until is None:
            kept.append(chapter)
        elif chapter["start"] * tick < until:
            kept.append({**chapter, "end": min(chapter["end"], int(until / tick))})
    return kept


def copied_packets(
    container: InputContainer,
    copied: Mapping[int, tuple[Any, Fraction]],
    until: Fraction | None = None,
) -> Job:
    """The packets of some streams, moved to other streams. copied: source index → (stream, seconds later)."""
    if not copied:
        return
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
        if until is not None and (packet.dts if packet.pts is None else packet.pts) * tick >= until:
            continue
        packet.stream = target
        yield time, [packet]


def _first_dts(packet: Any, before: int | None) -> int:
    step = packet.duration or 1
    if before is not None:
        return before + step
    return packet.pts - step * getattr(packet.stream.codec_context, "reorder_depth", 0)
