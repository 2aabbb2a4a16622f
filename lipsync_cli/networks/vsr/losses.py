"""What a lip reader learns from: hybrid CTC/attention loss (SyncLipMAE §4.3), time masks (Auto-AVSR §3).

Shapes: B clips, T frames, U units of a transcript, V units known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, ctc_loss, nll_loss

from lipsync_cli.networks.vsr.model import BLANK, LipReader

NO_UNIT = -1  # pads targets


@dataclass(frozen=True)
class LipReadingBatch:
    """inputs: (B, T, 1, H, W) normalised grey crops or (B, T, token_width); lengths: (B,) frames of each
    clip; targets: (B, U) units, padded with NO_UNIT; target_lengths: (B,); said: (B, T) the unit being said in
    each frame, BLANK between words, NO_UNIT where unknown and past the end, or None."""

    inputs: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    said: torch.Tensor | None = None


def hybrid_loss(
    reader: LipReader,
    batch: LipReadingBatch,
    ctc_weight: float = 0.1,
    label_smoothing: float = 0.1,
    timing_weight: float = 0.0,
) -> dict[str, torch.Tensor]:
    """L = λ L_CTC + (1 − λ) L_DEC (§4.3), nats a clip, averaged over the clips.

    label_smoothing: probability spread over the wrong units in L_DEC (Auto-AVSR).
    timing_weight: of `timing_loss`, added where it is known when words are said. # differs from the paper, which
    has no such term.
    Returns scalars: `loss`; `ctc`, `decoder`, `timing`, its parts; `accuracy`, the share of next units that the
    decoder gets right after the true ones; `too_short`, the share of clips with too few frames for their
    transcript, whose CTC loss is left out.
    """
    end = reader.end
    previous, following = shift_targets(batch.targets, batch.target_lengths, end)
    log_probs, logits = reader(batch.inputs, batch.lengths, previous)
    ctc = ctc_loss(
        log_probs.transpose(0, 1),
        batch.targets.clamp(min=0),
        batch.lengths,
        batch.target_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    ).mean()
    # torch spreads the smoothing over all V units, Auto-AVSR over the V − 1 wrong ones.
    smoothing = label_smoothing * logits.shape[-1] / (logits.shape[-1] - 1)
    decoder = cross_entropy(
        logits.flatten(0, 1).float(),
        following.flatten(),
        ignore_index=NO_UNIT,
        label_smoothing=smoothing,
        reduction="sum",
    ) / len(following)
    written = following != NO_UNIT
    right = (logits.argmax(dim=-1) == following) & written
    timing = log_probs.new_zeros(())
    if timing_weight and batch.said is not None:
        timing = timing_loss(log_probs, batch.said)
    return {
        "loss": ctc_weight * ctc + (1 - ctc_weight) * decoder + timing_weight * timing,
        "timing": timing.detach(),
        "ctc": ctc.detach(),
        "decoder": decoder.detach(),
        "accuracy": right.sum() / written.sum(),
        "too_short": too_short(batch).float().mean(),
    }


def timing_loss(log_probs: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the CTC head against the unit said in each frame, nats a clip.

    It makes CTC emit a word for as long as the word lasts, so that its spans are the word's times, and it teaches
    far faster than CTC, which must first find out when anything is said.
    log_probs: (B, T, V); said: (B, T), NO_UNIT where unknown.
    """
    frames = nll_loss(log_probs.flatten(0, 1), said.flatten(), ignore_index=NO_UNIT, reduction="sum")
    return frames / len(said)


def too_short(batch: LipReadingBatch) -> torch.Tensor:
    """Which clips have fewer frames than CTC needs: one a unit and one between equal units. (B,) bool."""
    later = batch.targets[:, 1:]
    repeats = ((later == batch.targets[:, :-1]) & (later != NO_UNIT)).sum(dim=1)
    return batch.lengths < batch.target_lengths + repeats


def shift_targets(
    targets: torch.Tensor, target_lengths: torch.Tensor, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder is given, start and units, and what it must answer, units and end: each (B, U + 1)."""
    written = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    edge = targets.new_full((len(targets), 1), end)
    previous = torch.cat([edge, targets.where(written, end)], dim=1)
    following = torch.cat([targets.where(written, NO_UNIT), torch.full_like(edge, NO_UNIT)], dim=1)
    return previous, following.scatter(1, target_lengths[:, None], end)


def mask_time(
    inputs: torch.Tensor,
    lengths: torch.Tensor,
    window_frames: int = 10,
    stride_frames: int = 25,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Zero one stretch of 0…window_frames − 1 frames for every stride_frames begun, anywhere in each clip.

    inputs: (B, T, …). For normalised crops zero is the mean grey. # differs from Auto-AVSR, which masks with
    black and bounds the start by another length than the one it masks.
    """
    masked = inputs.clone()
    for clip, length in zip(masked, lengths.tolist(), strict=True):
        for _ in range(-(-length // stride_frames)):
            size = min(int(torch.randint(window_frames, (), generator=generator)), length)
            start = int(torch.randint(length - size + 1, (), generator=generator))
            clip[start : start + size] = 0
    return masked
