"""What will be done to which picture, before anything is done: segments, unbroken runs of a face, pieces of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import numpy as np

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.dubbing.look import FaceTrack, Look
from lipsync_cli.dubbing.reel import Reel, lengthened, plain_reel
from lipsync_cli.dubbing.segments import MISMATCHES, Mismatch

TOLERANCE_S = Fraction(
    1, 4
)  # lengths that differ by less are the same: clips end a few pictures off their sound
PROFILE_DEG = 55.0  # a face turned further shows too little of its mouth
MIN_SCORE = 0.7  # of the landmarks; below it they are a guess
PIECE_S = 10  # written at once; a killed run loses at most this much
NO_FACE, TURNED, HIDDEN, OUTSIDE = "no face", "turned away", "mouth hidden", "outside the segments"


@dataclass(frozen=True)
class PlannedSegment:
    """A stretch of the result and what drives the mouth in it.

    start, end: container seconds of the result; the speech begins at `start`.  speech_end: where it ends, at most
    TOLERANCE_S after `end`.
    tracks: ids of the faces that get the new mouth, one at a time.
    """

    start: Fraction
    end: Fraction
    speech: Path
    by_video: bool
    speech_end: Fraction
    seed: int
    tracks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """Positions first … end − 1 of the reel, in which one face is seen without a break.

    fade_in, fade_out: whether the shot goes on before, after it: then the new mouth comes and goes softly.
    """

    segment: int
    track: int
    first: int
    end: int
    fade_in: bool
    fade_out: bool


@dataclass(frozen=True, eq=False)
class Plan:
    """runs: in order of time.  pieces: (first, end) positions.  passed: how many pictures are not edited, by reason."""

    reel: Reel
    segments: tuple[PlannedSegment, ...]
    runs: tuple[Run, ...]
    pieces: tuple[tuple[int, int], ...]
    passed: dict[str, int]

    @property
    def edited(self) -> int:
        return sum(run.end - run.first for run in self.runs)


# ---------------------------------------------------------------- lengths


def settle(
    segment: PlannedSegment, reel: Reel, mismatch: Mismatch, *, whole_clip: bool
) -> tuple[PlannedSegment, Reel]:
    """Make a segment and its speech equally long, changing the reel where that is what was asked for.

    segment: `speech_end` lies where its speech ends by itself.  whole_clip: it is the clip's only one, so that a
    shorter speech may cut the picture.
    Raises: InputError when they differ and nothing was asked for; UsageError for what cannot be done.
    """
    more = segment.speech_end - segment.end  # seconds that the speech is longer
    if abs(more) <= TOLERANCE_S:
        return segment, reel
    if mismatch == "error":
        raise mismatch_error(segment)
    if more < 0:
        if mismatch != "cut":
            return segment, reel  # the mouth is shut in the silence that follows
        if whole_clip:
            reel = reel.until(segment.speech_end)
        return replace(segment, end=segment.speech_end), reel
    if mismatch == "cut":
        return replace(segment, speech_end=segment.end), reel
    if segment.end < reel.end:
        raise UsageError(
            f"{segment.speech}: is {float(more):.2f} s longer than its segment, after which the clip goes on.",
            "use --on-length-mismatch cut, or give the segment a later end",
        )
    reel = lengthened(reel, segment.speech_end, mismatch)
    return replace(segment, end=reel.end), reel


def expect_lengths(segment: PlannedSegment) -> None:
    """Raises: InputError when a segment and its speech are not equally long."""
    if abs(segment.speech_end - segment.end) > TOLERANCE_S:
        raise mismatch_error(segment)


def mismatch_error(segment: PlannedSegment) -> InputError:
    """What to say when a segment and its speech are not equally long."""
    speech_s, picture_s = (float(end - segment.start) for end in (segment.speech_end, segment.end))
    choices = "|".join(choice for choice in MISMATCHES if choice != "error")
    return InputError(
        f"{segment.speech}: lasts {speech_s:.2f} s, the picture it is for {picture_s:.2f} s.",
        f"choose --on-length-mismatch {choices}",
    )


def whole_reel(look: Look) -> Reel:
    """The clip as it is."""
    return plain_reel(look.times, look.end, look.cuts)


# ---------------------------------------------------------------- runs and pieces


def make_plan(look: Look, reel: Reel, segments: Sequence[PlannedSegment]) -> Plan:
    """Lay out the work.  segments: with their tracks chosen, in order of time."""
    face = np.full(len(reel), -1)  # number of the segment's track that is edited
    owner = np.full(len(reel), -1)  # number of the segment
    reason = np.full(len(reel), OUTSIDE, dtype=object)
    times = np.array([float(time) for time in reel.times])
    for number, segment in enumerate(segments):
        inside = (times >= float(segment.start)) & (times < float(segment.end))
        owner[inside], reason[inside] = number, NO_FACE
        for track_id in segment.tracks:
            track = look.track(track_id)
            rows = track.rows_of(reel.numbers)
            fit, why = _fit(look, track, rows)
            free = inside & (rows >= 0) & (face < 0)
            face[free & fit] = track_id
            reason[free] = why[free]
    runs = tuple(_runs(face, owner, reel.jumps))
    untouched = face < 0
    passed = {str(why): int((reason[untouched] == why).sum()) for why in sorted(set(reason[untouched]))}
    return Plan(reel, tuple(segments), runs, _pieces(times), passed)


def _fit(look: Look, track: FaceTrack, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the mouth can be edited in each picture, (m,) bool, and if not, why not."""
    fit = rows >= 0
    why = np.full(len(rows), NO_FACE, dtype=object)
    seen = np.flatnonzero(fit)
    turned = np.abs(track.yaw_deg[rows[seen]]) > PROFILE_DEG
    hidden = (track.scores[rows[seen]] < MIN_SCORE) | track.covered[rows[seen]]
    hidden |= ~_inside(look, track, rows[seen])
    why[seen[turned]], why[seen[hidden & ~turned]] = TURNED, HIDDEN
    fit[seen[turned | hidden]] = False
    return fit, why


_ROWS = 2000
_LIPS = (0, 17, 61, 291)  # top, bottom and corners of the outer lips


def _inside(look: Look, track: FaceTrack, rows: np.ndarray) -> np.ndarray:
    """Whether the lips lie in the picture."""
    inside = np.zeros(len(rows), bool)
    for first in range(0, len(rows), _ROWS):  # an hour's landmarks are 340 MB
        part = slice(first, first + _ROWS)
        lips = track.landmarks[rows[part]][:, _LIPS]
        inside[part] = np.all((lips >= 0) & (lips <= np.array(look.size_px) - 1), axis=(1, 2))
    return inside


def _runs(face: np.ndarray, owner: np.ndarray, jumps: np.ndarray) -> Iterator[Run]:
    count = len(face)
    starts = jumps.copy()
    starts[1:] |= (face[1:] != face[:-1]) | (owner[1:] != owner[:-1])
    for _, group in groupby(range(count), key=np.cumsum(starts).__getitem__):
        positions = list(group)
        first, end = positions[0], positions[-1] + 1
        if face[first] >= 0:
            yield Run(
                segment=int(owner[first]),
                track=int(face[first]),
                first=first,
                end=end,
                fade_in=bool(first > 0 and not jumps[first]),
                fade_out=bool(end < count and not jumps[end]),
            )


def _pieces(times: np.ndarray) -> tuple[tuple[int, int], ...]:
    numbers = ((times - times[0]) // PIECE_S).astype(np.int64)
    first = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    return tuple(zip(first.tolist(), [*first[1:].tolist(), len(times)], strict=True))
