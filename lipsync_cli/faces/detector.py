"""BlazeFace, full range: where faces are, roughly, in one picture.

Bazarevsky et al. 2019, "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs"; the full-range
model and its weighted non-maximum suppression are those of MediaPipe. Positions follow OpenCV: pixel centres
are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lipsync_cli.faces.tflite import load_network

INPUT_PX = 192
ANCHORS_PER_SIDE = 48
OUTPUTS = ["reshaped_classifier_face_4", "reshaped_regressor_face_4"]
TILE_OVERLAP = 0.4  # of a tile's side: a face up to this size lies whole in some tile


@dataclass(frozen=True)
class Detection:
    """One face found in a picture.

    box: (4,) left, top, right, bottom in pixels, from the brows to the chin.
    points: (6, 2) pixels: right eye, left eye (the subject's), nose tip, mouth, right ear, left ear.
    score: 0 to 1.
    """

    box: np.ndarray
    points: np.ndarray
    score: float


class FaceDetector:
    """Finds faces rolled up to 60 degrees either way; `find` those of a tenth of the longer side or more."""

    def __init__(self, path: Path, threshold: float = 0.5) -> None:
        """Raises: WeightsError when `path` is not the network."""
        self._network = load_network(path)
        self._threshold = threshold
        centers = (np.arange(ANCHORS_PER_SIDE, dtype=np.float32) + 0.5) / ANCHORS_PER_SIDE
        self._anchors = np.stack(np.meshgrid(centers, centers), -1).reshape(-1, 2)

    def find(self, image: np.ndarray) -> list[Detection]:
        """Faces in an RGB picture (H, W, 3) uint8, best first: one look at the whole picture."""
        return _merge(*self._look(image))

    def find_small(self, image: np.ndarray) -> list[Detection]:
        """Faces too small for `find`, from about 1/20 of the shorter side: looks at overlapping square tiles.

        Costs as much as `find` for each tile: 4 for a square picture, 10 for 16:9.
        """
        boxes, scores = [], []
        for x0, y0, side in tiles(image.shape[1], image.shape[0]):
            found, found_scores = self._look(image[y0 : y0 + side, x0 : x0 + side])
            boxes.append(found + np.array([x0, y0]))
            scores.append(found_scores)
        return _merge(np.concatenate(boxes), np.concatenate(scores))

    def _look(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every anchor above the threshold: (N, 8, 2) pixels, box corners then six points, and (N,) scores."""
        height, width = image.shape[:2]
        scale = INPUT_PX / max(height, width)
        small_size = np.array([max(1, round(width * scale)), max(1, round(height * scale))])
        left, top = (INPUT_PX - small_size) // 2
        canvas = np.zeros((INPUT_PX, INPUT_PX, 3), np.uint8)
        small = cv2.resize(image, small_size.tolist(), interpolation=cv2.INTER_AREA)
        canvas[top : top + small_size[1], left : left + small_size[0]] = small
        self._network.setInput(cv2.dnn.blobFromImage(canvas, 1 / 127.5, mean=(127.5, 127.5, 127.5)))
        logits, regressed = self._network.forward(OUTPUTS)

        scores = 1 / (1 + np.exp(-np.clip(logits.reshape(-1), -80, 80)))
        keep = scores > self._threshold
        found = regressed.reshape(-1, 8, 2)[keep] / INPUT_PX
        center, size = found[:, 0] + self._anchors[keep], found[:, 1]
        corners = np.stack([center - size / 2, center + size / 2], 1)
        found = np.concatenate([corners, found[:, 2:] + self._anchors[keep, None]], 1)
        # The network counts from the picture's edge, OpenCV from the centre of its first pixel.
        found = (found * INPUT_PX - [left, top]) * ([width, height] / small_size) - 0.5
        real = (size > 0).all(1)
        return found[real], scores[keep][real]


def tiles(width: int, height: int) -> list[tuple[int, int, int]]:
    """Overlapping squares that cover a picture: (left, top, side) in pixels.

    Two of them side by side along the shorter side, as many as needed along the longer one.
    """
    side = int(np.ceil(min(width, height) / (2 - TILE_OVERLAP)))
    return [(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]


def _starts(length: int, side: int) -> list[int]:
    steps = int(np.ceil((length - side) / (side * (1 - TILE_OVERLAP)) - 1e-6))
    return np.linspace(0, length - side, steps + 1).round().astype(int).tolist()


def _merge(found: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Weighted non-maximum suppression: a face is the score-weighted mean of the boxes that overlap its best."""
    detections = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        same = _overlap(found[order[0]], found[order]) > 0.3
        group = order[same]
        mean = np.average(found[group], axis=0, weights=scores[group])
        detections.append(Detection(mean[:2].reshape(4), mean[2:], float(scores[order[0]])))
        order = order[~same]
    return detections


def _overlap(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Intersection over union of box corners (8, 2) with (N, 8, 2)."""
    low, high = np.maximum(one[0], many[:, 0]), np.minimum(one[1], many[:, 1])
    shared = np.clip(high - low, 0, None).prod(-1)
    return shared / ((one[1] - one[0]).prod() + (many[:, 1] - many[:, 0]).prod(-1) - shared)
