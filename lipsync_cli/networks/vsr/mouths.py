"""The mouth in an aligned face crop: the same window of the face in training and in reading.

Shapes: T frames, S side of the face picture, H × W the window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class MouthWindow:
    """Where a reader looks, on a face square scaled to face_px a side.

    height_px, width_px: of the window.  level: of its middle, from the top, as a share of the face square; the
    mouth of the mean face lies at 0.66.
    """

    face_px: int = 96
    height_px: int = 88
    width_px: int = 88
    level: float = 0.66


@dataclass(frozen=True)
class FaceView:
    """A face square seen with the face moved in it.  scale: of the face about the middle.  right, down: shares of the
    square's side."""

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0

    def of(self, faces: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Faces (S, S[, 3]) uint8 in this view; what comes into sight repeats their edge."""
        return [self._move(face) for face in faces]

    def _move(self, face: np.ndarray) -> np.ndarray:
        if self == FaceView():
            return face
        side = face.shape[0]
        kept = (1 - self.scale) * (side - 1) / 2
        matrix = np.array(
            [[self.scale, 0, kept + self.right * side], [0, self.scale, kept + self.down * side]]
        )
        return cv2.warpAffine(face, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


# The mean face that published weights were trained with does not travel with them. # differs from the published
# preprocessing: theirs is a similarity to that mean face, ours to the face mesh's, at about the same scale.
PUBLISHED_WINDOW = MouthWindow(face_px=170, height_px=88, width_px=88, level=0.66)


def cut_mouths(
    faces: Iterable[np.ndarray], window: MouthWindow, *, square_px: int, slack_px: int = 0
) -> np.ndarray:
    """Aligned RGB faces (S, S, 3), or grey ones (S, S), uint8 → grey mouths (T, H + 2·slack, W + 2·slack) uint8.

    square_px: side of the face square in the middle of each picture; the rest is margin.  slack_px: more picture
    on every side, for crops at random in training.  What lies outside the picture repeats its edge.
    """
    return np.stack([_cut(face, window, square_px, slack_px) for face in faces])


def _cut(face: np.ndarray, window: MouthWindow, square_px: int, slack_px: int) -> np.ndarray:
    if face.ndim == 3:
        face = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    scale = window.face_px / square_px
    margin = round((face.shape[0] - square_px) / 2 * scale)
    side = window.face_px + 2 * margin
    if face.shape[0] != side:
        face = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    height, width = window.height_px + 2 * slack_px, window.width_px + 2 * slack_px
    top = margin + round(window.face_px * window.level) - height // 2
    left = side // 2 - width // 2
    rows = np.clip(np.arange(top, top + height), 0, side - 1)
    columns = np.clip(np.arange(left, left + width), 0, side - 1)
    return face[rows[:, None], columns]
