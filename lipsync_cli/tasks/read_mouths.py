"""From a clip to pieces of moving mouths, as it streams by: what lip readers read. Needs no torch.

A face seen without a break is one run. A run longer than a reader can take is cut where the mouth is stillest;
where it never rests, pieces overlap, and what is read of them is stitched together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.core.ahead import read_ahead
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.faces.follow import FaceSource, FollowConfig, follow_faces
from lipsync_cli.media.frames import sample_frames
from lipsync_cli.media.probe import probe, require_video
from lipsync_cli.media.shots import ShotDetector
from lipsync_cli.networks.vsr.mouths import MouthWindow, cut_mouths

FRAME_RATE = Fraction(25)
LONG_SIDE_PX = 960
FOLLOWED_PX = 128  # as `lipsync prepare` cuts faces
MIN_FRAMES = 10
MOTION_FRAMES = 11  # over which lips that speak move
MOTION = (
    0.012  # standard deviation of `mouth_open`: lips at rest stay below, those of GRID's speakers reach 0.03
)
REST_FRAMES = 10  # of the stillest place, where a long run is cut
OVERLAP_FRAMES = 25


@dataclass(frozen=True)
class MouthSource:
    """How to cut mouths: which networks find faces, what of a face is wanted, how long a piece may be.

    window: None for whole face squares of square_px.  max_frames: of a piece, at least twice the overlap.
    """

    faces: FaceSource
    window: MouthWindow | None
    square_px: int
    max_frames: int


@dataclass(frozen=True, eq=False)
class Piece:
    """One mouth for some seconds.

    face: track id.  shot.  first: grid number of its first frame, at first / 25 s of the container.
    pictures: (n, H, W) uint8 grey mouths, or (n, S, S, 3) RGB faces.
    overlap_frames: how many of them the piece of this face before it has too.
    motion: largest standard deviation of the lips' opening over MOTION_FRAMES.
    """

    face: int
    shot: int
    first: int
    pictures: np.ndarray
    overlap_frames: int
    motion: float

    @property
    def speaks(self) -> bool:
        """Whether the lips move as if they spoke, long enough to be read."""
        return len(self.pictures) >= MIN_FRAMES and self.motion >= MOTION


@dataclass(frozen=True)
class ClipEnd:
    """What was seen of a clip. start_s, duration_s: of the container; seen_frames: faces in all frames."""

    start_s: float
    duration_s: float
    seen_frames: int


@dataclass
class _Run:
    face: int
    shot: int
    first: int
    overlap_frames: int = 0
    pictures: list[np.ndarray] = field(default_factory=list)
    opening: list[float] = field(default_factory=list)

    def piece(self, frames: int) -> Piece:
        """The first `frames` of what is waiting."""
        motion = float(_motion(np.array(self.opening[:frames])).max(initial=0.0))
        pictures = np.stack(self.pictures[:frames])
        return Piece(self.face, self.shot, self.first, pictures, min(self.overlap_frames, frames), motion)

    def drop(self, frames: int, overlap_frames: int) -> None:
        self.first += frames
        self.overlap_frames = overlap_frames
        del self.pictures[:frames], self.opening[:frames]

    def cut(self) -> Piece:
        """A piece of a run that is full: up to the stillest place of its second half, or with an overlap."""
        half = len(self.opening) // 2
        spread = _spread(np.array(self.opening[half:]), REST_FRAMES)
        stillest = int(spread.argmin())
        if spread[stillest] < MOTION / 2:
            frames = half + stillest + REST_FRAMES // 2
            piece = self.piece(frames)
            self.drop(frames, 0)
        else:
            piece = self.piece(len(self.pictures))
            self.drop(len(self.pictures) - OVERLAP_FRAMES, OVERLAP_FRAMES)
        return piece


def _spread(opening: np.ndarray, frames: int) -> np.ndarray:
    """Standard deviation over each stretch of `frames`: (n,) → (n − frames + 1,)."""
    return np.lib.stride_tricks.sliding_window_view(opening, frames).std(axis=-1)


def _motion(opening: np.ndarray) -> np.ndarray:
    return _spread(opening, MOTION_FRAMES) if len(opening) >= MOTION_FRAMES else np.zeros(0)


def mouth_pieces(path: Path, source: MouthSource) -> Iterator[Piece | ClipEnd]:
    """Pieces of every face, moving or not, then what was seen of the clip; memory holds one piece of each face.

    Raises: InputError when the clip cannot be read.
    """
    info = probe(path)
    require_video(info)
    frames = read_ahead(sample_frames(path, rate=FRAME_RATE, long_side_px=LONG_SIDE_PX, threads=1), 16)
    follow = FollowConfig(geometry=CropGeometry(source.square_px))
    runs: dict[int, _Run] = {}
    seen = 0
    for crop in follow_faces(frames, ShotDetector().is_cut, source.faces, follow):
        number = int(crop.time * FRAME_RATE)
        seen += 1
        for face, run in list(runs.items()):
            ended = run.shot < crop.shot or number - run.first - len(run.pictures) > 1
            if ended or (face == crop.track_id and run.first + len(run.pictures) != number):
                yield from _rest(runs.pop(face))
        run = runs.setdefault(crop.track_id, _Run(crop.track_id, crop.shot, number))
        if len(run.pictures) >= source.max_frames:
            yield run.cut()
        run.pictures.append(_picture(crop.image, source))
        run.opening.append(crop.mouth_open)
    for run in runs.values():
        yield from _rest(run)
    yield ClipEnd(float(info.start), float(info.duration), seen)


def _rest(run: _Run) -> Iterator[Piece]:
    if len(run.pictures) > run.overlap_frames:
        yield run.piece(len(run.pictures))


def _picture(face: np.ndarray, source: MouthSource) -> np.ndarray:
    if source.window is not None:
        return cut_mouths([face], source.window, square_px=source.square_px)[0]
    return face
