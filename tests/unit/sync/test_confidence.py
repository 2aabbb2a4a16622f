from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.sync.confidence import bootstrap, confidence, peak_score, prominence, time_blocks
from lipsync_cli.sync.estimate import estimate_lead
from lipsync_cli.sync.similarity import Band

RATE = Fraction(100)


def test_blocks_are_sums_over_usable_frames_only():
    values = np.arange(300, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    values[50:100] = np.nan
    values[::7, 2] = np.nan
    blocks = time_blocks(Band(values, np.array([-10.0, 0, 10])), block_s=1.0)
    usable = [row for row in values if np.isfinite(row).any()]
    assert len(blocks.sums) == len(usable) // 25 == 10
    for index in range(9):
        rows = np.stack(usable[25 * index : 25 * index + 25])
        np.testing.assert_allclose(blocks.sums[index], np.nansum(rows, axis=0))
        np.testing.assert_array_equal(blocks.counts[index], np.isfinite(rows).sum(axis=0))
    np.testing.assert_allclose(blocks.sums.sum(axis=0), np.nansum(values, axis=0))


@pytest.mark.parametrize("frames,count", [(400, 16), (100, 8), (40, 4), (9, 1), (0, 0)])
def test_short_clips_get_shorter_blocks(frames, count):
    band = Band(np.ones((frames, 3), np.float32), np.array([-10.0, 0, 10]))
    assert len(time_blocks(band, block_s=1.0).sums) == count


def test_one_block_knows_nothing():
    leads = np.arange(-600.0, 601, 10)
    blocks = time_blocks(Band(np.ones((9, 121), np.float32), leads), 1.0)
    spread = bootstrap(blocks, leads, half_width_ms=30, replicates=50, level=0.95, seed=0)
    assert (spread.low_ms, spread.high_ms, spread.agreement) == (-600, 600, 0)


def test_the_same_seed_gives_the_same_interval_and_another_nearly_the_same(plant):
    from lipsync_cli.sync.estimate import LeadConfig

    vocal, audio = plant(0, lead_ms=82, noise=1.0)
    first, again, other = (
        estimate_lead(vocal, audio, audio_rate=RATE, config=LeadConfig(seed=seed)) for seed in (0, 0, 1)
    )
    assert first.interval_low_ms == again.interval_low_ms
    assert first.interval_low_ms != other.interval_low_ms
    assert first.interval_low_ms == pytest.approx(other.interval_low_ms, abs=2)


@pytest.mark.parametrize("frames,noise", [(75, 0.7), (150, 1.2), (500, 1.5)])
def test_a_95_percent_interval_covers_the_truth(plant, frames, noise):
    """Correlated signal and noise, so neighbouring frames repeat each other, as in speech."""
    runs, covered, widths = 80, 0, []
    for seed in range(runs):
        vocal, audio = plant(seed, frames=frames, lead_ms=82.3, noise=noise)
        found = estimate_lead(vocal, audio, audio_rate=RATE)
        covered += found.interval_low_ms <= 82.3 <= found.interval_high_ms
        widths.append(found.interval_high_ms - found.interval_low_ms)
    print(
        f"{frames} frames, noise {noise}: {covered}/{runs} covered, median width {np.median(widths):.1f} ms"
    )
    assert covered / runs >= 0.85
    assert np.median(widths) < 40  # an interval that covers by being useless does not count


def test_more_footage_narrows_the_interval(plant):
    widths = []
    for frames in (200, 1800):
        found = [estimate_lead(*plant(s, frames=frames, noise=1.2), audio_rate=RATE) for s in range(5)]
        widths.append(np.mean([f.interval_high_ms - f.interval_low_ms for f in found]))
    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.5)  # nine times the frames


def test_prominence_counts_standard_deviations_above_the_rest():
    leads = np.arange(-600, 601, 10.0)
    curve = np.where(np.arange(121) % 2, 0.1, -0.1)  # a rest of mean ~0 and deviation 0.1
    curve[60] = 0.5
    assert prominence(leads, curve) == pytest.approx(5, rel=0.02)
    assert prominence(leads, np.where(np.arange(121) == 3, np.nan, curve)) == pytest.approx(5, rel=0.03)
    assert prominence(leads, np.zeros(121)) == prominence(leads, np.full(121, np.nan)) == 0


def test_confidence_is_a_probability_that_rises_with_both():
    assert confidence(10, 1.0) > 0.99
    assert confidence(2, 0.5) < 0.05
    for low, high in ((3, 6), (5, 9)):
        assert confidence(low, 0.9) < confidence(high, 0.9)
        assert confidence(low, 0.6) < confidence(low, 0.99)
    assert 0 < confidence(0, 0.0) < confidence(100, 1.0) <= 1


def test_unrelated_streams_are_seldom_given_confidence(plant, random_unit):
    def sure(vocal, audio):
        return estimate_lead(vocal, audio, audio_rate=RATE).confidence

    assert sure(*plant(0, frames=100, noise=0.7)) > 0.95
    unrelated = np.array([sure(random_unit(s, 150), random_unit(s + 900, 600)) for s in range(200)])
    assert np.mean(unrelated >= 0.8) <= 0.02


def test_the_score_is_the_mirror_of_lse_c():
    from lipsync_cli.metrics.sync import lip_sync_error

    cosines = np.random.default_rng(0).normal(size=31)
    assert peak_score(cosines) == pytest.approx(lip_sync_error(1 - cosines).confidence)
    assert peak_score(np.full(5, np.nan)) == 0
