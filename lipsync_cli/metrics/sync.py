"""Lip-sync metrics: lag accuracy per frame and per clip, R-precision, LSE-C and LSE-D (SyncLipMAE §5).

The published text calls K the tolerance, yet its tables use K as the smoothing window (1, 5, 15 frames): the
mean |lag error| varies with K there, which no tolerance could do. Here K smooths; the tolerance is ±1 frame
and the range ±15 frames.

Chance over 31 candidates, with the true lag at least one candidate from the ends: accuracy 3/31 = 9.68 %;
mean |lag error| 240/31 = 7.74 frames when the true lag is 0. R-precision@k with a pool of P: k/P.

Shapes: T frames, C candidate lags, N queries, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class LagScores:
    """One smoothing window's row of the table.

    accuracy_percent, mean_error_frames: over all frames.  clip_accuracy_percent, clip_mean_error_frames: mean
    per clip, then over clips.  frames, clips: how many were counted.  NaN where nothing was.
    """

    window_frames: int
    accuracy_percent: float
    mean_error_frames: float
    clip_accuracy_percent: float
    clip_mean_error_frames: float
    frames: int
    clips: int


def frame_lag_scores(
    similarities: Sequence[np.ndarray],
    true_lags_frames: Sequence[int],
    window_frames: int,
    max_lag_frames: int = MAX_LAG_FRAMES,
) -> LagScores:
    """Smooth, take the best candidate at every frame, compare with the truth.

    similarities: one (T, 2 max_lag + 1) array per clip, larger = more alike, column c is lag c - max_lag in
    frames, NaN for shifts beyond the clip.  true_lags_frames: one per clip, same sign as the columns.
    Only frames at which every candidate is valid count: with fewer to choose from, chance would do better
    than stated above. A clip of no more than 2 max_lag frames therefore counts nowhere.
    Raises: ValueError when a clip has another number of columns.
    """
    errors = []
    for values, true_lag in zip(similarities, true_lags_frames, strict=True):
        if values.shape[1] != 2 * max_lag_frames + 1:
            raise ValueError(f"expected {2 * max_lag_frames + 1} candidate lags, got {values.shape[1]}")
        complete = np.isfinite(values).all(axis=1)
        smooth = smooth_over_time(values, window_frames)[complete]
        if len(smooth):
            errors.append(np.abs(smooth.argmax(axis=1) - max_lag_frames - true_lag))
    if not errors:
        return LagScores(window_frames, *[float("nan")] * 4, frames=0, clips=0)
    every = np.concatenate(errors)
    return LagScores(
        window_frames=window_frames,
        accuracy_percent=100 * float(np.mean(every <= TOLERANCE_FRAMES)),
        mean_error_frames=float(every.mean()),
        clip_accuracy_percent=100 * float(np.mean([np.mean(clip <= TOLERANCE_FRAMES) for clip in errors])),
        clip_mean_error_frames=float(np.mean([clip.mean() for clip in errors])),
        frames=len(every),
        clips=len(errors),
    )


@dataclass(frozen=True)
class ClipScores:
    """One answer per clip: accuracy_percent within ±1 frame, mean_error_frames, clips counted."""

    accuracy_percent: float
    mean_error_frames: float
    clips: int


def clip_lag_scores(
    similarities: Sequence[np.ndarray], true_lags_frames: Sequence[int], max_lag_frames: int = MAX_LAG_FRAMES
) -> ClipScores:
    """The lag whose masked mean over the whole clip is best (§4.1), against the truth. Inputs as above."""
    errors = []
    for values, true_lag in zip(similarities, true_lags_frames, strict=True):
        valid = np.isfinite(values)
        counts = valid.sum(axis=0)
        if counts.any():
            means = np.where(
                counts > 0, np.where(valid, values, 0).sum(axis=0) / np.maximum(counts, 1), -np.inf
            )
            errors.append(abs(int(means.argmax()) - max_lag_frames - true_lag))
    if not errors:
        return ClipScores(float("nan"), float("nan"), 0)
    accuracy = 100 * float(np.mean(np.array(errors) <= TOLERANCE_FRAMES))
    return ClipScores(accuracy, float(np.mean(errors)), len(errors))


@dataclass(frozen=True)
class RPrecision:
    """Share of sounds, in percent, whose own frame is among the best 1, 2, 3 of the pool.

    queries: how many sounds were asked.
    """

    at_1: float
    at_2: float
    at_3: float
    queries: int


def r_precision_same_clip(
    vocals: Sequence[np.ndarray],
    audios: Sequence[np.ndarray],
    *,
    pool: int = 32,
    exclude_frames: int = 0,
    seed: int = 0,
) -> RPrecision:
    """Each sound against its own frame and pool - 1 others drawn, without repeats, from the same clip.

    vocals, audios: one (T, D) pair per clip, unit norm, in sync, at the same rate.  exclude_frames:
    distractors keep more than this many frames away from the true one; frames with too few others to draw
    from are not asked.
    """
    rng = np.random.default_rng(seed)
    ranks = []
    for vocal, audio in zip(vocals, audios, strict=True):
        frames = np.arange(len(vocal))
        for query in range(len(audio)):
            others = frames[np.abs(frames - query) > exclude_frames]
            if len(others) >= pool - 1:
                drawn = vocal[rng.choice(others, pool - 1, replace=False)]
                ranks.append(_rank(audio[query], vocal[query], drawn))
    return _r_precision(ranks)


def r_precision_cross_clip(
    vocals: Sequence[np.ndarray], audios: Sequence[np.ndarray], *, pool: int = 32, seed: int = 0
) -> RPrecision:
    """Each sound against its own frame and pool - 1 frames of other clips.

    Inputs as above. Clips are drawn evenly and with repeats, so that two clips are enough.
    """
    rng = np.random.default_rng(seed)
    ranks = []
    for clip, (vocal, audio) in enumerate(zip(vocals, audios, strict=True)):
        others = [index for index, other in enumerate(vocals) if index != clip and len(other)]
        for query in range(len(audio) if others else 0):
            sources = rng.choice(others, pool - 1)
            drawn = np.stack([vocals[source][rng.integers(len(vocals[source]))] for source in sources])
            ranks.append(_rank(audio[query], vocal[query], drawn))
    return _r_precision(ranks)


def _rank(audio: np.ndarray, true: np.ndarray, distractors: np.ndarray) -> int:
    """1 is best. A tie counts against us: embeddings that are all alike must not score."""
    return 1 + int(np.sum(distractors @ audio >= true @ audio))


def _r_precision(ranks: list[int]) -> RPrecision:
    if not ranks:
        return RPrecision(float("nan"), float("nan"), float("nan"), 0)
    shares = [100 * float(np.mean(np.array(ranks) <= k)) for k in (1, 2, 3)]
    return RPrecision(*shares, queries=len(ranks))


@dataclass(frozen=True)
class LSE:
    """Lip-sync error of a clip. Blind to a constant lag: always report |lag| beside it.

    confidence: LSE-C, median - min of the distance curve, larger is better.  distance: LSE-D, its min.
    """

    confidence: float
    distance: float


def lip_sync_error(distance_curve: np.ndarray) -> LSE:
    """LSE-C and LSE-D of one clip. distance_curve: (C,) mean distance at every lag, NaN ignored.

    Distances, not similarities: L2 of unnormalised 1024-vectors for SyncNet's well-known figures. Figures
    from different networks cannot be compared.
    """
    least = float(np.nanmin(distance_curve))
    return LSE(float(np.nanmedian(distance_curve)) - least, least)
