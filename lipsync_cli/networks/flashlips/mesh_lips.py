"""Lips numbers of the small model: most read off the landmarks, a few seen in the mouth.

# differs from the paper, whose main part comes from a frozen expression encoder: the face mesh is one that is at hand,
# and what it says of a face does not depend on light or skin.

Shapes: N frames, M = main + extra lips numbers, P points of `POINTS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_cli.faces.crops import INNER_LIPS as UPPER_AND_LOWER
from lipsync_cli.networks.flashlips.lips import (
    EXPRESSION_POINTS,
    INNER_LIPS,
    OUTER_LIPS,
    expression_target,
)

CHIN = (176, 148, 152, 377, 400)
POINTS = np.array(OUTER_LIPS + INNER_LIPS + CHIN)
PLACES = {int(point): place for place, point in enumerate(EXPRESSION_POINTS)}
_NUM_LIPS = len(OUTER_LIPS) + len(INNER_LIPS)
_UPPER_LIP = [OUTER_LIPS.index(point) for point in (37, 0, 267)]
# Place of each point's mirror image among them: both rings start at a corner of the mouth.
_RING = (len(OUTER_LIPS) // 2 - np.arange(len(OUTER_LIPS))) % len(OUTER_LIPS)
MIRRORED = np.concatenate([_RING, len(OUTER_LIPS) + _RING, _NUM_LIPS + np.arange(len(CHIN))[::-1]])

LIMIT = 3.5  # standard deviations of the training clips, within which numbers off the landmarks stay
CLOSED_SHARE = 0.15  # of the frames of a face: the most closed ones show its mouth at rest


@dataclass(frozen=True)
class MeshLipsConfig:
    """main: numbers off the landmarks.  extra: numbers seen in the mouth, −1…1.  mouth_px: side of the square seen."""

    main: int = 8
    extra: int = 4
    mouth_px: int = 48
    channels: tuple[int, ...] = (16, 32, 48, 64)

    @property
    def numbers(self) -> int:
        """M."""
        return self.main + self.extra


class MeshLips(nn.Module):
    """Shape of lips and jaw as its first principal components over the training clips, and a glance."""

    basis: Tensor

    def __init__(self, config: MeshLipsConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("basis", torch.zeros(2 * len(POINTS), config.main))
        widths = (3, *config.channels)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.SiLU()]
        places = (config.mouth_px // 2 ** len(config.channels)) ** 2
        self.glance = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * places, config.extra))

    def learn_basis(self, clips: Sequence[np.ndarray], weights: Sequence[float]) -> None:
        """From the landmarks of clips, each (T, 478, 2), and how much a frame of each counts."""
        rows = [mouth_shape(clip).reshape(len(clip), -1) for clip in clips]
        self.basis.copy_(torch.from_numpy(principal_basis(rows, weights, self.config.main)))

    def shape(self, landmarks: np.ndarray, mirrored: bool = False) -> np.ndarray:
        """The main numbers of the frames of one clip, about 0 on their median: (T, 478, 2) → (T, main) float32.

        mirrored: as if left were right.
        """
        points = mouth_shape(landmarks)
        if mirrored:
            points = points[:, MIRRORED] * np.array([-1, 1], np.float32)
        basis = self.basis.cpu().numpy()
        sizes = np.maximum(np.linalg.norm(basis, axis=0), 1e-12)
        limits = LIMIT * sizes[0] / sizes  # see `principal_basis`
        numbers = points.reshape(len(points), -1) @ basis
        return limits * np.tanh(numbers / limits)  # a turned head must not lead where no training was

    def look(self, mouths: Tensor) -> Tensor:
        """The extra numbers.  (N, 3, mouth_px, mouth_px) in −1…1 → (N, extra)."""
        return torch.tanh(self.glance(mouths))


def mouth_shape(landmarks: np.ndarray) -> np.ndarray:
    """Lips and chin, without the person's own shape, the turning of the head, and where in the face they are.

    A turned head moves the lips, which stand before the face's plane, sideways and up or down: places count from the
    middle of the lips and from the upper lip.  (T, 478, 2) → (T, P, 2) float32, in distances from eyes to mouth.
    """
    every = expression_target(landmarks)
    shape = every[:, [PLACES[point] for point in POINTS]]
    across = shape[:, :_NUM_LIPS, :1].mean(1, keepdims=True)
    return shape - np.concatenate([across, shape[:, _UPPER_LIP, 1:].mean(1, keepdims=True)], -1)


def principal_basis(rows: Sequence[np.ndarray], weights: Sequence[float], count: int) -> np.ndarray:
    """(D, count): projects onto the strongest directions within clips.  rows: each (T, D).

    The strongest number has unit deviation, the others the root of their share of it: whole units of what hardly moves
    in training would be steps of noise in other films.
    """
    centred = [row - row.mean(0) for row in rows]
    total = sum(weight * len(row) for row, weight in zip(centred, weights, strict=True))
    spread = sum(weight * row.T @ row for row, weight in zip(centred, weights, strict=True)) / total
    strength, directions = np.linalg.eigh(spread)
    strongest = np.argsort(strength)[::-1][:count]
    scale = np.sqrt(np.sqrt(strength[strongest]) * np.sqrt(strength.max()))
    return (directions[:, strongest] / scale).astype(np.float32)


def rest_of(lips: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Lips numbers of the mouth at rest: the mean over the frames in which it is most closed.

    lips: (T, M).  landmarks: (T, 478, 2) of the same frames.  Returns (M,).
    """
    gap = np.linalg.norm(
        landmarks[:, UPPER_AND_LOWER[:, 0]] - landmarks[:, UPPER_AND_LOWER[:, 1]], axis=-1
    ).mean(-1)
    count = max(1, round(CLOSED_SHARE * len(gap)))
    return lips[np.argsort(gap, kind="stable")[:count]].mean(0)
