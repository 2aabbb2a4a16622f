import numpy as np
import pytest

from lipsync_cli.metrics.sync import (
    clip_lag_scores,
    frame_lag_scores,
    lip_sync_error,
    r_precision_cross_clip,
    r_precision_same_clip,
    smooth_over_time,
)


def unit(seed, rows, dims=32):
    values = np.random.default_rng(seed).normal(size=(rows, dims))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def frame_band(vocal, audio, max_lag=15):
    """(T, C): column c pairs frame t with the sound c - max_lag frames before it; NaN outside the clip."""
    band = np.full((len(vocal), 2 * max_lag + 1), np.nan)
    for t in range(len(vocal)):
        for c in range(2 * max_lag + 1):
            if 0 <= t - (c - max_lag) < len(audio):
                band[t, c] = vocal[t] @ audio[t - (c - max_lag)]
    return band


@pytest.mark.parametrize("window", [1, 3, 5, 15, 101])
def test_smoothing_is_the_mean_of_what_is_there(window):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 4))
    values[rng.random((40, 4)) < 0.4] = np.nan
    smooth = smooth_over_time(values, window)
    checked = 0
    for t in range(40):
        for c in range(4):
            near = [v for v in values[max(0, t - window // 2) : t + window // 2 + 1, c] if v == v]
            if near:
                assert smooth[t, c] == pytest.approx(sum(near) / len(near), abs=1e-12)
                checked += 1
            else:
                assert np.isnan(smooth[t, c])
    assert checked > 80


@pytest.mark.parametrize("window", [0, 4, -1])
def test_a_window_without_a_centre_is_refused(window):
    with pytest.raises(ValueError, match="odd"):
        smooth_over_time(np.zeros((5, 2)), window)


@pytest.mark.parametrize("lag", [-14, -3, 0, 9])
@pytest.mark.parametrize("window", [1, 5, 15])
def test_a_planted_shift_is_scored_as_exact(lag, window):
    vocal = unit(0, 120)
    band = frame_band(vocal, np.roll(vocal, -lag, axis=0))  # the sound of frame t is at t - lag
    scores = frame_lag_scores([band], [lag], window)
    assert (scores.accuracy_percent, scores.mean_error_frames) == (100, 0)
    assert scores.frames == 120 - 30
    assert clip_lag_scores([band], [lag]).mean_error_frames == 0
    off_by_two = frame_lag_scores([band], [lag - 2], window)
    assert (off_by_two.accuracy_percent, off_by_two.mean_error_frames) == (0, 2)
    assert frame_lag_scores([band], [lag + 1], window).accuracy_percent == 100  # within the tolerance


def test_unrelated_sound_scores_as_chance_says():
    bands = [frame_band(unit(seed, 230), unit(seed + 500, 230)) for seed in range(25)]
    scores = frame_lag_scores(bands, [0] * 25, 1)
    print(
        f"chance: accuracy {scores.accuracy_percent:.2f} %, mean error {scores.mean_error_frames:.2f} frames"
    )
    assert scores.frames == 5000
    assert scores.accuracy_percent == pytest.approx(100 * 3 / 31, abs=1.5)
    assert scores.mean_error_frames == pytest.approx(240 / 31, abs=0.25)


def test_clips_and_frames_are_averaged_apart():
    """90 exact frames in one clip, 10 frames five off in another: 90 % of frames, 50 % of clips."""
    exact, off = np.zeros((90, 31)), np.zeros((10, 31))
    exact[:, 15] = off[:, 20] = 1
    scores = frame_lag_scores([exact, off, np.full((4, 31), np.nan)], [0, 0, 0], 1)
    assert (scores.accuracy_percent, scores.clip_accuracy_percent) == (90, 50)
    assert (scores.mean_error_frames, scores.clip_mean_error_frames) == (0.5, 2.5)
    assert (scores.frames, scores.clips) == (100, 2)
    whole = clip_lag_scores([exact, off], [0, 0])
    assert (whole.accuracy_percent, whole.mean_error_frames, whole.clips) == (50, 2.5, 2)


def test_nothing_to_count_is_nan_not_zero():
    empty = np.full((5, 31), np.nan)
    assert np.isnan(frame_lag_scores([empty], [0], 5).accuracy_percent)
    assert np.isnan(clip_lag_scores([empty], [0]).mean_error_frames)
    assert np.isnan(r_precision_same_clip([unit(0, 10)], [unit(0, 10)]).at_1)


def test_the_wrong_range_is_refused():
    with pytest.raises(ValueError, match="31 candidate"):
        frame_lag_scores([np.zeros((50, 21))], [0], 1)


@pytest.mark.parametrize("measure", [r_precision_same_clip, r_precision_cross_clip])
def test_r_precision_of_unrelated_perfect_and_constant_embeddings(measure):
    vocals = [unit(seed, 120) for seed in range(20)]
    chance = measure(vocals, [unit(seed + 99, 120) for seed in range(20)])
    print(f"{measure.__name__}: {chance}")
    assert chance.queries == 2400
    for k, share in enumerate((chance.at_1, chance.at_2, chance.at_3), start=1):
        assert share == pytest.approx(100 * k / 32, abs=1.6)
    perfect = measure(vocals, vocals)
    assert (perfect.at_1, perfect.at_2, perfect.at_3) == (100, 100, 100)
    same = [np.tile(unit(0, 1), (120, 1))] * 20
    assert measure(same, same).at_3 == 0
    assert measure(vocals, vocals[::-1]) == measure(vocals, vocals[::-1])


def test_neighbours_are_kept_out_of_the_pool_when_asked():
    """Each frame equals its neighbours: they tie with the true one unless they are excluded."""
    vocal = np.repeat(unit(0, 40), 3, axis=0)
    crowded = r_precision_same_clip([vocal], [vocal], exclude_frames=0)
    apart = r_precision_same_clip([vocal], [vocal], exclude_frames=2)
    assert crowded.at_1 < 70
    assert apart.at_1 == 100


def test_a_second_place_counts_at_two_and_three_only():
    """The pool is everything else; exactly one other frame is nearer to the sound than its own."""
    vocal = np.eye(33, dtype=np.float32)[:32]
    audio = vocal * 0.5 + np.roll(vocal, 1, axis=0) * 0.8
    found = [r_precision_same_clip([vocal], [audio], seed=seed) for seed in (0, 5)]
    assert found[0] == found[1]  # nothing is left to chance
    r = found[0]
    assert (r.at_1, r.at_2, r.at_3) == (0, 100, 100)


def test_lip_sync_error_is_median_less_min_and_min():
    curve = np.array([12.0, 11, 10, 3, 9, 13, 14, np.nan])
    found = lip_sync_error(curve)
    assert (found.confidence, found.distance) == (11 - 3, 3)
    assert lip_sync_error(np.roll(curve, 2)) == found  # blind to a constant lag
