"""`lipsync read` over many clips: processes that decode and follow faces feed the one that holds the network.

Whatever happens to one clip, damage or a process that dies, is that clip's result, and the next one follows. A
clip's pieces are read together with others' within a budget of frames, so memory does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lipsync_cli.core.errors import LipsyncError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.tasks.read import LipReading, failed, frames_of, make_result
from lipsync_cli.tasks.read_mouths import ClipEnd, Piece
from lipsync_cli.tasks.read_text import Reading, ReadResult
from lipsync_cli.tasks.read_workers import Said, find_pieces


def read_clips(
    clips: Sequence[Path], reading: LipReading, *, workers: int = 0, progress: Progress = SILENT
) -> Iterator[ReadResult]:
    """Read every clip; results come as clips are finished.

    workers: processes that decode and follow faces; 0 does it in this one.
    """
    if not clips:
        return
    found = find_pieces(clips, reading.source, workers)
    with progress.stage("clips", len(clips), "clips") as stage:
        for result in _read(clips, found, reading):
            stage.advance()
            yield result


@dataclass
class _Open:
    """A clip under way: what has been read of it, how many pieces wait, and its end once that is known."""

    readings: list[Reading] = field(default_factory=list)
    waiting: int = 0
    end: ClipEnd | LipsyncError | None = None


def _read(
    clips: Sequence[Path], found: Iterator[tuple[int, Said]], reading: LipReading
) -> Iterator[ReadResult]:
    open_clips: dict[int, _Open] = {}
    batch: list[tuple[int, Piece]] = []

    def flush() -> None:
        if batch:
            for (number, _), one in zip(batch, reading.read([piece for _, piece in batch]), strict=True):
                open_clips[number].readings.append(one)
                open_clips[number].waiting -= 1
            batch.clear()

    def finished() -> Iterator[ReadResult]:
        for number, clip in list(open_clips.items()):
            if clip.end is not None and not clip.waiting:
                yield _result(clips[number], open_clips.pop(number))

    for number, said in found:
        clip = open_clips.setdefault(number, _Open())
        if not isinstance(said, Piece):
            clip.end = said
        elif said.speaks:
            clip.waiting += 1
            batch.append((number, said))
            if frames_of([piece for _, piece in batch]) >= reading.budget_frames:
                flush()
        yield from finished()
    flush()
    yield from finished()


def _result(path: Path, clip: _Open) -> ReadResult:
    if isinstance(clip.end, LipsyncError):
        return failed(path, clip.end)
    assert clip.end is not None
    return make_result(path, clip.readings, clip.end)
