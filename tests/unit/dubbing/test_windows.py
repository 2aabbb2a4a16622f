"""Windows cover every frame, join without a seam, and relate source pictures to the network's grid by time."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from lipsync_cli.dubbing.windows import Joiner, Window, first_window, lay_windows, model_clock


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 15, 16, 17, 100])
@pytest.mark.parametrize(("window", "overlap"), [(8, 0), (8, 3), (1, 0)])
def test_windows_cover_every_frame_in_order_of_time(count, window, overlap):
    windows = lay_windows(count, window, overlap)
    covered = np.zeros(count, int)
    for one in windows:
        assert 1 <= one.end - one.first <= window
        covered[one.first : one.end] += 1
    assert covered.min() == 1 or overlap
    assert covered.min() >= 1
    for before, after in pairwise(windows):
        assert after.first <= before.end - overlap and after.end > before.end


def test_a_window_is_never_short_where_the_run_is_long_enough_and_windows_overlap():
    assert {w.end - w.first for w in lay_windows(21, 8, 3)} == {8}
    assert [w.end - w.first for w in lay_windows(17, 8, 0)] == [8, 8, 1]


def test_the_first_window_with_a_part_in_a_frame():
    windows = [Window(0, 8), Window(5, 13), Window(10, 18)]
    assert [first_window(windows, frame) for frame in (0, 7, 8, 12, 13, 17)] == [0, 0, 1, 1, 2, 2]


def joined(windows, answers):
    joiner, out = Joiner(), {}
    for number, (window, answer) in enumerate(zip(windows, answers, strict=True)):
        following = windows[number + 1] if number + 1 < len(windows) else None
        first, frames = joiner.add(window, answer, following)
        for at, frame in enumerate(frames, first):
            assert at not in out
            out[at] = frame
    return out


@pytest.mark.parametrize(
    ("count", "window", "overlap"), [(30, 8, 3), (11, 8, 3), (20, 6, 4), (9, 8, 0), (5, 8, 2)]
)
def test_answers_that_agree_come_out_as_they_are_each_once(count, window, overlap):
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    windows = lay_windows(count, window, overlap)
    out = joined(windows, [frames[w.first : w.end] for w in windows])
    assert sorted(out) == list(range(count))
    for at, frame in out.items():
        assert frame == pytest.approx(at, abs=1e-4)


def test_where_windows_disagree_one_turns_into_the_other_in_equal_steps():
    windows = [Window(0, 8), Window(5, 13)]
    answers = [np.full((8, 1, 1, 3), value, np.uint8) for value in (0, 100)]
    out = joined(windows, answers)
    assert [round(float(out[at][0, 0, 0])) for at in range(3, 10)] == [0, 0, 25, 50, 75, 100, 100]


def test_an_engine_of_any_rate_sees_every_picture_at_its_own_time():
    times_s = np.array([0.0, 0.031, 0.08, 0.1])
    clock = model_clock(times_s, None)
    assert clock.position.tolist() == clock.before.tolist() == clock.after.tolist() == [0, 1, 2, 3]
    assert clock.times_s.tolist() == times_s.tolist()


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(12)])
def test_up_to_thirty_hertz_a_picture_gets_the_nearest_grid_answer(rate):
    times_s = 0.013 + np.arange(100) / float(rate)
    clock = model_clock(times_s, Fraction(25))
    assert np.allclose(np.diff(clock.times_s), 0.04)
    assert clock.before.tolist() == clock.after.tolist()
    assert np.abs(clock.times_s[clock.before] - times_s).max() <= 0.02 + 1e-9
    apart = np.abs(times_s[clock.position] - clock.times_s)
    best = np.abs(times_s[None] - clock.times_s[:, None]).min(1)
    assert np.allclose(apart, best)  # each model frame is cut from the picture nearest to its time


@pytest.mark.parametrize("rate", [Fraction(50), Fraction(60000, 1001), Fraction(120)])
def test_faster_pictures_lie_between_two_answers(rate):
    times_s = np.arange(100) / float(rate)
    clock = model_clock(times_s, Fraction(25))
    meant = (1 - clock.share) * clock.times_s[clock.before] + clock.share * clock.times_s[clock.after]
    assert meant == pytest.approx(times_s, abs=1e-9)
    assert clock.before.min() == 0 and clock.after.max() == len(clock.times_s) - 1


@pytest.mark.parametrize("times_s", [[0.0], [5.0], [0.0, 0.02], [0.0, 0.5]])
@pytest.mark.parametrize("rate", [None, Fraction(25)])
def test_very_short_runs_have_answers_for_all_their_pictures(times_s, rate):
    clock = model_clock(np.array(times_s), rate)
    assert len(clock.before) == len(times_s)
    assert clock.before.min() >= 0 and clock.after.max() < len(clock.position)
    assert clock.position.max() < len(times_s)
