"""Which patches a frame may show, held to counting and to enumeration."""

from itertools import permutations

import pytest
import torch

from lipsync_cli.networks.synclipmae.masking import (
    FACE_REGION,
    MOUTH_REGION,
    keep_weights,
    likeliest_visible,
    num_visible,
    sample_visible,
)
from lipsync_cli.networks.synclipmae.model import MaskConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def keep_probability(weights: list[float], count: int) -> list[float]:
    """How likely each item is drawn, by going through every order in which `count` of them can be drawn."""
    total = [0.0] * len(weights)
    for order in permutations(range(len(weights)), count):
        left, chance = sum(weights), 1.0
        for item in order:
            chance *= weights[item] / left
            left -= weights[item]
        for item in order:
            total[item] += chance
    return total


@pytest.mark.parametrize(
    ("patches", "ratio", "left"), [(64, 0.75, 16), (256, 0.75, 64), (4, 0.99, 1), (10, 0.0, 10)]
)
def test_exactly_the_ratio_is_hidden(patches, ratio, left):
    assert num_visible(patches, ratio) == left
    assert sample_visible(torch.ones(patches), (2, 3), ratio, seeded()).shape == (2, 3, left)


def test_patches_are_sorted_and_drawn_once():
    visible = sample_visible(keep_weights(8, 4.0, 20.0), (3, 50), 0.75, seeded())
    assert (visible.diff(dim=-1) > 0).all()
    assert visible.min() >= 0 and visible.max() < 64


def test_same_generator_same_patches():
    weights = keep_weights(8, 3.0, 20.0)
    first = sample_visible(weights, (2, 9), 0.75, seeded(5))
    assert torch.equal(first, sample_visible(weights, (2, 9), 0.75, seeded(5)))
    assert not torch.equal(first, sample_visible(weights, (2, 9), 0.75, seeded(6)))
    assert not torch.equal(first[0, 0], first[0, 1]), "frames of a clip are drawn independently"


@pytest.mark.parametrize(
    "weights", [[1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 4.0, 8.0, 1.0], [20.0, 3.0, 1.0, 1.0, 1.0]]
)
def test_keep_probability_is_that_of_drawing_one_by_one(weights):
    draws = 40_000
    visible = sample_visible(torch.tensor(weights), (1, draws), 0.6, seeded())
    found = torch.bincount(visible.flatten(), minlength=5) / draws
    wanted = torch.tensor(keep_probability(weights, 2))
    assert wanted.sum().item() == pytest.approx(2)
    assert (found - wanted).abs().max() < 5 * 0.5 / draws**0.5


def test_weights_of_a_small_grid_counted_by_hand():
    grid, weights = 8, keep_weights(8, 3.0, 20.0).tolist()

    def inside(region, row, column):
        left, top, right, bottom = region
        return left <= (column + 0.5) / grid <= right and top <= (row + 0.5) / grid <= bottom

    for row in range(grid):
        for column in range(grid):
            mouth, face = inside(MOUTH_REGION, row, column), inside(FACE_REGION, row, column)
            assert weights[row * grid + column] == (20.0 if mouth else 3.0 if face else 1.0)


def test_bypass_1_is_uniform_and_bypass_2_prefers_the_face():
    mask = MaskConfig(face_weight=4.0, mouth_weight=8.0)
    assert set(mask.weights(16, 1).tolist()) == {1.0}
    assert set(mask.weights(16, 2).tolist()) == {1.0, 4.0, 8.0}


@pytest.mark.parametrize(
    ("grid", "face", "mouth"), [(8, 3.0, 20.0), (16, 4.0, 4.0), (16, 4.0, 8.0), (14, 1.0, 1.0)]
)
def test_likeliest_view_is_mirror_symmetric(grid, face, mouth):
    visible = likeliest_visible(keep_weights(grid, face, mouth), (2, 3), 0.75)
    assert visible.shape == (2, 3, round(grid * grid / 4))
    shown = torch.zeros(grid * grid, dtype=torch.bool)
    shown[visible[1, 2]] = True
    picture = shown.view(grid, grid)
    assert torch.equal(picture, picture.flip(1)) or visible.shape[-1] % 2


def test_likeliest_view_of_the_tiny_recipe_is_the_mouth():
    visible = likeliest_visible(keep_weights(8, 3.0, 20.0), (1, 1), 0.75)[0, 0]
    assert visible.tolist() == [8 * row + column for row in range(4, 8) for column in range(2, 6)]
