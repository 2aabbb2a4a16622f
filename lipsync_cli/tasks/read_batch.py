"""`lipsync read` over many clips: processes that decode and follow faces feed the one that holds the network.

Whatever happens to one clip, damage or a process that dies, is that clip's result, and the next one follows. A
clip's pieces are read together with others' within a budget of frames, so memory does not grow with the batch.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from pathlib import Path

from lipsync_cli.core.errors import LipsyncError, ResourceError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.tasks.read import LipReading, failed, frames_of, make_result
from lipsync_cli.tasks.read_mouths import ClipEnd, MouthSource, Piece, mouth_pieces
from lipsync_cli.tasks.read_text import Reading, ReadResult

Said = Piece | ClipEnd | LipsyncError  # what is found in a clip, one after the other; the last two end it


def read_clips(
    clips: Sequence[Path], reading: LipReading, *, workers: int = 0, progress: Progress = SILENT
) -> Iterator[ReadResult]:
    """Read every clip; results come as clips are finished.

    workers: processes that decode and follow faces; 0 does it in this one.
    """
    if not clips:
        return
    found = _from_processes(clips, reading.source, workers) if workers else _from_here(clips, reading.source)
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


def _from_here(clips: Sequence[Path], source: MouthSource) -> Iterator[tuple[int, Said]]:
    for number, clip in enumerate(clips):
        for said in _said(clip, source):
            yield number, said


def _said(clip: Path, source: MouthSource) -> Iterator[Said]:
    try:
        yield from mouth_pieces(clip, source)
    except LipsyncError as error:
        yield error
    except Exception as error:  # a bug, or no memory: of this clip only
        what = " ".join(f"{type(error).__name__}: {error}".split())
        yield LipsyncError(f"{clip}: a bug in lipsync: {what}", f"LIPSYNC_DEBUG=1 lipsync read '{clip}'")


class _Worker:
    """A process that works on one clip at a time. number: of that clip, None when it has none."""

    def __init__(self, source: MouthSource) -> None:
        context = get_context("spawn")  # a fork would copy the locks of the network's threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, source), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None

    def hear(self, clips: Sequence[Path]) -> Said:
        """The next thing it found; an error when it died. Afterwards `number` is None if the clip has ended."""
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            said = ResourceError(
                f"{clips[self.number or 0]}: the worker process died (exit code {self.process.exitcode}).",
                "use fewer --workers: memory may be short",
            )
        if not isinstance(said, Piece):
            self.number = None
        return said


def _from_processes(clips: Sequence[Path], source: MouthSource, workers: int) -> Iterator[tuple[int, Said]]:
    """What is found in the clips, several at a time. A full pipe makes a process wait for the network."""
    waiting = deque(range(len(clips)))
    team = [_Worker(source) for _ in range(min(workers, len(clips)))]
    try:
        while waiting or any(worker.number is not None for worker in team):
            for index, worker in enumerate(team):
                if worker.number is None and waiting:
                    if not worker.process.is_alive():
                        team[index] = worker = _Worker(source)
                    worker.number = waiting.popleft()
                    worker.pipe.send(clips[worker.number])
            busy = {worker.pipe: worker for worker in team if worker.number is not None}
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]  # pyright: ignore[reportArgumentType]
                number = worker.number
                assert number is not None
                yield number, worker.hear(clips)
    finally:
        for worker in team:
            worker.process.terminate()
            worker.process.join()


def _work(pipe: connection.Connection, source: MouthSource) -> None:
    """The life of a worker: for every clip it is sent, what is found in it."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends its workers
    cv2.setNumThreads(1)
    while True:
        try:
            clip = pipe.recv()
            for said in _said(clip, source):
                pipe.send(said)
        except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
            return
