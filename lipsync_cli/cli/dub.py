"""`lipsync dub CLIP --audio NEW.wav`"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lipsync_cli.cli.options import Device, DryRun, Json, Out, Overwrite, Quiet, Seed, examples
from lipsync_cli.cli.output import Output
from lipsync_cli.cli.progress import clock
from lipsync_cli.core.errors import UsageError

if TYPE_CHECKING:
    from lipsync_cli.tasks.dub_result import DubResult

SCHEMA, PLAN_SCHEMA = "lipsync.dub/1", "lipsync.dub.plan/1"
MISMATCHES = ("error", "hold", "loop", "bounce", "cut")

Clip = Annotated[
    Path, typer.Argument(metavar="CLIP", help="The video to dub; it is never touched.", show_default=False)
]


def _file(option: str, help: str) -> Any:
    return typer.Option(option, metavar="FILE", help=help, show_default=False)


Audio = Annotated[
    Path | None, _file("--audio", "The new speech; the mouth follows it, and it is heard as it is.")
]
DriverVideo = Annotated[
    Path | None,
    _file(
        "--driver-video",
        "The mouth follows the face in this video, whose sound is heard unless --audio is given.",
    ),
]
Segments = Annotated[
    Path | None,
    _file("--segments", "JSON or CSV: start, end, audio (or driver_video), face, seed of each stretch."),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="The network that makes the mouth: a name, or a model folder (with a /)."
    ),
]
Adapt = Annotated[
    str,
    typer.Option(
        metavar="auto|off|STEPS", help="Fit the engine to this face before rendering, where it can be."
    ),
]
EngineSet = Annotated[
    list[str],
    typer.Option(
        "--engine-set",
        metavar="KEY=VALUE",
        default_factory=list,
        show_default=False,
        help="The engine's own. LatentSync: steps, guidance, solver, precision, windows, cache, compile. Repeatable.",
    ),
]
Face = Annotated[
    str,
    typer.Option(
        metavar="FACE",
        help="auto, an id, x,y@time (pixels, seconds), or boxes.json; auto is who is heard speaking.",
    ),
]
Mismatch = Annotated[
    str,
    typer.Option(
        "--on-length-mismatch",
        metavar="HOW",
        help="Speech longer than the picture: hold its last frame, loop it, bounce it back and forth, or cut the speech."
        " Shorter: the mouth is shut in the rest, cut ends the picture. Default: error.",
    ),
]
Preview = Annotated[
    str | None, typer.Option("--preview", metavar="SECONDS", help="Only the beginning.", show_default=False)
]
SideBySide = Annotated[
    Path | None, _file("--side-by-side", "Also write source and result beside each other.")
]
ContactSheet = Annotated[
    Path | None, _file("--contact-sheet", "Also write a PNG of mouths before and after.")
]
VideoCodec = Annotated[
    str | None,
    typer.Option(
        "--video-codec",
        metavar="NAME",
        help="h264, hevc, prores-422-hq, ffv1, …; by default as the source.",
        show_default=False,
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(metavar="N", help="Constant rate factor, lower is better and larger.", show_default=False),
]
PixelFormat = Annotated[
    str | None,
    typer.Option("--pixel-format", metavar="NAME", help="By default as the source.", show_default=False),
]
KeepAudio = Annotated[
    bool, typer.Option("--keep-audio", help="Hear the clip's own sound, whatever drives the mouth.")
]
MixBackground = Annotated[
    Path | None, _file("--mix-background", "Sound to be heard beside the new speech: music, room, effects.")
]
Consent = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="Who agreed to this and when; recorded beside the result.", show_default=False
    ),
]
C2paCertificate = Annotated[
    Path | None,
    _file("--c2pa-certificate", "PEM, the whole chain: sign a C2PA manifest (needs the extra c2pa)."),
]
C2paKey = Annotated[Path | None, _file("--c2pa-key", "PEM, the certificate's private key.")]
NoProvenance = Annotated[
    bool, typer.Option("--no-provenance", help="Write no record and no tag that the picture is AI-modified.")
]


def register(app: typer.Typer) -> None:
    lines = (
        "lipsync dub clip.mp4 --audio new.wav",
        "lipsync dub clip.mov --driver-video performance.mp4 --preview 5 --side-by-side look.mp4",
    )
    app.command("dub", epilog=examples(*lines))(dub)


def dub(
    clip: Clip,
    engine_set: EngineSet,
    audio: Audio = None,
    driver_video: DriverVideo = None,
    segments: Segments = None,
    engine: Engine = "flashlips-tiny",
    adapt: Adapt = "auto",
    face: Face = "auto",
    on_length_mismatch: Mismatch = "error",
    preview: Preview = None,
    side_by_side: SideBySide = None,
    contact_sheet: ContactSheet = None,
    video_codec: VideoCodec = None,
    quality: Quality = None,
    pixel_format: PixelFormat = None,
    keep_audio: KeepAudio = False,
    mix_background: MixBackground = None,
    consent: Consent = None,
    no_provenance: NoProvenance = False,
    c2pa_certificate: C2paCertificate = None,
    c2pa_key: C2paKey = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give a face a mouth that follows new speech or another performance; everything else stays as it was.

    Pictures keep their count, times, size, depth and colours, and other tracks are kept. A killed run goes on where it
    stopped. The result is tagged as AI-modified: dub only people who agreed.
    """
    if on_length_mismatch not in MISMATCHES:
        raise UsageError(
            f"--on-length-mismatch '{on_length_mismatch}' is none of its choices.", ", ".join(MISMATCHES)
        )
    from lipsync_cli.tasks.dub import dub as run
    from lipsync_cli.tasks.dub_request import DubRequest

    output = Output(schema=PLAN_SCHEMA if dry_run else SCHEMA, json=json, quiet=quiet)
    request = DubRequest(
        clip=clip,
        audio=audio,
        driver_video=driver_video,
        segments=segments,
        output=out,
        engine=engine,
        adapt=adapt,
        engine_options=_settings(engine_set),
        device=device,
        face=face,
        mismatch=on_length_mismatch,  # type: ignore[arg-type]
        preview_s=_seconds(preview),
        side_by_side=side_by_side,
        contact_sheet=contact_sheet,
        video_codec=video_codec,
        quality=quality,
        pixel_format=pixel_format,
        keep_audio=keep_audio,
        mix_background=mix_background,
        seed=seed,
        consent=consent,
        provenance=not no_provenance,
        c2pa_certificate=c2pa_certificate,
        c2pa_key=c2pa_key,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    result = run(request, progress=output.progress())
    for warning in result.warnings:
        output.warning(warning)
    output.result(result, _as_plan(result) if dry_run else _as_text(result))


def _settings(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, equals, value in pairs:
        if not key or not equals or not value:
            raise UsageError(
                f"--engine-set {key}{equals}{value}: a setting is KEY=VALUE.", "--engine-set steps=10"
            )
    return {key: value for key, _, value in pairs}


def _seconds(text: str | None) -> Fraction | None:
    try:
        return None if text is None else Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--preview '{text}' is no number of seconds.", "--preview 5") from error


def _as_text(result: DubResult) -> str:
    lines = [
        f"{result.output}: {result.edited} of {result.frames} frames with a new mouth, by {result.engine}"
    ]
    if result.frames_per_s:
        lines[0] += f", {result.frames_per_s:.1f} frames/s"
    for name, score in (("source", result.source_sync), ("result", result.result_sync)):
        if score is not None:
            sure = "" if score.confidence is None else f" (confidence {score.confidence:.2f})"
            lines.append(f"{name}: {score.words}{sure}")
    lines += [f"also {path}" for path in result.outputs if path != result.output]
    return "\n".join(lines)


def _as_plan(result: DubResult) -> str:
    lines = [f"would write {', '.join(str(path) for path in result.outputs)}"]
    lines.append(f"engine {result.engine}; {result.edited} of {result.frames} frames get a new mouth")
    lines.append(f"picture: {result.video['codec']}, {result.video['pixel_format']}")
    for part in result.segments:
        faces = ", ".join(str(face) for face in part.faces)
        lines.append(
            f"{part.start_s:.2f} to {part.end_s:.2f} s: face {faces} by {part.speech} ({part.speech_s:.2f} s)"
        )
    for face in result.faces:
        seen = f"seen {face.start_s:.2f} to {face.end_s:.2f} s around {face.x},{face.y}"
        lines.append(f"face {face.id}: {seen}{' (chosen)' if face.chosen else ''}")
    if result.estimate is not None:
        memory = f"{result.estimate.memory_mb / 1000:.1f} GB"
        lines.append(
            f"about {clock(result.estimate.seconds)} and {memory} with the embedded engine on a processor"
        )
    return "\n".join(lines)
