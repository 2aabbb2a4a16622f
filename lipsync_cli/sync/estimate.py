"""From embeddings to one honest answer: the lead, its interval, and every reason not to believe it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from scipy import stats
from scipy.signal import find_peaks

from lipsync_cli.sync.confidence import (
    LOBE_MS,
    Spread,
    bootstrap,
    confidence,
    peak_score,
    prominence,
    time_blocks,
)
from lipsync_cli.sync.curve import masked_mean, peak_leads_ms
from lipsync_cli.sync.reasons import Evidence, Reason, Thresholds, reasons_to_doubt
from lipsync_cli.sync.similarity import FRAME_RATE, Band, banded_similarity


@dataclass(frozen=True)
class LeadConfig:
    """How to measure.

    max_lead_ms: range searched, both ways.  half_width_ms: reach of the parabola at the peak.  block_s:
    seconds of usable frames that stand or fall together in resampling.  level: of the interval, 0..1.
    bias_ms, systematic_ms belong to a network and are found on clips known to be in sync: bias_ms is
    subtracted from every lead; systematic_ms, the standard deviation of the error that more footage of the
    same clip does not remove, widens the interval.
    """

    max_lead_ms: float = 600.0
    half_width_ms: float = 30.0
    block_s: float = 1.0
    replicates: int = 500
    level: float = 0.95
    seed: int = 0
    bias_ms: float = 0.0
    systematic_ms: float = 0.0
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, eq=False)
class LeadEstimate:
    """How far the sound is ahead of the lips.

    audio_lead_ms: > 0 is EARLY; the delay to apply to the sound; NaN when nothing could be compared.
    interval_low_ms, interval_high_ms: around it, at LeadConfig.level.
    confidence: 0..1, roughly the probability that the true lead is within one 25 Hz frame: the odds that the
        peak is no accident, times the share of resampled clips that agree.
    score: max - median of the curve (cosine).  score_error: its standard error.
    curve_leads_ms, curve: (L,) the lag curve, NaN where too few frames support a lead.
    reasons: empty = trust.  n_frames_used: video frames with anything to compare.
    """

    audio_lead_ms: float
    interval_low_ms: float
    interval_high_ms: float
    confidence: float
    score: float
    score_error: float
    curve_leads_ms: np.ndarray
    curve: np.ndarray
    reasons: tuple[Reason, ...]
    evidence: Evidence
    n_frames_used: int

    @property
    def trusted(self) -> bool:
        return not self.reasons


def estimate_lead(
    vocal: np.ndarray,
    audio: np.ndarray,
    *,
    audio_rate: Fraction,
    frame_rate: Fraction = FRAME_RATE,
    audio_start_s: Fraction = Fraction(0),
    vocal_valid: np.ndarray | None = None,
    audio_valid: np.ndarray | None = None,
    evidence: Evidence | None = None,
    config: LeadConfig | None = None,
) -> LeadEstimate:
    """Measure one face of one clip. Arrays and times as in `similarity.banded_similarity`.

    evidence: what the caller knows about the clip; the curve's own evidence is added to it.
    Raises: ValueError when shapes or rates disagree.
    """
    config = config or LeadConfig()
    band = banded_similarity(
        vocal,
        audio,
        audio_rate=audio_rate,
        frame_rate=frame_rate,
        audio_start_s=audio_start_s,
        max_lead_ms=config.max_lead_ms,
        vocal_valid=vocal_valid,
        audio_valid=audio_valid,
    )
    return estimate_from_band(band, evidence=evidence, config=config)


def estimate_from_band(
    band: Band, *, evidence: Evidence | None = None, config: LeadConfig | None = None
) -> LeadEstimate:
    """`estimate_lead` for similarities already at hand, such as one window of a programme."""
    config = config or LeadConfig()
    blocks = time_blocks(band, config.block_s)
    curve = masked_mean(blocks.sums.sum(axis=0), blocks.counts.sum(axis=0))
    lead_ms = float(peak_leads_ms(band.leads_ms, curve, config.half_width_ms))
    spread = _widen(
        bootstrap(
            blocks,
            band.leads_ms,
            half_width_ms=config.half_width_ms,
            replicates=config.replicates,
            level=config.level,
            seed=config.seed,
        ),
        lead_ms,
        config,
    )
    usable = int(np.isfinite(band.values).any(axis=1).sum())
    evidence = replace(evidence or Evidence(), usable_s=usable / float(band.frame_rate))
    if usable:
        evidence = _curve_evidence(evidence, band.leads_ms, curve, lead_ms, spread)
    return LeadEstimate(
        audio_lead_ms=lead_ms - config.bias_ms,
        interval_low_ms=spread.low_ms - config.bias_ms,
        interval_high_ms=spread.high_ms - config.bias_ms,
        confidence=evidence.confidence or 0.0,
        score=peak_score(curve),
        score_error=spread.score_error,
        curve_leads_ms=band.leads_ms - config.bias_ms,
        curve=curve,
        reasons=reasons_to_doubt(evidence, config.thresholds),
        evidence=evidence,
        n_frames_used=usable,
    )


def words(estimate: LeadEstimate, rate: Fraction) -> str:
    """One line for people. rate: Hz of the source picture, for saying the lead in its frames.

    In sync is said when the interval holds 0 or stays within half a frame of it.
    """
    if not estimate.trusted:
        return "cannot tell: " + "; ".join(reason.words for reason in estimate.reasons)
    low, high, lead = estimate.interval_low_ms, estimate.interval_high_ms, estimate.audio_lead_ms
    worst = max(abs(low), abs(high))
    frame_ms = 1000 / float(rate)
    if low <= 0 <= high or worst <= frame_ms / 2:
        return f"in sync within {worst:.0f} ms"
    side, remedy = ("EARLY", "delay") if lead > 0 else ("LATE", "advance")
    size, error, frames = abs(lead), (high - low) / 2, abs(lead) / frame_ms
    return (
        f"sound is {side} by {size:.0f} ms ± {error:.0f} ({frames:.1f} frames at {_rate_words(rate)}); "
        f"{remedy} it by {size:.0f} ms"
    )


def _rate_words(rate: Fraction) -> str:
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def _widen(spread: Spread, lead_ms: float, config: LeadConfig) -> Spread:
    """Add the error that more footage does not remove, in quadrature."""
    extra = config.systematic_ms * stats.norm.ppf((1 + config.level) / 2)
    below, above = np.hypot([lead_ms - spread.low_ms, spread.high_ms - lead_ms], extra)
    return replace(spread, low_ms=float(lead_ms - below), high_ms=float(lead_ms + above))


def _curve_evidence(
    evidence: Evidence, leads_ms: np.ndarray, curve: np.ndarray, lead_ms: float, spread: Spread
) -> Evidence:
    known = leads_ms[np.isfinite(curve)]
    return replace(
        evidence,
        score=peak_score(curve),
        confidence=confidence(prominence(leads_ms, curve), spread.agreement),
        rival_share=rival_share(leads_ms, curve),
        agreement=spread.agreement,
        edge_ms=float(min(lead_ms - known[0], known[-1] - lead_ms)),
        interval_ms=spread.high_ms - spread.low_ms,
    )


def rival_share(leads_ms: np.ndarray, curve: np.ndarray) -> float:
    """Height above the median of the best other peak, as a share of the best peak's; 0 without another.

    Another peak is a local maximum, the ends of the range included, outside the best peak's own lobe.
    """
    known = np.isfinite(curve)
    leads, heights = leads_ms[known], curve[known] - np.median(curve[known])
    top = int(heights.argmax())
    if heights[top] <= 0:
        return 1.0
    peaks, _ = find_peaks(np.concatenate([[-np.inf], heights, [-np.inf]]))
    rivals = heights[peaks - 1][np.abs(leads[peaks - 1] - leads[top]) > LOBE_MS]
    return float(max(rivals.max(initial=0.0) / heights[top], 0.0))
