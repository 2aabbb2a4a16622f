"""`lipsync read CLIP…`"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lipsync_cli.cli.options import Device, DryRun, Json, Overwrite, Quiet, Workers, examples
from lipsync_cli.cli.output import Output, print_error, table, write_line
from lipsync_cli.core.errors import LipsyncError, UsageError

if TYPE_CHECKING:
    from lipsync_cli.tasks.read import ReadOptions
    from lipsync_cli.tasks.read_score import References, Score
    from lipsync_cli.tasks.read_text import ReadResult

FORMATS = ("text", "json", "srt", "vtt", "csv")
SCHEMA, SCORE_SCHEMA = "lipsync.read/1", "lipsync.read.score/1"

Clips = Annotated[
    list[str],
    typer.Argument(
        readable=False,
        metavar="CLIP...",
        help="Videos, folders, patterns, or manifests (.txt, .jsonl, .csv).",
    ),
]
ReaderModel = Annotated[
    str,
    typer.Option(
        "--model", metavar="MODEL", help="A name from `lipsync models list`, hf:org/repo@commit, or a folder."
    ),
]
Format = Annotated[str, typer.Option("--format", metavar="NAME", help="text, json, srt, vtt or csv.")]
Grammar = Annotated[
    str,
    typer.Option(
        "--grammar", metavar="NAME", help="grid, or a file with a word a line: nothing else is read."
    ),
]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="MODEL",
        help="What to lean towards: a file with a sentence a line, or a transformers causal model, a folder or "
        "hf:org/repo@commit.",
    ),
]
LanguageWeight = Annotated[
    float, typer.Option("--language-weight", min=0.0, help="How far to lean towards --language.")
]
Beam = Annotated[
    int | None,
    typer.Option(
        "--beam",
        min=0,
        metavar="N",
        help="Hypotheses kept, by default the model's number, more with --grammar grid; 0 is greedy, and fastest.",
        show_default=False,
    ),
]
Best = Annotated[
    int, typer.Option("--best", min=1, metavar="N", help="Sentences given of each piece in JSON.")
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference", metavar="FILE", help="JSON Lines with clip and text: error rates.", show_default=False
    ),
]
Shard = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Only the I-th of N parts of the clips, from 1.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Keep the records in --out, read what is missing.")]
Folder = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Write a record for each clip here.", show_default=False),
]


def register(app: typer.Typer) -> None:
    lines = (
        "lipsync read clip.mp4",
        "lipsync read clip.mp4 --format srt > clip.srt",
        "lipsync read clips/ --grammar grid --out readings --resume --workers 2",
    )
    app.command("read", epilog=examples(*lines))(read)


def read(
    clips: Clips,
    model: ReaderModel = "vsr-grid-tiny",
    format: Format = "text",
    json: Json = False,
    grammar: Grammar = "",
    language: Language = "",
    language_weight: LanguageWeight = 0.3,
    beam: Beam = None,
    best: Best = 1,
    reference: Reference = None,
    out: Folder = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    shard: Shard = "1/1",
    workers: Workers = 0,
    device: Device = "auto",
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Read lips: what is said, from the picture alone, with word times and confidences.

    The embedded model reads GRID sentences only, such as "bin blue at f two now"; it puts whatever it sees into these
    51 words.
    """
    from lipsync_cli.tasks.read import ReadOptions
    from lipsync_cli.tasks.read_inputs import find_inputs, parse_shard
    from lipsync_cli.tasks.read_score import read_references

    format = "json" if json else format
    if format not in FORMATS:
        raise UsageError(f"there is no format '{format}'.", f"use one of: {', '.join(FORMATS)}")
    if resume and out is None:
        raise UsageError("--resume needs the folder of the records.", "add --out FOLDER")
    part, parts = parse_shard(shard)
    output = Output(schema=SCHEMA, json=format == "json", quiet=quiet)
    references = read_references(reference) if reference else None
    found = find_inputs(clips)
    mine = found[part - 1 :: parts]
    options = ReadOptions(model, device, grammar, language, language_weight, beam, best)
    if dry_run:
        _plan(mine, options, out, output)
        return
    results = _results(found, mine, options, format, out, resume, overwrite, workers, output)
    _tell(results, len(found) > 1, format, out is not None, references, output)


def _results(
    found: list[Path],
    mine: list[Path],
    options: ReadOptions,
    format: str,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    workers: int,
    output: Output,
) -> Iterator[ReadResult]:
    """Results as they come, records written; those of an earlier run first."""
    from lipsync_cli.tasks.read import LipReading
    from lipsync_cli.tasks.read_batch import read_clips
    from lipsync_cli.tasks.read_store import RecordFolder

    folder, left = None, mine
    if out is not None:
        beside = {} if format == "json" else {_suffix(format): _renderer(format)}
        folder = RecordFolder(out, found, options, beside)
        folder.open(mine, resume=resume, overwrite=overwrite)
    if folder is not None and resume:
        left = []
        for clip in mine:
            result = folder.find(clip)
            if result is None:
                left.append(clip)
            else:
                yield result
        output.note(f"{len(mine) - len(left)} of {len(mine)} clips were read before")
    if not left:
        return
    reading = LipReading(options)
    output.note(f"reading on {reading.device.type}")
    for result in read_clips(left, reading, workers=workers, progress=output.progress()):
        if folder is not None:
            folder.write(result)
        yield result


def _tell(
    results: Iterable[ReadResult],
    several: bool,
    format: str,
    written: bool,
    references: References | None,
    output: Output,
) -> None:
    """Print results, or where records are written only what went wrong, then the error rates.

    Raises: typer.Exit with the first code that was not 0.
    """
    from lipsync_cli.tasks.read_score import Scorer

    code, count = 0, 0
    scorer = Scorer(references) if references else None
    for result in results:
        count += 1
        code = code or result.exit_code
        if scorer:
            scorer.add(result)
        if result.exit_code:
            print_error(LipsyncError(result.message, result.hint))
        if not written:
            _print(result, several, format, count == 1, output)
    if written:
        output.note(f"{count} clips read")
    if scorer:
        _print_score(scorer.score(), output)
    if code:
        raise typer.Exit(code)


def _print(result: ReadResult, several: bool, format: str, first: bool, output: Output) -> None:
    from lipsync_cli.tasks.read_format import as_csv, as_text
    from lipsync_cli.tasks.read_store import as_record

    if format == "json":
        output.result(as_record(result), "")
    elif format == "csv":
        write_line(as_csv(result, header=first).rstrip("\n"))
    elif result.exit_code:
        return
    elif format == "text" and several:
        for line in as_text(result).splitlines():
            write_line(f"{result.clip}: {line}")
    else:
        if several:
            write_line(f"NOTE {result.clip}\n" if format == "vtt" else f"{result.clip}\n")
        write_line(_renderer(format)(result).rstrip("\n"))


def _print_score(rates: Score, output: Output) -> None:
    from dataclasses import replace

    if rates.without_reference:
        output.warning(
            f"{rates.without_reference} clips have no reference, and are left out of the error rates"
        )
    replace(output, schema=SCORE_SCHEMA).result(rates, _score_table(rates))


def _score_table(rates: Score) -> str:
    rows = [
        ("words", f"{rates.wer:.2%}", f"{rates.mean_wer:.2%}"),
        ("characters", f"{rates.cer:.2%}", f"{rates.mean_cer:.2%}"),
    ]
    counts = f"{rates.substitutions} substituted, {rates.deletions} deleted, {rates.insertions} inserted"
    said = f"{rates.clips} clips, {rates.words} words: {counts}"
    if rates.unread:
        said += f"; {rates.unread} clips could not be read"
    return table(("errors", "corpus", "mean of sentences"), rows) + "\n" + said


def _plan(clips: list[Path], options: ReadOptions, out: Path | None, output: Output) -> None:
    where = f"records in {out}" if out else "to stdout"
    text = "\n".join([f"{len(clips)} clips, {options.model}, {where}", *map(str, clips)])
    output.result({"plan": {"clips": clips, "model": options.model, "out": out}}, text)


def _renderer(format: str) -> Callable[[ReadResult], str]:
    from lipsync_cli.tasks import read_format

    return {
        "text": lambda result: read_format.as_text(result) + "\n",
        "srt": read_format.as_srt,
        "vtt": read_format.as_vtt,
        "csv": read_format.as_csv,
    }[format]


def _suffix(format: str) -> str:
    return ".txt" if format == "text" else f".{format}"
