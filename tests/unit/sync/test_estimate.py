from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.sync.estimate import LeadConfig, estimate_lead, rival_share, words
from lipsync_cli.sync.reasons import Evidence

RATE = Fraction(100)
FILM = Fraction(24000, 1001)


def codes(estimate):
    return {reason.code for reason in estimate.reasons}


@pytest.mark.parametrize("lead_ms", [-310.0, -82.0, 0.0, 41.7, 120.0])
def test_a_planted_lead_is_found_and_trusted(plant, lead_ms):
    found = estimate_lead(*plant(1, frames=250, lead_ms=lead_ms, noise=0.7), audio_rate=RATE)
    assert found.trusted
    assert found.audio_lead_ms == pytest.approx(lead_ms, abs=4)
    assert found.interval_low_ms <= found.audio_lead_ms <= found.interval_high_ms
    assert found.confidence > 0.95
    assert found.n_frames_used == 250
    assert found.curve.shape == found.curve_leads_ms.shape == (121,)


@pytest.mark.parametrize("frames", [75, 250])
def test_random_embeddings_get_no_decision(random_unit, frames):
    found = [
        estimate_lead(random_unit(s, frames), random_unit(s + 1000, 4 * frames), audio_rate=RATE)
        for s in range(200)
    ]
    undecided = sum(not f.trusted for f in found)
    confidence = np.mean([f.confidence for f in found])
    print(f"{frames} random frames: {undecided}/200 undecided, mean confidence {confidence:.3f}")
    assert undecided >= 190
    assert sum("no-match" in codes(f) for f in found) >= 190
    assert confidence < 0.15  # guessing would be within a frame in 81 of 1201 ms: 0.07


def test_a_voice_over_gets_no_decision(plant):
    """Lips and sound as smooth and as long-correlated as real ones, but of two people."""
    undecided = 0
    for seed in range(60):
        vocal, audio = plant(seed)[0], plant(seed + 500)[1]
        undecided += not estimate_lead(vocal, audio, audio_rate=RATE).trusted
    assert undecided >= 57


def test_a_steady_rhythm_is_not_trusted(plant):
    """Speech that repeats every 8 frames fits 320 ms earlier and later just as well."""
    vocal, audio = plant(0, frames=250, lead_ms=40, noise=0.3)
    vocal, audio = np.tile(vocal[:8], (30, 1)), np.tile(audio[:32], (30, 1))
    found = estimate_lead(vocal, audio, audio_rate=RATE)
    assert "several-peaks" in codes(found)
    assert found.evidence.rival_share > 0.95


def test_a_lead_beyond_the_range_ends_at_its_edge_or_nowhere(plant):
    found = estimate_lead(*plant(0, lead_ms=630, noise=0.3), audio_rate=RATE)
    assert codes(found) & {"edge", "no-match"}


def test_too_little_to_compare(plant):
    vocal, audio = plant(0, frames=250)
    seen = np.zeros(250, bool)
    found = estimate_lead(vocal, audio, audio_rate=RATE, vocal_valid=seen)
    assert (codes(found), found.n_frames_used, found.confidence) == ({"too-short"}, 0, 0.0)
    assert np.isnan(found.audio_lead_ms)
    assert words(found, FILM).startswith("cannot tell: only 0.0 s")
    seen[100:130] = True
    found = estimate_lead(vocal, audio, audio_rate=RATE, vocal_valid=seen)
    assert "too-short" in codes(found)
    assert found.n_frames_used == 30


def test_what_the_caller_knows_is_weighed_too(plant):
    found = estimate_lead(*plant(0), audio_rate=RATE, evidence=Evidence(music_share=0.9))
    assert codes(found) == {"music"}
    assert words(found, FILM) == "cannot tell: most of the sound is music"


def test_bias_moves_everything_and_systematic_error_widens(plant):
    clip = plant(0, lead_ms=100, noise=0.7)
    plain = estimate_lead(*clip, audio_rate=RATE)
    moved = estimate_lead(*clip, audio_rate=RATE, config=LeadConfig(bias_ms=30))
    for name in ("audio_lead_ms", "interval_low_ms", "interval_high_ms"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name) - 30)
    assert moved.curve_leads_ms[0] == -630
    wide = estimate_lead(*clip, audio_rate=RATE, config=LeadConfig(systematic_ms=10))
    for plain_side, wide_side in (
        (plain.audio_lead_ms - plain.interval_low_ms, wide.audio_lead_ms - wide.interval_low_ms),
        (plain.interval_high_ms - plain.audio_lead_ms, wide.interval_high_ms - wide.audio_lead_ms),
    ):
        assert wide_side == pytest.approx((plain_side**2 + 19.6**2) ** 0.5, abs=0.01)


def test_masked_stretches_do_not_count(plant):
    """Half the clip is another voice; marked invalid, it changes nothing but the number of frames."""
    vocal, audio = plant(0, frames=500, lead_ms=80, noise=0.5)
    audio[1000:] = plant(9, frames=500)[1][1000:]
    valid = np.arange(2000) < 1000
    found = estimate_lead(vocal, audio, audio_rate=RATE, audio_valid=valid)
    assert found.trusted
    assert found.audio_lead_ms == pytest.approx(80, abs=4)
    assert found.n_frames_used == 250 + 15  # frames whose latest candidate still reaches valid sound


def test_rivals_are_local_peaks_outside_the_lobe():
    leads = np.arange(-600.0, 601, 10)

    def bump(at, width):
        return np.exp(-0.5 * ((leads - at) / width) ** 2)

    assert rival_share(leads, bump(0, 40)) == 0
    assert rival_share(leads, bump(0, 200)) == 0  # wide, but one
    assert rival_share(leads, bump(0, 30) + 0.6 * bump(300, 30)) == pytest.approx(0.6, abs=0.01)
    assert rival_share(leads, bump(0, 30) + 0.7 * bump(-600, 30)) == pytest.approx(0.7, abs=0.01)
    assert rival_share(leads, np.zeros(121)) == 1


def test_words_say_the_side_first(plant):
    def say(lead_ms):
        return words(estimate_lead(*plant(1, frames=500, lead_ms=lead_ms, noise=0.5), audio_rate=RATE), FILM)

    early, late, fine = say(83.4), say(-83.4), say(0)
    print(early, late, fine, sep="\n")
    assert early.startswith("sound is EARLY by 8")
    assert "(2.0 frames at 23.976); delay it by 8" in early
    assert late.startswith("sound is LATE by 8")
    assert "advance it by 8" in late
    assert fine.startswith("in sync within ")
    assert int(fine.split()[3]) <= 10
