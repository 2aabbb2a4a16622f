"""Mirroring and colour, as in training (§A.1), drawn once for every picture of an example.

Shapes: n pictures (n, S, S, 3) float32 RGB, 0…1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class AugmentConfig:
    """§A.1's numbers.  flip, colour: how often.  brightness, contrast, saturation: the factor is drawn from 1 ± this, but
    not below 0.  hue: the turn is drawn from ± this, of a full one.
    """

    flip: float = 0.5
    colour: float = 0.9
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 3.2
    hue: float = 0.4


def colour_jitter(pictures: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """The pictures with one draw of brightness, contrast, saturation and hue, in a random order; or as they are."""
    if rng.random() >= config.colour:
        return pictures
    spans = (config.brightness, config.contrast, config.saturation)
    brightness, contrast, saturation = (rng.uniform(max(0.0, 1 - span), 1 + span) for span in spans)
    turn = rng.uniform(-config.hue, config.hue)
    changes = (
        lambda x: x * brightness,
        lambda x: mixed(x, (x @ GREY).mean((1, 2), keepdims=True)[..., None], contrast),
        lambda x: mixed(x, (x @ GREY)[..., None], saturation),
        lambda x: turned_hue(x, turn),
    )
    for number in rng.permutation(len(changes)):
        pictures = changes[number](pictures).clip(0, 1).astype(np.float32)
    return pictures


def mixed(pictures: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """`share` of the pictures and 1 − `share` of the other; above 1 away from it."""
    return other + share * (pictures - other)


def turned_hue(pictures: np.ndarray, turn: float) -> np.ndarray:
    """Every colour's hue moved round the circle.  turn: 0…1 of it, either way."""
    out = np.empty_like(pictures)
    for row, picture in zip(out, pictures, strict=True):
        hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * turn) % 360
        row[:] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return out
