from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.sync.curve import lag_curve, peak_leads_ms
from lipsync_cli.sync.similarity import banded_similarity


def brute_force(vocal, audio, step, audio_start_s, max_lead_ms, vocal_valid, audio_valid):
    """Every pair looked at one by one: {(frame, lead_ms): similarity}."""
    found = {}
    for k in range(len(vocal)):
        for j in range(len(audio)):
            lead_ms = (Fraction(k, 25) - (audio_start_s + Fraction(j, 25 * step))) * 1000
            if abs(lead_ms) <= max_lead_ms and vocal_valid[k] and audio_valid[j]:
                found[k, float(lead_ms)] = float(vocal[k] @ audio[j])
    return found


@pytest.mark.parametrize(
    "step,start",
    [(1, Fraction(0)), (4, Fraction(0)), (4, Fraction(3, 1000)), (2, Fraction(-1, 3)), (4, Fraction(7, 10))],
)
def test_the_band_holds_exactly_the_pairs_a_double_loop_finds(random_unit, step, start):
    vocal, audio = random_unit(0, 150), random_unit(1, 140 * step)
    rng = np.random.default_rng(2)
    vocal_valid, audio_valid = rng.random(150) > 0.2, rng.random(140 * step) > 0.2
    band = banded_similarity(
        vocal, audio, audio_rate=Fraction(25 * step), audio_start_s=start, max_lead_ms=200,
        vocal_valid=vocal_valid, audio_valid=audio_valid,
    )  # fmt: skip
    expected = brute_force(vocal, audio, step, start, 200, vocal_valid, audio_valid)
    assert len(expected) > 500
    got = {
        (k, band.leads_ms[i]): band.values[k, i]
        for k, i in zip(*np.nonzero(np.isfinite(band.values)), strict=True)
    }
    assert got.keys() == expected.keys()
    assert max(abs(got[key] - expected[key]) for key in expected) < 1e-6


@pytest.mark.parametrize("delay_frames", [-5, -1, 2, 7])
def test_delaying_the_sound_lowers_the_lead_by_as_much(plant, delay_frames):
    vocal, audio = plant(3, lead_ms=40, noise=0.5)
    leads = []
    for delay_s in (Fraction(0), Fraction(delay_frames, 25)):
        band = banded_similarity(vocal, audio, audio_rate=Fraction(100), audio_start_s=delay_s)
        leads.append(peak_leads_ms(band.leads_ms, lag_curve(band).values))
    assert leads[1] - leads[0] == pytest.approx(-40 * delay_frames, abs=0.5)


def test_early_sound_is_positive():
    """A click in the sound at 1.0 s whose picture is at 1.2 s: the sound is early by 200 ms."""
    vocal, audio = np.zeros((75, 2), np.float32), np.zeros((300, 2), np.float32)
    vocal[:, 0] = audio[:, 0] = 1
    vocal[30] = audio[100] = [0, 1]
    band = banded_similarity(vocal, audio, audio_rate=Fraction(100))
    assert band.leads_ms[np.nanargmax(lag_curve(band).values)] == 200


def test_garbage_in_invalid_rows_reaches_nothing(random_unit):
    vocal, audio = random_unit(0, 60), random_unit(1, 240)
    valid = np.arange(60) % 3 > 0
    clean = banded_similarity(vocal, audio, audio_rate=Fraction(100), vocal_valid=valid)
    vocal[~valid] = np.inf
    with np.errstate(invalid="ignore"):
        dirty = banded_similarity(vocal, audio, audio_rate=Fraction(100), vocal_valid=valid)
    np.testing.assert_array_equal(clean.values, dirty.values)


def test_wrong_shapes_and_rates_are_refused(random_unit):
    with pytest.raises(ValueError, match="whole multiple"):
        banded_similarity(random_unit(0, 5), random_unit(0, 9), audio_rate=Fraction(60))
    with pytest.raises(ValueError, match="must be"):
        banded_similarity(random_unit(0, 5, 8), random_unit(0, 9, 9), audio_rate=Fraction(100))
    with pytest.raises(ValueError, match="does not fit"):
        banded_similarity(
            random_unit(0, 5), random_unit(0, 9), audio_rate=Fraction(100), vocal_valid=np.ones(4, bool)
        )


def test_an_hour_fits_in_memory_bounded_by_the_band():
    import tracemalloc

    vocal, audio = np.full((90_000, 4), 0.5, np.float32), np.full((360_000, 4), 0.5, np.float32)
    tracemalloc.start()
    band = banded_similarity(vocal, audio, audio_rate=Fraction(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert band.values.shape == (90_000, 121)
    assert peak < 1.2 * band.values.nbytes
