"""`lipsync offset` over many clips: find them, and measure them here or in several processes.

Whatever happens to one clip, damage or a bug or a process that dies, is that clip's outcome, and the next one follows.
"""

from __future__ import annotations

import glob
import os
import signal
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path

from lipsync_cli.core.errors import InputError, LipsyncError, ResourceError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.tasks.offset import OffsetMeter, OffsetRequest, OffsetResult

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    )
)
AHEAD = 16  # clips per process that may be finished before the one whose turn it is


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one clip: a result, or the error that says why there is none."""

    clip: Path
    result: OffsetResult | None = None
    error: LipsyncError | None = None


def find_clips(arguments: Iterable[Path]) -> tuple[Path, ...]:
    """Files as they are named, the videos in folders and below, and what matches a pattern; each once, in order.

    What holds or matches nothing stays as it was named: measuring it says what is wrong.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        if argument.is_dir():
            clips = _videos_below(argument)
        elif not argument.exists() and glob.has_magic(str(argument)):
            clips = [Path(name) for name in sorted(glob.glob(str(argument), recursive=True))]
        else:
            clips = [argument]
        found |= dict.fromkeys(clips or [argument])
    return tuple(found)


def _videos_below(folder: Path) -> list[Path]:
    """Sorted; hidden files are somebody's unfinished work. A folder that cannot be read stands for itself."""
    closed: list[Path] = []
    clips = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=lambda error: closed.append(Path(error.filename)))
        for name in names
        if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")
    ]
    return sorted(clips + closed)


def check_clip(clip: Path) -> None:
    """Raises: InputError for a folder, which stands for itself only when no video in it can be seen."""
    if not clip.is_dir():
        return
    if not os.access(clip, os.R_OK | os.X_OK):
        raise InputError(f"{clip}: the folder cannot be read.", f"ls -ld '{clip}'")
    raise InputError(f"{clip}: there is no video in this folder.", f"ls '{clip}'")


def measure_clips(
    requests: Sequence[OffsetRequest],
    model: str,
    device: str,
    *,
    workers: int = 0,
    progress: Progress = SILENT,
) -> Generator[Outcome]:
    """Measure every clip; outcomes come in the order of the requests.

    workers: processes, each with a model of its own, ended when the generator is closed; 0 measures in this one.
    Raises: WeightsError, ResourceError before the first outcome, when no model can be loaded at all.
    """
    if not requests:
        return
    with progress.stage("clips", len(requests), "clips") as stage:
        for outcome in (
            _measure_in_processes(requests, model, device, workers)
            if workers
            else _measure_here(requests, OffsetMeter(model, device), progress)
        ):
            stage.advance()
            yield outcome


def _measure_here(
    requests: Iterable[OffsetRequest], meter: OffsetMeter, progress: Progress
) -> Iterator[Outcome]:
    for request in requests:
        yield _attempt(meter, request, progress)


def _attempt(meter: OffsetMeter, request: OffsetRequest, progress: Progress) -> Outcome:
    try:
        check_clip(request.clip)
        return Outcome(request.clip, result=meter.measure(request, progress))
    except LipsyncError as error:
        return Outcome(request.clip, error=error)
    except Exception as error:  # a bug, or no memory: for this clip only
        return Outcome(request.clip, error=_as_lipsync_error(request.clip, error))


def _as_lipsync_error(clip: Path, error: Exception) -> LipsyncError:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's is named so
        known = ResourceError(f"{clip}: the memory ran out.", "use fewer --workers, or --device cpu")
    else:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        known = LipsyncError(
            f"{clip}: a bug in lipsync: {what}", f"LIPSYNC_DEBUG=1 lipsync offset --workers 0 '{clip}'"
        )
    known.__cause__ = error
    return known


class _Worker:
    """A process that measures one clip at a time. turn: of the request under way, None when it has none."""

    def __init__(self, model: str, device: str, threads: int) -> None:
        context = get_context("spawn")  # a fork would copy the threads' locks, and cannot use CUDA
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, model, device, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False
        self.turn: int | None = None

    @property
    def free(self) -> bool:
        return self.ready and self.turn is None

    def take(self, turn: int, requests: Sequence[OffsetRequest]) -> None:
        """Begin with a request."""
        self.turn = turn
        with suppress(OSError):  # it died just now: the next news is its end
            self.pipe.send(requests[turn])

    def death(self) -> str:
        """How it ended."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _measure_in_processes(
    requests: Sequence[OffsetRequest], model: str, device: str, workers: int
) -> Iterator[Outcome]:
    workers = min(workers, len(requests))
    threads = max(1, (os.cpu_count() or 1) // workers)
    waiting = deque(range(len(requests)))
    done: dict[int, Outcome] = {}
    team = [_Worker(model, device, threads) for _ in range(workers)]
    started = False
    try:
        for turn in range(len(requests)):
            while turn not in done:
                if not team:
                    done[turn] = _nobody_left(requests[turn].clip)
                    break
                for worker in _with_news(team):
                    try:
                        done |= _hear(worker, requests)
                    except LipsyncError:
                        if not started:
                            raise  # as it is for this one, it is for all
                        team.remove(worker)
                        continue
                    started = True
                    if not worker.process.is_alive():
                        team.remove(worker)
                        if len(waiting) > len(team):
                            team.append(_Worker(model, device, threads))
                for worker in team:
                    if worker.free and waiting and waiting[0] < turn + AHEAD * workers:
                        worker.take(waiting.popleft(), requests)
            yield done.pop(turn)
    finally:
        for worker in team:
            worker.process.terminate()
            worker.process.join()


def _with_news(team: list[_Worker]) -> list[_Worker]:
    """The workers that said something, or died; waits for the first."""
    heard = connection.wait([worker.pipe for worker in team])
    return [worker for worker in team if worker.pipe in heard]


def _hear(worker: _Worker, requests: Sequence[OffsetRequest]) -> dict[int, Outcome]:
    """What a worker has to say: the outcome of its turn, or nothing when it has just become ready.

    Raises: LipsyncError when it could not start.
    """
    turn, worker.turn = worker.turn, None
    try:
        said = worker.pipe.recv()
    except (EOFError, OSError):
        end = worker.death()
        if not worker.ready:
            message = f"a worker process died while it loaded the model ({end})."
            raise ResourceError(message, "use fewer --workers") from None
        if turn is None:
            return {}
        clip = requests[turn].clip
        message = f"{clip}: the worker process that measured it died ({end})."
        said = Outcome(clip, error=ResourceError(message, "use fewer --workers: memory may be short"))
    if isinstance(said, LipsyncError):
        raise said
    worker.ready = True
    return {} if turn is None else {turn: said}


def _nobody_left(clip: Path) -> Outcome:
    return Outcome(clip, error=ResourceError(f"{clip}: no worker process is left.", "use fewer --workers"))


def _work(pipe: connection.Connection, model: str, device: str, threads: int) -> None:
    """The life of a worker: say None when the model is loaded (or why not), then an Outcome for every request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends its workers
    warnings.simplefilter("ignore")
    try:
        _share_cores(threads)
        meter = OffsetMeter(model, device)
    except LipsyncError as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            request = pipe.recv()
        except EOFError:  # the parent has gone
            return
        pipe.send(_attempt(meter, request, SILENT))


def _share_cores(threads: int) -> None:
    import cv2
    import torch

    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
