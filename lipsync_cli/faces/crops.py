"""What following a face gives: a crop per frame, the numbers read off its landmarks, the track they make up."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lipsync_cli.faces.mesh import LEFT_EYE, RIGHT_EYE

NOSE_TIP = 4
INNER_LIPS = np.array([[82, 87], [13, 14], [312, 317]])  # upper and lower, around the middle
# How far the tip of the nose stands before the line of the outer eye corners, in units of their distance:
# the mesh's own depth gives 0.556 ± 0.042 over 40 pictures of 12 people, the slope of shift against its turn
# 0.58.
NOSE_PROTRUSION = 0.57


@dataclass(frozen=True)
class FaceCrop:
    """One face in one frame, aligned.

    track_id: the same through one shot, never used again.  shot: counts from 0.  time: of the frame, seconds.
    image: (S, S, 3) uint8 RGB aligned crop.  to_crop: (2, 3) float64, pixels of the frame → of the crop.
    landmarks: (478, 2) float32, pixels of the frame.  score: 0 to 1, that this is a face.
    yaw_deg, mouth_open: see the functions of these names.
    """

    track_id: int
    shot: int
    time: Fraction
    image: np.ndarray
    to_crop: np.ndarray
    landmarks: np.ndarray
    score: float
    yaw_deg: float
    mouth_open: float

    @property
    def box(self) -> np.ndarray:
        """(4,) left, top, right, bottom of the landmarks, pixels of the frame."""
        return box_of(self.landmarks)


@dataclass(frozen=True)
class Track:
    """One face through one shot, without its pictures.  times: N, seconds.  boxes: (N, 4) xyxy pixels."""

    id: int
    shot: int
    times: tuple[Fraction, ...]
    boxes: np.ndarray


class TrackLog:
    """Collects tracks from crops as they stream by; keeps a time and a box of each."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], list[tuple[Fraction, np.ndarray]]] = {}

    def add(self, crop: FaceCrop) -> None:
        self._rows.setdefault((crop.track_id, crop.shot), []).append((crop.time, crop.box))

    def tracks(self) -> list[Track]:
        """The tracks so far, in order of appearance."""
        return [
            Track(id, shot, tuple(time for time, _ in rows), np.stack([box for _, box in rows]))
            for (id, shot), rows in self._rows.items()
        ]


def box_of(points: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom of landmarks (478, 2), of which unknown ones are NaN: (4,)."""
    return np.concatenate([np.nanmin(points, 0), np.nanmax(points, 0)])


def yaw_deg(points: np.ndarray) -> float:
    """Head turn from landmarks (478, 2): positive when the nose points to the viewer's right. An estimate.

    Seen from afar, a turn by a shortens the line of the eyes to width·cos(a) and moves the tip of the nose
    along it by protrusion·sin(a). Roll does not matter; pitch does not to first order.
    """
    right, left, nose = points[[RIGHT_EYE, LEFT_EYE, NOSE_TIP]].astype(np.float64)
    along = left - right
    shift = (nose - (left + right) / 2) @ along / max(along @ along, 1e-12)  # of the visible width
    return float(np.degrees(np.arctan(shift / NOSE_PROTRUSION)))


def mouth_open(points: np.ndarray) -> float:
    """Height of the gap between the lips over the distance of the outer eye corners: 0 shut, about 0.3 wide open."""
    gap = np.linalg.norm(points[INNER_LIPS[:, 0]] - points[INNER_LIPS[:, 1]], axis=-1).mean()
    return float(gap / max(np.linalg.norm(points[LEFT_EYE] - points[RIGHT_EYE]), 1e-6))
