"""Frames of a face as it is, spread over its track, cut out for an engine."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lipsync_cli.dubbing.cutting import cut_crop
from lipsync_cli.dubbing.engine import Crops, DubEngine
from lipsync_cli.dubbing.look import FaceTrack, Look
from lipsync_cli.dubbing.plan import MIN_SCORE, PROFILE_DEG
from lipsync_cli.media.native import read_native

SEEK_S = 4  # pictures further apart than this are looked up, nearer ones read through to
ALIGN_ROWS = 1500  # aligned at once, so that an hour's shot stays small
ALIGN_CONTEXT_S = 2.0  # what an alignment's smoothing may see beyond them


def align_track(engine: DubEngine, track: FaceTrack, times_s: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Similarities source pixels → crop pixels for some rows of a track that follow each other, (n, 2, 3) float64.

    times_s: (n,) of the rows, ascending.
    """
    parts = []
    for first in range(0, len(rows), ALIGN_ROWS):
        end = min(first + ALIGN_ROWS, len(rows))
        low = np.searchsorted(times_s, times_s[first] - ALIGN_CONTEXT_S)
        high = np.searchsorted(times_s, times_s[end - 1] + ALIGN_CONTEXT_S, side="right")
        matrices = engine.align(np.asarray(track.landmarks[rows[low:high]]), times_s[low:high])
        parts.append(matrices[first - low : end - low])
    return np.concatenate(parts)


def landmarks_in_crops(landmarks: np.ndarray, to_crop: np.ndarray) -> np.ndarray:
    """(N, 478, 2) source pixels and (N, 2, 3) → (N, 478, 2) float32 crop pixels."""
    points = np.einsum("nij,npj->npi", to_crop[:, :, :2], landmarks) + to_crop[:, None, :, 2]
    return points.astype(np.float32)


def read_references(path: Path, look: Look, track: FaceTrack, engine: DubEngine, start: Fraction) -> Crops:
    """Up to `reference_frames` crops of a track, in order of time.

    start: container seconds that count as 0 (of the segment: references may lie before and after it).
    """
    rows = _spread(track, engine.spec.reference_frames)
    times_s = np.array([float(look.times[n] - start) for n in track.numbers])
    matrices = align_track(engine, track, times_s, np.arange(len(track.numbers)))[rows]
    side_px = engine.spec.side_px
    pictures = _pictures_at(path, [look.times[n] for n in track.numbers[rows]])
    images = [cut_crop(picture, matrix, side_px) for picture, matrix in zip(pictures, matrices, strict=True)]
    return Crops(np.stack(images), landmarks_in_crops(track.landmarks[rows], matrices), times_s[rows])


def _spread(track: FaceTrack, count: int) -> np.ndarray:
    """Rows evenly over those where the face is well seen; over all where it never is."""
    good = np.flatnonzero((track.scores >= MIN_SCORE) & (np.abs(track.yaw_deg) <= PROFILE_DEG))
    rows = good if len(good) else np.arange(len(track.numbers))
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]


def _pictures_at(path: Path, times: list[Fraction]) -> Iterator[av.VideoFrame]:
    """The pictures shown at these times, ascending, each of which is the time of one."""
    reading, reached = None, Fraction(-SEEK_S)
    for time in times:
        if reading is None or time - reached > SEEK_S:
            reading = read_native(path, start=time)
        native = next(native for native in reading if native.time >= time)
        reached = native.time
        yield native.picture
