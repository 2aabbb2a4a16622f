"""Pasting: nothing outside the mask, the same light, the source's own detail where nothing moved."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lipsync_cli.dubbing.compositing import NewMouth, make_patch, match_colour, mouth_box, new_mouth, sameness

SIDE = 64


def disc(radius: float = 20, feather: float = 5) -> np.ndarray:
    """A soft round mask in the middle of a crop."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.clip((radius - np.hypot(x - SIDE / 2, y - SIDE / 2)) / feather, 0, 1).astype(np.float32)


def mouth_of(before: np.ndarray, after: np.ndarray, mask: np.ndarray, to_crop: np.ndarray) -> NewMouth:
    made = new_mouth(before * 255, after * 255, mask, to_crop)
    assert made is not None
    return made


def texture(shape: tuple[int, int], seed: int = 0, blur: float = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).random((*shape, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return 0.5 + (smooth - smooth.mean()) * 2


def turned(scale: float, angle: float, at: tuple[float, float]) -> np.ndarray:
    """Source pixels → crop pixels: `at` comes to the middle of the crop."""
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, SIDE / 2 - linear @ np.array(at)])


def test_the_box_holds_the_mask_and_not_much_more():
    to_crop = turned(0.5, 0.3, (100, 80))
    mouth = mouth_of(np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE, 3)), disc(), to_crop)
    left, top, right, bottom = mouth_box(mouth, (300, 200))
    radius = 20 / 0.5  # source pixels
    assert 100 - left == pytest.approx(radius * 1.3, abs=12) and right - 100 == pytest.approx(
        radius * 1.3, abs=12
    )
    assert 80 - top == pytest.approx(radius * 1.3, abs=12) and bottom - 80 == pytest.approx(
        radius * 1.3, abs=12
    )


def test_the_box_ends_where_the_picture_does_and_an_empty_mask_has_none():
    blank = np.zeros((SIDE, SIDE, 3))
    at_corner = mouth_of(blank, blank, disc(), turned(0.5, 0, (5, 195)))
    left, top, right, bottom = mouth_box(at_corner, (300, 200))
    assert (left, bottom) == (0, 200) and right < 60 and top > 140
    assert new_mouth(blank, blank, disc() * 0, turned(1, 0, (50, 50))) is None
    assert mouth_box(mouth_of(blank, blank, disc(), turned(1, 0, (900, 900))), (300, 200)) is None


def test_a_mouth_that_stays_as_it_is_changes_no_pixel():
    source = texture((200, 300), blur=0.7)  # much finer than the crop can hold
    to_crop = turned(0.3, 0.2, (150, 100))
    before = cv2.warpAffine(source, to_crop, (SIDE, SIDE), flags=cv2.INTER_AREA)
    mouth = mouth_of(before, before.copy(), disc(), to_crop)
    left, top, right, bottom = mouth_box(mouth, (300, 200))
    patch = make_patch(mouth, source[top:bottom, left:right], left, top)
    assert np.abs(patch.rgb - source[top:bottom, left:right])[patch.alpha > 0].max() < 1e-3


def test_the_edge_of_the_patch_fades_to_nothing():
    to_crop = turned(0.4, -0.4, (150, 100))
    mouth = mouth_of(texture((SIDE, SIDE)), texture((SIDE, SIDE), 1), disc(), to_crop)
    left, top, right, bottom = mouth_box(mouth, (300, 200))
    patch = make_patch(mouth, np.zeros((bottom - top, right - left, 3), np.float32), left, top)
    rim = np.concatenate([patch.alpha[0], patch.alpha[-1], patch.alpha[:, 0], patch.alpha[:, -1]])
    assert rim.max() == 0 and patch.alpha.max() == pytest.approx(1, abs=1e-3)
    y, x = np.mgrid[top:bottom, left:right]
    far = np.hypot(x - 150, y - 100) > (20 + 1) / 0.4  # a crop pixel beyond the disc
    assert patch.alpha[far].max() == 0


def test_a_new_mouth_takes_on_the_light_around_it():
    before = texture((SIDE, SIDE), blur=6)
    ramp = np.linspace(-0.06, 0.06, SIDE, dtype=np.float32)[None, :, None] + np.float32([0.03, 0, -0.03])
    matched = match_colour(before, before + ramp, disc())
    inside = disc() > 0.05
    assert np.abs(matched - before)[inside].max() < 0.035 < np.abs(ramp).max()
    assert (
        np.abs(matched - before)[inside].mean()
        < 0.25 * np.abs(np.broadcast_to(ramp, before.shape))[inside].mean()
    )


def test_lips_at_the_edge_are_not_taken_for_light():
    before = np.full((SIDE, SIDE, 3), 0.6, np.float32)
    after = before.copy()
    after[40:56, 24:40] = 0.1  # an open mouth that reaches the lower edge of the mask
    matched = match_colour(before, after, disc())
    assert np.abs(matched - after)[:32].max() < 0.02


def test_detail_is_kept_only_where_the_mouth_stayed():
    before = texture((SIDE, SIDE), blur=6)
    after = before.copy()
    after[24:40, 24:40] = 0.05
    same = sameness(before, after, SIDE)
    assert same[28:36, 28:36].max() < 0.02
    assert same[:12].min() > 0.98


@pytest.mark.parametrize("scale", [0.15, 0.5, 1.0, 2.5])
def test_a_small_and_a_large_face_get_a_patch_of_their_own_size(scale):
    """A dot painted at a known place of the crop comes out where the similarity says."""
    to_crop = turned(scale, 0.5, (400, 300))
    before = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    after = before.copy()
    cv2.circle(after, (36, 28), 4, (1.0, 1.0, 1.0), -1)
    mouth = mouth_of(before, after, disc(), to_crop)
    left, top, right, bottom = mouth_box(mouth, (800, 600))
    patch = make_patch(mouth, np.full((bottom - top, right - left, 3), 0.5, np.float32), left, top)
    bright = np.clip(patch.rgb[..., 1] - 0.55, 0, None)
    y, x = np.mgrid[top:bottom, left:right]
    seen = np.array([(x * bright).sum(), (y * bright).sum()]) / bright.sum()
    meant = np.linalg.solve(to_crop[:, :2], np.array([36, 28]) - to_crop[:, 2])
    assert seen == pytest.approx(meant, abs=max(0.15 / scale, 0.15))
