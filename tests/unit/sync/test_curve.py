from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.sync.curve import frame_leads_ms, lag_curve, peak_leads_ms
from lipsync_cli.sync.similarity import Band, banded_similarity

LEADS = np.arange(-600.0, 601, 10)


def test_the_curve_is_the_mean_of_the_valid_pairs():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 5)).astype(np.float32)
    values[rng.random((40, 5)) < 0.3] = np.nan
    values[10:, 4] = np.nan  # too few frames left to compete
    curve = lag_curve(Band(values, np.arange(5) * 10.0))
    for lead in range(4):
        column = [float(v) for v in values[:, lead] if v == v]
        assert curve.counts[lead] == len(column)
        assert curve.values[lead] == pytest.approx(sum(column) / len(column), abs=1e-6)
    assert np.isnan(curve.values[4])


@pytest.mark.parametrize("vertex_ms", [-313.3, -4.9, 0.0, 82.7, 555.0])
@pytest.mark.parametrize("half_width_ms", [1, 10, 30])
def test_the_vertex_of_a_parabola_is_found_exactly(vertex_ms, half_width_ms):
    curves = np.stack([1 - 1e-5 * (LEADS - vertex_ms) ** 2, -3e-4 * (LEADS - vertex_ms) ** 2])
    np.testing.assert_allclose(peak_leads_ms(LEADS, curves, half_width_ms), vertex_ms, atol=1e-6)


def test_a_curve_without_an_inner_peak_answers_its_highest_point():
    assert peak_leads_ms(LEADS, LEADS) == 600
    assert peak_leads_ms(LEADS, -LEADS) == -600
    assert np.isnan(peak_leads_ms(LEADS, np.full(121, np.nan)))
    half = np.where(LEADS < 0, np.nan, -LEADS)
    assert peak_leads_ms(LEADS, half) == 0


@pytest.mark.parametrize("lead_ms", [-233.0, -81.7, -3.3, 0.0, 16.0, 41.71, 404.4])
def test_sub_frame_leads_are_recovered(plant, lead_ms):
    errors = []
    for seed in range(4):
        vocal, audio = plant(seed, frames=500, lead_ms=lead_ms, noise=0.7)
        band = banded_similarity(vocal, audio, audio_rate=Fraction(100))
        errors.append(float(peak_leads_ms(band.leads_ms, lag_curve(band).values)) - lead_ms)
    print(f"lead {lead_ms} ms: errors {np.round(errors, 2)} ms")
    assert max(map(abs, errors)) < 3


def test_frame_answers_agree_better_after_smoothing(plant):
    vocal, audio = plant(5, frames=400, lead_ms=120, noise=1.0)
    band = banded_similarity(vocal, audio, audio_rate=Fraction(100))
    hits = [np.mean(np.abs(frame_leads_ms(band, window) - 120) < 40) for window in (1, 5, 15)]
    print(f"frames within 40 ms after smoothing over 1, 5, 15 frames: {np.round(hits, 2)}")
    assert hits[0] < hits[1] < hits[2]
    assert hits[2] > 0.7
