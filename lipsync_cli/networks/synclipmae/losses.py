"""The pretraining losses (§3.3).

Shapes: B clips, T frames, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def positive_pairs(audio_features: Tensor, neighbours: int, threshold: float) -> Tensor:
    """The positive set P_t of §3.3: the aligned index, its ±k neighbours, and moments that sound the same.

    audio_features: (B, T, F), what the speech encoder heard, not what is being learnt: a learnt similarity would call
    everything alike on the first step.  threshold: cosine similarity above which two moments count as alike (≥ 1: none).
    Returns (B, T, T) bool, symmetric, diagonal true.
    """
    t = audio_features.shape[1]
    index = torch.arange(t, device=audio_features.device)
    near = (index[:, None] - index[None]).abs() <= neighbours
    centred = audio_features - audio_features.mean((0, 1), keepdim=True)
    unit = torch.nn.functional.normalize(centred, dim=-1)
    return near | (unit @ unit.transpose(1, 2) > threshold)


def contrastive_loss(audio: Tensor, vocal: Tensor, positives: Tensor, temperature: Tensor | float) -> Tensor:
    """Symmetric InfoNCE over the frames of each clip with multiple positives: L_CL of §3.3, averaged over clips.

    The second sum is anchored at the lips as the first is at the sound: log Σ_{t∈P_s} p_{s→t}, with one denominator.
    # differs from the paper, whose subscripts (Σ_{s∈P_t} p_{s→t}) mix denominators unless P_t holds t alone

    audio, vocal: (B, T, D), unit norm.  positives: (B, T, T) bool, [t, s] true where s ∈ P_t.
    """
    # Half precision is too coarse for cosines divided by a small temperature, so autocast does not reach this product.
    with torch.autocast(audio.device.type, enabled=False):
        logits = audio.float() @ vocal.float().transpose(1, 2) / temperature
    hidden = ~positives
    forward = (logits.masked_fill(hidden, -torch.inf)).logsumexp(2) - logits.logsumexp(2)
    backward = (logits.masked_fill(hidden, -torch.inf)).logsumexp(1) - logits.logsumexp(1)
    return -0.5 * (forward + backward).mean()


def cross_covariance_loss(*factors: Tensor) -> Tensor:
    """Squared cross-covariance between every two factors over all frames of the batch: L_cov of §3.3.

    factors: each (n, D), n frames.  Returns Σ_{p<q} ‖Cov(z^p, z^q)‖²_F / D².
    """
    centred = [factor.float() - factor.float().mean(0) for factor in factors]
    total = centred[0].new_zeros(())
    for i, first in enumerate(centred):
        for second in centred[i + 1 :]:
            covariance = first.T @ second / max(1, len(first) - 1)
            total = total + covariance.square().sum() / first.shape[1] ** 2
    return total
