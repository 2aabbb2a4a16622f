"""`lipsync offset CLIP…`"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path
from traceback import print_exception
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lipsync_cli.cli.options import Device, DryRun, Json, Model, Overwrite, Quiet, Verbose, Workers, examples
from lipsync_cli.cli.output import Output, as_json, table, write_line
from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.output import atomic_path, check_output
from lipsync_cli.core.shipped import did_you_mean
from lipsync_cli.sync.verdict import STANDARD_NAMES, Tolerance, custom, standard

if TYPE_CHECKING:
    from lipsync_cli.tasks.offset import OffsetRequest
    from lipsync_cli.tasks.offset_batch import Outcome
    from lipsync_cli.tasks.offset_record import Record
    from lipsync_cli.tasks.offset_report import ReportClip
    from lipsync_cli.tasks.offset_results import ResultsFile

SCHEMA, PLAN_SCHEMA = "lipsync.offset/1", "lipsync.offset.plan/1"
FIGURES = (".png", ".svg")

Clips = Annotated[
    list[Path],
    typer.Argument(
        readable=False,
        metavar="CLIP",
        help="Videos, folders of videos, or patterns in quotes.",
        show_default=False,
    ),
]
Standard = Annotated[
    str | None,
    typer.Option(
        "--standard",
        metavar="NAME",
        help=f"Judge by a delivery standard: {', '.join(STANDARD_NAMES)}, or custom.",
        show_default=False,
    ),
]
EarlyMs = Annotated[
    float | None,
    typer.Option(
        metavar="MS", min=0, help="With --standard custom: sound may be this early.", show_default=False
    ),
]
LateMs = Annotated[
    float | None,
    typer.Option(
        metavar="MS", min=0, help="With --standard custom: sound may be this late.", show_default=False
    ),
]
Face = Annotated[
    int | None,
    typer.Option(
        metavar="ID",
        help="Measure this face (see --verbose) instead of the speaking one.",
        show_default=False,
    ),
]
AudioTrack = Annotated[int, typer.Option(metavar="N", min=0, help="Sound track, counted from 0.")]
MaxOffset = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.1, max=5, help="Range searched, both ways; up to 5.")
]
Csv = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="A table, one row per clip and per face; - prints it.", show_default=False
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Lag curve and time course of one clip, .png or .svg.", show_default=False
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="One HTML page: verdicts, curves, faces.", show_default=False),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Also append each result to this JSON Lines file as soon as it is known.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="With --out: measure only what is not recorded there.")
]


def register(app: typer.Typer) -> None:
    app.command(
        "offset",
        epilog=examples(
            "lipsync offset clip.mp4",
            "lipsync offset clip.mov --standard ebu-r37 --plot lag.png",
            "lipsync offset rushes/ --workers 4 --out results.jsonl --resume --report sync.html",
            "lipsync offset 'dailies/**/*.mxf' --csv - --quiet",
        ),
    )(offset)


def offset(
    clips: Clips,
    standard: Standard = None,
    early_ms: EarlyMs = None,
    late_ms: LateMs = None,
    face: Face = None,
    audio_track: AudioTrack = 0,
    max_offset: MaxOffset = 0.6,
    csv: Csv = None,
    plot: Plot = None,
    report: Report = None,
    out: Results = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    model: Model = "synclipmae-tiny",
    device: Device = "auto",
    workers: Workers = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure how far sound and lips are apart, per face and shot, or say why that cannot be told.

    The exit code says whether it was measured; whether it is within --standard, the answer says.
    """
    tolerance = _tolerance(standard, early_ms, late_ms)
    from lipsync_cli.tasks.offset import OffsetRequest
    from lipsync_cli.tasks.offset_batch import find_clips

    output = Output(schema=PLAN_SCHEMA if dry_run else SCHEMA, json=json, quiet=quiet, verbose=verbose)
    found = find_clips(clips)
    files = Files(csv=csv, plot=plot, report=report, results=out, resume=resume)
    files.check(found, overwrite=overwrite, json=json)
    requests = [
        OffsetRequest(clip, audio_track, face, max_lead_ms=max_offset * 1000, tolerance=tolerance)
        for clip in found
    ]
    if dry_run:
        _plan(output, requests, files, model, device)
        return
    options = {"model": model, "audio_track": audio_track, "face": face, "max_offset_s": max_offset}
    options |= {"standard": standard, "early_ms": early_ms, "late_ms": late_ms}
    _measure(output, requests, files, options, device, workers)


def _tolerance(
    name: str | None, early_ms: float | None, late_ms: float | None
) -> Callable[[Fraction], Tolerance] | None:
    """The rule of a named standard. Raises: UsageError for a name or a combination that means nothing."""
    limits = early_ms is not None or late_ms is not None
    if name == "custom":
        if early_ms is None or late_ms is None:
            raise UsageError(
                "--standard custom needs both limits.", "--standard custom --early-ms 40 --late-ms 60"
            )
        return partial(_always, custom(early_ms, late_ms))
    if limits:
        raise UsageError("--early-ms and --late-ms belong to --standard custom.", "add --standard custom")
    if name is None:
        return None
    if name not in STANDARD_NAMES:
        known = (*STANDARD_NAMES, "custom")
        raise UsageError(
            f"unknown standard '{name}'{did_you_mean(name, known)}.", f"one of: {', '.join(known)}"
        )
    return partial(standard, name)


def _always(tolerance: Tolerance, rate: Fraction) -> Tolerance:
    return tolerance


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where results go besides stdout. csv: a path, or "-" for stdout itself."""

    csv: str | None
    plot: Path | None
    report: Path | None
    results: Path | None
    resume: bool

    def check(self, clips: Sequence[Path], *, overwrite: bool, json: bool) -> None:
        """Raises: UsageError for what cannot be written or does not go together."""
        if self.resume and self.results is None:
            raise UsageError("--resume needs the file to go on from.", "add --out results.jsonl")
        if self.csv == "-" and json:
            raise UsageError("--csv - and --json both want stdout.", "--csv FILE --json")
        if self.plot is not None and self.plot.suffix.lower() not in FIGURES:
            raise UsageError(f"{self.plot}: a plot is {' or '.join(FIGURES)}.", "--plot lag.png")
        if self.plot is not None and len(clips) != 1:
            raise UsageError(f"--plot draws one clip, not {len(clips)}.", "--report sync.html")
        for path in self.written():
            check_output(path, clips, overwrite=overwrite or (self.resume and path == self.results))

    def written(self) -> list[Path]:
        """Every file that is made."""
        table = Path(self.csv) if self.csv not in (None, "-") else None
        return [path for path in (table, self.plot, self.report, self.results) if path is not None]

    @property
    def keep(self) -> bool:
        """Whether records are needed once they are printed."""
        return bool(self.csv or self.plot or self.report)

    def write(self, clips: Sequence[ReportClip], output: Output) -> None:
        """Write table, plot and report of everything measured."""
        from lipsync_cli.tasks.offset_results import csv_text

        if self.csv is not None:
            text = csv_text(clip.record for clip in clips)
            if self.csv == "-":
                write_line(text.rstrip("\n"))
            else:
                _write(Path(self.csv), text.encode("utf-8", "backslashreplace"))
        if self.report is not None:
            from lipsync_cli.tasks.offset_report import report_html

            _write(self.report, report_html(clips).encode("utf-8", "backslashreplace"))
        if self.plot is not None:
            if "curve" not in clips[0].record:
                output.note(f"{self.plot}: not drawn, the clip could not be measured")
                return
            from lipsync_cli.tasks.offset_plot import draw

            _write(self.plot, draw(clips[0].record, format=self.plot.suffix[1:].lower()))


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _plan(output: Output, requests: Sequence[OffsetRequest], files: Files, model: str, device: str) -> None:
    from lipsync_cli.tasks.offset_plan import plan_clip, plan_model

    folder, chosen = plan_model(model, device)
    by_clip = {request.clip: request for request in requests}
    common = {"model": folder.name, "model_path": folder.path, "device": chosen, "outputs": files.written()}
    if not output.json:
        write_line(f"model {folder.name} ({folder.path}), device {chosen}")
        for path in files.written():
            write_line(f"would write {path}")

    def one(clip: Path) -> None:
        plan = plan_clip(by_clip[clip])
        video, audio = plan.video, plan.audio
        rate = f"{float(video.rate):.6g}"
        output.result(
            {**as_json(plan), **common},
            f"{clip}: {plan.duration_s:.1f} s, {plan.pictures} pictures to look at; "
            f"{video.codec} {video.width}×{video.height} at {rate}, "
            f"{audio.codec} {audio.sample_rate_hz} Hz {audio.layout}",
        )

    output.each([request.clip for request in requests], one)


def _measure(
    output: Output,
    requests: Sequence[OffsetRequest],
    files: Files,
    options: Mapping[str, Any],
    device: str,
    workers: int,
) -> None:
    """Measure what is not recorded; print, record and write all of it. Raises: typer.Exit with the first failure."""
    from lipsync_cli.core.device import resolve_device
    from lipsync_cli.tasks.offset_batch import measure_clips
    from lipsync_cli.tasks.offset_record import request_key
    from lipsync_cli.tasks.offset_results import ResultsFile

    chosen = str(resolve_device(device))
    if device == "auto":
        output.note(f"device: {chosen}")
    keys = {request.clip: request_key(request.clip, options) for request in requests}
    results = ResultsFile(files.results, resume=files.resume) if files.results else None
    known = {
        clip: record for clip, key in keys.items() if results and (record := results.recorded(clip, key))
    }
    if known:
        output.note(f"{files.results}: {len(known)} of {len(requests)} clips are recorded there")
    left = [request for request in requests if request.clip not in known]
    kept: list[ReportClip] = []
    code = 0
    outcomes = measure_clips(left, options["model"], chosen, workers=workers, progress=output.progress())
    with closing(outcomes):  # ends the worker processes whatever happens
        first = list(islice(outcomes, 1))  # without a model this fails, for all clips and not for one of them
        coming = chain(first, outcomes)
        one = partial(_one, output, files, results, known, keys, coming, kept, len(requests) > 1)
        try:
            output.each([request.clip for request in requests], one)
        except typer.Exit as failed:  # files first: a batch with a bad clip has a report too
            code = failed.exit_code
    files.write(kept, output)
    if code:
        raise typer.Exit(code)


def _one(
    output: Output,
    files: Files,
    results: ResultsFile | None,
    known: Mapping[Path, Record],
    keys: Mapping[Path, Record],
    outcomes: Iterator[Outcome],
    kept: list[ReportClip],
    several: bool,
    clip: Path,
) -> int:
    from lipsync_cli.tasks.offset_record import recorded_error
    from lipsync_cli.tasks.offset_report import ReportClip, thumbnail

    record, faces = known.get(clip), ()
    if record is None:
        outcome = next(outcomes)
        record = _record(outcome, keys[clip])
        faces = outcome.result.faces if outcome.result and files.report else ()
        if results:
            results.add(record)
    if files.keep:
        kept.append(ReportClip(record, {face.track_id: thumbnail(face.portrait) for face in faces}))
    if record["status"] == "error":
        raise recorded_error(record)
    if files.csv != "-":
        output.result(record, _text(record, several=several, verbose=output.verbose))
    return record["exit_code"]


def _record(outcome: Outcome, key: Record) -> Record:
    from lipsync_cli.cli.app import debugging
    from lipsync_cli.tasks.offset_record import error_record, result_record

    if outcome.result is not None:
        return as_json(result_record(outcome.result, key))
    assert outcome.error is not None
    if debugging() and outcome.error.__cause__ is not None:
        print_exception(outcome.error)
    return error_record(outcome.clip, outcome.error, key)


def _text(record: Record, *, several: bool, verbose: bool) -> str:
    """The answer in words, the verdict, how the lead moves, and a table where there is something to compare."""
    from lipsync_cli.tasks.offset_record import programme_words

    lines = [f"{record['input']}: {record['words']}" if several else record["words"]]
    if record["verdict"]:
        lines.append(f"{record['verdict']['outcome']}  {record['verdict']['words']}")
    lines += programme_words(record)
    if verbose or len(record["faces"]) > 1:
        lines += ["", _faces(record)]
    return "\n".join(lines)


def _faces(record: Record) -> str:
    from lipsync_cli.tasks.offset_record import span

    rows = []
    for face in record["faces"]:
        low_high = face["interval_ms"]
        rows.append(
            (
                face["shot"],
                face["face"],
                span(record, face),
                f"{face['audio_lead_ms']:+.0f} ms" if low_high else "–",
                f"{low_high[0]:+.0f} … {low_high[1]:+.0f}" if low_high else "–",
                f"{face['confidence']:.2f}",
                "yes" if face["speaking"] else "",
                ", ".join(reason["code"] for reason in face["reasons"]),
            )
        )
    names = (
        "shot",
        "face",
        "from – to",
        "lead",
        "95 % interval",
        "confidence",
        "speaking",
        "reasons to doubt",
    )
    return table(names, rows)
