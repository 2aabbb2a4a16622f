"""Where a new mouth goes: an outline read off the landmarks, the same whatever the mouth is doing, and its mask.

The outline runs from under the nose over the cheeks beside the mouth and along the jaw. Were it to follow the chin, its
shape alone would tell how far the mouth is open: an editor would learn to read the answer off the hole, and a mouth
opened wide would not fit into the hole of a closed one. So each point is put where it would be with the mouth wide
open.

Shapes: N frames, P points of the outline, S crop side in pixels, 478 landmarks (face mesh v2).
"""

from __future__ import annotations

import cv2
import numpy as np

UNDER_NOSE, BRIDGE = 2, 168  # speech moves neither; 0.705 eyes-to-mouth distances apart on the mean face
UPPER_LIP, LOWER_LIP = 13, 14  # inner edges, in the middle
# Face-mesh index → how far the point goes down per widening of the gap between the lips. Measured: regression over
# 40 clips of seven GRID speakers, symmetrised.
_RIGHT = {
    97: 0.0,
    206: 0.0,
    207: 0.04,
    172: 0.16,
    136: 0.20,
    150: 0.24,
    149: 0.28,
    176: 0.35,
    148: 0.41,
}
_LEFT = {
    326: 0.0,
    426: 0.0,
    427: 0.04,
    397: 0.16,
    365: 0.20,
    379: 0.24,
    378: 0.28,
    400: 0.35,
    377: 0.41,
}
_FALL = {UNDER_NOSE: 0.0} | _LEFT | {152: 0.44} | dict(reversed(_RIGHT.items()))
MOUTH_INDICES = np.array(list(_FALL))  # in order along the outline
_FALLS = np.array(list(_FALL.values()))
WIDE_OPEN = (
    0.8  # gap between the lips for which the outline has room, in distances from bridge to under the nose
)


def mouth_polygon(landmarks: np.ndarray) -> np.ndarray:
    """Closed outline of what may change when the mouth moves.

    landmarks: (N, 478, 2), pixels of anything.  Returns (N, P, 2), the same pixels: from under the nose over the cheek
    at the viewer's right, along the jaw, where it would be with the mouth wide open, and back on the other side.
    """
    points = landmarks[:, MOUTH_INDICES].astype(np.float64)
    down = (landmarks[:, UNDER_NOSE] - landmarks[:, BRIDGE]).astype(np.float64)
    length = np.maximum(np.linalg.norm(down, axis=-1, keepdims=True), 1e-6)
    gap = ((landmarks[:, LOWER_LIP] - landmarks[:, UPPER_LIP]) * down / length).sum(-1, keepdims=True)
    missing = WIDE_OPEN - np.maximum(gap, 0) / length  # of the opening, in units of `down`
    return points + _FALLS[None, :, None] * missing[:, None] * down[:, None]


def mouth_mask(landmarks: np.ndarray, side_px: int, feather_px: float = 0.0) -> np.ndarray:
    """Masks of the outline in square crops.

    landmarks: (N, 478, 2), crop pixels.  feather_px: width of the soft edge, which lies within the outline and within
    the crop, so that a soft mask is nowhere more than the hard one.  Returns (N, S, S) float32, 1 inside, 0 outside.
    """
    masks = np.zeros((len(landmarks), side_px, side_px), np.float32)
    for mask, polygon in zip(masks, mouth_polygon(landmarks), strict=True):
        hard = np.zeros((side_px, side_px), np.uint8)
        if np.isfinite(polygon).all():
            reach = np.clip(polygon, -4 * side_px, 5 * side_px)  # what OpenCV's fixed-point numbers can hold
            cv2.fillPoly(hard, [np.round(reach * 16).astype(np.int32)], 1, shift=4)
        mask[:] = _feathered(hard, feather_px) if feather_px > 0 else hard
    return masks


def _feathered(hard: np.ndarray, feather_px: float) -> np.ndarray:
    """Rises from 0 outside to 1 at `feather_px` within, by a smooth step."""
    framed = np.pad(hard, 1)  # the crop's edge is an edge too
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    part = np.clip(depth / (feather_px + 1), 0, 1)
    return part * part * (3 - 2 * part)
