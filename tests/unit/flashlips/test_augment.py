"""Colours are changed as ColorJitter does, the same for every picture of an example."""

import numpy as np
import pytest

from lipsync_cli.networks.flashlips.augment import AugmentConfig, colour_jitter, mixed, turned_hue

RNG = np.random.default_rng(0)
PICTURES = RNG.random((2, 4, 5, 3), np.float32)
NONE = AugmentConfig(brightness=0, contrast=0, saturation=0, hue=0, colour=1.0)


def jitter(seed=0, **config):
    from dataclasses import replace

    return colour_jitter(PICTURES, replace(NONE, **config), np.random.default_rng(seed))


def test_nothing_asked_nothing_changed():
    np.testing.assert_allclose(jitter(), PICTURES, atol=1e-5)
    assert jitter(colour=0.0, hue=0.4) is PICTURES


def test_nine_of_ten_are_changed():
    rng = np.random.default_rng(0)
    one = PICTURES[:1, :1, :1]
    changed = sum(colour_jitter(one, AugmentConfig(), rng) is not one for _ in range(600))
    assert abs(changed / 600 - 0.9) < 0.04


def test_brightness_is_one_factor_for_all():
    dark = PICTURES * 0.4
    out = colour_jitter(
        dark,
        AugmentConfig(colour=1, brightness=0.4, contrast=0, saturation=0, hue=0),
        np.random.default_rng(1),
    )
    ratio = out / dark
    assert ratio.min() >= 0.6 and ratio.max() <= 1.4 and np.ptp(ratio) < 1e-3 and abs(ratio.mean() - 1) > 0.01


def test_greys_stay_grey_and_keep_their_level_under_saturation_and_hue():
    grey = np.full((1, 2, 2, 3), 0.3, np.float32)
    out = colour_jitter(grey, AugmentConfig(colour=1, brightness=0, contrast=0), np.random.default_rng(2))
    np.testing.assert_allclose(out, 0.3, atol=1e-3)


def test_saturation_goes_away_from_grey():
    red = np.array([[[[0.6, 0.4, 0.4]]]], np.float32)
    level = 0.4 + 0.2 * 0.299
    out = mixed(red, np.full((1, 1, 1, 1), level), 2.0)
    np.testing.assert_allclose(out, 2 * red - level, rtol=1e-6)
    np.testing.assert_allclose(mixed(red, np.full((1, 1, 1, 1), level), 0.0), level)


@pytest.mark.parametrize(("turn", "colour"), [(1 / 3, (0, 1, 0)), (-1 / 3, (0, 0, 1)), (0.5, (0, 1, 1))])
def test_hue_goes_round(turn, colour):
    red = np.array([[[[1.0, 0.0, 0.0]]]], np.float32)
    np.testing.assert_allclose(turned_hue(red, turn)[0, 0, 0], colour, atol=1e-5)


def test_colours_stay_colours():
    for seed in range(20):
        out = colour_jitter(PICTURES, AugmentConfig(colour=1.0), np.random.default_rng(seed))
        assert out.dtype == np.float32 and out.min() >= 0 and out.max() <= 1
