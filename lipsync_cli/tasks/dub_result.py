"""What `lipsync dub` answers, before and after the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipsync_cli.media.encode import EncodeSettings
from lipsync_cli.tasks.dub_pieces import describe
from lipsync_cli.tasks.dub_plan import Ready
from lipsync_cli.tasks.dub_request import DubRequest


@dataclass(frozen=True, kw_only=True)
class FaceSeen:
    """A face of the clip.  x, y: its middle in pixels.  chosen: whether it gets a new mouth."""

    id: int
    shot: int
    start_s: float
    end_s: float
    x: int
    y: int
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class SegmentDone:
    """start_s, end_s: container seconds of the result.  speech: file that drives the mouth, for speech_s seconds."""

    start_s: float
    end_s: float
    speech: Path
    speech_s: float
    faces: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of the work, before it is done.  measured_s: seconds that looking for faces took."""

    seconds: float
    memory_mb: int
    measured_s: float


@dataclass(frozen=True, kw_only=True)
class SyncScore:
    """audio_lead_ms: > 0, the sound comes EARLY; None when it cannot be told.  words: for people."""

    audio_lead_ms: float | None
    confidence: float | None
    words: str


@dataclass(frozen=True, kw_only=True)
class DubResult:
    """What was planned and, unless `dry_run`, done.

    frames: pictures of the result.  edited: of them with a new mouth.  passed: the others, by reason.
    resumed_frames: finished by an earlier, killed run.  source_sync, result_sync: lips against sound, None where there
    is no sound or nothing was made.  sidecar: record of how the result was made.
    """

    input: Path
    output: Path
    engine: str
    model: str = ""
    frames: int
    edited: int
    passed: dict[str, int]
    faces: tuple[FaceSeen, ...]
    segments: tuple[SegmentDone, ...]
    video: dict[str, str]
    estimate: Estimate | None = None
    resumed_frames: int = 0
    frames_per_s: float | None = None
    source_sync: SyncScore | None = None
    result_sync: SyncScore | None = None
    sidecar: Path | None = None
    outputs: tuple[Path, ...]
    warnings: tuple[str, ...]
    dry_run: bool


def chosen_faces(ready: Ready) -> tuple[int, ...]:
    return tuple(sorted({track for segment in ready.plan.segments for track in segment.tracks}))


def planned(request: DubRequest, ready: Ready, settings: EncodeSettings) -> DubResult:
    """The answer as far as it is known before the work."""
    plan = ready.plan
    return DubResult(
        input=request.clip,
        output=request.target,
        engine=request.engine,
        frames=len(plan.reel),
        edited=plan.edited,
        passed=plan.passed,
        faces=tuple(_faces(ready)),
        segments=tuple(
            SegmentDone(
                start_s=float(s.start),
                end_s=float(s.end),
                speech=s.speech,
                speech_s=float(s.speech_end - s.start),
                faces=s.tracks,
            )
            for s in plan.segments
        ),
        video={"codec": settings.codec, "pixel_format": settings.pixel_format},
        estimate=estimate(ready) if request.dry_run else None,
        outputs=request.targets,
        warnings=(*settings.notes, *describe(plan)),
        dry_run=request.dry_run,
    )


def _faces(ready: Ready) -> Iterator[FaceSeen]:
    chosen, look = chosen_faces(ready), ready.look
    for track in look.tracks:
        middle = np.median(track.landmarks[:: max(1, len(track.numbers) // 50)], (0, 1))
        yield FaceSeen(
            id=track.id,
            shot=track.shot,
            start_s=float(look.times[track.numbers[0]]),
            end_s=float(look.times[track.numbers[-1]]),
            x=int(middle[0]),
            y=int(middle[1]),
            chosen=track.id in chosen,
        )


# Measured at 1080p on one core, beside the look: pasting and encoding a picture, and the embedded engine's answer.
_WRITE_S, _ANSWER_S = 0.045, 0.035
_FIXED_MB, _HELD = 900, 48  # libraries and networks; pictures held between decoder and encoder


def estimate(ready: Ready) -> Estimate:
    """Seconds and memory for the embedded engine on a CPU; others take what they take."""
    width, height = ready.look.size_px
    plan = ready.plan
    share = width * height / (1920 * 1080)
    look_s = ready.look_s or len(plan.reel) * 0.02
    seconds = look_s / 2 + len(plan.reel) * _WRITE_S * share + plan.edited * _ANSWER_S
    depth = 2 if "10" in ready.clip.info.video[0].pixel_format else 1
    memory_mb = _FIXED_MB + round(_HELD * width * height * 1.5 * depth / 1e6)
    return Estimate(seconds=round(seconds, 1), memory_mb=memory_mb, measured_s=round(ready.look_s, 1))
