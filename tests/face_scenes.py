"""Scenes in which a photo's face moves in a known way."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

FACE_PX = np.array([144.0, 124.0])  # the face in the photo: its middle, by eye
FACE_HEIGHT_PX = 108  # forehead to chin, by eye


@dataclass(frozen=True)
class Shot:
    """A frame as `follow_faces` takes it."""

    time: Fraction
    image: np.ndarray


def place(center: tuple[float, float], *, scale: float = 1, angle_deg: float = 0) -> np.ndarray:
    """The similarity (2, 3) that puts the middle of the photo's face at `center`, enlarged and turned clockwise."""
    angle = np.radians(angle_deg)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([linear, (np.array(center) - linear @ FACE_PX)[:, None]], 1)


def paint(
    photo: np.ndarray, matrices: list[np.ndarray], *, width: int = 640, height: int = 480
) -> np.ndarray:
    """A grey picture with the photo's disc around the face drawn at each matrix."""
    canvas = np.full((height, width, 3), 96, np.uint8)
    disc = np.zeros(photo.shape[:2], np.uint8)
    cv2.circle(disc, FACE_PX.astype(int).tolist(), 118, 255, -1)
    for matrix in matrices:
        shrink = min(1.0, float(np.hypot(matrix[0, 0], matrix[1, 0])))
        size = (round(photo.shape[1] * shrink), round(photo.shape[0] * shrink))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA) if shrink < 1 else photo
        # Pixel centres: small u shows photo (u + ½)·ratio − ½.
        ratio = np.array(photo.shape[1::-1]) / small.shape[1::-1]
        moved = np.concatenate(
            [matrix[:, :2] * ratio, (matrix[:, 2] + matrix[:, :2] @ (ratio / 2 - 0.5))[:, None]], 1
        )
        drawn = cv2.warpAffine(small, moved, (width, height), flags=cv2.INTER_LINEAR)
        inside = cv2.warpAffine(disc, matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
        canvas[inside] = drawn[inside]
    return canvas


def film(images: list[np.ndarray], *, first: int = 0) -> list[Shot]:
    """25 Hz frames."""
    return [Shot(Fraction(first + i, 25), image) for i, image in enumerate(images)]
