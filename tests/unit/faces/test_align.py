"""The aligned crop: exact on known similarities, true to the half pixel, free of aliasing."""

from __future__ import annotations

import numpy as np
import pytest

from lipsync_cli.faces.align import (
    STABLE_INDICES,
    CropGeometry,
    cut,
    fit_similarity,
    invert,
    smooth_matrices,
)


def similarity(scale, angle, x, y):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


def face_at(matrix, geometry):
    """Landmarks whose stable points the inverse of `matrix` puts into the source."""
    landmarks = np.full((478, 2), np.nan)
    back = invert(matrix[None])[0]
    landmarks[STABLE_INDICES] = geometry.template() @ back[:, :2].T + back[:, 2]
    return landmarks


def test_template_is_where_the_crop_promises():
    template = dict(zip(STABLE_INDICES, CropGeometry(size_px=100, margin_px=10).template(), strict=True))
    assert CropGeometry(size_px=100, margin_px=10).side_px == 120
    # Eyes: 0.597 · 42 px from the middle, 0.014 · 42 px above the level at 24 px; then the margin.
    assert template[33] == pytest.approx([60 - 25.074, 34 - 0.588])
    assert template[263] == pytest.approx([60 + 25.074, 34 - 0.588])
    assert template[2] == pytest.approx([60, 34 + 27.132])


def test_fit_recovers_a_known_similarity():
    geometry = CropGeometry()
    rng = np.random.default_rng(0)
    for scale, angle, x, y in zip(
        rng.uniform(0.1, 4, 5),
        rng.uniform(-3, 3, 5),
        rng.uniform(-900, 900, 5),
        rng.uniform(-900, 900, 5),
        strict=True,
    ):
        true = similarity(scale, angle, x, y)
        assert fit_similarity(face_at(true, geometry)[None], geometry)[0] == pytest.approx(true, abs=1e-9)


def test_fit_is_the_least_squares_one():
    """No nearby similarity does better on points that do not fit exactly."""
    geometry = CropGeometry()
    rng = np.random.default_rng(1)
    landmarks = face_at(similarity(0.5, 0.2, 30, -20), geometry)
    landmarks[STABLE_INDICES] += rng.normal(0, 4, (9, 2))
    best = fit_similarity(landmarks[None], geometry)[0]

    def error(matrix):
        found = landmarks[STABLE_INDICES] @ matrix[:, :2].T + matrix[:, 2]
        return ((found - geometry.template()) ** 2).sum()

    for _ in range(50):
        change = similarity(*rng.normal([1, 0, 0, 0], [0.01, 0.01, 0.3, 0.3]))
        other = change[:, :2] @ best
        other[:, 2] += change[:, 2]
        assert error(other) > error(best)


def test_jaw_does_not_move_the_crop():
    geometry = CropGeometry()
    landmarks = np.zeros((2, 478, 2))
    landmarks[:] = np.nan_to_num(face_at(similarity(0.5, 0.1, 3, 4), geometry))
    landmarks[1, 152] += 40  # chin
    assert fit_similarity(landmarks, geometry)[0] == pytest.approx(fit_similarity(landmarks, geometry)[1])


def test_smoothing_leaves_steady_motion_alone_and_does_not_lag():
    times_s = np.arange(25) / 25
    places = np.stack([[[0.5, 0, 100 + 200 * t], [0, 0.5, 50 - 80 * t]] for t in times_s])  # crop → source
    smooth = invert(smooth_matrices(invert(places), times_s, 0.08))
    assert smooth[9:-9] == pytest.approx(places[9:-9], abs=1e-3)


def test_smoothing_weights_are_gaussian():
    times_s = np.array([0.0, 0.04, 0.12])
    places = np.stack([similarity(1, 0, x, 0) for x in (0.0, 0.0, 1.0)])
    smooth = invert(smooth_matrices(invert(places), times_s, 0.08))
    weights = np.exp(-((0.04 - times_s) ** 2) / (2 * 0.08**2))
    assert smooth[1, 0, 2] == pytest.approx(weights[2] / weights.sum())
    assert np.array_equal(smooth_matrices(places, times_s, 0), places)


def test_cut_of_the_identity_is_the_picture():
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(cut(image, np.eye(2, 3), 32), image)
    assert np.array_equal(cut(image[..., 0], np.eye(2, 3), 32), image[..., 0])


@pytest.mark.parametrize("scale", [0.9, 0.55, 0.3, 0.11])
def test_cut_is_true_to_a_fraction_of_a_pixel(scale):
    """A soft spot at a known place of the source lands where the matrix says, shrunk first or not."""
    y, x = np.mgrid[:600, :800]
    spot = np.array([401.3, 287.6])
    distance = (x - spot[0]) ** 2 + (y - spot[1]) ** 2
    image = (250 * np.exp(-distance / (2 * (3 / scale) ** 2))).astype(np.uint8)
    to_crop = similarity(scale, 0.3, 0, 0)
    to_crop[:, 2] = [33.7, 30.2] - to_crop[:, :2] @ spot
    crop = cut(image, to_crop, 64).astype(float)
    v, u = np.mgrid[:64, :64]
    middle = np.array([(crop * u).sum(), (crop * v).sum()]) / crop.sum()
    assert middle == pytest.approx([33.7, 30.2], abs=0.06)


def test_large_faces_do_not_alias():
    checkers = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    crop = cut(checkers, similarity(0.24, 0.1, 10, -5), 64)
    inside = crop[16:48, 16:48].astype(float)
    assert abs(inside - 127.5).max() < 12


def test_outside_the_picture_the_edge_repeats():
    image = np.full((40, 40), 80, np.uint8)
    assert (cut(image, similarity(0.3, 0, 60, 60), 64) == 80).all()
    assert (cut(image, similarity(2, 0, -200, 30), 64) == 80).all()
