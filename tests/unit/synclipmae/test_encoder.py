"""The visual encoder against loops and against what it must not see."""

import numpy as np
import pytest
import torch
from torch import nn

from lipsync_cli.networks.synclipmae.encoder import (
    MOTION_GAIN,
    EncoderConfig,
    PatchStem,
    VisualEncoder,
    patchify,
    visible_tubes,
)

TINY = EncoderConfig(image_px=32, patch_px=8, channels=2, width=16, layers=2, heads=2)
CONTEXT = EncoderConfig(
    image_px=32, patch_px=8, channels=1, context_frames=5, stem="deep", width=16, layers=2, heads=2
)


def encoder(config: EncoderConfig) -> VisualEncoder:
    torch.manual_seed(0)
    return VisualEncoder(config).eval()


def test_patchify_is_what_loops_cut():
    frames = torch.randn(2, 3, 2, 12, 12)
    patches = patchify(frames, 4)
    assert patches.shape == (2, 3, 9, 2, 4, 4)
    for row in range(3):
        for column in range(3):
            wanted = frames[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(patches[:, :, 3 * row + column], wanted)


@pytest.mark.parametrize("context", [1, 3, 5])
@pytest.mark.parametrize("some", [False, True])
def test_tubes_are_what_loops_cut(context, some):
    rng = np.random.default_rng(0)
    patches = torch.randn(2, 6, 9, 2, 4, 4)
    visible = torch.tensor(rng.integers(0, 9, (2, 6, 3)))
    chosen = torch.tensor([[5, 0, 3], [0, 2, 2]]) if some else None
    tubes = visible_tubes(patches, visible, context, chosen)
    half = context // 2
    for clip in range(2):
        times = range(6) if chosen is None else chosen[clip].tolist()
        for place, time in enumerate(times):
            for v in range(3):
                patch = visible[clip, time, v]
                now = patches[clip, time, patch]
                for step in range(-half, half + 1):
                    other = patches[clip, min(5, max(0, time + step)), patch]
                    wanted = now if step == 0 else MOTION_GAIN * (other - now)
                    at = 2 * (step + half)
                    assert torch.equal(tubes[clip, place, v, at : at + 2], wanted)


@pytest.mark.parametrize("config", [TINY, CONTEXT], ids=["paper", "context"])
def test_hidden_pixels_change_nothing(config):
    network = encoder(config)
    frames = torch.randn(1, 4, config.channels, 32, 32)
    visible = torch.tensor([0, 5, 10, 15]).expand(1, 4, -1)
    tokens = network(frames, visible)
    hidden = torch.ones(16, dtype=torch.bool)
    hidden[visible[0, 0]] = False
    other = frames.clone()
    for patch in hidden.nonzero().flatten().tolist():
        row, column = divmod(patch, 4)
        other[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1e3
    changed = network(other, visible)
    assert torch.equal(tokens.prompts, changed.prompts) and torch.equal(tokens.patches, changed.patches)
    other[0, 0, 0, 0, 0] += 1  # and one that is seen
    assert not torch.equal(tokens.prompts[0, 0], network(other, visible).prompts[0, 0])


def test_chosen_frames_are_those_of_the_whole_clip():
    network = encoder(CONTEXT)
    frames, visible = torch.randn(2, 6, 1, 32, 32), torch.randint(0, 16, (2, 6, 4))
    chosen = torch.tensor([[5, 1], [0, 3]])
    whole, some = network(frames, visible), network(frames, visible, chosen)
    for clip in range(2):
        for place, time in enumerate(chosen[clip].tolist()):
            torch.testing.assert_close(some.prompts[clip, place], whole.prompts[clip, time])
            torch.testing.assert_close(some.patches[clip, place], whole.patches[clip, time])


def test_linear_stem_is_a_convolution():
    stem = PatchStem(EncoderConfig(image_px=32, patch_px=8, channels=3, width=16))
    frames = torch.randn(1, 2, 3, 32, 32)
    ours = stem(patchify(frames, 8))
    (layer,) = stem.layers
    assert isinstance(layer, nn.Conv2d)
    theirs = layer(frames[0]).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours[0], theirs)


def test_deep_stem_is_two_convolutions_that_see_one_patch():
    stem = PatchStem(EncoderConfig(image_px=32, patch_px=8, channels=1, width=16, stem="deep"))
    frames = torch.randn(1, 1, 1, 32, 32)
    first, second = stem.layers
    theirs = second(nn.functional.gelu(first(frames[0]))).flatten(2).transpose(1, 2)
    torch.testing.assert_close(stem(patchify(frames, 8))[0], theirs)


def test_order_of_visible_patches_does_not_matter():
    network = encoder(TINY)
    frames, visible = torch.randn(1, 2, 2, 32, 32), torch.tensor([1, 4, 6, 9, 12]).expand(1, 2, -1)
    turned = torch.tensor([3, 0, 4, 2, 1])
    plain, moved = network(frames, visible), network(frames, visible[..., turned])
    torch.testing.assert_close(plain.prompts, moved.prompts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.patches[:, :, turned], moved.patches, atol=1e-5, rtol=1e-5)


def test_places_matter():
    network = encoder(TINY)
    frames = torch.randn(1, 1, 2, 32, 32)
    frames[..., 8:16, 8:16] = frames[..., :8, :8]  # patch 5 holds what patch 0 holds
    tokens = [network(frames, torch.tensor([[[patch, 10]]])).prompts for patch in (0, 5)]
    assert not torch.allclose(*tokens)


def test_frames_do_not_see_each_other_without_context():
    network, frames = encoder(TINY), torch.randn(1, 3, 2, 32, 32)
    visible = torch.arange(16).expand(1, 3, -1)
    other = frames.clone()
    other[0, 2] += 1
    first, second = network(frames, visible).prompts, network(other, visible).prompts
    assert torch.equal(first[0, :2], second[0, :2]) and not torch.equal(first[0, 2], second[0, 2])


def test_recomputing_in_the_backward_pass_changes_no_gradient():
    from dataclasses import replace

    frames, visible = torch.randn(1, 2, 2, 32, 32), torch.arange(8).expand(1, 2, -1)
    gradients = []
    for checkpointing in (False, True):
        network = encoder(replace(TINY, checkpointing=checkpointing)).train()
        network(frames, visible).prompts.square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain is not None and recomputed is not None
        torch.testing.assert_close(plain, recomputed)
