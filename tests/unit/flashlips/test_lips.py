"""Lips encoders: sizes, what they look at, what stays frozen; and what the expression encoder is taught."""

import numpy as np
import pytest
import torch

from lipsync_cli.faces.align import STABLE_POINTS, CropGeometry
from lipsync_cli.networks.flashlips.lips import (
    EXPRESSION_POINTS,
    MIRRORED,
    DistilledConfig,
    DistilledLipsEncoder,
    ExpressionConfig,
    ExpressionEncoder,
    LipsConfig,
    LipsEncoder,
    expression_target,
    mirrored_points,
    mouths,
)
from lipsync_cli.networks.flashlips.resnet import ResNet, ResNetConfig
from tests.speaking_faces import mesh

TRUNK = ResNetConfig(depth=10, width=8)
SMALL = LipsConfig(
    ExpressionConfig(TRUNK, 32, 16), main=8, hidden=16, extra=4, extra_trunk=TRUNK, mouth_px=32
)
# Eyes and nose, left for right.
PARTNERS = {33: 263, 133: 362, 362: 133, 263: 33, 168: 168, 6: 6, 2: 2, 98: 327, 327: 98}


@pytest.mark.parametrize(
    ("depth", "published", "head"), [(18, 11_689_512, 513_000), (34, 21_797_672, 513_000), (50, 25_557_032, 2_049_000)]
)  # fmt: skip
def test_a_resnet_is_as_big_as_the_published_one(depth, published, head):
    with torch.device("meta"):
        network = ResNet(ResNetConfig(depth))
        out = network(torch.empty(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == published - head
    assert out.shape == (1, 2048 if depth == 50 else 512)
    assert network.blocks(torch.empty(1, 64, 56, 56, device="meta")).shape[-1] == 7


def test_twelve_numbers_eight_and_four():
    encoder = LipsEncoder(SMALL)
    assert SMALL.numbers == LipsConfig().numbers == 12
    assert encoder(torch.randn(2, 3, 64, 64)).shape == (2, 12)
    assert DistilledLipsEncoder(DistilledConfig(TRUNK, 48))(torch.randn(2, 3, 64, 64)).shape == (2, 12)


def test_the_last_four_see_the_mouth_alone_and_the_first_eight_the_face():
    torch.manual_seed(0)
    encoder = LipsEncoder(SMALL).eval()
    face = torch.randn(1, 3, 64, 64)
    before = encoder(face)
    eyes, mouth = face.clone(), face.clone()
    eyes[:, :, 5:25, 10:50] += 1
    mouth[:, :, 40:50, 25:40] += 1
    assert torch.equal(encoder(eyes)[:, 8:], before[:, 8:])
    assert (encoder(eyes)[:, :8] - before[:, :8]).abs().amax() > 1e-5
    assert (encoder(mouth)[:, 8:] - before[:, 8:]).abs().amax() > 1e-5


def test_the_expression_encoder_is_frozen():
    encoder = LipsEncoder(SMALL)
    encoder(torch.randn(1, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is None for parameter in encoder.expression.parameters())
    assert encoder.extra is not None
    for part in (encoder.main, encoder.extra):
        assert all(parameter.grad is not None for parameter in part.parameters())


def test_the_mouths_square_holds_the_mouth():
    face = torch.zeros(1, 1, 100, 100)
    points = mesh(np.array([0.0, 1.0]), CropGeometry(100))
    for x, y in points[:, EXPRESSION_POINTS[:40]].reshape(-1, 2).round().astype(int):
        face[..., y, x] = 1
    square = mouths(face)
    assert square.shape == (1, 1, 50, 50) and square.sum() == face.sum() > 10


def moved(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another view of each frame: turned, squeezed, shifted, scaled."""
    affine = np.eye(2) + rng.normal(0, 0.15, (len(points), 2, 2))
    return points @ affine + rng.normal(0, 20, (len(points), 1, 2))


def test_the_target_does_not_depend_on_view_size_or_person():
    rng = np.random.default_rng(0)
    points = mesh(rng.random(9), CropGeometry(100))
    target = expression_target(points)
    assert target.shape == (9, 53, 2) and np.abs(target).max() > 0.02
    np.testing.assert_allclose(expression_target(moved(points, rng)), target, atol=1e-5)
    person = points.copy()
    person[:, EXPRESSION_POINTS] += rng.normal(0, 5, (1, 53, 2))  # another mouth and jaw, moving alike
    np.testing.assert_allclose(expression_target(person), target, atol=1e-5)


def test_the_target_is_counted_from_eyes_to_mouth():
    """The lower lip goes down by 0.05 · 0.5 of the crop's side and aside by 0.01 · 0.5, of which eyes to mouth are 0.42."""
    points = mesh(np.array([0.5, 0.5, 1.0, 0.5, 0.0]), CropGeometry(100))
    lowest = np.flatnonzero(EXPRESSION_POINTS == 17)[0]
    went = expression_target(points)[:, lowest]
    np.testing.assert_allclose(went[:, 1], np.array([0, 0, 0.025, 0, -0.025]) / 0.42, atol=1e-6)
    np.testing.assert_allclose(went[:, 0], np.array([0, 0, 0.005, 0, -0.005]) / 0.42, atol=1e-6)


def test_the_mirrored_target_is_that_of_the_mirrored_face():
    rng = np.random.default_rng(1)
    points = mesh(np.zeros(7), CropGeometry(100))
    points[:, EXPRESSION_POINTS] += rng.normal(0, 1, (7, 53, 2))
    partner = np.arange(478)
    partner[list(PARTNERS)] = list(PARTNERS.values())
    assert partner[list(STABLE_POINTS)].tolist() == [PARTNERS[index] for index in STABLE_POINTS]
    partner[EXPRESSION_POINTS] = EXPRESSION_POINTS[MIRRORED]
    # corners, and points beside the middle, of the face mesh's own map
    pairs = (
        (61, 291),
        (78, 308),
        (84, 314),
        (87, 317),
        (37, 267),
        (172, 397),
        (148, 377),
        (13, 13),
        (152, 152),
    )
    for left, right in pairs:
        assert partner[left] == right
    other = points[:, partner] * [-1, 1] + [100, 0]
    np.testing.assert_allclose(
        expression_target(other), mirrored_points(expression_target(points)), atol=2e-3
    )  # the template is symmetric to 0.001


def test_an_encoder_sees_the_whole_face_at_its_own_size():
    encoder = ExpressionEncoder(ExpressionConfig(TRUNK, 32, 16))
    face = torch.randn(1, 3, 32, 32)
    assert encoder(face).shape == (1, 53, 2)
    large = face.repeat_interleave(3, 2).repeat_interleave(3, 3)
    seen = torch.nn.functional.interpolate(large, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(encoder(large), encoder(seen))
