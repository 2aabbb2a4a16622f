import math
from dataclasses import replace

import pytest
import torch

from lipsync_cli.networks.latentsync.sample import (
    Passage,
    SampleConfig,
    make_scheduler,
    sample,
    window_frames,
    window_weights,
)


@pytest.fixture
def passage():
    draw = torch.Generator().manual_seed(1)

    def make(frames):
        latents = torch.randn(2, frames, 4, 8, 8, generator=draw)
        mask = (torch.arange(8)[:, None] < 4).expand(1, 8, 8).float()
        return Passage(latents[0], latents[1], mask, torch.randn(frames, 50, 16, generator=draw))

    return make


def by_hand(unet, passage, steps, guidance, seed, length=16):
    """The published loop, window by window, with DDIM's formulas (Song et al. 2020, equation 12) written out."""
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    timesteps = [1000 // steps * i + 1 for i in reversed(range(steps))]
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed))
    done = []
    for start in range(0, len(passage.audio), length):
        part = slice(start, start + length)
        x = noise[:, None].expand(-1, length, -1, -1)
        known = [passage.mask[:, None].expand(-1, length, -1, -1)]
        known += [latents[part].transpose(0, 1) for latents in (passage.masked, passage.reference)]
        for t in timesteps:
            seen = torch.cat([x, *known])[None].float()
            with torch.no_grad():
                heard = unet(seen, torch.tensor(t), passage.audio[None, part])[0]
                deaf = unet(seen, torch.tensor(t), torch.zeros_like(passage.audio[None, part]))[0]
            eps = deaf + guidance * (heard - deaf)
            a, before = alphas[t], alphas[max(t - 1000 // steps, 0)]
            clean = (x - (1 - a).sqrt() * eps) / a.sqrt()
            x = before.sqrt() * clean + (1 - before).sqrt() * eps
        done.append(x.transpose(0, 1))
    return torch.cat(done).float()


def test_ddim_visits_these_timesteps():
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(20)
    expected = [
        951,
        901,
        851,
        801,
        751,
        701,
        651,
        601,
        551,
        501,
        451,
        401,
        351,
        301,
        251,
        201,
        151,
        101,
        51,
        1,
    ]
    assert scheduler.timesteps.tolist() == expected


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_without_overlap_it_is_the_published_loop(tiny_unet, passage, guidance):
    given = passage(32)
    config = SampleConfig(steps=4, guidance=guidance, overlap_frames=0, seed=3)
    expected = by_hand(tiny_unet, given, 4, guidance, seed=3)
    ours = sample(tiny_unet, given, config)
    assert ours.shape == (32, 4, 8, 8)
    assert (ours - expected).norm() / expected.norm() < 1e-4


def test_batching_windows_changes_nothing(tiny_unet, passage):
    given = passage(40)
    one, all_at_once = (
        sample(tiny_unet, given, SampleConfig(steps=2, windows_at_once=count)) for count in (1, 8)
    )
    assert torch.allclose(one, all_at_once, atol=1e-4)


def test_half_precision_networks_sample_too(tiny_unet, passage):
    given = passage(16)
    exact = sample(tiny_unet, given, SampleConfig(steps=3))
    half = sample(tiny_unet.bfloat16(), Passage(*(t.bfloat16() for t in given)), SampleConfig(steps=3))
    assert half.dtype == torch.float32
    assert (half - exact).norm() / exact.norm() < 0.05


def counting(unet):
    calls = []

    def predict(seen, timestep, audio):
        calls.append((len(seen), seen.shape[2], audio.abs().sum((1, 2, 3)) > 0))
        return unet(seen, timestep, audio)

    return predict, calls


def test_guidance_runs_both_halves_in_one_batch_and_none_runs_one(tiny_unet, passage):
    predict, calls = counting(tiny_unet)
    sample(predict, passage(16), SampleConfig(steps=3))
    assert [(count, heard.tolist()) for count, _, heard in calls] == [(2, [False, True])] * 3
    predict, calls = counting(tiny_unet)
    sample(predict, passage(16), SampleConfig(steps=3, guidance=1.0))
    assert [(count, heard.tolist()) for count, _, heard in calls] == [(1, [True])] * 3


def test_the_last_window_is_filled_not_shortened(tiny_unet, passage):
    predict, calls = counting(tiny_unet)
    given = passage(5)
    ours = sample(predict, given, SampleConfig(steps=2))
    assert ours.shape[0] == 5 and [length for _, length, _ in calls] == [16, 16]
    filled = Passage(*(torch.cat([t, t[-1:].expand(11, *t.shape[1:])]) for t in given[:2]), given.mask,
                     torch.cat([given.audio, given.audio[-1:].expand(11, -1, -1)]))  # fmt: skip
    expected = sample(tiny_unet, filled, SampleConfig(steps=2))[:5]
    assert torch.allclose(ours, expected, atol=1e-4)


def test_every_frame_starts_from_the_same_noise(passage):
    given = passage(20)
    seen = []

    def predict(x, timestep, audio):
        seen.append(x[:, :4])
        return torch.zeros_like(x[:, :4])

    first = sample(predict, given, SampleConfig(steps=1))
    assert all(torch.equal(x, x[:1, :, :1].expand_as(x)) for x in seen)
    assert torch.equal(first, sample(predict, given, SampleConfig(steps=1)))
    assert not torch.equal(first, sample(predict, given, SampleConfig(steps=1, seed=0)))


def test_overlapping_windows_join_without_a_step(passage):
    """A network that answers with the number of the window it sees makes every seam visible."""
    given = passage(40)

    def steps(overlap):
        number = 0

        def predict(x, timestep, audio):
            nonlocal number
            number += 1
            return torch.full_like(x[:, :4], float(number))

        latents = sample(predict, given, SampleConfig(steps=1, guidance=1.0, overlap_frames=overlap))
        return latents.diff(dim=0).abs().amax((1, 2, 3))

    assert steps(4).max() < 0.3 * steps(0).max()


@pytest.mark.parametrize(
    ("frames", "overlap", "starts"),
    [(1, 0, [0]), (16, 4, [0]), (17, 4, [0, 12]), (28, 4, [0, 12]), (32, 0, [0, 16]), (33, 0, [0, 16, 32])],
)
def test_windows_cover_every_frame(frames, overlap, starts):
    places = window_frames(frames, 16, overlap)
    weights = window_weights(frames, 16, overlap)
    assert places[:, 0].tolist() == starts and places.shape[1] == 16
    assert places.max() == frames - 1
    total = torch.zeros(frames).index_add_(0, places.flatten(), weights.flatten())
    assert (total > 0).all()
    # filled places count for nothing: each frame is counted once in each window
    assert (weights > 0).sum() == sum(min(16, frames - start) for start in starts)


def test_mask_and_pictures_come_in_the_published_order(passage):
    given = passage(16)
    seen = []

    def predict(x, timestep, audio):
        seen.append(x)
        return torch.zeros_like(x[:, :4])

    sample(predict, given, SampleConfig(steps=1, guidance=1.0))
    (x,) = seen[0]
    assert torch.equal(x[4, 0], given.mask[0])
    assert torch.equal(x[5:9], given.masked.transpose(0, 1))
    assert torch.equal(x[9:], given.reference.transpose(0, 1))


def test_dpm_solver_finds_a_known_picture():
    """The best prediction for data that is one known picture leads either solver to it."""
    target = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(5))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = (1 - betas).cumprod(0)

    def predict(x, timestep, audio):
        a = alphas[int(timestep)]
        return (x[:, :4] - a.sqrt() * target[:, None]) / (1 - a).sqrt()

    given = Passage(
        torch.zeros(3, 4, 8, 8), torch.zeros(3, 4, 8, 8), torch.ones(1, 8, 8), torch.zeros(3, 50, 16)
    )
    for solver, tolerance in (("ddim", 0.1), ("dpm-solver++", 1e-3)):
        found = sample(predict, given, SampleConfig(steps=8, solver=solver))
        assert (found - target).abs().max() < tolerance


@pytest.mark.parametrize("windows_at_once", [1, 3])
def test_running_the_whole_network_at_every_step_is_exact(tiny_unet, passage, windows_at_once):
    """whole_every 1 is no cache at all, and one that is always filled anew gives the same, bit for bit."""
    given = passage(40)
    config = SampleConfig(steps=3, windows_at_once=windows_at_once)
    exact = sample(tiny_unet, given, config)
    assert torch.equal(exact, sample(lambda *x: tiny_unet(*x), given, config))
    assert torch.equal(exact, sample(lambda *x: tiny_unet.with_deep(*x)[0], given, config))
    assert not torch.equal(exact, sample(tiny_unet, given, replace(config, whole_every=2)))


@torch.no_grad()
def test_kept_layers_of_the_same_step_change_nothing(tiny_unet, passage):
    given = passage(16)
    seen = torch.randn(1, 13, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    noise, deep = tiny_unet.with_deep(seen, torch.tensor(500), given.audio[None])
    assert torch.equal(noise, tiny_unet(seen, torch.tensor(500), given.audio[None]))
    assert torch.equal(noise, tiny_unet.from_deep(seen, torch.tensor(500), given.audio[None], deep))


def test_a_cache_runs_the_inner_layers_at_every_third_step(tiny_unet, passage):
    given, runs = passage(40), {"deep": 0, "last": 0}
    tiny_unet.mid_block.register_forward_hook(lambda *_: runs.update(deep=runs["deep"] + 1))
    tiny_unet.conv_out.register_forward_hook(lambda *_: runs.update(last=runs["last"] + 1))
    sample(tiny_unet, given, SampleConfig(steps=7, whole_every=3, windows_at_once=2))
    # 40 frames are three windows of 16 that share 4: two batches; steps 0, 3 and 6 are whole
    assert runs == {"deep": 2 * 3, "last": 2 * 7}


def test_a_cached_answer_is_near_the_exact_one(tiny_unet, passage):
    given = passage(16)
    exact, cached, other = (
        sample(tiny_unet, given, SampleConfig(steps=10, whole_every=every, seed=seed))
        for every, seed in ((1, 0), (2, 0), (1, 1))
    )
    assert 0 < (cached - exact).norm() < 0.5 * (other - exact).norm()


def test_guidance_of_one_is_the_answer_to_the_sound_alone(tiny_unet, passage):
    """As guidance nears 1 its two halves become one; at 1 only that one is run."""
    given = passage(16)
    one, near = (sample(tiny_unet, given, SampleConfig(steps=3, guidance=g)) for g in (1.0, 1.0 + 1e-6))
    assert torch.allclose(one, near, atol=1e-3)


@pytest.mark.slow
def test_a_compiled_network_samples_the_same(tiny_unet, passage):
    given = passage(16)
    exact = sample(tiny_unet, given, SampleConfig(steps=2))
    tiny_unet.compile_layers()
    assert torch.allclose(sample(tiny_unet, given, SampleConfig(steps=2)), exact, atol=1e-4)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="overlap_frames"):
        SampleConfig(overlap_frames=16)
    with pytest.raises(ValueError, match="steps"):
        SampleConfig(steps=0)
