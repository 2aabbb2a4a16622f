"""The aligned face that LatentSync was trained on: its template of brows and nose, cut out of frames and put back.

A similarity takes the middle of both brows and of the nose to a canvas of 75 × 100 units, which is then squeezed into a
square. Two things stay as published though they look odd: the scale is a ratio of standard deviations, not a
least-squares fit, and the canvas is not square.

Pixel centres are whole numbers. Shapes: N frames, 478 landmarks (face mesh v2), S side of the square, H × W frame.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CANVAS = (75, 100)  # wide, high
TEMPLATE = np.array([[17.0, 20.0], [58.0, 20.0], [37.5, 40.0]])  # brow left in the picture, brow right, nose
UNIT_PX = 2.8  # at 256 px
FILL = 127.0  # of 255, beyond the frame's edge
BIAS_MEMORY = 0.2

# Face-mesh points for those that the published code takes of insightface's 106: the upper edge of either brow, and the
# lower bridge, the tip and both wings of the nose.
LEFT_BROW, RIGHT_BROW = (70, 63, 105, 66, 107), (300, 293, 334, 296, 336)
NOSE = (195, 4, 129, 358)


def canvas_px(size_px: int) -> tuple[int, int]:
    """Width and height of the canvas before it is squeezed: 210 × 280 for 256."""
    unit = size_px / 256 * UNIT_PX
    return int(CANVAS[0] * unit), int(CANVAS[1] * unit)


def brows_and_nose(landmarks: np.ndarray) -> np.ndarray:
    """The three points of the template in landmarks (N, 478, 2): (N, 3, 2) float64.

    # differs from the published code, which rounds them to whole pixels and so lets the crop tremble.
    """
    parts = [landmarks[:, list(part)].astype(np.float64).mean(1) for part in (LEFT_BROW, RIGHT_BROW, NOSE)]
    return np.stack(parts, 1)


def fit_canvas(points: np.ndarray, size_px: int, *, smooth: bool = True) -> np.ndarray:
    """Similarities from frame pixels to canvas pixels, as the published code fits them.

    points: (N, 3, 2), consecutive frames of one track.  smooth: as published, add the error of the nose point, in standard
    deviations, which remembers a fifth of its last value; the memory begins anew at each call, that is at each track.
    Returns (N, 2, 3) float64.
    """
    target = TEMPLATE * (size_px / 256 * UNIT_PX)
    centre, target_centre = points.mean(1), target.mean(0)
    source, goal = points - centre[:, None], target - target_centre
    spread, target_spread = source.std((1, 2), ddof=1), goal.std(ddof=1)
    # the best rotation, without reflection, is the angle of Σ p̄·q over the points as complex numbers
    turn = ((source @ [1, 1j]).conj() * (goal @ [1, 1j])).sum(1)
    turn = turn / np.abs(turn) * (target_spread / spread)
    linear = np.stack([turn.real, -turn.imag, turn.imag, turn.real], -1).reshape(-1, 2, 2)
    shift = target_centre - np.einsum("nij,nj->ni", linear, centre)
    if smooth:
        shift += _nose_bias(source / spread[:, None, None], goal / target_spread)
    return np.concatenate([linear, shift[..., None]], -1)


def _nose_bias(source: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(N, 2), less than a pixel unless the head is turned."""
    biases = goal[2] - source[:, 2]
    for last, bias in pairwise(biases):
        bias[:] = BIAS_MEMORY * last + (1 - BIAS_MEMORY) * bias
    return biases


def cut_faces(frames: Tensor, matrices: Tensor, size_px: int) -> Tensor:
    """Aligned squares of frames.

    frames: (N, 3, H, W) float, 0…255.  matrices: (N, 2, 3), of `fit_canvas`.  Returns (N, 3, S, S), 0…255.
    # differs from the published code: no rounding to whole levels between the warp and the squeeze.
    """
    width, height = canvas_px(size_px)
    return canvas_to_square(warp(frames, matrices, (height, width), FILL), size_px)


def canvas_to_square(canvas: Tensor, size_px: int) -> Tensor:
    """The canvas squeezed: (N, 3, height, width) → (N, 3, S, S), 0…255."""
    down, across = (_lanczos(side, size_px).to(canvas) for side in canvas.shape[2:])
    return (down @ canvas @ across.T).clamp(0, 255)


def square_to_canvas(faces: Tensor) -> Tensor:
    """And stretched again: (N, 3, S, S) → (N, 3, height, width), not clamped."""
    width, height = canvas_px(faces.shape[-1])
    return F.interpolate(faces, (height, width), mode="bicubic", antialias=True, align_corners=False)


def put_back(faces: Tensor, matrices: Tensor, frame_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Squares where they came from.

    faces: (N, 3, S, S).  matrices: of `fit_canvas`.  frame_px: H, W.  Returns (N, 3, H, W), and (N, 1, H, W) how much of
    each pixel the square covers, 0…1.
    """
    canvas = square_to_canvas(faces)
    back = _invert(matrices)
    covered = warp(torch.ones_like(canvas[:, :1]), back, frame_px, 0.0)
    return warp(canvas, back, frame_px, FILL), covered


def warp(images: Tensor, matrices: Tensor, size_px: tuple[int, int], fill: float) -> Tensor:
    """Bilinear affine warp of a batch.

    images: (N, C, H, W).  matrices: (N, 2, 3), source pixels → output pixels.  size_px: height and width of the output.
    Outside the picture there is `fill`.
    """
    height, width = size_px
    rows, columns = torch.meshgrid(
        torch.arange(height, device=images.device), torch.arange(width, device=images.device), indexing="ij"
    )
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1).to(torch.float32)
    source = torch.einsum("nij,hwj->nhwi", _invert(matrices).to(places), places)
    last = torch.tensor([images.shape[3] - 1, images.shape[2] - 1], device=images.device).clamp_min(1)
    grid = (2 * source / last - 1).to(images.dtype)
    return F.grid_sample(images - fill, grid, padding_mode="zeros", align_corners=True) + fill


def _invert(matrices: Tensor) -> Tensor:
    linear = torch.linalg.inv(matrices[:, :, :2].double())
    shift = -linear @ matrices[:, :, 2:].double()
    return torch.cat([linear, shift], -1)


@lru_cache(maxsize=8)
def _lanczos(source_px: int, target_px: int) -> Tensor:
    """(target, source) float32 weights of Lanczos with four lobes, edges repeated, as OpenCV resizes."""
    place = (np.arange(target_px) + 0.5) * source_px / target_px - 0.5
    first = np.floor(place).astype(int) - 3
    taps = first[:, None] + np.arange(8)
    distance = place[:, None] - taps
    weights = np.sinc(distance) * np.sinc(distance / 4)
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((target_px, source_px), np.float32)
    np.add.at(matrix, (np.arange(target_px)[:, None], taps.clip(0, source_px - 1)), weights)
    return torch.from_numpy(matrix)
