"""Which source picture each picture of the result shows, and when: the clip as it is, cut short, or lengthened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from lipsync_cli.media.native import NativeFrame, read_native

Lengthening = Literal["hold", "loop", "bounce"]
_BACKWARDS_FRAMES = 48  # held at a time while the picture runs backwards


@dataclass(frozen=True, eq=False)
class Reel:
    """m pictures of the result, in order.

    numbers: (m,) of the source pictures they show.  times, end: container seconds.  jumps: (m,) bool, where the picture
    does not follow from the one before: at a cut, and where it starts over.
    """

    numbers: np.ndarray
    times: tuple[Fraction, ...]
    end: Fraction
    jumps: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def is_whole(self) -> bool:
        """Whether no picture is added; those of the source follow each other from the first on."""
        return bool((self.numbers == np.arange(len(self.numbers))).all())

    def until(self, end: Fraction) -> Reel:
        """The part before `end`, one picture at least."""
        count = max(1, sum(time < end for time in self.times))
        return Reel(
            self.numbers[:count], self.times[:count], min(end, self.end_of(count - 1)), self.jumps[:count]
        )

    def end_of(self, position: int) -> Fraction:
        """When the picture at `position` goes."""
        return self.times[position + 1] if position + 1 < len(self.times) else self.end


def plain_reel(times: tuple[Fraction, ...], end: Fraction, cuts: np.ndarray) -> Reel:
    """The source as it is.  times, end: of its pictures.  cuts: numbers that start a shot."""
    jumps = np.zeros(len(times), bool)
    jumps[cuts] = True
    return Reel(np.arange(len(times)), times, end, jumps)


def lengthened(reel: Reel, until: Fraction, how: Lengthening) -> Reel:
    """The reel and as many pictures after it as it takes to reach `until`, at the pace of those that they repeat.

    hold: the last picture stands.  loop: all pictures again, from the first.  bounce: backwards, forwards, and so on.
    """
    count = len(reel)
    shown_for = [reel.end_of(n) - reel.times[n] for n in range(count)]
    numbers, times, jumps = list(reel.numbers), list(reel.times), list(reel.jumps)
    time = reel.end
    for at, jump, source in _order(reel, how):
        if time >= until:
            break
        numbers.append(reel.numbers[at])
        times.append(time)
        jumps.append(jump)
        time += shown_for[source]
    return Reel(np.array(numbers), tuple(times), time, np.array(jumps))


def _order(reel: Reel, how: Lengthening) -> Iterator[tuple[int, bool, int]]:
    """(picture shown, whether it jumps, picture whose duration it has) without end."""
    count = len(reel)
    while True:
        if how == "hold":
            yield count - 1, False, count - 1
        elif how == "loop" or count == 1:
            for n in range(count):
                yield n, bool(n == 0 or reel.jumps[n]), n
        else:
            for n in reversed(range(count - 1)):
                yield n, bool(reel.jumps[n + 1]), n
            for n in range(1, count):
                yield n, bool(reel.jumps[n]), n


def read_reel(
    path: Path, source_times: tuple[Fraction, ...], reel: Reel, start: int = 0
) -> Iterator[tuple[int, NativeFrame]]:
    """(position, source picture as decoded) from position `start` on; a few pictures are held at most.

    source_times: of all pictures of the file, as the look saw them.
    """
    position = start
    while position < len(reel):
        stretch = _stretch(reel.numbers, position)
        first, last = int(reel.numbers[position]), int(reel.numbers[position + stretch - 1])
        if last >= first:
            pictures = _forwards(path, source_times, first, last)
        else:
            pictures = _backwards(path, source_times, first, last)
        for native in pictures:
            yield position, native
            position += 1
            while position < len(reel) and reel.numbers[position] == reel.numbers[position - 1]:
                yield position, native
                position += 1


def _stretch(numbers: np.ndarray, position: int) -> int:
    """How many positions from this one on go one way without a jump; at least 1."""
    steps = np.diff(numbers[position:])
    if not len(steps) or abs(steps[0]) != 1:
        return 1
    other = np.flatnonzero(steps != steps[0])
    return int(other[0]) + 1 if len(other) else len(steps) + 1


def _forwards(path: Path, times: tuple[Fraction, ...], first: int, last: int) -> Iterator[NativeFrame]:
    start = times[first] if first else None
    yield from islice(read_native(path, start=start), last - first + 1)


def _backwards(path: Path, times: tuple[Fraction, ...], first: int, last: int) -> Iterator[NativeFrame]:
    for high in range(first, last - 1, -_BACKWARDS_FRAMES):
        low = max(last, high - _BACKWARDS_FRAMES + 1)
        yield from reversed(list(_forwards(path, times, low, high)))
