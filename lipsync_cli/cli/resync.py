"""`lipsync resync CLIP`"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lipsync_cli.cli.options import Device, DryRun, Json, Model, Out, Overwrite, Quiet, examples
from lipsync_cli.cli.output import Output
from lipsync_cli.core.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from lipsync_cli.tasks.offset import OffsetResult
    from lipsync_cli.tasks.resync import MeasureLead, ResyncResult

MODES = ("auto", "samples", "edit", "reencode-audio", "export")

Clip = Annotated[
    Path,
    typer.Argument(
        readable=False, metavar="CLIP", help="The file to fix; it is never touched.", show_default=False
    ),
]
DelayMs = Annotated[
    str | None,
    typer.Option(
        metavar="MS",
        help="Delay the sound by this (negative: play it earlier) instead of measuring.",
        show_default=False,
    ),
]
DriftPpm = Annotated[
    str | None,
    typer.Option(
        metavar="PPM",
        help="Also undo this drift, as `lipsync offset` states it; re-encodes sound.",
        show_default=False,
    ),
]
ModeName = Annotated[str, typer.Option("--mode", metavar="MODE", help=f"How: {', '.join(MODES)}.")]
Tracks = Annotated[
    list[int],
    typer.Option(
        "--audio-track",
        metavar="N",
        default_factory=list,
        show_default=False,
        help="Move only this sound track, counted from 0. Repeatable; default all.",
    ),
]


def register(app: typer.Typer) -> None:
    lines = ("lipsync resync clip.mov", "lipsync resync clip.mp4 --delay-ms 82 --out fixed.mp4")
    app.command("resync", epilog=examples(*lines))(resync)


def resync(
    clip: Clip,
    audio_track: Tracks,
    delay_ms: DelayMs = None,
    drift_ppm: DriftPpm = None,
    mode: ModeName = "auto",
    out: Out = None,
    model: Model = "synclipmae-tiny",
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Move the sound under the untouched picture, then measure the result; nothing unproven is kept.

    The delay is measured by the lips unless --delay-ms gives it. Sound that can be moved losslessly is; otherwise it
    moves by timestamps, and a warning says which editors ignore those.
    """
    from lipsync_cli.tasks.resync import ResyncRequest
    from lipsync_cli.tasks.resync import resync as run

    if mode not in MODES:
        raise UsageError(f"unknown mode '{mode}'.", f"use one of: {', '.join(MODES)}")
    output = Output(schema="lipsync.resync/1", json=json, quiet=quiet)
    request: Any = dict(input=clip, output=out, mode=mode, overwrite=overwrite, dry_run=dry_run)
    request |= {
        "tracks": tuple(audio_track) or None,
        "tempo": 1 / (1 + _number("--drift-ppm", drift_ppm) / 1_000_000),
    }
    measure = None
    if delay_ms is None:
        measure = _lips(clip, model, device, audio_track[0] if audio_track else 0, output)
    else:
        request["delay_ms"] = _number("--delay-ms", delay_ms)
    result = run(ResyncRequest(**request), measure=measure, progress=output.progress())
    for warning in result.warnings:
        output.warning(warning)
    output.result(result, _as_text(result))


def _number(option: str, text: str | None) -> Fraction:
    """An exact decimal: binary floats would move the sound by parts of a sample."""
    try:
        return Fraction(text or 0)
    except ValueError as error:
        raise UsageError(f"{option} '{text}' is not a number.", f"{option} 82.5") from error


def _lips(clip: Path, model: str, device: str, track: int, output: Output) -> MeasureLead:
    """A measurement of audio_lead_ms by the lips, the network loaded once."""
    from lipsync_cli.tasks.offset import OffsetMeter, OffsetRequest

    meter = OffsetMeter(model, device)

    def measure(path: Path) -> Fraction:
        found = meter.measure(OffsetRequest(path, audio_track=track), output.progress())
        output.note(f"{clip.name if path == clip else 'the result'}: {found.words}")
        if not found.trusted:
            raise InconclusiveError(f"{path}: {found.words}.", _remedy(path, found))
        return Fraction(round(found.estimate.audio_lead_ms * 10), 10)

    return measure


def _remedy(path: Path, found: OffsetResult) -> str:
    """What to try where one delay is not enough: a drift is undone by its line, from the first picture on."""
    programme = found.programme
    if programme is None or programme.line is None or programme.kind != "drift":
        return f"lipsync resync '{path}' --delay-ms MS"
    line = programme.line
    return f"lipsync resync '{path}' --delay-ms {line.at(found.start_s):.1f} --drift-ppm {line.drift_ppm:.1f}"


def _as_text(result: ResyncResult) -> str:
    files = ", ".join(str(path) for path in result.outputs)
    said = f"delays the sound by {result.delay_ms:g} ms ({result.mode})"
    if result.dry_run:
        return f"would write {files}: {said}"
    lines = [f"{files}: {said}"]
    for track, achieved in result.achieved_ms.items():
        lines.append(
            f"sound track {track} moved by {achieved:.3f} ms, measured (within {result.tolerance_ms:.3f} ms)"
        )
    if result.picture_packets:
        lines.append(f"picture untouched: {result.picture_packets} packets, sha256 {result.picture_sha256}")
    if result.audio_lead_before_ms is not None and result.audio_lead_after_ms is not None:
        before, after = round(result.audio_lead_before_ms), round(result.audio_lead_after_ms)
        lines.append(f"sound was ahead of the lips by {before} ms, is by {after} ms")
    return "\n".join(lines)
