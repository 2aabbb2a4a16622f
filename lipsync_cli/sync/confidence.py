"""How sure the peak is: an interval by block bootstrap over time, and the odds that it is the right one.

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
# Level, weight of prominence and weight of the log odds of agreement: fitted with synclipmae-tiny to clips of 3, 6 and
# 12 s of one GRID speaker with their own sound, and with another clip's.  On two other speakers, answers of confidence
# 0.6-0.8, 0.8-0.9, 0.9-0.97 and more were right in 9 of 11, 12 of 13, 15 of 16 and 29 of 29 cases, and none of 148
# answers for another clip's sound that were wrong reached 0.6.
CONFIDENCE = (-10.64, 1.757, 0.694)
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
    seen = np.isfinite(band.values).any(axis=1)
    usable = band.values if seen.all() else band.values[seen]
    usable_s = len(usable) / float(band.frame_rate)
    length_s = min(block_s, max(SHORTEST_BLOCK_S, usable_s / MIN_BLOCKS))
    length = max(1, round(length_s * float(band.frame_rate)))
    starts = np.arange(max(1, len(usable) // length)) * length if len(usable) else np.zeros(0, int)
    sums, counts = np.zeros((2, len(starts), len(band.leads_ms)))
    for block, rows in enumerate(np.split(usable, starts[1:])[: len(starts)]):  # no copy of an hour's band
        valid = np.isfinite(rows)
        sums[block] = np.sum(rows, axis=0, where=valid, dtype=np.float64)
        counts[block] = valid.sum(axis=0)
    return Blocks(sums, counts)


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


def prominence(leads_ms: np.ndarray, curve: np.ndarray) -> float:
    """Height of the peak above the rest of the curve, in standard deviations of the rest; 0 when there is no rest."""
    if not np.isfinite(curve).any():
        return 0.0
    top = int(np.nanargmax(curve))
    rest = curve[(np.abs(leads_ms - leads_ms[top]) > LOBE_MS) & np.isfinite(curve)]
    if len(rest) < 3:
        return 0.0
    spread = rest.std()
    return float((curve[top] - rest.mean()) / spread) if spread > 1e-9 else 0.0


def confidence(height: float, agreement: float) -> float:
    """Probability, 0..1, that the true lead is within a frame or so of the peak.

    height: `prominence`.  agreement: of `Spread`.  A logistic regression; see CONFIDENCE.
    """
    doubt = np.log((1.02 - agreement) / (agreement + 0.02))  # kept finite at the ends
    level, per_height, per_agreement = CONFIDENCE
    return float(1 / (1 + np.exp(-(level + per_height * height - per_agreement * doubt))))
