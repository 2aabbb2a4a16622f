"""The reconstruction losses of the editor (§3.1.3).

Shapes: N frames; latents (N, C, h, w); pictures (N, 3, H, W), −1…1; masks (N, 1, H, W) or (N, 1, h, w), 0…1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from lipsync_cli.networks.flashlips.features import FeatureNetwork


@dataclass(frozen=True)
class EditorLossConfig:
    """Weights of eq. 9.  min_lips: τ_lips, the share of the picture that a lips mask must cover to count; the paper gives
    no value.
    """

    latent: float = 0.1
    latent_mouth: float = 0.1
    pixel_mouth: float = 10.0
    pixel_lips: float = 100.0
    features: float = 50.0
    face_features: float = 5.0
    min_lips: float = 0.001


class Edited(NamedTuple):
    """What is compared.  z, x: predicted latents and pictures; z_true, x_true: what they should be.

    mouth, lips: M and M_lips of eq. 5 and 6, in pixels.
    """

    z: Tensor
    z_true: Tensor
    x: Tensor
    x_true: Tensor
    mouth: Tensor
    lips: Tensor


def editor_losses(
    edited: Edited,
    config: EditorLossConfig,
    features: FeatureNetwork | None = None,
    face_features: FeatureNetwork | None = None,
) -> dict[str, Tensor]:
    """Eq. 4 to 9: every loss by the name of its weight, unweighted, and "loss".

    features, face_features: VGG-19 (φ) and a network trained on faces (ψ); without one its loss is left out.
    """
    delta = edited.z - edited.z_true  # ẑ_target − z_target: the masked latent is in both
    # Pictures count from 0 to 1 (§A.1), the autoencoder's from −1 to 1.
    error = (edited.x - edited.x_true) / 2
    stride = edited.x.shape[-1] // edited.z.shape[-1]
    terms = {
        "latent": delta.abs().mean(),
        "latent_mouth": masked_mae(delta, F.avg_pool2d(edited.mouth, stride)).mean(),
        "pixel_mouth": masked_mae(error, edited.mouth).mean(),
        "pixel_lips": lips_loss(error, edited.lips, config.min_lips),
    }
    if features is not None:
        terms["features"] = feature_loss(features, edited.x, edited.x_true)
    if face_features is not None:
        terms["face_features"] = feature_loss(face_features, edited.x, edited.x_true)
    total = sum((getattr(config, name) * value for name, value in terms.items()), delta.new_zeros(()))
    return {"loss": total, **terms}


def masked_mae(difference: Tensor, mask: Tensor) -> Tensor:
    """MAE_w of each frame: Σ|w ⊙ A| over the number of values where w is not 0; 0 where it is 0 everywhere.

    difference: (N, C, H, W).  mask: (N, 1, H, W).  Returns (N,).
    """
    support = (mask > 0).sum((1, 2, 3)) * difference.shape[1]
    return (mask * difference).abs().sum((1, 2, 3)) / support.clamp_min(1)


def lips_loss(error: Tensor, lips: Tensor, min_share: float) -> Tensor:
    """Eq. 6, mean over frames; one whose lips cover less than `min_share` of the picture counts as 0."""
    found = (lips > 0).float().mean((1, 2, 3)) >= min_share
    return (found * masked_mae(error, lips)).mean()


def feature_loss(network: FeatureNetwork, x: Tensor, x_true: Tensor) -> Tensor:
    """Eq. 7 and 8: mean absolute difference of the features of every layer, summed over layers."""
    pairs = zip(network(x), network(x_true), strict=True)
    return sum(((a - b).abs().mean() for a, b in pairs), x.new_zeros(()))
