"""How sure the peak is: an interval by block bootstrap over time, and the odds that chance made the peak.

Neighbouring frames say nearly the same thing, so time is resampled in blocks of about a second of usable
frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from lipsync_cli.sync.curve import masked_mean, peak_leads_ms
from lipsync_cli.sync.similarity import Band

LOBE_MS = 120.0  # leads this close to the peak belong to it; what lies outside is the background
MIN_BLOCKS = 8  # fewer say too little about their own spread
SHORTEST_BLOCK_S = 0.4  # shorter ones are no longer independent: about two syllables
NEAR_MS = 40.0  # replicates this close to the estimate agree with it: one frame of the 25 Hz grid


@dataclass(frozen=True, eq=False)
class Blocks:
    """Similarities summed over consecutive blocks of usable frames. sums, counts: (B, L) float64."""

    sums: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Spread:
    """What resampling says.

    low_ms, high_ms: the interval of the lead.  agreement: share of replicates within a frame of the estimate,
    0..1.
    score_error: standard error of max - median of the curve.
    """

    low_ms: float
    high_ms: float
    agreement: float
    score_error: float


def time_blocks(band: Band, block_s: float) -> Blocks:
    """Cut the frames that have any valid pair into blocks of block_s seconds; a rest joins the last block.

    A clip too short for MIN_BLOCKS of them gets shorter blocks, down to SHORTEST_BLOCK_S.
    """
    usable = band.values[np.isfinite(band.values).any(axis=1)]
    usable_s = len(usable) / float(band.frame_rate)
    length_s = min(block_s, max(SHORTEST_BLOCK_S, usable_s / MIN_BLOCKS))
    length = max(1, round(length_s * float(band.frame_rate)))
    starts = np.arange(max(1, len(usable) // length)) * length
    if len(usable) == 0:
        return Blocks(np.zeros((0, len(band.leads_ms))), np.zeros((0, len(band.leads_ms))))
    valid = np.isfinite(usable)
    sums = np.add.reduceat(np.where(valid, usable, 0), starts, axis=0, dtype=np.float64)
    return Blocks(sums, np.add.reduceat(valid, starts, axis=0, dtype=np.float64))


def bootstrap(
    blocks: Blocks, leads_ms: np.ndarray, *, half_width_ms: float, replicates: int, level: float, seed: int
) -> Spread:
    """Resample whole blocks and see where the peak goes.

    The percentile interval is stretched about the estimate from the normal to Student's t and by sqrt(B / (B
    - 1)), because few blocks know their own spread badly. Fewer than two blocks give the whole range of
    leads.
    """
    count = len(blocks.sums)
    if count < 2:
        return Spread(float(leads_ms[0]), float(leads_ms[-1]), 0.0, float("inf"))
    draws = (
        np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), replicates).astype(float)
    )
    curves = masked_mean(draws @ blocks.sums, draws @ blocks.counts)
    whole = masked_mean(blocks.sums.sum(axis=0), blocks.counts.sum(axis=0))
    estimate = float(peak_leads_ms(leads_ms, whole, half_width_ms))
    away_ms = peak_leads_ms(leads_ms, curves, half_width_ms) - estimate
    tail = (1 - level) / 2
    few = np.sqrt(count / (count - 1))
    stretch = stats.t.ppf(1 - tail, count - 1) / stats.norm.ppf(1 - tail) * few
    low, high = np.quantile(away_ms, [tail, 1 - tail]) * stretch
    scores = np.nanmax(curves, axis=1) - np.nanmedian(curves, axis=1)
    return Spread(
        low_ms=max(estimate + min(low, 0.0), float(leads_ms[0])),
        high_ms=min(estimate + max(high, 0.0), float(leads_ms[-1])),
        agreement=float(np.mean(np.abs(away_ms) <= NEAR_MS)),
        score_error=float(scores.std() * few),
    )


def peak_score(curve: np.ndarray) -> float:
    """max - median of a curve of cosines: LSE-C (median - min of distances) turned over. 0: all unknown."""
    known = curve[np.isfinite(curve)]
    return float(known.max() - np.median(known)) if len(known) else 0.0


def chance_of_peak(blocks: Blocks, leads_ms: np.ndarray) -> float:
    """Probability, 0..1, that unrelated lips and sound show a peak this clear somewhere in the range.

    Two tests, each paying for having looked at every lead (Bonferroni): does the peak stand above the
    background in block after block, and does it stand above the ripples of the background curve? The first
    gets its power from long clips, the second from short ones; the smaller value counts, doubled because
    there were two.
    """
    curve = masked_mean(blocks.sums.sum(axis=0), blocks.counts.sum(axis=0))
    if not np.isfinite(curve).any():
        return 1.0
    top = int(np.nanargmax(curve))
    outside = (np.abs(leads_ms - leads_ms[top]) > LOBE_MS) & np.isfinite(curve)
    if outside.sum() < 3:
        return 1.0
    looks = int(np.isfinite(curve).sum())
    over_time = looks * _block_test(blocks, top, outside)
    over_leads = looks * _ripple_test(curve, top, outside)
    return float(min(1.0, 2 * min(over_time, over_leads)))


def _block_test(blocks: Blocks, top: int, outside: np.ndarray) -> float:
    """One-sided t test over blocks: similarity at the peak against the mean background."""
    background = blocks.counts[:, outside].sum(axis=1)
    weight = blocks.counts[:, top] * (background > 0)
    used = weight > 0
    if used.sum() < 3:
        return 1.0
    weight = weight[used]
    level = blocks.sums[used][:, outside].sum(axis=1) / background[used]
    contrast = blocks.sums[used, top] / weight - level
    mean = np.average(contrast, weights=weight)
    count = len(weight)
    error = np.sqrt(np.sum((weight * (contrast - mean)) ** 2) * count / (count - 1)) / weight.sum()
    return float(stats.t.sf(mean / max(error, 1e-12), count - 1))


def _ripple_test(curve: np.ndarray, top: int, outside: np.ndarray) -> float:
    """One-sided t test: the peak against the background curve, counting its independent ripples."""
    background = curve[outside] - curve[outside].mean()
    spread = background.std(ddof=1)
    if spread < 1e-12:
        return 1.0 if curve[top] - curve[outside].mean() < 1e-12 else 0.0
    # A Gaussian autocorrelation with this value at one step has this many steps per independent value.
    neighbour = np.clip(np.mean(background[1:] * background[:-1]) / background.var(), 1e-3, 0.9999)
    ripple_steps = max(1.0, np.sqrt(2 * np.pi * -0.5 / np.log(neighbour)))
    independent = len(background) / ripple_steps
    height = (curve[top] - curve[outside].mean()) / spread
    return float(stats.t.sf(height, max(independent - 1, 1.0)))
