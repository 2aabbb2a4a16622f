"""Delivery standards: is the lead within tolerance? Decided by the interval, never by the estimate alone.

The figures are those that secondary sources quote; the primary documents were not at hand. EBU R37 has two
sets: `ebu-r37` is the well-known one, 40 ms early and 60 ms late at the output feeding transmitters;
`ebu-r37-stage` is the 5 and 15 ms allowed to each production stage. BT.1359 likewise has detectability and
acceptability.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Outcome(StrEnum):
    PASS = "PASS"
    FAIL = "FAIL"
    INDETERMINATE = "INDETERMINATE"


@dataclass(frozen=True)
class Tolerance:
    """How far the sound may be from the picture: -late_ms ≤ lead ≤ early_ms passes. Both limits are ≥ 0.

    limits_fail: the limits themselves fail ("needs a fix at one frame or more").
    """

    name: str
    early_ms: float
    late_ms: float
    meaning: str
    limits_fail: bool = False


FIXED = {
    tolerance.name: tolerance
    for tolerance in (
        Tolerance("ebu-r37", 40, 60, "EBU R37-2007, output feeding transmitters"),
        Tolerance("ebu-r37-stage", 5, 15, "EBU R37-2007, each production stage"),
        Tolerance("itu-j100", 20, 40, "ITU-T J.100, international exchange"),
        Tolerance("atsc-is191", 15, 45, "ATSC IS-191, input of the broadcast encoder"),
        Tolerance("bt1359", 45, 125, "ITU-R BT.1359, threshold of detectability"),
        Tolerance("bt1359-acceptable", 90, 185, "ITU-R BT.1359, threshold of acceptability"),
        Tolerance("film", 42, 83, "film, one frame early and two late at 24 frames per second"),
    )
}
STANDARD_NAMES = (*FIXED, "netflix")


@dataclass(frozen=True)
class Verdict:
    """outcome, the tolerance it was judged by, and one line for people."""

    outcome: Outcome
    tolerance: Tolerance
    words: str


def standard(name: str, rate: Fraction) -> Tolerance:
    """The tolerance of a named standard.

    rate: Hz of the source picture, for the one that counts in its frames.

    Raises: KeyError for a name that is not in STANDARD_NAMES.
    """
    if name == "netflix":
        frame_ms = float(1000 / rate)
        return Tolerance(
            "netflix", frame_ms, frame_ms, "Netflix, global offset of a frame or more", limits_fail=True
        )
    return FIXED[name]


def custom(early_ms: float, late_ms: float) -> Tolerance:
    """A house rule. Raises: ValueError when a limit is negative."""
    if early_ms < 0 or late_ms < 0:
        raise ValueError(f"tolerances are sizes, at least 0: early {early_ms}, late {late_ms}")
    return Tolerance("custom", early_ms, late_ms, "limits given by the user")


def judge(low_ms: float, high_ms: float, tolerance: Tolerance, *, trusted: bool = True) -> Verdict:
    """PASS when the whole interval of the lead is inside, FAIL when all of it is outside, else INDETERMINATE.

    trusted: False (there are reasons to doubt the measurement) is always INDETERMINATE.
    """
    limits = f"{tolerance.early_ms:g} ms early to {tolerance.late_ms:g} ms late"
    least, most = -tolerance.late_ms, tolerance.early_ms
    if tolerance.limits_fail:
        inside, outside = least < low_ms and high_ms < most, low_ms >= most or high_ms <= least
    else:
        inside, outside = least <= low_ms and high_ms <= most, low_ms > most or high_ms < least
    if trusted and inside:
        return Verdict(Outcome.PASS, tolerance, f"{tolerance.name}: within {limits}")
    if trusted and outside:
        side = "early" if low_ms > 0 else "late"
        return Verdict(Outcome.FAIL, tolerance, f"{tolerance.name}: sound too {side} (allowed: {limits})")
    why = "the interval reaches across a limit" if trusted else "the measurement is not to be trusted"
    return Verdict(Outcome.INDETERMINATE, tolerance, f"{tolerance.name}: cannot be decided, {why} ({limits})")
