"""How far a picture is from what it should be: PSNR and SSIM. Numbers only.

Shapes: N pictures, H × W pixels, C channels, values 0…255.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

PEAK = 255.0
WINDOW_PX, SIGMA_PX = 11, 1.5  # of SSIM's Gaussian window (Wang et al. 2004, §III.B)
K1, K2 = 0.01, 0.03


def psnr_db(pictures: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Peak signal to noise of each picture: (N, H, W, C) twice → (N,) dB, infinite where they are equal."""
    error = np.square(pictures.astype(np.float64) - truth.astype(np.float64)).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 / error)


def ssim(pictures: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity of each picture, 1 for equal ones: (N, H, W, C) twice, H and W ≥ 11 → (N,).

    Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13, per channel, means over the windows that lie within the picture.
    """
    x, y = pictures.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    spread_x = _windowed(x * x) - mean_x**2
    spread_y = _windowed(y * y) - mean_y**2
    common = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    score = (2 * mean_x * mean_y + c1) * (2 * common + c2)
    score /= (mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2)
    return score.mean((1, 2, 3))


def _windowed(values: np.ndarray) -> np.ndarray:
    """Gaussian means over every window that lies within the picture."""
    place = np.arange(WINDOW_PX) - WINDOW_PX // 2
    weights = np.exp(-0.5 * (place / SIGMA_PX) ** 2)
    weights /= weights.sum()
    inner = slice(WINDOW_PX // 2, -(WINDOW_PX // 2))
    return correlate1d(correlate1d(values, weights, 1), weights, 2)[:, inner, inner]
