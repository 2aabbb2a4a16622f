"""Whose voice is it? The face with the best score over ALL leads: sound out of sync finds its speaker too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot

from lipsync_cli.sync.estimate import LeadEstimate

# Reasons that rule a face out.
NOT_SPEAKING = frozenset({"no-match", "too-short", "still-mouth", "flat-curve"})
CLEAR_MARGIN = 2.0  # standard errors between the best and the second best, for the choice to be clear


@dataclass(frozen=True)
class SpeakerChoice:
    """track_id: of the speaking face, None = no decision.

    margin: score above the next face's (cosine), above 0 when there is no other.  margin_errors: the same in
    its standard errors.  clear: the margin is beyond doubt.
    """

    track_id: int | None
    margin: float = 0.0
    margin_errors: float = 0.0
    clear: bool = False


def choose_speaker(estimates: Mapping[int, LeadEstimate]) -> SpeakerChoice:
    """Choose among the faces of one shot or window, keyed by track id, all measured against the same sound.

    Only a face that matches the sound better than chance can be chosen; when none does, nobody is. A rival
    need not match to count against the margin.
    """
    ranked = sorted(estimates.items(), key=lambda item: item[1].score, reverse=True)
    speaking = [
        track_id
        for track_id, estimate in ranked
        if not NOT_SPEAKING & {reason.code for reason in estimate.reasons}
    ]
    if not speaking:
        return SpeakerChoice(None)
    chosen = estimates[speaking[0]]
    rivals = [estimate for track_id, estimate in ranked if track_id != speaking[0]]
    rival_score, rival_error = (rivals[0].score, rivals[0].score_error) if rivals else (0.0, 0.0)
    margin = chosen.score - rival_score
    margin_errors = margin / max(hypot(chosen.score_error, rival_error), 1e-9)
    return SpeakerChoice(speaking[0], margin, margin_errors, clear=margin_errors >= CLEAR_MARGIN)
