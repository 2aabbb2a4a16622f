"""The result: pieces of picture laid end to end, the new sound, and everything else as the source has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from lipsync_cli.core.container import open_container
from lipsync_cli.core.errors import LipsyncError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.media.carry import Job, Maker, describe, write_anew
from lipsync_cli.media.codecs import VIDEO_CODECS
from lipsync_cli.media.deliver import Delivery, sound_packets
from lipsync_cli.media.encode_settings import EncodeSettings, tag
from lipsync_cli.media.probe import MediaInfo, require_video


def join_pieces(
    pieces: Sequence[Path],
    source: MediaInfo,
    target: Path,
    settings: EncodeSettings,
    end: Fraction,
    *,
    sound: Delivery | None = None,
    track: int = 0,
    until: Fraction | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
) -> tuple[str, ...]:
    """Write `target` from pieces that `PieceWriter` made with `settings`; what could not be carried over.

    Pictures keep their times to the tick. All other streams, chapters, tags, languages, dispositions, attachments
    and timecode are the source's.  end: seconds at which the last picture goes.  sound: takes the place of sound track
    `track`, or comes beside the picture where the source has none; None = the source's own.  until: seconds after which
    nothing of the source is copied, for a result that ends early.  tags: of the container, over the source's.
    Raises: InputError when the container cannot hold a stream of the source, ResourceError when the disk is full.
    A failed `target` is left half-written: give a temporary name.
    """
    picture = require_video(source)
    replaced = source.audio[track].index if sound is not None and track < len(source.audio) else -1

    make_sound = None if sound is None else partial(sound_packets, delivery=sound)

    def maker(stream: Any) -> Maker | None:
        if stream.index == picture.index:
            return lambda out, old: _picture(out, old, pieces, settings, end)
        if make_sound is not None and stream.index == replaced:
            return partial(_instead, make_sound)
        return None

    added = [make_sound] if make_sound is not None and replaced < 0 else []
    return write_anew(source.path, target, maker, added=added, tags=tags, until=until, progress=progress)


def _instead(make: Callable[[Any], Job], out: Any, old: Any) -> Job:
    """A stream of the source made by something that does not look at it."""
    return make(out)


def _picture(out: Any, old: Any, pieces: Sequence[Path], settings: EncodeSettings, end: Fraction) -> Job:
    with open_container(pieces[0]) as container:
        template = container.streams.video[0]
        stream = out.add_stream_from_template(template, opaque=True)
        context, own = stream.codec_context, template.codec_context
        tag(context, settings)
        context.framerate = settings.rate
        if VIDEO_CODECS[settings.codec].name in ("prores", "dnxhd"):
            context.codec_tag = own.codec_tag  # says the profile
        elif settings.codec == "hevc" and out.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # what Apple's players ask for
    stream.time_base = settings.time_base
    describe(stream, old)
    stream.metadata.pop("encoder", None)
    if settings.display_matrix:
        stream.set_display_matrix(settings.display_matrix)
    return _picture_packets(stream, pieces, settings, end)


def _picture_packets(stream: Any, pieces: Sequence[Path], settings: EncodeSettings, end: Fraction) -> Job:
    """Packets of all pieces, with decoding times that ascend over the joins and durations that leave no gap."""
    tick = settings.time_base
    stored = [round(packet.pts * packet.time_base / tick) for packet in _packets(pieces)]
    shown = sorted(stored)
    rank = {pts: number for number, pts in enumerate(shown)}
    if len(rank) < len(shown):
        raise LipsyncError(f"{pieces[0].parent}: pieces overlap.", "delete the folder and start again")
    delay = max(
        number - rank[pts] for number, pts in enumerate(stored)
    )  # pictures stored before they are shown
    step = max(1, round(1 / settings.rate / tick))
    ends = [*shown[1:], round(end / tick)]
    for number, packet in enumerate(_packets(pieces)):
        pts = stored[number]
        earlier = number - delay
        packet.time_base, packet.pts = tick, pts
        packet.dts = shown[earlier] if earlier >= 0 else shown[0] + earlier * step
        packet.duration = max(1, ends[rank[pts]] - pts)
        packet.stream = stream
        yield packet.dts * tick, [packet]


def _packets(pieces: Sequence[Path]) -> Iterator[Any]:
    headers = None
    for path in pieces:
        with open_container(path) as container:
            stream = container.streams.video[0]
            own = bytes(stream.codec_context.extradata or b"")
            headers = own if headers is None else headers
            if own != headers:  # one track has one set of headers
                raise LipsyncError(f"{path}: was encoded in another way.", f"rm '{path}' and start again")
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
