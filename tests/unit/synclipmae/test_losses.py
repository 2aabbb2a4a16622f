"""The pretraining losses against loops in double precision."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lipsync_cli.networks.synclipmae.losses import contrastive_loss, cross_covariance_loss, positive_pairs

TEMPERATURE = 0.1


def tokens(seed: int, b: int = 2, t: int = 7, d: int = 5) -> torch.Tensor:
    return F.normalize(torch.randn(b, t, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def loop_contrastive(audio, vocal, positives, *, literal: bool = False) -> float:
    """§3.3 term by term. literal: the second sum with the paper's own subscripts."""
    b, t, _ = audio.shape
    total = 0.0
    for clip in range(b):
        a, v = audio[clip].double().numpy(), vocal[clip].double().numpy()
        e = np.exp(a @ v.T / TEMPERATURE)
        from_sound, from_lips = e / e.sum(1, keepdims=True), e / e.sum(0, keepdims=True)
        for i in range(t):
            near = [j for j in range(t) if positives[clip, i, j]]
            total += math.log(sum(from_sound[i, j] for j in near))
            total += math.log(sum(from_lips[i, j] if literal else from_lips[j, i] for j in near))
    return -total / (2 * t * b)


@pytest.mark.parametrize("neighbours", [0, 1, 3])
def test_contrastive_loss_is_the_papers_sum(neighbours):
    audio, vocal = tokens(1), tokens(2)
    positives = positive_pairs(tokens(3), neighbours, 0.6)
    assert neighbours or positives.sum() > 2 * 7, "the threshold must add some pairs"
    found = contrastive_loss(audio, vocal, positives, TEMPERATURE).item()
    assert found == pytest.approx(loop_contrastive(audio, vocal, positives), rel=1e-5)


def test_both_readings_of_the_paper_agree_on_single_positives():
    audio, vocal, positives = tokens(1), tokens(2), torch.eye(7, dtype=torch.bool).expand(2, -1, -1)
    found = contrastive_loss(audio, vocal, positives, TEMPERATURE).item()
    assert found == pytest.approx(loop_contrastive(audio, vocal, positives, literal=True), rel=1e-5)
    plain = F.cross_entropy(
        (audio @ vocal.transpose(1, 2) / TEMPERATURE).flatten(0, 1), torch.arange(7).repeat(2)
    )
    back = F.cross_entropy(
        (vocal @ audio.transpose(1, 2) / TEMPERATURE).flatten(0, 1), torch.arange(7).repeat(2)
    )
    assert found == pytest.approx((plain + back).item() / 2, rel=1e-5)


def test_contrastive_loss_is_symmetric_in_sound_and_lips():
    audio, vocal, positives = tokens(1), tokens(2), positive_pairs(tokens(3), 1, 0.5)
    there, back = (
        contrastive_loss(*pair, positives, TEMPERATURE) for pair in ((audio, vocal), (vocal, audio))
    )
    assert there.item() == pytest.approx(back.item(), rel=1e-6)


def test_contrastive_loss_is_float32_under_autocast():
    audio, vocal, positives = tokens(1, d=64), tokens(2, d=64), positive_pairs(tokens(3), 1, 2.0)
    plain = contrastive_loss(audio, vocal, positives, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrastive_loss(audio, vocal, positives, 0.05), plain)


def test_everything_positive_costs_nothing():
    everything = torch.ones(2, 7, 7, dtype=torch.bool)
    assert contrastive_loss(tokens(1), tokens(2), everything, TEMPERATURE).item() == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize(("neighbours", "threshold"), [(0, 2.0), (2, 2.0), (0, 0.3), (1, 0.3)])
def test_positives_are_what_loops_find(neighbours, threshold):
    heard = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(4))
    found = positive_pairs(heard, neighbours, threshold)
    centred = heard.double().numpy() - heard.double().numpy().reshape(-1, 4).mean(0)
    for clip in range(2):
        for i in range(6):
            for j in range(6):
                a, b = centred[clip, i], centred[clip, j]
                alike = a @ b / np.linalg.norm(a) / np.linalg.norm(b) > threshold
                assert found[clip, i, j] == (abs(i - j) <= neighbours or alike)


def test_cross_covariance_is_numpys():
    factors = [torch.randn(30, 4, generator=torch.Generator().manual_seed(s)) + s for s in range(3)]
    wanted = 0.0
    for p, q in ((0, 1), (0, 2), (1, 2)):
        joint = np.cov(factors[p].double().numpy().T, factors[q].double().numpy().T)
        wanted += (joint[:4, 4:] ** 2).sum() / 4**2
    assert cross_covariance_loss(*factors).item() == pytest.approx(wanted, rel=1e-5)


def test_cross_covariance_of_one_frame_is_finite():
    assert cross_covariance_loss(torch.randn(1, 4), torch.randn(1, 4)).item() == 0
