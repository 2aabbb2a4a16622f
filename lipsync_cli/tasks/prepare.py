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
    sources = find_videos(request.footage)
    if request.out.exists() and not request.out.is_dir():
        raise UsageError(f"{request.out}: not a folder.", "choose a folder to prepare into")
    request.out.mkdir(parents=True, exist_ok=True)
    with progress.stage("prepare", len(sources), "files") as stage:
        outcomes = []
        for outcome in _outcomes(sources, request):
            outcomes.append(outcome)
            stage.advance()
    return _finish(outcomes, request)


def find_videos(footage: Path) -> dict[str, Path]:
    """Videos by key "subject/name": the subject is the folder, or "clips" for files directly below."""
    if footage.is_file():
        return {f"clips/{footage.stem}": footage}
    found = sorted(p for p in footage.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"{footage}: no video files.", "name a folder with videos, or one video")
    keys = {}
    for path in found:
        folder = "-".join(path.relative_to(footage).parts[:-1]) or "clips"
        key = f"{folder}/{path.stem}"
        keys[key if key not in keys else f"{folder}/{path.name}"] = path
    return keys


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


def _finish(outcomes: list[Outcome], request: PrepareRequest) -> PrepareResult:
    clips = [clip for outcome in outcomes for clip in outcome.clips]
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
    write_manifest(manifest, _with_text(clips, request))
    return PrepareResult(
        manifest, report, len(outcomes), len(clips), hours, sum(len(reasons) for reasons in dropped.values())
    )


def _with_text(clips: list[Clip], request: PrepareRequest) -> list[Clip]:
    if request.text is None:
        return clips
    rows = [json.loads(line) for line in request.text.read_text().splitlines()]
    said = {(request.footage / row["clip"]).resolve(): row for row in rows}
    out = []
    for clip in clips:
        row = said.get(Path(clip.source).resolve(), {"text": "", "words": []})
        words = tuple((word, a - clip.start_s, b - clip.start_s) for word, a, b in row["words"])
        out.append(replace(clip, text=row["text"], words=words))
    return out
