"""The aligned face crop: where a face sits in it, and the similarity that takes source pixels there and back.

The crop is a square in which the mean face has its eyes on one level and its mouth below them: all networks
of ours see faces in this frame. Only points that speech does not move (eye corners, nose) decide the
similarity, so that the jaw moves inside the crop and not the crop with the jaw. Positions follow OpenCV:
pixel centres are whole numbers. The numbers below are part of every trained network: changing one means
training all of them again.

Shapes: N frames, S crop side in pixels, 478 landmarks (face mesh v2).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Face-mesh index → place on the mean face, in units of the eyes-to-mouth distance, origin between the eyes.
# Measured: mean over nine GRID speakers of the mesh after upright alignment, symmetrised.
STABLE_POINTS: dict[int, tuple[float, float]] = {
    33: (-0.597, -0.014),  # outer corner, subject's right eye
    133: (-0.231, 0.014),  # inner corner
    362: (0.231, 0.014),
    263: (0.597, -0.014),  # outer corner, subject's left eye
    168: (0.0, -0.059),  # bridge of the nose
    6: (0.0, 0.051),
    2: (0.0, 0.646),  # under the nose
    98: (-0.221, 0.622),  # wings of the nose
    327: (0.221, 0.622),
}
STABLE_INDICES = np.array(list(STABLE_POINTS))

EYES_TO_MOUTH = 0.42  # of the crop's side
EYES_LEVEL = 0.24  # of the crop's side, from its top: mouth at 0.66, chin at 0.93 when the lips are closed


@dataclass(frozen=True)
class CropGeometry:
    """Size of an aligned crop.

    size_px: side of the square that holds the face.  margin_px: extra picture on each side, for augmentation.
    """

    size_px: int = 128
    margin_px: int = 0

    @property
    def side_px(self) -> int:
        """Side of the picture that is cut out: the face square and both margins."""
        return self.size_px + 2 * self.margin_px

    def template(self) -> np.ndarray:
        """Where the stable points belong in the crop: (9, 2) float64, pixels."""
        points = np.array(list(STABLE_POINTS.values())) * EYES_TO_MOUTH + [0.5, EYES_LEVEL]
        return points * self.size_px + self.margin_px


def fit_similarity(landmarks: np.ndarray, geometry: CropGeometry) -> np.ndarray:
    """Least-squares similarity from source pixels to crop pixels, per frame.

    landmarks: (N, 478, 2) source pixels.  Returns (N, 2, 3) float64.  Umeyama 1991, without reflection,
    in closed form for the plane: with centred points as complex numbers, scale·rotation = <p, q> / <p, p>.
    """
    points = landmarks[:, STABLE_INDICES].astype(np.float64)
    target = geometry.template()
    center, target_center = points.mean(1), target.mean(0)
    source = (points - center[:, None]) @ np.array([1, 1j])
    goal = (target - target_center) @ np.array([1, 1j])
    turn = (source.conj() * goal).sum(1) / np.maximum((np.abs(source) ** 2).sum(1), 1e-12)
    return _matrices(turn, center, target_center)


def _matrices(turn: np.ndarray, center: np.ndarray, target_center: np.ndarray) -> np.ndarray:
    cos, sin = np.real(turn), np.imag(turn)  # both times the scale
    linear = np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
    shift = target_center - np.einsum("nij,nj->ni", linear, center)
    return np.concatenate([linear, shift[..., None]], -1)


def smooth_matrices(matrices: np.ndarray, times_s: np.ndarray, sigma_s: float) -> np.ndarray:
    """Gaussian smoothing over time of similarities, without lag; the ends use the frames there are.

    matrices: (N, 2, 3), source → crop.  times_s: (N,) seconds, any spacing.  What is averaged is the way
    back, crop → source: where it puts the crop, how large and how turned, which does not depend on where the
    face is.
    """
    if len(matrices) < 2 or sigma_s <= 0:
        return matrices
    inverse = invert(matrices)  # its shift is a point near the face, not an extrapolated origin
    weights = np.exp(-0.5 * ((times_s[:, None] - times_s[None]) / sigma_s) ** 2)
    weights /= weights.sum(1, keepdims=True)
    return invert(np.einsum("nm,mij->nij", weights, inverse))


def invert(matrices: np.ndarray) -> np.ndarray:
    """Inverse affine maps.  (N, 2, 3) → (N, 2, 3)."""
    linear = np.linalg.inv(matrices[:, :, :2])
    return np.concatenate([linear, -linear @ matrices[:, :, 2:]], -1)


def cut(image: np.ndarray, to_crop: np.ndarray, side_px: int) -> np.ndarray:
    """Cut an aligned crop out of a picture.

    image: (H, W, C) or (H, W) uint8.  to_crop: (2, 3), source → crop pixels.  Returns (side, side[, C])
    uint8; what lies outside the picture repeats its edge.  Faces larger than the crop are area-averaged
    first, so that nothing aliases.
    """
    scale = float(np.hypot(to_crop[0, 0], to_crop[1, 0]))
    if scale < 0.6:
        image, to_crop = _shrink(image, to_crop, side_px, scale)
    size = (side_px, side_px)
    return cv2.warpAffine(image, to_crop, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _shrink(
    image: np.ndarray, to_crop: np.ndarray, side_px: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[0, 0, 1], [side_px, 0, 1], [0, side_px, 1], [side_px, side_px, 1]], np.float64)
    source = corners @ invert(to_crop[None])[0].T
    end = np.array([image.shape[1], image.shape[0]])
    x0, y0 = np.clip(np.floor(source.min(0)).astype(int) - 2, 0, end - 1)
    x1, y1 = np.clip(np.ceil(source.max(0)).astype(int) + 2, [x0 + 1, y0 + 1], end)
    width, height = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    small = cv2.resize(image[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_AREA)
    ratio = np.array([(x1 - x0) / width, (y1 - y0) / height])
    # Pixel centres: small (u, v) covers source x0 + (u + ½)·ratio − ½.
    moved = to_crop.copy()
    moved[:, :2] = to_crop[:, :2] * ratio
    moved[:, 2] = to_crop[:, 2] + to_crop[:, :2] @ ([x0, y0] + ratio / 2 - 0.5)
    return small, moved
