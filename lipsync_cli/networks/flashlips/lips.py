"""Pictures of faces to lips numbers: what lips and jaw are doing, and as little as possible of whose they are (§3.1.1).

Shapes: N aligned face crops (N, 3, S, S), −1…1 (`faces.align`); M = 12 lips numbers; P landmarks of lips and jaw.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipsync_cli.faces.align import EYES_TO_MOUTH, STABLE_INDICES, CropGeometry
from lipsync_cli.networks.flashlips.resnet import ResNet, ResNetConfig

# Face mesh: both edges of the lips, closed and in order, and the jaw from cheek to cheek.
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
JAW = (172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397)
EXPRESSION_POINTS = np.array(OUTER_LIPS + INNER_LIPS + JAW)

# Place of each point's mirror image among them: both rings begin at a corner of the mouth.
_RING = (len(OUTER_LIPS) // 2 - np.arange(len(OUTER_LIPS))) % len(OUTER_LIPS)
MIRRORED = np.concatenate([_RING, 20 + _RING, 40 + np.arange(len(JAW))[::-1]])

MOUTH_LEVEL, MOUTH_SIDE = (
    0.68,
    0.5,
)  # of the aligned crop's side: the middle and the side of the mouth's square


@dataclass(frozen=True)
class ExpressionConfig:
    """image_px: faces are scaled to it.  latent: width of the expression latent."""

    trunk: ResNetConfig = ResNetConfig(depth=50, width=64)
    image_px: int = 224
    latent: int = 128


@dataclass(frozen=True)
class LipsConfig:
    """main, extra: numbers of the two parts (table 5: V1 8D + V2 4D).  hidden: of the projector.  mouth_px: mouths are
    scaled to it.
    """

    expression: ExpressionConfig = field(default_factory=ExpressionConfig)
    main: int = 8
    hidden: int = 256
    extra: int = 4
    extra_trunk: ResNetConfig = ResNetConfig(depth=50, width=64)
    mouth_px: int = 128

    @property
    def numbers(self) -> int:
        """M."""
        return self.main + self.extra


@dataclass(frozen=True)
class DistilledConfig:
    """One network for all of it: ResNet-50 on 384 px (§4.2, §A.1); §3.1.1 and figure 4 say ResNet-34 (`depth`)."""

    trunk: ResNetConfig = ResNetConfig(depth=50, width=64)
    image_px: int = 384
    numbers: int = 12


class ExpressionEncoder(nn.Module):
    """The frozen expression encoder's place: learns the shape of lips and jaw, `expression_target`, from a face.

    # differs from the paper, whose encoder [9] is not public
    """

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ResNet(config.trunk)
        self.squeeze = nn.Linear(config.trunk.features, config.latent)
        self.landmarks = nn.Linear(config.latent, 2 * len(EXPRESSION_POINTS))

    def latent(self, faces: Tensor) -> Tensor:
        """(N, 3, S, S) → (N, latent)."""
        return F.silu(self.squeeze(self.trunk(scaled(faces, self.config.image_px))))

    def forward(self, faces: Tensor) -> Tensor:
        """What `expression_target` gives: (N, 3, S, S) → (N, P, 2)."""
        return self.landmarks(self.latent(faces)).unflatten(1, (-1, 2))


class LipsEncoder(nn.Module):
    """Figure 4: numbers projected from a frozen expression encoder, and a few more seen in the mouth.

    The two are concatenated, as table 5 counts them; §3.1.1 writes a sum.
    """

    def __init__(self, config: LipsConfig, expression: ExpressionEncoder | None = None) -> None:
        """expression: trained; by default one that is filled from saved weights."""
        super().__init__()
        self.config = config
        self.expression = (expression or ExpressionEncoder(config.expression)).requires_grad_(False)
        self.main = nn.Sequential(
            nn.Linear(config.expression.latent, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.main),
        )
        self.extra = None
        if config.extra:
            trunk = config.extra_trunk
            self.extra = nn.Sequential(ResNet(trunk), nn.Linear(trunk.features, config.extra))

    def forward(self, faces: Tensor) -> Tensor:
        """(N, 3, S, S) → (N, M)."""
        with torch.no_grad():
            latent = self.expression.latent(faces)
        main = self.main(latent)
        if self.extra is None:
            return main
        return torch.cat([main, self.extra(scaled(mouths(faces), self.config.mouth_px))], 1)


class DistilledLipsEncoder(nn.Module):
    """The lips encoder at inference: one ResNet that has learnt its answers.  (N, 3, S, S) → (N, M)."""

    def __init__(self, config: DistilledConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ResNet(config.trunk)
        self.head = nn.Linear(config.trunk.features, config.numbers)

    def forward(self, faces: Tensor) -> Tensor:
        return self.head(self.trunk(scaled(faces, self.config.image_px)))


def scaled(pictures: Tensor, side_px: int) -> Tensor:
    """(N, C, S, S) → (N, C, side_px, side_px), without aliasing."""
    if pictures.shape[-1] == side_px:
        return pictures
    return F.interpolate(pictures, (side_px, side_px), mode="bilinear", antialias=True)


def mouths(faces: Tensor) -> Tensor:
    """The mouth's square of aligned faces, always at the same place.  (N, C, S, S) → (N, C, S/2, S/2)."""
    side = faces.shape[-1]
    size = round(MOUTH_SIDE * side)
    top, left = round(MOUTH_LEVEL * side) - size // 2, (side - size) // 2
    return faces[:, :, top : top + size, left : left + size]


def expression_target(landmarks: np.ndarray) -> np.ndarray:
    """Shape of lips and jaw of the frames of one clip, without the person's own shape and the turning of the head.

    Each frame's stable points are laid on the template by an affine map, which takes up turning and nodding as far as
    a plane can; then the clip's median is taken off, and with it the person.
    landmarks: (T, 478, 2), pixels of anything.  Returns (T, P, 2) float32, in distances from eyes to mouth.
    """
    template = CropGeometry(size_px=1).template() / EYES_TO_MOUTH
    points = landmarks.astype(np.float64)
    ones = np.ones((*points.shape[:2], 1))
    stable = np.concatenate([points[:, STABLE_INDICES], ones[:, STABLE_INDICES]], -1)
    affine = np.linalg.pinv(stable) @ template  # (T, 3, 2)
    shape = np.concatenate([points[:, EXPRESSION_POINTS], ones[:, EXPRESSION_POINTS]], -1) @ affine
    return (shape - np.median(shape, 0)).astype(np.float32)


def mirrored_points(points: np.ndarray) -> np.ndarray:
    """What `expression_target` says of the faces left for right.  (…, P, 2) → (…, P, 2)."""
    return points[..., MIRRORED, :] * np.array([-1, 1], np.float32)
