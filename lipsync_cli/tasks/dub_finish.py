"""The last steps of a dub: pieces joined with their sound, pictures to compare, and a record of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import Progress
from lipsync_cli.media.deliver import Delivery, SoundPart, plan_delivery
from lipsync_cli.media.encode import EncodeSettings
from lipsync_cli.media.join import join_pieces
from lipsync_cli.tasks.dub_plan import Ready
from lipsync_cli.tasks.dub_request import DubRequest


@dataclass(frozen=True)
class Finished:
    """outputs: every file written.  sidecar: the record, None when it was not wanted."""

    outputs: tuple[Path, ...]
    sidecar: Path | None
    warnings: tuple[str, ...]


def delivery_of(request: DubRequest, ready: Ready) -> Delivery | None:
    """The sound of the result; None for the clip's own.  Raises: InputError for a file without sound."""
    if request.keep_audio:
        return None
    plan, info = ready.plan, ready.clip.info
    listed = request.segments is not None
    parts = tuple(
        SoundPart(
            path=request.audio if request.audio is not None else segment.speech,
            start=segment.start,
            end=min(segment.speech_end, segment.end) if listed else segment.speech_end,
        )
        for segment in plan.segments
    )
    return plan_delivery(
        request.target,
        parts,
        ready.clip.start,
        plan.reel.end,
        under=request.clip if listed and info.audio else None,
        background=request.mix_background,
    )


def finish(
    request: DubRequest,
    ready: Ready,
    settings: EncodeSettings,
    pieces: list[Path],
    model: str,
    progress: Progress,
) -> Finished:
    """Write everything that was asked for.

    Raises: InputError when the container cannot hold a stream of the source; ResourceError when the disk is full.
    """
    sound = delivery_of(request, ready)
    end = ready.plan.reel.end
    shorter = end < ready.look.end
    with atomic_path(request.target) as path:
        lost = join_pieces(
            pieces,
            ready.clip.info,
            path,
            settings,
            end,
            sound=sound,
            until=end if shorter else None,
            progress=progress,
        )
    return Finished(
        (request.target,),
        None,
        (*(sound.notes if sound else ()), *(f"{name} could not be kept" for name in lost)),
    )
