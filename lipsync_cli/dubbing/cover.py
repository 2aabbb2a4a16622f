"""Whether something lies over the mouth: a microphone, a cup, a hand.

Landmarks do not tell: the mesh is as sure of a mouth that it only guesses. What tells is skin around the mouth that
suddenly has another colour than it has in the rest of the shot. A cover that is there all the time, or is of the
skin's own colour, is not noticed.
"""

from __future__ import annotations

import cv2
import numpy as np

from lipsync_cli.faces.align import CropGeometry

GEOMETRY = CropGeometry(32)  # of the crops that are looked at
NUM_SITES = 6
# Beside the mouth, below its corners, on the chin, under the nose; in sides of the crop.
_SITES = np.array([(0.27, 0.66), (0.73, 0.66), (0.34, 0.80), (0.66, 0.80), (0.5, 0.86), (0.5, 0.57)])
_LIGHT = np.array([(0.5, 0.40), (0.32, 0.46), (0.68, 0.46)])  # bridge of the nose and cheeks tell the light
_DARK = 12.0  # of 255, added to all: ratios of dark colours are noise
# Over 8 clips the colours wander by 0.01 to 0.1 from their median; in none of them two sites at once by this much.
_ODD, _ODD_SPREADS = 0.30, 6.0
_MIN_ODD_SITES = 2
_REACH = 2  # pictures around a covered one that count as covered


def skin_colours(crop: np.ndarray) -> np.ndarray:
    """Colours around the mouth against those of the upper face, logarithms of ratios.  (S, S, 3) uint8 → (6, 3) float32."""
    smooth = cv2.blur(crop, (3, 3)).astype(np.float32)
    side = crop.shape[0]

    def at(places: np.ndarray) -> np.ndarray:
        columns, rows = (places.T * side).astype(int)
        return smooth[rows, columns]

    return np.log((at(_SITES) + _DARK) / (at(_LIGHT).mean(0) + _DARK))


def covered(colours: np.ndarray) -> np.ndarray:
    """Which pictures of one shot show something over the mouth.  (n, 6, 3) → (n,) bool."""
    away = np.abs(colours - np.median(colours, axis=0))
    spread = np.median(away, axis=0).max(-1)
    odd = away.max(-1) > np.maximum(_ODD, _ODD_SPREADS * spread)
    found = odd.sum(1) >= _MIN_ODD_SITES
    near = np.convolve(found, np.ones(2 * _REACH + 1), "full") > 0
    return near[_REACH : _REACH + len(found)]
