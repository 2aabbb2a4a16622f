"""Lips numbers off the landmarks: mirrored, bounded, and at rest."""

import numpy as np
import pytest
import torch

from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.networks.flashlips.lips import INNER_LIPS, OUTER_LIPS
from lipsync_cli.networks.flashlips.mesh_lips import (
    LIMIT,
    MIRRORED,
    POINTS,
    MeshLips,
    MeshLipsConfig,
    mouth_shape,
    principal_basis,
    rest_of,
)
from tests.speaking_faces import mesh

SMALL = MeshLipsConfig(main=3, extra=2, mouth_px=16, channels=(4, 4))
OPENING = np.random.default_rng(7).random(40)


def trained() -> MeshLips:
    torch.manual_seed(0)
    lips = MeshLips(SMALL)
    lips.learn_basis([mesh(OPENING, CropGeometry(128), seed) for seed in (1, 2)], [1.0, 1.0])
    return lips


def test_mirrored_points_are_their_mirror_images():
    assert (MIRRORED[MIRRORED] == np.arange(len(POINTS))).all()
    names = POINTS[MIRRORED]
    assert (names[0], names[10]) == (291, 61)  # corners of the mouth
    assert names[5] == 17 and names[15] == 0  # the middles stay
    assert names[20] == 308 and names[40] == 400 and names[42] == 152  # inner corner, chin
    assert len(OUTER_LIPS) == len(INNER_LIPS) == 20


def test_numbers_follow_the_mouth_and_not_the_face():
    lips = trained()
    one, other = (lips.shape(mesh(OPENING, CropGeometry(128), seed)) for seed in (3, 4))
    assert abs(np.corrcoef(one[:, 0], OPENING)[0, 1]) > 0.99
    np.testing.assert_allclose(one[:, 0], other[:, 0], atol=0.3)


def test_a_mirrored_face_has_the_same_opening():
    lips = trained()
    points = mesh(OPENING, CropGeometry(128), 1)
    assert np.corrcoef(lips.shape(points)[:, 0], lips.shape(points, mirrored=True)[:, 0])[0, 1] > 0.99


def test_numbers_stay_within_their_limit():
    wild = mesh(OPENING * 40, CropGeometry(128), 1)
    assert 0.9 * LIMIT < np.abs(trained().shape(wild)[:, 0]).max() <= LIMIT


def test_lips_that_move_as_a_whole_are_a_turned_head():
    points = mesh(OPENING, CropGeometry(128), 1)
    turned = points.copy()
    turned[:, POINTS] += np.random.default_rng(1).normal(0, 4, (len(points), 1, 2))
    np.testing.assert_allclose(mouth_shape(turned), mouth_shape(points), atol=0.02)


def test_basis_is_that_of_the_spread_within_clips():
    rng = np.random.default_rng(0)
    spread = np.array([5.0, 2.0, 0.5, 0.1])
    rows = [
        rng.normal(0, spread, (4000, 4)) + shift for shift in (0, 100)
    ]  # persons differ, which must not count
    basis = principal_basis(rows, [1.0, 3.0], 3)
    # unit variance of the strongest, the others the root of their share
    expected = np.diag(1 / np.sqrt(spread * spread[0]))[:, :3]
    np.testing.assert_allclose(np.abs(basis), expected, atol=0.02)


def test_rest_is_the_mean_of_the_most_closed_frames():
    opening = np.linspace(1, 0, 20)
    numbers = np.arange(40).reshape(20, 2)
    rest = rest_of(numbers, mesh(opening, CropGeometry(128)))
    np.testing.assert_allclose(rest, numbers[[17, 18, 19]].mean(0))


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_glance_is_bounded(value):
    seen = trained().look(torch.full((2, 3, 16, 16), value))
    assert seen.shape == (2, 2) and seen.abs().max() <= 1
