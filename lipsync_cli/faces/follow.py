"""Following faces through a video: aligned crops with a short delay, bounded memory and few network calls.

A face is detected now and then and at the start of a shot; in between its landmarks are read around where
they were, on every `mesh_every`-th frame (a key frame), and interpolated over the frames between. The
alignment is smoothed over time without lag, which is why a crop comes out about a quarter of a second after
its frame went in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Protocol

import numpy as np

from lipsync_cli.faces.align import CropGeometry, cut, fit_similarity, invert, smooth_matrices
from lipsync_cli.faces.crops import FaceCrop, box_of, mouth_open, yaw_deg
from lipsync_cli.faces.detector import Detection, FaceDetector
from lipsync_cli.faces.mesh import FaceMesh, Mesh, Region, region_of_detection, region_of_points


class TimedImage(Protocol):
    """A frame: its time in seconds and its RGB picture (H, W, 3) uint8."""

    @property
    def time(self) -> Fraction: ...

    @property
    def image(self) -> np.ndarray: ...


class FaceReader(Protocol):
    """Networks, loaded, that find faces and read their landmarks."""

    def find(self, image: np.ndarray) -> list[Detection]: ...

    def find_small(self, image: np.ndarray) -> list[Detection]: ...

    def read(self, image: np.ndarray, region: Region) -> Mesh: ...


class FaceSource(Protocol):
    """What `follow_faces` loads its networks from."""

    def load(self) -> FaceReader: ...


@dataclass(frozen=True)
class FaceModels:
    """Files of the default detector (BlazeFace full range) and mesh (face mesh v2)."""

    detector: Path
    mesh: Path

    def load(self) -> FaceReader:
        """Raises: WeightsError when a file is missing or unreadable."""
        return _BlazeReader(FaceDetector(self.detector), FaceMesh(self.mesh))


class _BlazeReader:
    def __init__(self, detector: FaceDetector, mesh: FaceMesh) -> None:
        self.find, self.find_small, self.read = detector.find, detector.find_small, mesh.read


@dataclass(frozen=True)
class FollowConfig:
    """How faces are followed.

    geometry: the crop.  mesh_every: landmarks are read on each such frame of a shot and interpolated between.
    detect_every_s, search_every_s: how often new faces are looked for while there is one, while there is
    none. Lost ones are looked for at every key frame.
    look_closer_every_s: how often small faces are looked for, while all known ones are small or there are
    none.
    forget_after_s: a face found again within this time keeps its id.  sigma_s: of the alignment's smoothing.
    min_score: below it there is no face.  max_faces: that many are followed, large ones first.
    """

    geometry: CropGeometry = field(default_factory=CropGeometry)
    mesh_every: int = 2
    detect_every_s: float = 0.5
    search_every_s: float = 0.2
    look_closer_every_s: float = 1.0
    forget_after_s: float = 0.5
    sigma_s: float = 0.08
    min_score: float = 0.5
    max_faces: int = 8

    @property
    def reach_s(self) -> float:
        """How far the smoothing looks ahead and back."""
        return 3 * self.sigma_s


def follow_faces(
    frames: Iterable[TimedImage],
    is_cut: Callable[[np.ndarray], bool],
    models: FaceSource,
    config: FollowConfig | None = None,
) -> Iterator[FaceCrop]:
    """Crops of every face of a video, in order of time, as the frames stream by.

    is_cut: called once with each picture in order; True where it starts a new shot. Faces get new ids in
    each shot. Landmarks and `to_crop` are in pixels of the pictures given: scale them up when those were
    scaled down. A face that is lost for a moment has no crops for that time.  At most about half a second of
    frames is held.
    Raises: WeightsError when the networks cannot be loaded.
    """
    follower = _Follower(models.load(), config or FollowConfig())
    for frame in frames:
        if is_cut(frame.image):
            yield from follower.end_shot()
        yield from follower.take(frame)
    yield from follower.end_shot()


@dataclass
class _Run:
    """An unbroken stretch of one track: its alignment over time, as far as smoothing needs it."""

    track_id: int
    times: deque[Fraction] = field(default_factory=deque)
    matrices: deque[np.ndarray] = field(default_factory=deque)


@dataclass
class _Face:
    """A face being followed: its latest landmarks, their time, and whether later key frames did not show it."""

    run: _Run
    mesh: Mesh
    time: Fraction
    lost: bool = False


@dataclass
class _Moment:
    """A frame waiting for its crops."""

    frame: TimedImage
    sightings: list[tuple[_Run, Mesh]] = field(default_factory=list)


class _Follower:
    def __init__(self, reader: FaceReader, config: FollowConfig) -> None:
        self._reader = reader
        self._config = config
        self._ids = count()
        self._shot = 0
        self._start_shot()

    def _start_shot(self) -> None:
        self._faces: list[_Face] = []
        self._moments: deque[_Moment] = deque()
        self._since_key: list[_Moment] = []  # frames whose landmarks await the next key frame
        self._num_frames = 0
        self._looked: Fraction | None = None
        self._looked_closer: Fraction | None = None
        self._last_key_time: Fraction | None = None

    def take(self, frame: TimedImage) -> Iterator[FaceCrop]:
        """Take the next frame of the shot; give the crops that became ready."""
        moment = _Moment(frame)
        self._moments.append(moment)
        self._since_key.append(moment)
        if self._num_frames % self._config.mesh_every == 0:
            self._read_key_frame()
            ready_until = frame.time - Fraction(self._config.reach_s)
            while self._moments and self._moments[0].frame.time <= ready_until:
                yield from self._crops(self._moments.popleft())
        self._num_frames += 1

    def end_shot(self) -> Iterator[FaceCrop]:
        """Give the crops still waiting; the next frame starts a new shot."""
        if self._since_key:
            self._read_key_frame()
        while self._moments:
            yield from self._crops(self._moments.popleft())
        self._shot += self._num_frames > 0
        self._start_shot()

    def _read_key_frame(self) -> None:
        *between, moment = self._since_key
        self._since_key = []
        before = {id(face.run): (face.mesh, face.time) for face in self._faces}
        self._read_again(moment.frame)
        if self._detection_is_due(moment.frame.time):
            self._detect(moment.frame)
        self._forget(moment.frame.time)
        self._last_key_time = moment.frame.time
        for face in self._faces:
            if face.lost:
                continue
            if id(face.run) in before:
                for passed in between:
                    mesh = _interpolate(*before[id(face.run)], face.mesh, face.time, passed.frame.time)
                    self._sight(passed, face.run, mesh)
            self._sight(moment, face.run, face.mesh)

    def _sight(self, moment: _Moment, run: _Run, mesh: Mesh) -> None:
        moment.sightings.append((run, mesh))
        run.times.append(moment.frame.time)
        run.matrices.append(fit_similarity(mesh.points[None], self._config.geometry)[0])

    def _read_again(self, frame: TimedImage) -> None:
        """Read the landmarks of known faces, lost ones too, around where they were last seen."""
        moved: list[tuple[bool, float, _Face, Mesh]] = []
        for face in self._faces:
            mesh = self._reader.read(frame.image, region_of_points(face.mesh.points))
            if mesh.score < self._config.min_score:
                face.lost = True
            else:
                moved.append((face.lost, _distance(face.mesh.points, mesh.points), face, mesh))
        seen: list[Mesh] = []
        for _, _, face, mesh in sorted(moved, key=lambda row: row[:2]):
            # Where one face hides another both are read off the one in front: it is the one that moved least.
            face.lost = any(_is_same(mesh, other) for other in seen)
            if not face.lost:
                self._see_again(face, mesh, frame.time)
                seen.append(mesh)

    def _see_again(self, face: _Face, mesh: Mesh, time: Fraction) -> None:
        if face.time != self._last_key_time:
            face.run = _Run(face.run.track_id)  # neither smoothing nor interpolation may reach across the gap
        face.mesh, face.time, face.lost = mesh, time, False

    @property
    def _wait_s(self) -> float:
        return self._config.detect_every_s if self._faces else self._config.search_every_s

    def _detection_is_due(self, time: Fraction) -> bool:
        return (
            self._looked is None
            or any(face.lost for face in self._faces)
            or time - self._looked >= Fraction(self._wait_s)
        )

    def _detect(self, frame: TimedImage) -> None:
        """Look for faces that are not followed: lost ones take up their track, others start one."""
        self._looked = frame.time
        found = self._reader.find(frame.image)
        if self._closer_look_is_due(frame, found):
            self._looked_closer = frame.time
            found = self._reader.find_small(frame.image)
        seen = [face.mesh for face in self._faces if not face.lost]
        fresh: list[Mesh] = []
        for detection in sorted(found, key=lambda one: -float(one.box[3] - one.box[1])):
            if len(seen) + len(fresh) >= self._config.max_faces:
                break
            if any(_covers(mesh.points, detection) for mesh in seen):
                continue
            mesh = self._read_new(frame.image, detection)
            if mesh and not any(_is_same(mesh, other) for other in seen + fresh):
                fresh.append(mesh)
        self._adopt(fresh, frame.time)

    def _closer_look_is_due(self, frame: TimedImage, found: list[Detection]) -> bool:
        wait = Fraction(self._config.look_closer_every_s)
        if self._looked_closer is not None and frame.time - self._looked_closer < wait:
            return False
        # `find` misses half of the faces of a twentieth of the longer side, and hardly any of a tenth.
        small = 0.1 * max(frame.image.shape[:2])
        return all(_size(face.mesh.points) < small for face in self._faces) and all(
            one.box[3] - one.box[1] < small for one in found
        )

    def _read_new(self, image: np.ndarray, detection: Detection) -> Mesh | None:
        mesh = self._reader.read(image, region_of_detection(detection))
        if mesh.score < self._config.min_score:
            return None
        mesh = self._reader.read(
            image, region_of_points(mesh.points)
        )  # the detection's region is a rough one
        return mesh if mesh.score >= self._config.min_score else None

    def _adopt(self, fresh: list[Mesh], time: Fraction) -> None:
        pairs = sorted(
            (_distance(face.mesh.points, mesh.points), i, j)
            for i, face in enumerate(self._faces)
            for j, mesh in enumerate(fresh)
            if face.lost and _same_size(face.mesh.points, mesh.points)
        )
        left = dict(enumerate(fresh))
        for distance, i, j in pairs:
            face = self._faces[i]
            if distance < 1 and face.lost and j in left:
                self._see_again(face, left.pop(j), time)
        self._faces += [_Face(_Run(next(self._ids)), mesh, time) for mesh in left.values()]

    def _forget(self, time: Fraction) -> None:
        limit = Fraction(self._config.forget_after_s)
        self._faces = [face for face in self._faces if not face.lost or time - face.time <= limit]

    def _crops(self, moment: _Moment) -> Iterator[FaceCrop]:
        time, image = moment.frame.time, moment.frame.image
        for run, mesh in moment.sightings:
            matrix = self._smoothed(run, time)
            yield FaceCrop(
                track_id=run.track_id,
                shot=self._shot,
                time=time,
                image=cut(image, matrix, self._config.geometry.side_px),
                to_crop=matrix,
                landmarks=mesh.points,
                score=mesh.score,
                yaw_deg=yaw_deg(mesh.points),
                mouth_open=mouth_open(mesh.points),
            )

    def _smoothed(self, run: _Run, time: Fraction) -> np.ndarray:
        reach = Fraction(self._config.reach_s)
        while run.times[0] < time - reach:
            run.times.popleft()
            run.matrices.popleft()
        window = [i for i, other in enumerate(run.times) if other <= time + reach]
        times_s = np.array([float(run.times[i] - time) for i in window])
        matrices = np.stack([run.matrices[i] for i in window])
        now = int(np.abs(times_s).argmin())
        if times_s[-1] + times_s[0] != 0:
            times_s, matrices = _continued(times_s, matrices)
        return smooth_matrices(matrices, times_s, self._config.sigma_s)[now]


def _continued(times_s: np.ndarray, matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a run starts or ends inside the window, carry on the motion there, turned about that end.

    Averaging over one side only would leave a moving face behind its crop for the first and last frames of a
    shot: by 7 pixels of 128 at the speed of a swaying head, by 1 with this.
    """
    back = invert(matrices)
    end = 0 if times_s[0] + times_s[-1] > 0 else -1
    reach_s = max(abs(times_s[0]), abs(times_s[-1]))
    mirrored_s = 2 * times_s[end] - times_s
    added = (np.abs(mirrored_s) <= reach_s) & (mirrored_s != times_s[end])
    mirrored = invert(2 * back[end] - back[added])
    return np.concatenate([times_s, mirrored_s[added]]), np.concatenate([matrices, mirrored])


def _interpolate(first: Mesh, first_time: Fraction, last: Mesh, last_time: Fraction, time: Fraction) -> Mesh:
    part = np.float32((time - first_time) / (last_time - first_time))
    points = first.points + part * (last.points - first.points)
    return Mesh(points, min(first.score, last.score))


def _size(points: np.ndarray) -> float:
    box = box_of(points)
    return float(max(box[2] - box[0], box[3] - box[1]))


def _center(points: np.ndarray) -> np.ndarray:
    box = box_of(points)
    return (box[:2] + box[2:]) / 2


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Between the centres of two faces, in sizes of the larger."""
    return float(np.linalg.norm(_center(one) - _center(other))) / max(_size(one), _size(other), 1e-6)


def _is_same(one: Mesh, other: Mesh) -> bool:
    """Whether two meshes were read off one face."""
    return _distance(one.points, other.points) < 0.3


def _same_size(one: np.ndarray, other: np.ndarray) -> bool:
    return 1 / 1.5 < _size(one) / max(_size(other), 1e-6) < 1.5


def _covers(points: np.ndarray, detection: Detection) -> bool:
    """Whether a detection is of the face with these landmarks: eyes, nose and mouth lie about in their middle."""
    middle = detection.points[:4].mean(0)
    return float(np.linalg.norm(middle - _center(points))) < 0.4 * _size(points)
