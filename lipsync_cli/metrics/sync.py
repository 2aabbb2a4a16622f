"""Lip-sync metrics: lag accuracy per frame and per clip, R-precision, LSE-C and LSE-D (SyncLipMAE §5).

The published text calls K the tolerance, yet its tables use K as the smoothing window (1, 5, 15 frames): the
mean |lag error| varies with K there, which no tolerance could do. Here K smooths; the tolerance is ±1 frame
and the range ±15 frames.

Chance over 31 candidates, with the true lag at least one candidate from the ends: accuracy 3/31 = 9.68 %;
mean |lag error| 240/31 = 7.74 frames when the true lag is 0. R-precision@k with a pool of P: k/P.

Shapes: T frames, C candidate lags, N queries, D embedding.
"""

from __future__ import annotations

import numpy as np

TOLERANCE_FRAMES = 1
MAX_LAG_FRAMES = 15


def smooth_over_time(values: np.ndarray, window_frames: int) -> np.ndarray:
    """Centred moving average along the first axis over the finite entries of an odd window.

    NaN where there are none. At the ends the window is cut, not padded. values: (T, C) → (T, C).
    Raises: ValueError for an even or non-positive window.
    """
    if window_frames < 1 or window_frames % 2 == 0:
        raise ValueError(f"window_frames must be odd and positive, not {window_frames}")
    if window_frames == 1 or len(values) == 0:
        return values
    valid = np.isfinite(values)
    sums = _moving_sum(np.where(valid, values, 0), window_frames)
    counts = _moving_sum(valid, window_frames)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _moving_sum(values: np.ndarray, window_frames: int) -> np.ndarray:
    half = window_frames // 2
    total = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0, dtype=np.float64)])
    frames = np.arange(len(values))
    return total[np.minimum(frames + half + 1, len(values))] - total[np.maximum(frames - half, 0)]
