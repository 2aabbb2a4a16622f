"""Cuts are found; motion, flashes and fades are not taken for cuts."""

from __future__ import annotations

import numpy as np

from lipsync_cli.media.shots import ShotDetector


def scene(seed, size=(180, 320)):
    """Blobs of light: structure at the scale of people and furniture."""
    noise = np.random.default_rng(seed).random((6, 8, 3))
    rows = np.linspace(0, 5, size[0]).round().astype(int)
    columns = np.linspace(0, 7, size[1]).round().astype(int)
    return (noise[rows][:, columns] * 255).astype(np.uint8)


def cuts(images):
    detector = ShotDetector()
    return [n for n, image in enumerate(images) if detector.is_cut(image)]


def test_hard_cuts_are_found_at_their_frame():
    images = [scene(n // 20) for n in range(100)]
    assert cuts(images) == [20, 40, 60, 80]


def test_motion_noise_flash_and_fade_are_no_cuts():
    rng = np.random.default_rng(0)
    base = scene(1)
    pan = [np.roll(base, 3 * n, axis=1) for n in range(30)]
    noisy = [np.clip(base + rng.normal(0, 12, base.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    flash = [base] * 5 + [np.clip(base * 0.4 + 150, 0, 255).astype(np.uint8)] + [base] * 5
    fade = [(base * (1 - n / 25)).astype(np.uint8) for n in range(26)]
    assert [cuts(images) for images in (pan, noisy, flash, fade)] == [[], [], [], []]


def test_the_first_frame_starts_nothing():
    assert cuts([scene(1)]) == []
