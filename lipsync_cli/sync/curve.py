"""From similarities to a lag curve, and from the curve to its peak between the grid points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipsync_cli.metrics.sync import smooth_over_time
from lipsync_cli.sync.similarity import Band

MIN_SHARE = 0.5  # a lead is a candidate when at least this share of the best-covered lead's frames support it


@dataclass(frozen=True, eq=False)
class LagCurve:
    """Mean similarity at every candidate lead.

    leads_ms: (L,) ascending.  values: (L,) float64, NaN where too few frames support
    the lead.  counts: (L,) frames.
    """

    leads_ms: np.ndarray
    values: np.ndarray
    counts: np.ndarray


def lag_curve(band: Band) -> LagCurve:
    """The masked mean over time (SyncLipMAE §4.1, S(Δ))."""
    valid = np.isfinite(band.values)
    counts = valid.sum(axis=0)
    sums = np.where(valid, band.values, 0).sum(axis=0, dtype=np.float64)
    return LagCurve(band.leads_ms, masked_mean(sums, counts), counts)


def masked_mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """sums / counts over the last axis of leads, NaN where a lead has too few frames to compete. (..., L)."""
    enough = (counts > 0) & (counts >= MIN_SHARE * counts.max(axis=-1, keepdims=True, initial=0))
    return np.where(enough, sums / np.maximum(counts, 1), np.nan)


def peak_leads_ms(leads_ms: np.ndarray, curves: np.ndarray, half_width_ms: float = 30.0) -> np.ndarray:
    """The lead at which each curve peaks, finer than the grid.

    curves: (..., L) → (...,), NaN for an all-NaN curve.
    A parabola is fitted by least squares to the points within half_width_ms of the highest (at least three
    points: with exactly three it is the usual vertex formula). The vertex never leaves the fitted points, and
    where there is no downward parabola to fit, at the ends of the range, the highest point is the answer.
    """
    flat = curves.reshape(-1, curves.shape[-1])
    filled = np.where(np.isnan(flat), -np.inf, flat)
    top = filled.argmax(axis=1)
    step_ms = leads_ms[1] - leads_ms[0]
    reach = min(max(1, round(half_width_ms / step_ms)), (len(leads_ms) - 1) // 2)
    offsets = np.arange(-reach, reach + 1)
    inside = np.clip(top[:, None] + offsets, 0, len(leads_ms) - 1)
    points = np.take_along_axis(flat, inside, axis=1)  # (R, 2 reach + 1)
    curvature, slope, _ = np.linalg.pinv(np.vander(offsets, 3)) @ points.T
    complete = (top >= reach) & (top < len(leads_ms) - reach) & np.isfinite(curvature) & (curvature < 0)
    vertex = np.zeros(len(flat))
    np.divide(-slope, 2 * curvature, out=vertex, where=complete)
    leads = leads_ms[top] + np.clip(vertex, -reach, reach) * step_ms
    return np.where(np.isfinite(flat).any(axis=1), leads, np.nan).reshape(curves.shape[:-1])


def frame_leads_ms(band: Band, window_frames: int) -> np.ndarray:
    """The lead seen at each frame after a centred moving average of 1, 5, 15… frames. (T,), NaN: none."""
    return peak_leads_ms(band.leads_ms, smooth_over_time(band.values, window_frames))
