"""Face mesh v2: 478 landmarks of one face, read from a rotated square cut around it.

Kartynnik et al. 2019, "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs"; the model is
MediaPipe's face_landmarks_detector. Positions follow OpenCV: pixel centres are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lipsync_cli.faces.align import invert
from lipsync_cli.faces.detector import Detection
from lipsync_cli.faces.tflite import load_network

INPUT_PX = 256
NUM_POINTS = 478
OUTPUTS = ["Identity", "Identity_1"]
REGION_TO_FACE = 1.5  # the network was trained on squares this much larger than the face
RIGHT_EYE, LEFT_EYE = 33, 263  # outer corners, the subject's


@dataclass(frozen=True)
class Region:
    """A turned square of the picture.  center: (2,) pixels.  angle_rad: clockwise, 0 for a level face."""

    center: np.ndarray
    side_px: float
    angle_rad: float


@dataclass(frozen=True)
class Mesh:
    """Landmarks of one face.  points: (478, 2) float32 source pixels.  score: 0 to 1, that this is a face."""

    points: np.ndarray
    score: float


class FaceMesh:
    """Reads landmarks in a region that a detection or the previous frame's landmarks give."""

    def __init__(self, path: Path) -> None:
        """Raises: WeightsError when `path` is not the network."""
        self._network = load_network(path)

    def read(self, image: np.ndarray, region: Region) -> Mesh:
        """Landmarks of the face in `region` of an RGB picture (H, W, 3) uint8."""
        to_square = _to_square(region)
        square = _cut_square(image, region, to_square)
        self._network.setInput(cv2.dnn.blobFromImage(square, 1 / 255))
        points, logit = self._network.forward(OUTPUTS)
        # The network counts from the square's edge, OpenCV from the centre of its first pixel. Seen by
        # mirroring the square: x plus mirrored x is 255.9 in the median of 14 faces; counted from centres it
        # would be 255.
        points = points.reshape(NUM_POINTS, 3)[:, :2].astype(np.float64) - 0.5
        back = invert(to_square[None])[0]
        score = 1 / (1 + np.exp(-np.clip(float(logit.ravel()[0]), -80, 80)))
        return Mesh((points @ back[:, :2].T + back[:, 2]).astype(np.float32), float(score))


def region_of_detection(detection: Detection) -> Region:
    """The region in which to read the landmarks of a face just detected."""
    right_eye, left_eye = detection.points[:2]
    low, high = detection.box[:2], detection.box[2:]
    return Region((low + high) / 2, float((high - low).max()) * REGION_TO_FACE, _angle(right_eye, left_eye))


def region_of_points(points: np.ndarray) -> Region:
    """The region in which to read a face again, from its last landmarks (478, 2); unknown points are NaN."""
    angle = _angle(points[RIGHT_EYE], points[LEFT_EYE])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    level = points @ turn.T
    low, high = np.nanmin(level, 0), np.nanmax(level, 0)
    return Region(turn.T @ ((low + high) / 2), float((high - low).max()) * REGION_TO_FACE, angle)


def _angle(right_eye: np.ndarray, left_eye: np.ndarray) -> float:
    x, y = left_eye - right_eye
    return float(np.arctan2(y, x))


def _cut_square(image: np.ndarray, region: Region, to_square: np.ndarray) -> np.ndarray:
    """The region as the network's input, (256, 256, 3); a large one is averaged over whole blocks of pixels first.

    `align.cut` averages to the exact scale, which costs four times as much; the network does not see the
    difference.
    """
    block = int(region.side_px / INPUT_PX)
    if block >= 2:
        half = region.side_px * 0.75  # of the diagonal, and a margin
        end = np.array([image.shape[1], image.shape[0]])
        low = np.clip(np.floor(region.center - half).astype(int), 0, end - block)
        high = np.clip(np.ceil(region.center + half).astype(int), low + block, end)
        width, height = (high - low) // block
        x1, y1 = low + np.array([width, height]) * block
        image = cv2.resize(image[low[1] : y1, low[0] : x1], (width, height), interpolation=cv2.INTER_AREA)
        linear = to_square[:, :2] * block
        # Small pixel u has its centre at source pixel low + (u + ½)·block − ½.
        shift = to_square[:, 2] + to_square[:, :2] @ (low + (block - 1) / 2)
        to_square = np.concatenate([linear, shift[:, None]], 1)
    size = (INPUT_PX, INPUT_PX)
    return cv2.warpAffine(image, to_square, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _to_square(region: Region) -> np.ndarray:
    """Source pixels to pixels of the network's square: (2, 3)."""
    scale = INPUT_PX / region.side_px
    cos, sin = scale * np.cos(region.angle_rad), scale * np.sin(region.angle_rad)
    linear = np.array([[cos, sin], [-sin, cos]])
    middle = (INPUT_PX - 1) / 2
    return np.concatenate([linear, (middle - linear @ region.center)[:, None]], 1)
