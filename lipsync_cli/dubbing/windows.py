"""Windows over time: which frames a network sees together, and how their answers join without a seam."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

NEAREST_UP_TO_HZ = 30  # faster pictures than this lie between two answers, and get some of both


@dataclass(frozen=True)
class Window:
    """Model frames first … end − 1 of a run."""

    first: int
    end: int


def lay_windows(count: int, window: int, overlap: int) -> list[Window]:
    """Windows over `count` frames, each `overlap` into the one before.

    The last one reaches further back where it would be short, since networks that pool over a window see another
    picture in a short one; without overlap it is short.
    """
    if count <= window:
        return [Window(0, count)]
    step = window - overlap
    windows = [Window(first, min(first + window, count)) for first in range(0, count - overlap, step)]
    if overlap:
        windows[-1] = Window(max(0, windows[-1].end - window), windows[-1].end)
    return windows


def first_window(windows: list[Window], frame: int) -> int:
    """The first window that has a part in `frame`."""
    return next(number for number, window in enumerate(windows) if window.end > frame)


class Joiner:
    """Cross-fades the answers of windows that come in order of time."""

    def __init__(self) -> None:
        self._tail: np.ndarray | None = None  # answers that the next window may still change
        self._tail_first = 0

    def add(self, window: Window, answer: np.ndarray, following: Window | None) -> tuple[int, np.ndarray]:
        """Take a window's answer (N, S, S, 3) uint8; give (first frame, answers) that are final, (M, S, S, 3) float32.

        following: the next window, None for the last.
        """
        frames = answer.astype(np.float32)
        first = window.first
        if self._tail is not None:
            shared = self._tail_first + len(self._tail) - window.first
            rise = (np.arange(shared, dtype=np.float32) + 1) / (shared + 1)
            frames[:shared] = self._tail[-shared:] + rise[:, None, None, None] * (
                frames[:shared] - self._tail[-shared:]
            )
            earlier = len(self._tail) - shared
            frames = np.concatenate([self._tail[:earlier], frames]) if earlier else frames
            first -= earlier
            self._tail = None
        if following is None or following.first >= window.end:
            return first, frames
        keep = following.first - first
        self._tail, self._tail_first = frames[keep:], following.first
        return first, frames[:keep]


@dataclass(frozen=True, eq=False)
class ModelClock:
    """A run of m pictures as a network is to see it, in n model frames.

    position: (n,) of the picture, within the run, whose crop each model frame is.  times_s: (n,), from the segment's
    start.  before, after: (m,) the model frames between which each picture lies.  share: (m,) 0…1, of `after`.
    """

    position: np.ndarray
    times_s: np.ndarray
    before: np.ndarray
    after: np.ndarray
    share: np.ndarray


def model_clock(times_s: np.ndarray, rate: Fraction | None) -> ModelClock:
    """Relate pictures to model frames.

    times_s: (m,) of the run's pictures, from the segment's start, ascending.  rate: of the network's grid, which starts
    with the segment; None = it takes pictures at their own times.
    """
    count = len(times_s)
    same = np.arange(count)
    if rate is None:
        return ModelClock(same, times_s, same, same, np.zeros(count))
    grid = times_s * float(rate)
    first, last = int(np.floor(grid[0] + 0.5)), int(np.floor(grid[-1] + 0.5))
    fast = count > 1 and (count - 1) / (times_s[-1] - times_s[0]) > NEAREST_UP_TO_HZ
    if fast:
        first, last = int(np.floor(grid[0])), int(np.ceil(grid[-1]))
    numbers = np.arange(first, last + 1)
    position = np.searchsorted((times_s[1:] + times_s[:-1]) / 2, numbers / float(rate), side="right")
    if fast:
        before = np.floor(grid).astype(np.int64) - first
        after = np.minimum(before + 1, last - first)
        share = np.where(after > before, grid - np.floor(grid), 0.0)
    else:
        before = after = np.floor(grid + 0.5).astype(np.int64) - first
        share = np.zeros(count)
    return ModelClock(position, numbers / float(rate), before, after, share)
