"""PSNR and SSIM against brute force and known values."""

import math

import numpy as np
import pytest

from lipsync_cli.metrics.picture import psnr_db, ssim

RNG = np.random.default_rng(0)


def ssim_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """One channel, window by window, as the paper writes it."""
    weights = [
        [math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)
    ]
    weights = np.array(weights) / np.sum(weights)
    scores = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a = x[top : top + 11, left : left + 11].astype(float)
            b = y[top : top + 11, left : left + 11].astype(float)
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            cov = (weights * (a - ma) * (b - mb)).sum()
            c1, c2 = 2.55**2, 7.65**2
            scores.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(scores))


def test_psnr_of_a_known_error():
    truth = RNG.integers(10, 240, (3, 8, 9, 3)).astype(np.uint8)
    off = truth.astype(int) + np.array([1, 5, 10])[:, None, None, None]
    expected = [20 * math.log10(255 / e) for e in (1, 5, 10)]
    np.testing.assert_allclose(psnr_db(off.astype(np.uint8), truth), expected, rtol=1e-12)


def test_equal_pictures():
    truth = RNG.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    assert np.isinf(psnr_db(truth, truth)).all()
    np.testing.assert_allclose(ssim(truth, truth), 1.0)


@pytest.mark.parametrize("noise", [3, 40])
def test_ssim_is_the_papers(noise):
    truth = RNG.integers(0, 256, (2, 17, 14, 2)).astype(np.uint8)
    other = np.clip(truth + RNG.normal(0, noise, truth.shape), 0, 255).astype(np.uint8)
    by_hand = [
        np.mean([ssim_by_hand(o[..., c], t[..., c]) for c in range(2)])
        for o, t in zip(other, truth, strict=True)
    ]
    np.testing.assert_allclose(ssim(other, truth), by_hand, rtol=1e-9)


def test_ssim_of_smallest_pictures_is_one_window():
    truth = RNG.integers(0, 256, (1, 11, 11, 1)).astype(np.uint8)
    assert ssim(255 - truth, truth)[0] == pytest.approx(
        ssim_by_hand(255 - truth[0, ..., 0], truth[0, ..., 0])
    )
    assert ssim(255 - truth, truth)[0] < 0
