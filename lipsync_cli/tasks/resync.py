"""`lipsync resync`: move the sound of a file under its untouched picture, then prove that it moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from lipsync_cli.core.errors import InconclusiveError, LipsyncError, UsageError
from lipsync_cli.core.output import atomic_path, check_output
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.media.measure import measure_places
from lipsync_cli.media.picture import PictureSummary, picture_summary
from lipsync_cli.media.probe import AudioStream, MediaInfo, probe, require_audio
from lipsync_cli.media.remux import Correction, Mode, is_lossless, write_corrected
from lipsync_cli.media.sidecar import correction_dict, correction_edl

MeasureLead = Callable[[Path], Fraction]  # file → audio_lead_ms; raises InconclusiveError when it cannot tell
_TOLERANCE_S = Fraction(1, 1000)
_TIMESTAMP_FORMATS = ("mp4", "mov", "matroska", "mpegts")  # where sound moves by timestamps alone
_EDIT_LIST_WARNING = (
    "the delay stands in an edit list, which Premiere, After Effects and Safari ignore;"
    " for them use --mode reencode-audio"
)


@dataclass(frozen=True, kw_only=True)
class ResyncRequest:
    """delay_ms: > 0 moves the sound later; None = the measured audio_lead_ms.  tempo: > 1 plays it faster.

    tracks: numbers of the sound tracks to move, from 0; None = all.  output: None = <stem>.resync.<ext> beside it.
    """

    input: Path
    output: Path | None = None
    delay_ms: Fraction | None = None
    tempo: Fraction = Fraction(1)
    mode: Literal["auto", "samples", "edit", "reencode-audio", "export"] = "auto"
    tracks: tuple[int, ...] | None = None
    overwrite: bool = False
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class ResyncResult:
    """What was planned and, unless `dry_run`, what was measured in the finished file.

    achieved_ms: how much later each moved track sounds against the picture, by its own samples; silent tracks
    are left out.  picture_sha256: over the payload of the picture packets, equal before and after.
    audio_lead_before_ms, audio_lead_after_ms: lips against sound, where the delay was measured and not given.
    """

    input: Path
    outputs: tuple[Path, ...]
    mode: str
    delay_ms: float
    tempo: str
    tracks: tuple[int, ...]
    achieved_ms: dict[int, float]
    tolerance_ms: float
    picture_sha256: str
    picture_packets: int
    audio_lead_before_ms: float | None
    audio_lead_after_ms: float | None
    warnings: tuple[str, ...]
    dry_run: bool


def resync(
    request: ResyncRequest, *, measure: MeasureLead | None = None, progress: Progress = SILENT
) -> ResyncResult:
    """Fix `request.input`; the input is never touched and nothing unproven gets the output's name.

    measure: tells audio_lead_ms of a file; needed where `delay_ms` is None, and then used again on the
    result.
    Raises: InputError for unusable input, UsageError for a mode the file cannot take, InconclusiveError when
    the lead cannot be measured or the sound did not move as asked, ResourceError when the disk is full.
    """
    info = probe(request.input)
    tracks = _tracks(request, info)
    mode = _mode(request, info, [info.audio[track] for track in tracks])
    outputs = _outputs(request, mode)
    for output in outputs:
        check_output(output, [request.input], overwrite=request.overwrite)
    lead_before = None
    delay_ms = request.delay_ms
    if delay_ms is None:
        if measure is None:
            raise UsageError(f"{request.input}: no delay to apply.", "give one with --delay-ms")
        delay_ms = lead_before = Fraction(measure(request.input))
    delay = delay_ms / 1000
    plan = _Plan(request, info, tracks, mode, outputs, delay, _tolerance(info, tracks, mode))
    achieved: dict[int, Fraction] = {}
    picture, warnings, lead_after = PictureSummary("", 0, Fraction(0), Fraction(0)), plan.warnings(), None
    if not request.dry_run:
        if mode == "export":
            _export(plan)
        else:
            picture, achieved, dropped, lead_after = _fix(
                plan, measure if lead_before is not None else None, progress
            )
            warnings += [f"{name} could not be kept" for name in dropped]
            silent = [track for track in tracks if track not in achieved]
            warnings += [
                f"sound track {track} is silent or a steady tone, so its change was not measured"
                for track in silent
            ]
    return ResyncResult(
        input=request.input,
        outputs=outputs,
        mode=mode,
        delay_ms=float(delay_ms),
        tempo=str(request.tempo),
        tracks=tracks,
        achieved_ms={track: float(change * 1000) for track, change in achieved.items()},
        tolerance_ms=float(plan.tolerance * 1000),
        picture_sha256=picture.sha256,
        picture_packets=picture.packets,
        audio_lead_before_ms=None if lead_before is None else float(lead_before),
        audio_lead_after_ms=None if lead_after is None else float(lead_after),
        warnings=tuple(warnings),
        dry_run=request.dry_run,
    )


@dataclass(frozen=True)
class _Plan:
    request: ResyncRequest
    info: MediaInfo
    tracks: tuple[int, ...]
    mode: str
    outputs: tuple[Path, ...]
    delay: Fraction
    tolerance: Fraction

    def warnings(self) -> list[str]:
        return [_EDIT_LIST_WARNING] if self.mode == "edit" and "mp4" in self.info.container else []


def _tracks(request: ResyncRequest, info: MediaInfo) -> tuple[int, ...]:
    require_audio(info)
    if request.tracks is None:
        return tuple(range(len(info.audio)))
    for track in request.tracks:
        require_audio(info, track)
    return tuple(sorted(set(request.tracks)))


def _mode(request: ResyncRequest, info: MediaInfo, tracks: list[AudioStream]) -> str:
    """Samples where nothing is lost by it; else timestamps where the container has them; else a new encoding."""
    lossless = all(is_lossless(track.codec) for track in tracks)
    stamped = any(name in info.container for name in _TIMESTAMP_FORMATS)
    if request.tempo <= 0:
        raise UsageError(f"a tempo of {request.tempo} cannot be.", "give a ratio near 1, such as 24000/23976")
    if request.mode == "auto":
        if lossless:
            return "samples"
        return "edit" if stamped and request.tempo == 1 else "reencode-audio"
    if request.mode == "samples" and not lossless:
        lossy = next(track.codec for track in tracks if not is_lossless(track.codec))
        raise UsageError(
            f"{request.input}: {lossy} sound has no samples to move.", "use --mode reencode-audio"
        )
    if request.mode == "edit" and (request.tempo != 1 or not stamped):
        reason = "timestamps cannot change the tempo" if stamped else "its container ignores timestamps"
        raise UsageError(f"{request.input}: {reason}.", "use --mode samples or --mode reencode-audio")
    return request.mode


def _outputs(request: ResyncRequest, mode: str) -> tuple[Path, ...]:
    if mode != "export":
        return (request.output or request.input.with_suffix(f".resync{request.input.suffix}"),)
    base = request.output or request.input.with_suffix(".resync.json")
    return (base.with_suffix(".json"), base.with_suffix(".edl"))


def _tolerance(info: MediaInfo, tracks: tuple[int, ...], mode: str) -> Fraction:
    if mode == "samples":
        return Fraction(1, min(info.audio[track].sample_rate_hz for track in tracks))
    return _TOLERANCE_S


def _export(plan: _Plan) -> None:
    info, tempo = plan.info, plan.request.tempo
    with atomic_path(plan.outputs[0]) as path:
        path.write_text(
            json.dumps(correction_dict(info, plan.delay, tempo), indent=2) + "\n", encoding="utf-8"
        )
    with atomic_path(plan.outputs[1]) as path:
        path.write_text(correction_edl(info, plan.delay), encoding="utf-8")


def _fix(
    plan: _Plan, measure: MeasureLead | None, progress: Progress
) -> tuple[PictureSummary, dict[int, Fraction], tuple[str, ...], Fraction | None]:
    source = plan.request.input
    before = picture_summary(source)
    mode: Mode = "samples" if plan.mode == "samples" else "edit" if plan.mode == "edit" else "reencode-audio"
    correction = Correction(plan.delay, mode, plan.tracks, plan.request.tempo, before.first)
    with atomic_path(plan.outputs[0]) as path:
        dropped = write_corrected(source, path, correction, progress)
        after = picture_summary(path)
        _check_picture(source, before, after)
        achieved = _check_sound(plan, path, (before, after))
        lead_after = measure(path) if measure is not None else None
    return after, achieved, dropped, lead_after


def _check_picture(source: Path, before: PictureSummary, after: PictureSummary) -> None:
    kept = (before.sha256, before.packets) == (after.sha256, after.packets)
    span = (after.last - after.first) - (before.last - before.first)
    if not kept or abs(span) > _TOLERANCE_S:
        raise LipsyncError(f"{source}: the picture would have changed; nothing was written.")


def _check_sound(
    plan: _Plan, path: Path, pictures: tuple[PictureSummary, PictureSummary]
) -> dict[int, Fraction]:
    """The measured change of every moved track that is not silent. Raises: InconclusiveError."""
    achieved: dict[int, Fraction] = {}
    source, problem = plan.request.input, None
    for track in range(len(plan.info.audio)):
        moved = track in plan.tracks
        asked = plan.delay if moved else Fraction(0)
        tempo = plan.request.tempo if moved else Fraction(1)
        search = max(Fraction(1), abs(plan.delay) + Fraction(1, 2))
        try:
            places = measure_places(
                source, path, track=track, search_s=search, pictures=pictures, tempo=tempo
            )
        except InconclusiveError as error:
            problem = error
            continue
        change = max((place.delay for place in places), key=lambda delay, asked=asked: abs(delay - asked))
        if abs(change - asked) > (plan.tolerance if moved else _TOLERANCE_S):
            raise InconclusiveError(
                f"{source}: sound track {track} moved by {float(change * 1000):.3f} ms instead of"
                f" {float(asked * 1000):.3f} ms; nothing was written.",
                "use --mode samples or --mode reencode-audio",
            )
        if moved:
            achieved[track] = change
    if not achieved and problem is not None:
        raise problem
    return achieved
