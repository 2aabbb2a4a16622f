"""The noise of training, against diffusers' schedule and its own definition."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from lipsync_cli.networks.latentsync.noise import add_noise, mixed_noise, remove_noise, signal_power


def test_the_schedule_is_stable_diffusions():
    other = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    assert torch.allclose(signal_power(), other.alphas_cumprod, rtol=1e-5)
    clean, noise = torch.randn(2, 2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor([3, 900])
    noisy = add_noise(clean, noise, timestep)
    assert torch.allclose(noisy, other.add_noise(clean, noise, timestep), atol=1e-6)
    assert torch.allclose(remove_noise(noisy, noise, timestep), clean, atol=1e-4)


@pytest.mark.parametrize(("shared", "correlation"), [(0.0, 0.0), (1.0, 0.5), (2.0, 0.8)])
def test_mixed_noise_has_unit_variance_and_the_asked_for_share_in_common(shared, correlation):
    """Of two frames, α² / (1 + α²) of the variance is common (Ge et al. 2023, §4.1)."""
    noise = mixed_noise((4, 16, 64, 64), shared, torch.Generator().manual_seed(0))
    assert noise.shape == (4, 16, 64, 64)
    assert float(noise.var()) == pytest.approx(1, abs=0.03) and float(noise.mean()) == pytest.approx(
        0, abs=0.05
    )
    frames = noise.transpose(0, 1).flatten(1)
    between = torch.corrcoef(frames)[~torch.eye(16, dtype=torch.bool)]
    assert float(between.mean()) == pytest.approx(correlation, abs=0.03)
