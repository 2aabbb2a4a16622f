from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from lipsync_cli.sync.programme import (
    Line,
    Piece,
    Programme,
    WindowLead,
    describe,
    find_pieces,
    fit_line,
    measure_windows,
    refine_breakpoint,
)
from lipsync_cli.sync.similarity import Band, banded_similarity


def measured(plant, minutes, lead_ms, noise=1.0):
    vocal, audio = plant(0, frames=round(minutes * 1500), lead_ms=lead_ms, noise=noise)
    band = banded_similarity(vocal, audio, audio_rate=Fraction(100))
    return describe(measure_windows(band), band)


def windows(seed, lead_ms, count=120, error_ms=4.0, wrong=0.15):
    """Ten-second windows with normal errors, some of them (`wrong`) anywhere in the range."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        lead = (
            rng.uniform(-600, 600) if rng.random() < wrong else lead_ms(10 * k + 5) + rng.normal(0, error_ms)
        )
        found.append(WindowLead(10 * k, 10 * k + 10, lead, error_ms, True))
    return found


def test_a_constant_lead(plant):
    found = measured(plant, 4, 50)
    assert found.kind == "constant"
    assert found.pieces[0].lead_ms == pytest.approx(50, abs=2)
    assert (found.line.drift_ppm, found.breakpoints_s) == (0, ())


def test_145_ppm_over_40_minutes(plant):
    """380 ms over 44 minutes, as in a field report: clocks that disagree."""
    found = measured(plant, 40, lambda t: -100 + 0.145 * t)
    print(f"drift {found.line.drift_ppm:.2f} ± {found.line.drift_error_ppm:.2f} ppm, "
          f"intercept {found.line.intercept_ms:.2f} ± {found.line.intercept_error_ms:.2f} ms")  # fmt: skip
    assert found.kind == "drift"
    assert found.line.drift_ppm == pytest.approx(145, abs=1)
    assert found.line.intercept_ms == pytest.approx(-100, abs=2)
    assert found.line.at(2400) == pytest.approx(248, abs=2)


def test_a_splice_is_found_to_a_few_frames(plant):
    found = measured(plant, 8, lambda t: np.where(t < 181.3, 20.0, -80.0))
    print(f"splice at {found.breakpoints_s}, leads {[round(piece.lead_ms, 1) for piece in found.pieces]}")
    assert found.kind == "pieces"
    assert [piece.lead_ms for piece in found.pieces] == pytest.approx([20, -80], abs=2.5)
    assert found.breakpoints_s == pytest.approx([181.3], abs=0.5)
    assert (found.pieces[0].start_s, found.pieces[-1].end_s) == (0, 480)


def test_an_insert_makes_three_pieces(plant):
    found = measured(plant, 6, lambda t: np.where((t > 113.4) & (t < 240), 60.0, 20.0))
    assert [piece.lead_ms for piece in found.pieces] == pytest.approx([20, 60, 20], abs=3)
    assert found.breakpoints_s == pytest.approx([113.4, 240], abs=1)


def test_unrelated_sound_is_unknown(random_unit):
    band = banded_similarity(random_unit(0, 3000), random_unit(1, 12000), audio_rate=Fraction(100))
    found = describe(measure_windows(band), band)
    assert (found.kind, found.line, found.pieces) == ("unknown", None, ())
    assert len(found.windows) == 12


@pytest.mark.parametrize(
    "kind,lead_ms",
    [
        ("constant", lambda t: 50),
        ("drift", lambda t: 0.145 * t - 50),
        ("drift", lambda t: -0.03 * t),
        ("pieces", lambda t: 50 if t < 700 else 90),
        ("pieces", lambda t: 50 if t < 300 else 70 if t < 900 else 0),
    ],
)
def test_the_kind_is_right_with_15_percent_wrong_windows(kind, lead_ms):
    kinds = Counter(describe(windows(seed, lead_ms)).kind for seed in range(40))
    print(kind, dict(kinds))
    assert kinds[kind] >= 38


def test_the_stated_error_of_the_drift_is_its_scatter():
    fits = []
    for seed in range(100):
        found = windows(seed, lambda t: 0.1 * t)
        columns = np.array([[w.middle_s, w.lead_ms, w.error_ms] for w in found]).T
        fits.append(fit_line(*columns))
    slopes = np.array([fit.drift_ppm for fit in fits])
    intercepts = np.array([fit.intercept_ms for fit in fits])
    assert slopes.mean() == pytest.approx(100, abs=0.5)
    assert slopes.std() == pytest.approx(np.mean([fit.drift_error_ppm for fit in fits]), rel=0.25)
    assert intercepts.std() == pytest.approx(np.mean([fit.intercept_error_ms for fit in fits]), rel=0.25)


def test_pieces_are_the_cheapest_split_there_is():
    """Against all single and double splits, with clean levels so that the cap never acts."""
    rng = np.random.default_rng(0)
    leads = np.concatenate([np.full(7, 0.0), np.full(9, 60.0), np.full(6, -30.0)]) + rng.normal(0, 2, 22)
    ends = find_pieces(leads, np.full(22, 5.0))

    def cost(cuts):
        bounds = [0, *cuts, 22]
        parts = [leads[a:b] for a, b in pairwise(bounds)]
        return sum(((part - part.mean()) ** 2).sum() for part in parts)

    best = min(((a, b) for a in range(1, 21) for b in range(a + 1, 22)), key=cost)
    assert [start for start, _ in ends[1:]] == list(best) == [7, 16]


def test_one_wrong_window_is_no_splice():
    found = windows(0, lambda t: 20, wrong=0)
    found[60] = WindowLead(600, 610, 400, 4, True)
    assert describe(found).kind == "constant"


def test_untrusted_windows_have_no_say():
    found = windows(0, lambda t: 20, wrong=0)
    found = [WindowLead(w.start_s, w.end_s, 300, 4, False) if w.start_s > 300 else w for w in found]
    assert describe(found).pieces[0].lead_ms == pytest.approx(20, abs=2)


def test_a_breakpoint_is_placed_by_the_similarities():
    values = np.zeros((1000, 3), np.float32)
    values[:437, 0] = values[437:, 2] = 1
    assert refine_breakpoint(Band(values, np.array([-40.0, 0, 40])), -40, 40, 10, 30) == 437 / 25


def test_how_much_the_lead_changes():
    whole, late = Piece(100, 400, 50, 1, 9), Piece(400, 700, -30, 1, 9)
    line = Line(20, 1, 100, 1)
    assert Programme("constant", line, (whole,), ()).change_ms == 0
    assert Programme("drift", line, (whole,), ()).change_ms == pytest.approx(30)  # 100 ppm of 300 s
    assert Programme("pieces", line, (whole, late), ()).change_ms == 80
    assert Programme("unknown", None, (), ()).change_ms == 0
