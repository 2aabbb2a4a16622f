from fractions import Fraction

import pytest

from lipsync_cli.sync.verdict import STANDARD_NAMES, Outcome, custom, judge, standard

FILM = Fraction(24000, 1001)


@pytest.mark.parametrize(
    "name,early_ms,late_ms",
    [
        ("ebu-r37", 40, 60),
        ("ebu-r37-stage", 5, 15),
        ("itu-j100", 20, 40),
        ("atsc-is191", 15, 45),
        ("bt1359", 45, 125),
        ("bt1359-acceptable", 90, 185),
        ("film", 42, 83),
        ("netflix", 1001 / 24, 1001 / 24),
    ],
)
def test_both_sides_of_every_standard(name, early_ms, late_ms):
    tolerance = standard(name, FILM)
    assert tolerance.early_ms == pytest.approx(early_ms)
    assert tolerance.late_ms == pytest.approx(late_ms)
    assert judge(-late_ms + 0.1, early_ms - 0.1, tolerance).outcome is Outcome.PASS
    assert judge(early_ms + 0.1, early_ms + 5, tolerance).outcome is Outcome.FAIL
    assert judge(-late_ms - 5, -late_ms - 0.1, tolerance).outcome is Outcome.FAIL
    assert judge(early_ms - 1, early_ms + 1, tolerance).outcome is Outcome.INDETERMINATE
    assert judge(-late_ms - 1, -late_ms + 1, tolerance).outcome is Outcome.INDETERMINATE
    assert judge(-999, 999, tolerance).outcome is Outcome.INDETERMINATE
    assert name in STANDARD_NAMES


def test_the_table_is_complete():
    assert len(STANDARD_NAMES) == 8
    with pytest.raises(KeyError, match="r38"):
        standard("r38", FILM)


def test_a_limit_passes_except_where_a_whole_frame_fails():
    assert judge(-60, 40, standard("ebu-r37", FILM)).outcome is Outcome.PASS
    assert judge(40, 40, standard("netflix", Fraction(25))).outcome is Outcome.FAIL
    assert judge(-40, -40, standard("netflix", Fraction(25))).outcome is Outcome.FAIL
    assert judge(-39.9, 39.9, standard("netflix", Fraction(25))).outcome is Outcome.PASS


def test_netflix_counts_in_the_frames_of_the_picture():
    assert judge(30, 31, standard("netflix", FILM)).outcome is Outcome.PASS
    assert judge(30, 31, standard("netflix", Fraction(50))).outcome is Outcome.FAIL


def test_a_doubtful_measurement_is_never_decided():
    for low, high in ((0, 0), (500, 501), (float("nan"), float("nan"))):
        verdict = judge(low, high, standard("ebu-r37", FILM), trusted=False)
        assert verdict.outcome is Outcome.INDETERMINATE
        assert "not to be trusted" in verdict.words
    assert judge(float("nan"), float("nan"), standard("ebu-r37", FILM)).outcome is Outcome.INDETERMINATE


def test_words_name_the_side_and_the_limits():
    assert judge(50, 60, standard("ebu-r37", FILM)).words == (
        "ebu-r37: sound too early (allowed: 40 ms early to 60 ms late)"
    )
    assert "too late" in judge(-90, -70, standard("ebu-r37", FILM)).words


def test_a_house_rule():
    assert judge(9, 11, custom(10, 0)).outcome is Outcome.INDETERMINATE
    assert judge(0, 10, custom(10, 0)).outcome is Outcome.PASS
    with pytest.raises(ValueError, match="at least 0"):
        custom(-1, 5)
