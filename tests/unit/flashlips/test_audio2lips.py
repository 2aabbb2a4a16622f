"""The flow matching Transformer against table A.3 and equations 10 to 12."""

import numpy as np
import pytest
import torch

from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.networks.flashlips.audio2lips import (
    AudioToLips,
    AudioToLipsConfig,
    FlowBlock,
    flow_matching_loss,
    head_pose,
    modulated,
    noised,
    sinusoids,
)
from lipsync_cli.networks.flashlips.speech import SpeechConfig
from tests.speaking_faces import mesh

SMALL = AudioToLipsConfig(
    SpeechConfig("mel", width=8, hidden=8), frames=10, lips=3, references=2, emotions=4, pose=5, width=16, depth=2, heads=4
)  # fmt: skip


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_it_is_table_a3_row_by_row():
    """The paper says 150 M; its table gives 155.5 M with the projection of the speech features."""
    with torch.device("meta"):
        network = AudioToLips(AudioToLipsConfig(), torch.nn.Identity())
        condition = network.embed_condition(torch.empty(2, 60, 512), torch.empty(2, 4, 12))
        out = network(torch.empty(2, 60, 12), torch.empty(2), condition)
    assert out.shape == (2, 60, 12) and network.position.shape == (60, 1024)
    assert (network.motion.in_features, network.motion.out_features) == (12 + 16, 1024)
    assert (network.condition.in_features, network.condition.out_features) == (12 * 4 + 512 + 7, 1024)
    d = 1024
    block = (3 * d * d + 3 * d) + (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d) + (d * 6 * d + 6 * d)
    assert [count(b) for b in network.blocks] == [block] * 8
    time, motion, condition_size = (256 * d + d) + (d * d + d), 28 * d + d, 567 * d + d
    output = (d * 2 * d + 2 * d) + (d * 12 + 12)
    speech = (768 * 512 + 512) + 2 * 512
    assert count(network) == 8 * block + time + motion + condition_size + output + speech
    assert count(network) / 1e6 == pytest.approx(155.5, abs=0.1)
    assert count(network) == pytest.approx(150e6, rel=0.05)


def test_the_point_between_noise_and_lips():
    noise, lips = torch.full((2, 1, 1), 2.0), torch.full((2, 1, 1), 10.0)
    assert noised(lips, noise, torch.tensor([0.0, 0.25])).flatten().tolist() == [2.0, 4.0]


def test_the_target_is_lips_less_noise():
    noise, lips = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    assert flow_matching_loss(lips - noise, lips, noise) == 0
    assert flow_matching_loss(lips - noise + 0.5, lips, noise).item() == pytest.approx(0.25)
    # it is the velocity along equation 10
    step = (noised(lips, noise, torch.full((2,), 0.6)) - noised(lips, noise, torch.full((2,), 0.5))) / 0.1
    torch.testing.assert_close(step, lips - noise, rtol=1e-4, atol=1e-5)


def filled(config: AudioToLipsConfig) -> AudioToLips:
    """With weights where training starts from 0."""
    torch.manual_seed(0)
    network = AudioToLips(config)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_everything_is_read():
    network = filled(SMALL)
    inputs = {
        "z": torch.randn(1, 10, 3), "t": torch.tensor([0.3]), "heard": torch.randn(1, 10, 8),
        "references": torch.randn(1, 2, 3), "emotion": torch.randn(1, 4), "pose": torch.randn(1, 10, 5),
    }  # fmt: skip

    def answer(z, t, heard, references, emotion, pose):
        return network(z, t, network.embed_condition(heard, references, emotion), pose)

    before = answer(**inputs)
    for name, value in inputs.items():
        after = answer(**{**inputs, name: value + 0.5})
        assert (after - before).abs().amax() > 1e-3, name
    silent = {**inputs, "emotion": torch.zeros(1, 4), "pose": torch.zeros(1, 10, 5)}
    assert torch.equal(answer(**silent), answer(**{**silent, "emotion": None, "pose": None}))


def test_untrained_it_stands_still():
    network = AudioToLips(SMALL)
    condition = network.embed_condition(torch.randn(1, 10, 8), torch.randn(1, 2, 3))
    assert not network(torch.randn(1, 10, 3), torch.rand(1), condition).any()
    block, x = FlowBlock(16, 4), torch.randn(1, 10, 16)
    assert torch.equal(block(x, torch.randn(1, 10, 16)), x)  # closed gates


def test_adaptive_layer_norm():
    x = torch.tensor([[[1.0, 3.0]]])  # mean 2, deviation 1
    out = modulated(x, torch.tensor([10.0, 20.0]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(out, torch.tensor([[[-1.0 * 2 + 10, 1.0 * 3 + 20]]]), rtol=1e-4, atol=1e-4)


def test_sinusoids():
    rows = sinusoids(torch.tensor([0.0, 1.0]), 4)
    torch.testing.assert_close(rows[0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    slow = 10_000**-0.5
    by_hand = [np.sin(1), np.sin(slow), np.cos(1), np.cos(slow)]
    torch.testing.assert_close(rows[1], torch.tensor(by_hand, dtype=torch.float32))


def test_lips_are_normalised_and_restored():
    network = AudioToLips(SMALL)
    network.lips_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    network.lips_std.copy_(torch.tensor([2.0, 4.0, 0.5]))
    lips = torch.tensor([[3.0, -2.0, 3.5]])
    assert network.normalise(lips).tolist() == [[1.0, -1.0, 1.0]]
    assert torch.equal(network.restore(network.normalise(lips)), lips)


def test_a_head_that_looks_straight_ahead_has_pose_zero():
    points = mesh(np.array([0.2, 0.9]), CropGeometry(128, 8))
    pose = head_pose(points)
    assert pose.shape == (2, 16) and pose.dtype == np.float32
    np.testing.assert_allclose(pose, 0, atol=1e-6)
    np.testing.assert_allclose(head_pose(3 * points + [40, -7]), 0, atol=1e-6)  # of any size, anywhere
    turned = points.copy()
    turned[..., 0] = (points[..., 0] - 72) * 0.8 + 72
    assert np.abs(head_pose(turned)).max() > 0.03
