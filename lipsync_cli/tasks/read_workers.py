"""What is found in many clips: here, or in processes that decode and follow faces. Needs no torch, so they are light."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from multiprocessing import connection, get_context
from pathlib import Path

from lipsync_cli.core.errors import LipsyncError, ResourceError
from lipsync_cli.faces.follow import FaceReader, FaceSource
from lipsync_cli.tasks.read_mouths import ClipEnd, MouthSource, Piece, mouth_pieces

TRIM_EVERY = 10  # clips
Said = Piece | ClipEnd | LipsyncError  # what is found in a clip, one after the other; the last two end it


def find_pieces(clips: Sequence[Path], source: MouthSource, workers: int) -> Iterator[tuple[int, Said]]:
    """Pieces of all clips, each with the number of its clip.  workers: processes; 0 works in this one."""
    return _from_processes(clips, source, workers) if workers else _from_here(clips, source)


class _LoadedOnce:
    """Face networks that many clips share, one after the other: loading them costs as much as reading a second."""

    def __init__(self, faces: FaceSource) -> None:
        self._faces = faces
        self._reader: FaceReader | None = None

    def load(self) -> FaceReader:
        self._reader = self._reader or self._faces.load()
        return self._reader


def _from_here(clips: Sequence[Path], source: MouthSource) -> Iterator[tuple[int, Said]]:
    source = replace(source, faces=_LoadedOnce(source.faces))
    for number, clip in enumerate(clips):
        for said in _said(clip, source):
            yield number, said
        if number % TRIM_EVERY == 0:
            _trim_memory()


def _trim_memory() -> None:
    """Give freed memory back to the system: glibc keeps scraps of it, 30 kB more with every clip."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


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
    source = replace(source, faces=_LoadedOnce(source.faces))
    for number in count():
        try:
            clip = pipe.recv()
            for said in _said(clip, source):
                pipe.send(said)
            if number % TRIM_EVERY == 0:
                _trim_memory()
        except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
            return
