"""The last steps of a dub: pieces joined with their sound, marks, a record of how it was made, pictures to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import Progress
from lipsync_cli.faces.crops import box_of
from lipsync_cli.media.c2pa_manifest import C2paSigner, sign
from lipsync_cli.media.compare import write_contact_sheet, write_side_by_side
from lipsync_cli.media.deliver import Delivery, SoundPart, plan_delivery
from lipsync_cli.media.encode import EncodeSettings
from lipsync_cli.media.join import join_pieces
from lipsync_cli.media.provenance import Provenance, mark, mark_tags, write_sidecar
from lipsync_cli.tasks.dub_plan import Ready
from lipsync_cli.tasks.dub_request import DubRequest

SHEET_ROWS = 8


@dataclass(frozen=True)
class Finished:
    """outputs: every file written, the result first.  sidecar: the record, None when it was not wanted."""

    outputs: tuple[Path, ...]
    sidecar: Path | None
    warnings: tuple[str, ...]


def finish(
    request: DubRequest,
    ready: Ready,
    settings: EncodeSettings,
    pieces: list[Path],
    model: str,
    signer: C2paSigner | None,
    progress: Progress,
) -> Finished:
    """Write everything that was asked for.

    Raises: InputError when the container cannot hold a stream of the source, or the certificate cannot sign;
    ResourceError when the disk is full.
    """
    provenance = _provenance(request, ready, model) if request.provenance else None
    sound = delivery_of(request, ready)
    end = ready.plan.reel.end
    with atomic_path(request.target) as path:
        lost = join_pieces(
            pieces,
            ready.clip.info,
            path,
            settings,
            end,
            sound=sound,
            until=end if end < ready.look.end else None,
            tags=mark_tags(request.clip, path.suffix) if provenance else None,
            progress=progress,
        )
        if provenance:
            mark(path)
        if provenance and signer:
            sign(path, request.clip, signer, provenance, request.target.name)
    outputs = [request.target]
    if provenance:
        outputs.append(write_sidecar(request.target, provenance))
    if request.contact_sheet is not None:
        with atomic_path(request.contact_sheet) as path:
            _write_sheet(request, ready, path)
        outputs.append(request.contact_sheet)
    if request.side_by_side is not None:
        with atomic_path(request.side_by_side) as path:
            write_side_by_side(request.clip, request.target, path, progress)
        outputs.append(request.side_by_side)
    notes = (*(sound.notes if sound else ()), *(f"{name} could not be kept" for name in lost))
    return Finished(tuple(outputs), outputs[1] if provenance else None, notes)


def delivery_of(request: DubRequest, ready: Ready) -> Delivery | None:
    """The sound of the result; None for the clip's own.  Raises: InputError for a file without sound."""
    if request.keep_audio:
        return None
    plan, info = ready.plan, ready.clip.info
    listed = request.segments is not None
    parts = tuple(
        SoundPart(
            path=segment.speech if request.audio is None else request.audio,
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


def _provenance(request: DubRequest, ready: Ready, model: str) -> Provenance:
    plan = ready.plan
    driven_by_video = request.driver_video is not None
    speech = dict.fromkeys(("driver video" if s.by_video else "speech", s.speech) for s in plan.segments)
    beside = [("speech", request.audio)] if request.audio is not None and driven_by_video else []
    if request.mix_background is not None:
        beside.append(("background", request.mix_background))
    return Provenance(
        inputs=(("source", request.clip), *speech, *beside),
        engine=request.engine,
        model=model,
        seed=request.seed,
        options=_options(request),
        edited=tuple((plan.reel.times[run.first], plan.reel.end_of(run.end - 1)) for run in plan.runs),
        consent=request.consent,
    )


def _options(request: DubRequest) -> Mapping[str, object]:
    return {
        "adapt": request.adapt,
        "engine_options": dict(request.engine_options),
        "face": request.face,
        "on_length_mismatch": request.mismatch,
        "preview_s": None if request.preview_s is None else float(request.preview_s),
        "video_codec": request.video_codec,
        "quality": request.quality,
        "pixel_format": request.pixel_format,
        "keep_audio": request.keep_audio,
    }


def _write_sheet(request: DubRequest, ready: Ready, out: Path) -> None:
    """Rows spread over the pictures with a new mouth; over all where there are none."""
    plan, look = ready.plan, ready.look
    edited = [(run, position) for run in plan.runs for position in range(run.first, run.end)]
    edited = [(run, position) for run, position in edited if position < len(look.times)]
    chosen = np.unique(np.linspace(0, len(edited) - 1, SHEET_ROWS).round().astype(int)) if edited else []
    times, boxes = [], []
    for run, position in (edited[n] for n in chosen):
        track = look.track(run.track)
        row = track.rows_of(plan.reel.numbers[position : position + 1])[0]
        times.append(plan.reel.times[position])
        boxes.append(_lower_face(track.landmarks[row], look.size_px))
    write_contact_sheet(request.clip, request.target, out, times or [Fraction(look.times[0])], boxes)


def _lower_face(landmarks: np.ndarray, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square around nose, mouth and chin, inside the picture: left, top, right, bottom."""
    left, top, right, bottom = box_of(landmarks)
    side = min(int(1.1 * max(right - left, bottom - top)), *size_px)
    x, y = (left + right) / 2, bottom - 0.35 * (bottom - top)
    x0 = int(np.clip(x - side / 2, 0, size_px[0] - side))
    y0 = int(np.clip(y - side / 2, 0, size_px[1] - side))
    return x0, y0, x0 + side, y0 + side
