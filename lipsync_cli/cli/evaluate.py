"""`lipsync evaluate`: how right the answers are, on your data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lipsync_cli.cli.options import Device, Json, Model, Quiet, examples
from lipsync_cli.cli.output import Output, table

if TYPE_CHECKING:
    from lipsync_cli.tasks.evaluate import EvaluateOffsetRequest, OffsetScores
    from lipsync_cli.tasks.evaluate_dub import ClipScores, DubScores, SyncScores
    from lipsync_cli.tasks.evaluate_sync import SyncTable

Clips = Annotated[
    Path,
    typer.Argument(
        readable=False, metavar="CLIPS", help="A folder that `lipsync prepare` made, or a folder of videos."
    ),
]
Keys = Annotated[
    list[str],
    typer.Option(
        "--keys",
        metavar="PATTERN",
        default_factory=list,
        show_default=False,
        help="Only clips such as 's2/*'. Repeatable.",
    ),
]
Last = Annotated[
    int, typer.Option("--last", min=0, metavar="N", help="Only the last N clips of each subject.")
]
Mismatched = Annotated[
    bool,
    typer.Option(
        "--mismatched", help="Exchange the sound among clips: how often is a lead given all the same?"
    ),
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate", help="Clips are in sync: write what they read into the model folder, as its constant."
    ),
]

Engine = Annotated[str, typer.Option(metavar="NAME", help="As in `lipsync dub`.")]
Adapt = Annotated[str, typer.Option(metavar="auto|off|STEPS", help="As in `lipsync dub`.")]
Sound = Annotated[
    bool, typer.Option("--sound/--no-sound", help="Drive the mouths by sound too, and measure the sync.")
]

EXAMPLES = (
    "lipsync evaluate offset prepared --keys 's2/*' --keys 's3/*'",
    "lipsync evaluate offset prepared --keys 's1/*' --last 50 --model ./my-model --calibrate",
)
SYNC_EXAMPLE = "lipsync evaluate sync dubbed --model stable-syncnet"
DUB_EXAMPLE = "lipsync evaluate dub prepared --keys 's2/*' --keys 's3/*' --adapt off"


def register(app: typer.Typer) -> None:
    evaluate = typer.Typer(no_args_is_help=True, help="Measure how right the answers are, on clips of yours.")
    evaluate.command("offset", epilog=examples(*EXAMPLES))(offset)
    evaluate.command("sync", epilog=examples(SYNC_EXAMPLE))(sync)
    evaluate.command("dub", epilog=examples(DUB_EXAMPLE))(dub)
    app.add_typer(evaluate, name="evaluate", epilog=examples(EXAMPLES[0]))


def offset(
    clips: Clips,
    keys: Keys,
    last: Last = 0,
    model: Model = "synclipmae-tiny",
    mismatched: Mismatched = False,
    calibrate: Calibrate = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Move the sound of clips by −15…+15 frames and by parts of a frame, measure, and compare."""
    from lipsync_cli.core.errors import UsageError
    from lipsync_cli.tasks.evaluate import EvaluateOffsetRequest

    if mismatched and calibrate:
        raise UsageError("--mismatched and --calibrate are two measurements.", "give one of them")
    request = EvaluateOffsetRequest(
        clips=clips, keys=tuple(keys) or ("*",), last=last, model=model, device=device
    )
    output = Output(schema="lipsync.evaluate.offset/1", json=json, quiet=quiet)
    (_mismatched if mismatched else _calibrate if calibrate else _score)(request, output)


def sync(
    clips: Clips,
    keys: Keys,
    last: Last = 0,
    model: Model = "stable-syncnet",
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say how well sound fits lips, as papers on dubbing do: LSE-C, LSE-D, and what both are blind to, the lead."""
    from lipsync_cli.tasks.evaluate_sync import EvaluateSyncRequest, evaluate_sync

    output = Output(schema="lipsync.evaluate.sync/1", json=json, quiet=quiet)
    asked = EvaluateSyncRequest(
        clips=clips, keys=tuple(keys) or ("*",), last=last, model=model, device=device
    )
    found = evaluate_sync(asked, output.progress())
    for reason in found.unusable:
        output.warning(reason)
    output.result(found, _as_sync_text(found))


def _as_sync_text(found: SyncTable) -> str:
    columns = ("clip", "LSE-C", "LSE-D", "lead, ms", "accuracy, %")
    rows = [
        (
            row.key,
            f"{row.lse_c:.3f}",
            f"{row.lse_d:.3f}",
            f"{row.audio_lead_ms:.0f}",
            _percent(row.accuracy_percent),
        )
        for row in found.clips
    ]
    mean = (
        "mean",
        f"{found.lse_c:.3f}",
        f"{found.lse_d:.3f}",
        f"{found.lead_ms:.0f}",
        _percent(found.accuracy_percent),
    )
    return f"{len(found.clips)} clips, by {found.model}\n" + table(columns, [*rows, mean])


def _percent(value: float) -> str:
    return "–" if value != value else f"{value:.1f}"


def _score(request: EvaluateOffsetRequest, output: Output) -> None:
    from lipsync_cli.tasks.evaluate import evaluate_offset

    scores = evaluate_offset(request, output.progress())
    for reason in scores.unusable:
        output.warning(reason)
    output.result(scores, _as_text(scores))


def _as_text(scores: OffsetScores) -> str:
    from lipsync_cli.tasks.evaluate import PAPER_ACCURACY, PAPER_R_PRECISION

    got = scores.protocol
    clips = [
        ("within ±1 frame, all shifts", f"{scores.within_percent:.2f} %"),
        ("within ±1 frame, where an answer is given", f"{scores.trusted_within_percent:.2f} %"),
        ("inconclusive", f"{scores.inconclusive_percent:.2f} %"),
        ("mean |error|", f"{scores.mean_error_frames:.3f} frames, {scores.mean_error_ms:.1f} ms"),
    ]
    windows = [
        (k, f"{got[f'acc_k{k}']:.2f} ({paper:.2f})", f"{got[f'lag_k{k}']:.2f}")
        for k, paper in PAPER_ACCURACY.items()
    ]
    ranks = [
        (
            f"{name} clip",
            *(f"{got[f'r{k}_{name}']:.2f} ({paper:.2f})" for k, paper in enumerate(PAPER_R_PRECISION, 1)),
        )
        for name in ("same", "cross")
    ]
    shifts = [(row.shift_ms, f"{row.mean_answer_ms:.1f}") for row in scores.subframe]
    order = "rising" if scores.subframe_ordered else "NOT rising"
    return "\n\n".join(
        [
            f"{scores.clips} clips, {scores.answers} answers\n" + table(("answers", "value"), clips),
            table(("window K, frames", "Acc±1, % (paper)", "mean |lag|, frames"), windows),
            table(("R-precision, pool 32 (paper)", "@1", "@2", "@3"), ranks),
            table(("shift, ms", "mean answer, ms"), shifts)
            + f"\n{order}; mean error {scores.subframe_error_ms:.1f} ms",
        ]
    )


def _mismatched(request: EvaluateOffsetRequest, output: Output) -> None:
    from lipsync_cli.tasks.evaluate import evaluate_mismatched

    scores = evaluate_mismatched(request, output.progress())
    said = f"{scores.clips} clips with the sound of another: a lead was given for {scores.false_trust_percent:.1f} %"
    output.result(scores, "\n".join([said, *(f"  {pair}" for pair in scores.trusted)]))


def _calibrate(request: EvaluateOffsetRequest, output: Output) -> None:
    from lipsync_cli.tasks.evaluate import calibrate

    found = calibrate(request, output.progress())
    output.result(
        found,
        f"{request.model}: bias {found.bias_ms:.1f} ms, systematic {found.systematic_ms:.1f} ms"
        f" ({found.used} of {found.clips} clips)",
    )


def dub(
    clips: Clips,
    keys: Keys,
    last: Last = 0,
    engine: Engine = "flashlips-tiny",
    adapt: Adapt = "auto",
    sound: Sound = True,
    model: Model = "synclipmae-tiny",
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hide mouths that are known and have them put back; then drive mouths by sound and measure the sync."""
    from lipsync_cli.tasks.evaluate_dub import EvaluateDubRequest, evaluate_dub

    request = EvaluateDubRequest(
        clips=clips,
        keys=tuple(keys) or ("*",),
        last=last,
        engine=engine,
        adapt=adapt,
        sound=sound,
        model=model,
        device=device,
    )
    output = Output(schema="lipsync.evaluate.dub/1", json=json, quiet=quiet)
    scores = evaluate_dub(request, output.progress())
    for reason in scores.unusable:
        output.warning(reason)
    output.result(scores, _as_dub_text(scores))


def _as_dub_text(scores: DubScores) -> str:
    columns = (
        "clip",
        "frames",
        "PSNR, dB",
        "SSIM",
        "LPIPS",
        "source",
        "own sound",
        "200 ms late",
        "other sound",
    )
    means = [
        (
            "PSNR, SSIM, LPIPS in the mouth's box",
            f"{scores.psnr_db:.2f} dB, {scores.ssim:.3f}, {scores.lpips:.3f}",
        ),
        ("largest difference outside the mask, of 255", scores.outside_difference),
        ("own sound: within ±1 frame of sync", f"{scores.own_within_percent:.0f} %"),
        ("another's sound: within ±1 frame of sync", f"{scores.cross_within_percent:.0f} %"),
        ("own sound, 200 ms late: median lead", f"{scores.late_ms:.0f} ms"),
    ]
    return "\n\n".join(
        [
            table(columns, [_dub_row(clip) for clip in scores.clips]),
            f"{len(scores.clips)} clips, {scores.engine}, adapt {scores.adapt}\n"
            # without --sound nothing was driven by it
            + table(("", "value"), [(name, str(value)) for name, value in means if "nan" not in str(value)]),
        ]
    )


def _dub_row(clip: ClipScores) -> tuple[str, ...]:
    mouth = clip.mouth
    return (
        clip.key,
        str(mouth.frames),
        f"{mouth.psnr_db:.2f}",
        f"{mouth.ssim:.3f}",
        f"{mouth.lpips:.3f}",
        *(_lead(score) for score in (clip.source, clip.own, clip.late, clip.cross)),
    )


def _lead(score: SyncScores | None) -> str:
    return "" if score is None else f"{score.audio_lead_ms:.0f} ms ({score.confidence:.2f})"
