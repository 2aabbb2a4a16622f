"""Sampling: solvers against solutions written down, windows that leave no seam."""

from itertools import pairwise

import pytest
import torch

from lipsync_cli.networks.flashlips import sample
from lipsync_cli.networks.flashlips.audio2lips import AudioToLips, AudioToLipsConfig
from lipsync_cli.networks.flashlips.sample import (
    SamplerConfig,
    blended,
    cross_fade,
    hear,
    integrate,
    sample_lips,
    window_starts,
)
from lipsync_cli.networks.flashlips.speech import SpeechConfig

CONFIG = AudioToLipsConfig(
    SpeechConfig("mel", width=3, hidden=4), frames=12, lips=3, references=2, emotions=0, pose=0, width=8, depth=1, heads=2
)  # fmt: skip


@pytest.mark.parametrize("method", ["euler", "midpoint"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_straight_flow_is_followed_exactly(method, steps):
    start, end = torch.randn(4, 2, dtype=torch.double), torch.randn(4, 2, dtype=torch.double)
    torch.testing.assert_close(integrate(lambda z, t: end - start, start, steps, method), end)
    # the velocity towards one point, (z₁ − z) / (1 − t), whose path is straight
    torch.testing.assert_close(integrate(lambda z, t: (end - z) / (1 - t), start, steps, method), end)


def test_a_linear_equation_by_each_rule():
    """dz/dt = a·z from 1: (1 + a/n)ⁿ by Euler's rule, (1 + a/n + a²/2n²)ⁿ by the midpoint rule; eᵃ in the limit."""
    a, one = -1.3, torch.ones(1, dtype=torch.double)
    for n in (1, 2, 7):
        assert integrate(lambda z, t: a * z, one, n).item() == pytest.approx((1 + a / n) ** n)
        midpoint = integrate(lambda z, t: a * z, one, n, "midpoint").item()
        assert midpoint == pytest.approx((1 + a / n + (a / n) ** 2 / 2) ** n)
    exact = torch.tensor(a, dtype=torch.double).exp()
    for method, order in (("euler", 1), ("midpoint", 2)):
        wrong = [abs(integrate(lambda z, t: a * z, one, n, method) - exact).item() for n in (64, 128)]
        assert wrong[0] / wrong[1] == pytest.approx(2**order, rel=0.05)


def test_time_is_told_to_the_velocity():
    """dz/dt = 2t from 0: Euler's rule gives Σ 2k/n², the midpoint rule 1."""
    zero = torch.zeros(1, dtype=torch.double)
    assert integrate(lambda z, t: zero + 2 * t, zero, 4).item() == pytest.approx(2 * (0 + 1 + 2 + 3) / 16)
    assert integrate(lambda z, t: zero + 2 * t, zero, 4, "midpoint").item() == pytest.approx(1)


@pytest.mark.parametrize("length", [1, 12, 13, 18, 19, 100])
def test_windows_cover_everything_and_fade_to_one(length):
    starts = window_starts(length, 12, 0.5)
    padded = max(length, 12)
    assert starts[0] == 0 and starts[-1] == padded - 12
    assert all(0 < b - a <= 6 for a, b in pairwise(starts))
    shares = cross_fade(starts, 12, padded)
    ones = blended(torch.ones(len(starts), 12, 1), starts, shares)
    torch.testing.assert_close(ones, torch.ones(padded, 1))
    rows = torch.randn(padded, 4)
    windows = torch.stack([rows[start : start + 12] for start in starts])
    torch.testing.assert_close(blended(windows, starts, shares), rows)


def test_windows_that_disagree_meet_without_a_step():
    starts = window_starts(48, 12, 0.5)
    signs = torch.tensor([(-1.0) ** number for number in range(len(starts))])
    row = blended(signs[:, None, None].expand(-1, 12, 1), starts, cross_fade(starts, 12, 48))[:, 0]
    assert row.diff().abs().max() < 2 / 5  # from −1 to 1 over the overlap of six frames
    assert row.min() < -0.7 and row.max() > 0.7


class Repeats(AudioToLips):
    """Its flow leads to what is heard, whatever the noise; a window also says how often it was asked."""

    def embed_condition(self, heard, references, emotion=None):
        return heard

    def forward(self, z, t, condition, pose=None):
        return (condition - z) / (1 - t[:, None, None])


@pytest.mark.parametrize("length", [5, 12, 40, 150])
def test_a_long_sound_is_one_sequence(length):
    heard, references = torch.randn(length, 3), torch.randn(2, 3)
    lips = sample_lips(Repeats(CONFIG), heard, references, seed=0)
    torch.testing.assert_close(lips, heard, rtol=1e-4, atol=1e-4)


def network() -> AudioToLips:
    torch.manual_seed(0)
    model = AudioToLips(CONFIG)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    model.lips_mean.copy_(torch.tensor([5.0, 6.0, 7.0]))
    return model.eval()


def test_a_long_sound_is_the_same_sound_shifted(monkeypatch):
    """Shifted by a whole number of hops, with the noise shifted as well, the lips are shifted, but for the ends."""
    model, references = network(), torch.randn(2, 3)
    heard, noise = torch.randn(102, 3), torch.randn(102, 3)
    draw = torch.randn

    def drawn(at):
        monkeypatch.setattr(sample.torch, "randn", lambda *size, **_: noise[at : at + size[0]])
        return sample_lips(model, heard[at : at + 90], references, seed=0, config=SamplerConfig(steps=1))

    first, second = drawn(0), drawn(12)
    monkeypatch.setattr(sample.torch, "randn", draw)
    torch.testing.assert_close(first[12 + 6 : 84], second[6 : 84 - 12], rtol=1e-4, atol=1e-4)
    assert (first[12:84] - first[: 84 - 12]).abs().mean() > 0.1


def test_the_seed_decides_and_no_more_is_drawn_for_a_longer_sound():
    model, references, heard = network(), torch.randn(2, 3), torch.randn(60, 3)

    def lips(seed, length=60, **options):
        return sample_lips(
            model, heard[:length], references, seed=seed, config=SamplerConfig(steps=2, **options)
        )

    assert torch.equal(lips(3), lips(3))
    assert (lips(3) - lips(4)).abs().mean() > 0.1
    torch.testing.assert_close(lips(3, length=48)[:12], lips(3)[:12], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(lips(3, windows=1), lips(3), rtol=1e-4, atol=1e-4)
    assert abs(float(lips(3).mean(0)[1]) - 6) < 3  # about the mean of the training clips


def test_sound_is_heard_in_pieces(monkeypatch):
    model = network()
    samples = torch.randn(640 * 90) * 0.1
    whole = hear(model, samples)
    assert whole.shape == (90, 3)
    monkeypatch.setattr(sample, "PIECE_FRAMES", 25)
    monkeypatch.setattr(sample, "MARGIN_FRAMES", 10)
    torch.testing.assert_close(hear(model, samples), whole, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(sample, "MARGIN_FRAMES", 0)
    assert (hear(model, samples) - whole).abs().max() > 1e-3  # without what surrounds them they would differ
