"""The first pass: where every face is in every picture of a clip, kept on disk so that memory stays flat.

Landmarks are written as they are read, 4 kB a face and picture, and looked up where they are needed; a look that is
complete is not taken again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lipsync_cli.core.ahead import read_ahead
from lipsync_cli.core.errors import InputError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import Progress
from lipsync_cli.dubbing.cover import GEOMETRY, NUM_SITES, covered, skin_colours
from lipsync_cli.faces.crops import FaceCrop, Track, box_of
from lipsync_cli.faces.follow import FaceSource, FollowConfig, follow_faces
from lipsync_cli.faces.mesh import NUM_POINTS
from lipsync_cli.media.frames import Frame, to_image
from lipsync_cli.media.native import NativeFrame, read_native
from lipsync_cli.media.probe import MediaInfo, require_video
from lipsync_cli.media.shots import ShotDetector

LONG_SIDE_PX = 960  # faces are followed in pictures no larger than this
AHEAD_FRAMES = 16  # decoded while faces are read
_FORMAT = 2
_INDEX = "look.json"
_ROW = np.dtype(
    [
        ("number", np.int64),
        ("score", np.float32),
        ("yaw_deg", np.float32),
        ("skin", np.float32, (NUM_SITES, 3)),
    ]
)


class Landmarks:
    """Landmarks of n pictures in a file, (n, 478, 2) float32: only what is asked for comes into memory, as a copy."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._shape = path, (count, NUM_POINTS, 2)

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.array(np.memmap(self._path, np.float32, "r", shape=self._shape)[rows])


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face through one shot; n pictures, in order.

    numbers: (n,) of the pictures, from 0.  landmarks: (n, 478, 2) float32, pixels of the upright picture at full size,
    on disk.  scores: (n,) 0…1, that this is a face.  yaw_deg: (n,).  covered: (n,) bool, see `cover`.
    """

    id: int
    shot: int
    numbers: np.ndarray
    landmarks: Landmarks | np.ndarray
    scores: np.ndarray
    yaw_deg: np.ndarray
    covered: np.ndarray

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        """Where these pictures are among the track's, (m,); −1 where the face is not seen."""
        at = np.searchsorted(self.numbers, numbers)
        inside = np.minimum(at, len(self.numbers) - 1)
        return np.where(self.numbers[inside] == numbers, inside, -1)


@dataclass(frozen=True, eq=False)
class Look:
    """What the first pass saw.

    size_px: width and height of the upright picture.  times: of each picture, container seconds.  end: of the last.
    cuts: (k,) numbers of the pictures that start a shot, but for the first.  tracks: in order of appearance.
    """

    size_px: tuple[int, int]
    times: tuple[Fraction, ...]
    end: Fraction
    cuts: np.ndarray
    tracks: tuple[FaceTrack, ...]

    def track(self, track_id: int) -> FaceTrack:
        return next(track for track in self.tracks if track.id == track_id)

    @cached_property
    def outlines(self) -> list[Track]:
        """The tracks as `faces.choose` wants them, a box for about every fifth of a second."""
        return [self._outline(track) for track in self.tracks]

    def _outline(self, track: FaceTrack) -> Track:
        every = slice(None, None, 5) if len(track.numbers) > 10 else slice(None)
        rows = range(len(track.numbers))[every]
        boxes = np.stack([box_of(track.landmarks[row]) for row in rows])
        return Track(track.id, track.shot, tuple(self.times[n] for n in track.numbers[every]), boxes)


def take_look(
    info: MediaInfo, source: FaceSource, folder: Path, progress: Progress, until: Fraction | None = None
) -> Look:
    """Look at every picture of a clip, or read back what an earlier look left in `folder`, which is the look's own.

    until: container seconds; pictures from there on are not looked at, as if the clip ended there.
    Raises: InputError for an unusable file; WeightsError when the face networks are missing.
    """
    if not _is_complete(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _look(info, source, folder, progress, until)
    return _load(folder)


def _is_complete(folder: Path) -> bool:
    index = folder / _INDEX
    return index.exists() and json.loads(index.read_text(encoding="utf-8"))["format"] == _FORMAT


def _look(
    info: MediaInfo, source: FaceSource, folder: Path, progress: Progress, until: Fraction | None
) -> None:
    video = require_video(info)
    times: list[Fraction] = []
    cuts: list[int] = []
    ends = Fraction(0)
    shots = ShotDetector()
    size = np.array([video.width, video.height])
    scale = np.ones(2)
    logs = _Logs(folder)
    end = info.start + info.duration
    total = round((min(end, until or end) - info.start) * video.rate)
    config = FollowConfig(geometry=GEOMETRY, mesh_every=1)

    def is_cut(image: np.ndarray) -> bool:
        cut = shots.is_cut(image)
        if cut:
            cuts.append(len(times) - 1)
        return cut

    with progress.stage(f"faces of {info.path.name}", total or None) as stage:

        def frames() -> Iterator[Frame]:
            nonlocal ends, scale
            for native, image in read_ahead(_shrunk(info.path, until), AHEAD_FRAMES):
                numbers[native.time] = len(times)
                times.append(native.time)
                ends = native.time + native.duration
                scale = size / (image.shape[1], image.shape[0])
                stage.advance()
                yield Frame(native.time, image)

        numbers: dict[Fraction, int] = {}
        for crop in follow_faces(frames(), is_cut, source, config):
            logs.add(numbers[crop.time], crop, scale)
    tracks = logs.close()
    if not times:
        raise InputError(f"{info.path}: no picture can be decoded.", "copy it again from its source")
    index = {
        "format": _FORMAT,
        "size_px": [video.width, video.height],
        "times": [str(time) for time in times],
        "end": str(ends),
        "cuts": cuts,
        "tracks": tracks,
    }
    with atomic_path(folder / _INDEX) as path:  # last: its presence says that the look is complete
        path.write_text(json.dumps(index), encoding="utf-8")


def _shrunk(path: Path, until: Fraction | None) -> Iterator[tuple[NativeFrame, np.ndarray]]:
    for native in read_native(path, end=until):
        yield native, to_image(native.picture, LONG_SIDE_PX)


class _Logs:
    """Two growing files a track: its rows, and its landmarks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, tuple[FaceCrop, Any, Any]] = {}
        self._tracks: list[dict[str, int]] = []

    def add(self, number: int, crop: FaceCrop, scale: np.ndarray) -> None:
        for track_id in [id for id, (first, _, _) in self._open.items() if first.shot < crop.shot]:
            self._close(track_id)
        if crop.track_id not in self._open:
            rows, points = (_file(self._folder, crop.track_id, kind) for kind in ("rows", "points"))
            self._open[crop.track_id] = (crop, rows.open("wb"), points.open("wb"))
            self._tracks.append({"id": crop.track_id, "shot": crop.shot})
        _, rows, points = self._open[crop.track_id]
        row = (number, crop.score, crop.yaw_deg, skin_colours(crop.image))
        rows.write(np.array([row], _ROW).tobytes())
        # Pixel centres are whole numbers: small u is at scale·(u + ½) − ½.
        points.write(((crop.landmarks + 0.5) * scale - 0.5).astype(np.float32).tobytes())

    def _close(self, track_id: int) -> None:
        for file in self._open.pop(track_id)[1:]:
            file.close()

    def close(self) -> list[dict[str, int]]:
        for track_id in list(self._open):
            self._close(track_id)
        return sorted(self._tracks, key=lambda track: track["id"])


def _file(folder: Path, track_id: int, kind: str) -> Path:
    return folder / f"face_{track_id}.{kind}"


def _load(folder: Path) -> Look:
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    return Look(
        size_px=tuple(index["size_px"]),
        times=tuple(Fraction(time) for time in index["times"]),
        end=Fraction(index["end"]),
        cuts=np.array(index["cuts"], np.int64),
        tracks=tuple(_load_track(folder, row["id"], row["shot"]) for row in index["tracks"]),
    )


def _load_track(folder: Path, track_id: int, shot: int) -> FaceTrack:
    rows = np.fromfile(_file(folder, track_id, "rows"), _ROW)
    points = Landmarks(_file(folder, track_id, "points"), len(rows))
    return FaceTrack(
        track_id, shot, rows["number"], points, rows["score"], rows["yaw_deg"], covered(rows["skin"])
    )
