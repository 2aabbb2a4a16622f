"""Reasons not to trust an answer. An empty list means trust."""

from __future__ import annotations

from dataclasses import dataclass

VARIES = "the lead changes over the clip, so that no one number fits"
NO_MATCH = "the sound matches this mouth no better than chance (voice-over, someone off screen, another face)"


@dataclass(frozen=True)
class Thresholds:
    """Where each reason begins. Shares are of the frames looked at, 0..1; cosines depend on the network."""

    silent_share: float = 0.95  # more of the sound than this is silence
    speech_share: float = 0.1  # less of the sound than this is speech
    music_share: float = 0.5  # more of the sound than this is music
    mouth_motion: float = 0.01  # lip opening varies by less than this (standard deviation, in mouth widths)
    profile_share: float = 0.5  # the face is turned away in more of the picture than this
    usable_s: float = 2.0  # less picture and sound than this can be compared
    score: float = 0.02  # the peak rises less than this above the curve's median (cosine)
    confidence: float = 0.6  # the peak is less likely than this to be the right one
    rival_share: float = 0.85  # another peak reaches this share of the best one's height
    agreement: float = 0.8  # fewer resampled clips than this peak within a frame of the answer
    edge_ms: float = 40.0  # the peak is this close to an end of the range
    interval_ms: float = 120.0  # the interval is wider than this, low to high


@dataclass(frozen=True)
class Evidence:
    """What is known about one clip and its curve; None = not looked at, and then never a reason.

    The first five come from the caller (sound, landmarks), the rest from the curve.
    mouth_motion: standard deviation of lip opening, in mouth widths.  usable_s: seconds of picture with sound
    to compare.  score: max - median of the curve.  confidence: see `confidence.confidence`.  rival_share:
    height of the next best peak over that of the best, above the median.  agreement: see `confidence.Spread`.
    edge_ms: distance of the peak from the nearest end of the range.  interval_ms: width of the interval.
    """

    silent_share: float | None = None
    speech_share: float | None = None
    music_share: float | None = None
    mouth_motion: float | None = None
    profile_share: float | None = None
    usable_s: float | None = None
    score: float | None = None
    confidence: float | None = None
    rival_share: float | None = None
    agreement: float | None = None
    edge_ms: float | None = None
    interval_ms: float | None = None


@dataclass(frozen=True)
class Reason:
    """code: stable, for scripts.  words: for people."""

    code: str
    words: str


def reasons_to_doubt(evidence: Evidence, limits: Thresholds) -> tuple[Reason, ...]:
    """Every reason that applies, those about the clip first, those about the curve after."""
    seconds = f"{evidence.usable_s or 0:.1f} s"
    clip = [
        (_above(evidence.silent_share, limits.silent_share), "silence", "the sound is silent"),
        (_below(evidence.speech_share, limits.speech_share), "no-speech", "there is hardly any speech"),
        (_above(evidence.music_share, limits.music_share), "music", "most of the sound is music"),
        (_below(evidence.mouth_motion, limits.mouth_motion), "still-mouth", "the mouth hardly moves"),
        (_above(evidence.profile_share, limits.profile_share), "profile", "the face is seen from the side"),
        (
            _below(evidence.usable_s, limits.usable_s),
            "too-short",
            f"only {seconds} of face and sound to compare",
        ),
    ]
    rivals = _above(evidence.rival_share, limits.rival_share) or _below(evidence.agreement, limits.agreement)
    curve = [
        (_below(evidence.confidence, limits.confidence), "no-match", NO_MATCH),
        (_below(evidence.score, limits.score), "flat-curve", "every lead fits nearly equally well"),
        (rivals, "several-peaks", "several leads fit about equally well, as with a steady rhythm"),
        (
            _below(evidence.edge_ms, limits.edge_ms),
            "edge",
            "the best lead is at the end of the range searched",
        ),
        (_above(evidence.interval_ms, limits.interval_ms), "wide-interval", "the lead is known too roughly"),
    ]
    return tuple(Reason(code, words) for applies, code, words in clip + curve if applies)


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit
