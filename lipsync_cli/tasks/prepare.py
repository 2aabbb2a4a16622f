"""`lipsync prepare`: footage to training data, in parallel, going on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.data.clips import FRAME_RATE
from lipsync_cli.data.manifest import MANIFEST_NAME, Clip, write_manifest
from lipsync_cli.data.prepare import Outcome, PrepareConfig, prepare_file
from lipsync_cli.tasks.faces import face_models

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".mxf", ".ts", ".m4v", ".avi", ".mpg", ".webm", ".mts"}


@dataclass(frozen=True)
class PrepareRequest:
    """footage: a folder of videos (its folders name subjects) or one video.  out: a folder, made when absent.
    text: JSON Lines with clip (path below footage), text and words, added to the manifest.  workers: processes.
    """

    footage: Path
    out: Path
    text: Path | None = None
    workers: int = 1
    config: PrepareConfig = PrepareConfig()


@dataclass(frozen=True)
class Said:
    """What is said in a file, with (word, start s, end s) on the file's time where known."""

    text: str
    words: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class PrepareResult:
    """manifest: the file to train on.  report: file with every dropped piece and why."""

    manifest: Path
    report: Path
    files: int
    clips: int
    hours: float
    dropped: int


def prepare(request: PrepareRequest, progress: Progress = SILENT) -> PrepareResult:
    """Cut clips, then write manifest.jsonl and report.json.  Files done by an earlier run are not worked on again.

    Raises: InputError when there is no video or nothing usable in any; UsageError when `out` is not a folder.
    """
    sources = find_videos(request.footage, leave_out=request.out)
    said = read_text(request)
    if request.out.exists() and not request.out.is_dir():
        raise UsageError(f"{request.out}: not a folder.", "choose a folder to prepare into")
    request.out.mkdir(parents=True, exist_ok=True)
    with progress.stage("prepare", len(sources), "files") as stage:
        outcomes = []
        for outcome in _outcomes(sources, request):
            outcomes.append(outcome)
            stage.advance()
    return _finish(outcomes, said, request)


def find_videos(footage: Path, leave_out: Path | None = None) -> dict[str, Path]:
    """Videos by key "subject/name": the subject is the folder, or "clips" for files directly below.

    leave_out: a folder that is no footage, such as the one prepared into.  Raises: InputError when there is none.
    """
    if footage.is_file():
        return {f"clips/{footage.stem}": footage}
    found = sorted(p for p in footage.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
    if leave_out is not None:
        found = [p for p in found if leave_out.resolve() not in p.resolve().parents]
    if not found:
        raise InputError(f"{footage}: no video files.", "name a folder with videos, or one video")
    keys = {}
    for path in found:
        folder = "-".join(path.relative_to(footage).parts[:-1]) or "clips"
        key = f"{folder}/{path.stem}"
        key = key if key not in keys else f"{folder}/{path.name}"
        while key in keys:  # folders x/y and x-y with files of one name
            key += "~"
        keys[key] = path
    return keys


def read_text(request: PrepareRequest) -> dict[Path, Said]:
    """Rows of `request.text` by file.  Raises: InputError naming the line that is none."""
    if request.text is None:
        return {}
    root = request.footage if request.footage.is_dir() else request.footage.parent
    try:
        lines = request.text.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{request.text}: cannot be read as text.", f"ls -l '{request.text}'") from error
    said = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            words = tuple((str(word), float(a), float(b)) for word, a, b in row.get("words", ()))
            said[(root / row["clip"]).resolve()] = Said(str(row["text"]), words)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{request.text}: line {number} needs clip, text and words [word, start s, end s].",
                f"sed -n {number}p '{request.text}'",
            ) from error
    return said


def _outcomes(sources: dict[str, Path], request: PrepareRequest) -> Iterator[Outcome]:
    models = face_models()
    jobs = [(path, key, request.out, models, request.config) for key, path in sources.items()]
    if request.workers <= 1:
        yield from (prepare_file(*job) for job in jobs)
        return
    with ProcessPoolExecutor(request.workers, get_context("spawn")) as pool:
        futures = [pool.submit(prepare_file, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _finish(outcomes: list[Outcome], said: dict[Path, Said], request: PrepareRequest) -> PrepareResult:
    clips = [with_text(clip, said) for outcome in outcomes for clip in outcome.clips]
    dropped = {o.source: list(o.dropped) for o in outcomes if o.dropped}
    manifest, report = request.out / MANIFEST_NAME, request.out / "report.json"
    hours = sum(clip.num_frames for clip in clips) / 25 / 3600
    summary = {"files": len(outcomes), "clips": len(clips), "hours": round(hours, 4)}
    with atomic_path(report) as temporary:
        temporary.write_text(json.dumps({**summary, "dropped": dict(sorted(dropped.items()))}, indent=1))
    if not clips:
        raise InputError(
            f"{request.footage}: no usable face and sound in {len(outcomes)} files.", f"cat '{report}'"
        )
    write_manifest(manifest, clips)
    return PrepareResult(
        manifest, report, len(outcomes), len(clips), hours, sum(len(reasons) for reasons in dropped.values())
    )


def with_text(clip: Clip, said: dict[Path, Said]) -> Clip:
    """A clip with what is said in it: of a longer file, only the words whose middle lies in the clip."""
    row = said.get(Path(clip.source).resolve())
    if row is None:
        return clip
    words = tuple((word, start - clip.start_s, end - clip.start_s) for word, start, end in row.words)
    length_s = clip.num_frames / float(FRAME_RATE)
    inside = tuple(word for word in words if 0 <= (word[1] + word[2]) / 2 <= length_s)
    text = row.text if len(inside) == len(words) else " ".join(word for word, _, _ in inside)
    return replace(clip, text=text, words=inside)
