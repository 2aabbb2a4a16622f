"""From a request to a plan: lengths settled, faces chosen, and how long it will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from lipsync_cli.audio.load import stream_audio
from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.core.progress import Progress
from lipsync_cli.dubbing.look import Look, take_look
from lipsync_cli.dubbing.plan import Plan, PlannedSegment, expect_lengths, make_plan, settle, whole_reel
from lipsync_cli.dubbing.segments import Mismatch, Segment, read_segments
from lipsync_cli.dubbing.work import WorkFolder
from lipsync_cli.media.picture import PictureSummary, picture_summary
from lipsync_cli.media.probe import MediaInfo, probe, require_audio, require_video
from lipsync_cli.tasks.dub_faces import Measure, choose_faces, read_choice
from lipsync_cli.tasks.dub_request import DubRequest
from lipsync_cli.tasks.faces import face_models


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip and what is known of it without decoding.  start: container seconds that users count from."""

    info: MediaInfo
    picture: PictureSummary

    @property
    def start(self) -> Fraction:
        return self.info.start

    @property
    def picture_end(self) -> Fraction:
        return self.picture.last + 1 / require_video(self.info).rate


@dataclass(frozen=True, eq=False)
class Ready:
    """look_s: seconds that looking took, 0 when an earlier look was read back."""

    clip: Clip
    look: Look
    plan: Plan
    look_s: float


def open_clip(path: Path) -> Clip:
    """Raises: InputError for an unusable file or one without picture."""
    info = probe(path)
    require_video(info)
    return Clip(info, picture_summary(path))


def wanted_segments(request: DubRequest) -> tuple[Segment, ...]:
    """What is to be dubbed with what.  Raises: as `read_segments`."""
    if request.segments is not None:
        return read_segments(request.segments)
    by_video = request.driver_video is not None
    speech = request.driver_video or request.audio
    assert speech is not None, "check() has seen to it"
    return (Segment(None, None, speech, by_video),)


def speech_length(segment: Segment) -> Fraction:
    """Seconds of speech a segment's file holds.

    Raises: InputError when it is unusable, lacks picture or sound as needed, or is empty.
    """
    info = probe(segment.speech)
    if segment.by_video:
        require_video(info)
        summary = picture_summary(segment.speech)
        return summary.last + 1 / info.video[0].rate - info.start
    require_audio(info)
    blocks = stream_audio(segment.speech, start=info.start)
    length = sum((Fraction(len(block.samples), 16_000) for block in blocks), Fraction(0))
    if not length:
        raise InputError(f"{segment.speech}: the sound is empty (0 s).", "give a file with speech")
    return length


def lay_segments(request: DubRequest, clip: Clip) -> tuple[list[PlannedSegment], tuple[Segment, ...]]:
    """Segments on the container's timeline, lengths not settled yet, and what was asked for of each.

    Raises: InputError for unusable speech, UsageError for a segment after the clip's end.
    """
    wanted = wanted_segments(request)
    planned = []
    for segment in wanted:
        start = clip.start + (segment.start or 0)
        end = clip.picture_end if segment.end is None else min(clip.start + segment.end, clip.picture_end)
        if start >= end:
            raise UsageError(
                f"{clip.info.path}: ends at {float(clip.picture_end - clip.start):.2f} s, before the segment of"
                f" {segment.speech} starts.",
                "give it an earlier start",
            )
        seed = request.seed if segment.seed is None else segment.seed
        length = speech_length(segment)
        planned.append(PlannedSegment(start, end, segment.speech, segment.by_video, start + length, seed))
        if (segment.mismatch or request.mismatch) == "error":
            expect_lengths(planned[-1])
    return planned, wanted


def make_ready(
    request: DubRequest, clip: Clip, work: WorkFolder, measure: Measure, progress: Progress
) -> Ready:
    """Look at the clip and plan.

    Raises: InputError for unusable input, lengths that differ, no face, or several and none chosen.
    """
    planned, wanted = lay_segments(request, clip)
    choices = [read_choice(segment.face or request.face) for segment in wanted]
    until = preview_end(request, clip)
    folder = work.look(clip.picture.sha256, until)
    known, started = folder.exists(), time.perf_counter()
    look = take_look(clip.info, face_models(), folder, progress, until)
    look_s = 0.0 if known else time.perf_counter() - started
    reel = whole_reel(look)
    settled, settled_choices = [], []
    for segment, asked, choice in zip(planned, wanted, choices, strict=True):
        if segment.start >= reel.end:
            continue  # after the preview
        if segment.end >= clip.picture_end or segment.end > reel.end:
            segment = replace(segment, end=reel.end)
        if until is not None:
            segment = replace(segment, speech_end=min(segment.speech_end, segment.end))
        segment, reel = settle(
            segment, reel, _mismatch(request, asked, until), whole_clip=request.segments is None
        )
        settled.append(segment)
        settled_choices.append(choice)
    chosen = [
        replace(s, tracks=choose_faces(clip.info.path, look, choice, (s.start, s.end), measure))
        for s, choice in zip(settled, settled_choices, strict=True)
    ]
    if not any(segment.tracks for segment in chosen):
        start_s, end_s = float(chosen[0].start), float(chosen[-1].end)
        raise InputError(
            f"{request.clip}: no chosen face is seen between {start_s:.1f} s and {end_s:.1f} s.",
            f"lipsync dub '{request.clip}' --dry-run",
        )
    return Ready(clip, look, make_plan(look, reel, chosen), look_s)


def preview_end(request: DubRequest, clip: Clip) -> Fraction | None:
    """Where a preview ends that is shorter than the clip; None when all of it is wanted."""
    if request.preview_s is None:
        return None
    end = clip.picture.first + request.preview_s
    return end if end < clip.picture_end else None


def _mismatch(request: DubRequest, asked: Segment, until: Fraction | None) -> Mismatch:
    how = asked.mismatch or request.mismatch
    return (
        "hold" if until is not None and how == "error" else how
    )  # what differs has been told; see lay_segments
