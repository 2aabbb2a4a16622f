"""The second pass: pictures stream through, and those of a run leave with a new mouth. A few are held at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lipsync_cli.core.ahead import read_ahead
from lipsync_cli.dubbing.compositing import FEATHER, NewMouth, make_patch, mouth_box, new_mouth
from lipsync_cli.dubbing.cutting import cut_crop
from lipsync_cli.dubbing.engine import MODEL_RATE, Crops, Drive, DubEngine, Tell
from lipsync_cli.dubbing.look import Look
from lipsync_cli.dubbing.plan import Plan, PlannedSegment, Run
from lipsync_cli.dubbing.reel import read_reel
from lipsync_cli.dubbing.references import align_track, landmarks_in_crops, read_references
from lipsync_cli.dubbing.windows import Joiner, first_window, lay_windows, model_clock
from lipsync_cli.faces.mouth import mouth_mask
from lipsync_cli.media.native import NativeFrame
from lipsync_cli.media.patch import paste, to_rgb

FADE_FRAMES = 3  # over which a new mouth comes where the shot was already on
STEADY_S = 0.03  # landmarks jitter from picture to picture; smoothed by this much, both ways
AHEAD_FRAMES = 4

MakeDrive = Callable[[PlannedSegment], Drive]


@dataclass(frozen=True, eq=False)
class Job:
    """All that rendering needs.  make_drive: loads what drives a segment."""

    source: Path
    look: Look
    plan: Plan
    engine: DubEngine
    make_drive: MakeDrive
    tell: Tell


@dataclass(frozen=True, eq=False)
class Edited:
    """A picture on its way out.  mouth: None where it passes through."""

    position: int
    native: NativeFrame
    mouth: NewMouth | None


def render(job: Job, start: int = 0) -> Iterator[tuple[int, NativeFrame, av.VideoFrame]]:
    """(position, source picture, picture of the result) of every position from `start` on.

    Decoding, the network and pasting each have a thread. Beginning at another position gives the same pictures.
    Raises: InputError for damaged files and drives without speech or face; ResourceError when memory runs out.
    """
    stopped = threading.Event()

    def tell(what: str, done: int, total: int) -> None:
        if stopped.is_set():  # a minute's adaptation must not outlive the wish to stop
            raise InterruptedError
        job.tell(what, done, total)

    for edited in read_ahead(_edit(replace(job, tell=tell), start), AHEAD_FRAMES, stopped.set):
        picture = edited.native.picture
        if edited.mouth is not None:
            picture = _pasted(picture, edited.mouth, job.look.size_px)
        yield edited.position, edited.native, picture


def _pasted(picture: av.VideoFrame, mouth: NewMouth, size_px: tuple[int, int]) -> av.VideoFrame:
    box = mouth_box(mouth, size_px)
    if box is None:
        return picture
    patch = make_patch(mouth, to_rgb(picture, box), box[0], box[1])
    return paste(picture, patch.rgb, patch.alpha, patch.left, patch.top)


def _edit(job: Job, start: int) -> Iterator[Edited]:
    runs = deque(run for run in job.plan.runs if run.end > start)
    stage = _Stage(job)
    run = stage.enter(runs.popleft(), start) if runs else None
    begin = min(start, run.begin) if run else start
    try:
        reading = read_reel(job.source, job.look.times, job.plan.reel, begin)
        for position, native in read_ahead(reading, AHEAD_FRAMES):
            if run is None or position < run.begin:
                if position >= start:
                    yield Edited(position, native, None)
                continue
            for edited in run.take(position, native):
                if edited.position >= start:
                    yield edited
            if position + 1 == run.run.end:
                run = stage.enter(runs.popleft(), start) if runs else None
    finally:
        stage.leave()


class _Stage:
    """Keeps the engine prepared for the segment and face at hand."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._prepared: tuple[int, int] | None = None

    def enter(self, run: Run, start: int) -> _RunEditor:
        wanted = (run.segment, run.track)
        if self._prepared != wanted:
            self.leave()
            self._prepare(run)
            self._prepared = wanted
        return _RunEditor(self._job, run, start)

    def _prepare(self, run: Run) -> None:
        job = self._job
        segment, track = job.plan.segments[run.segment], job.look.track(run.track)
        references = read_references(job.source, job.look, track, job.engine, segment.start)
        job.engine.prepare(references, job.make_drive(segment), segment.seed, job.tell)

    def leave(self) -> None:
        if self._prepared is not None:
            self._job.engine.release()
        self._prepared = None


class _RunEditor:
    """Cuts crops of one run, has them edited window by window, and hands pictures on in order."""

    def __init__(self, job: Job, run: Run, start: int) -> None:
        self.run, self._job = run, job
        spec, reel = job.engine.spec, job.plan.reel
        segment, self._track = job.plan.segments[run.segment], job.look.track(run.track)
        self._rows = self._track.rows_of(reel.numbers[run.first : run.end])
        self._times_s = _seconds(reel.times[run.first : run.end], segment.start)
        self._matrices = align_track(job.engine, self._track, self._times_s, self._rows)
        self._clock = model_clock(self._times_s, None if spec.any_rate else MODEL_RATE)
        self._windows = lay_windows(len(self._clock.position), spec.window_frames, spec.overlap_frames)
        self._lead = max(0, start - run.first)  # pictures before this one only lead in
        self._window = first_window(self._windows, int(self._clock.before[self._lead]))
        self._next = self._windows[self._window].first  # model frame whose crop comes next
        self.begin = run.first + min(self._lead, int(self._clock.position[self._next]))
        self._joiner = Joiner()
        self._crops: list[np.ndarray] = []  # of the model frames from `_first` on
        self._first = self._next
        self._answers: dict[int, np.ndarray] = {}
        self._waiting: deque[tuple[int, NativeFrame, np.ndarray]] = deque()

    def take(self, position: int, native: NativeFrame) -> Iterator[Edited]:
        """Take the picture at a position of the reel; give those that are ready."""
        at, clock = position - self.run.first, self._clock
        crop = cut_crop(native.picture, self._matrices[at], self._job.engine.spec.side_px)
        if at >= self._lead:
            self._waiting.append((at, native, crop))
        while self._next < len(clock.position) and clock.position[self._next] == at:
            self._crops.append(crop)
            self._next += 1
            if self._windows[self._window].end == self._next:
                self._generate()
        while self._waiting and int(clock.after[self._waiting[0][0]]) in self._answers:
            yield self._finish(*self._waiting.popleft())

    def _generate(self) -> None:
        window = self._windows[self._window]
        self._window += 1
        following = self._windows[self._window] if self._window < len(self._windows) else None
        images = np.stack(self._crops[window.first - self._first : window.end - self._first])
        position = self._clock.position[window.first : window.end]
        crops = Crops(images, self._landmarks(position), self._clock.times_s[window.first : window.end])
        first, answers = self._joiner.add(window, self._job.engine.generate(crops), following)
        self._answers.update(enumerate(answers, first))
        if following is not None:
            del self._crops[: following.first - self._first]
            self._first = following.first

    def _landmarks(self, at: np.ndarray) -> np.ndarray:
        """Steadied landmarks of some pictures of the run, in crop pixels: (n, 478, 2)."""
        reach = 3 * STEADY_S
        low = int(np.searchsorted(self._times_s, self._times_s[at[0]] - reach))
        high = int(np.searchsorted(self._times_s, self._times_s[at[-1]] + reach, side="right"))
        rows = self._rows[low:high]
        points = landmarks_in_crops(np.asarray(self._track.landmarks[rows]), self._matrices[low:high])
        apart = self._times_s[at][:, None] - self._times_s[None, low:high]
        weights = np.exp(-0.5 * (apart / STEADY_S) ** 2)
        weights /= weights.sum(1, keepdims=True)
        return np.einsum("nm,mpi->npi", weights, points).astype(np.float32)

    def _finish(self, at: int, native: NativeFrame, crop: np.ndarray) -> Edited:
        before, after = int(self._clock.before[at]), int(self._clock.after[at])
        answer = self._answers[before]
        if after != before:
            answer = answer + np.float32(self._clock.share[at]) * (self._answers[after] - answer)
        for number in [number for number in self._answers if number < before]:
            del self._answers[number]
        side_px = self._job.engine.spec.side_px
        mask = mouth_mask(self._landmarks(np.array([at])), side_px, FEATHER * side_px)[0]
        mouth = new_mouth(crop, answer, mask * self._fade(at), self._matrices[at])
        return Edited(at + self.run.first, native, mouth)

    def _fade(self, at: int) -> np.float32:
        """How far the new mouth is in: it comes and goes softly where the shot is on before and after it."""
        steps = [FADE_FRAMES]
        if self.run.fade_in:
            steps.append(at)
        if self.run.fade_out:
            steps.append(self.run.end - self.run.first - 1 - at)
        return np.float32((min(steps) + 1) / (FADE_FRAMES + 1))


def _seconds(times: tuple[Fraction, ...], start: Fraction) -> np.ndarray:
    return np.array([float(time - start) for time in times])
