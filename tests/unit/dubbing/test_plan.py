"""The plan: which picture gets a new mouth, which does not and why, and lengths that differ."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.dubbing.look import FaceTrack, Look
from lipsync_cli.dubbing.plan import PlannedSegment, expect_lengths, make_plan, settle, whole_reel

STEP = Fraction(1, 25)
SPEECH = Path("new.wav")


def track(id: int, numbers, shot: int = 0, yaw_deg=0.0, score=1.0, at=(100.0, 100.0), covered=False):
    numbers = np.array(numbers)
    points = np.full((len(numbers), 478, 2), at, np.float32)
    ones = np.ones(len(numbers), np.float32)
    return FaceTrack(id, shot, numbers, points, ones * score, ones * yaw_deg, ones * covered > 0)


def look(count: int, *tracks: FaceTrack, cuts=()) -> Look:
    return Look((200, 200), tuple(k * STEP for k in range(count)), count * STEP, np.array(cuts, int), tracks)


def segment(count: int, tracks=(0,), start: int = 0) -> PlannedSegment:
    end = (start + count) * STEP
    return PlannedSegment(start * STEP, end, SPEECH, False, end, 0, tuple(tracks))


def plan(seen: Look, *segments: PlannedSegment):
    return make_plan(seen, whole_reel(seen), segments)


def test_a_face_that_is_always_there_is_one_run():
    made = plan(look(50, track(0, range(50))), segment(50))
    assert [(run.first, run.end, run.fade_in, run.fade_out) for run in made.runs] == [(0, 50, False, False)]
    assert made.edited == 50 and made.passed == {}


def test_a_face_lost_midway_passes_through_and_comes_and_goes_softly():
    made = plan(look(50, track(0, [*range(20), *range(30, 50)])), segment(50))
    assert [(run.first, run.end, run.fade_in, run.fade_out) for run in made.runs] == [
        (0, 20, False, True),
        (30, 50, True, False),
    ]
    assert made.passed == {"no face": 10}


def test_at_a_cut_nothing_fades():
    seen = look(40, track(0, range(20)), track(1, range(20, 40), shot=1), cuts=[20])
    made = plan(seen, segment(40, tracks=(0, 1)))
    assert [(run.track, run.first, run.end, run.fade_in, run.fade_out) for run in made.runs] == [
        (0, 0, 20, False, False),
        (1, 20, 40, False, False),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"yaw_deg": 70.0}, "turned away"),
        ({"yaw_deg": -70.0}, "turned away"),
        ({"score": 0.5}, "mouth hidden"),
    ],
)
def test_a_mouth_that_cannot_be_seen_keeps_its_own(change, reason):
    made = plan(look(10, track(0, range(10), **change)), segment(10))
    assert made.runs == () and made.passed == {reason: 10}


def test_a_mouth_outside_the_picture_keeps_its_own():
    made = plan(look(10, track(0, range(10), at=(100.0, 205.0))), segment(10))
    assert made.passed == {"mouth hidden": 10}


def test_only_the_segments_are_edited():
    made = plan(look(60, track(0, range(60))), segment(10, start=10), segment(10, start=40))
    assert [(run.segment, run.first, run.end) for run in made.runs] == [(0, 10, 20), (1, 40, 50)]
    assert all(run.fade_in and run.fade_out for run in made.runs)
    assert made.passed == {"outside the segments": 40}


def test_segments_that_touch_are_runs_of_their_own():
    made = plan(look(20, track(0, range(20))), segment(10), segment(10, start=10))
    assert [(run.segment, run.first, run.end) for run in made.runs] == [(0, 0, 10), (1, 10, 20)]


def test_pieces_cover_all_pictures_ten_seconds_each():
    made = plan(look(601, track(0, range(601))), segment(601))
    assert made.pieces == ((0, 250), (250, 500), (500, 601))
    assert plan(look(1, track(0, [0])), segment(1)).pieces == ((0, 1),)


# ---------------------------------------------------------------- lengths


def speech_of(seconds: float, picture: int = 100) -> tuple[PlannedSegment, Look]:
    seen = look(picture, track(0, range(picture)))
    return replace(segment(picture), speech_end=Fraction(seconds)), seen


@pytest.mark.parametrize("seconds", [3.8, 4.0, 4.2])
def test_lengths_that_differ_by_a_codecs_padding_are_equal(seconds):
    one, seen = speech_of(seconds)
    expect_lengths(one)
    settled, reel = settle(one, whole_reel(seen), "error", whole_clip=True)
    assert len(reel) == 100 and settled == one


@pytest.mark.parametrize("seconds", [3.5, 6.25])
def test_by_default_a_mismatch_is_told_with_both_lengths_and_the_choices(seconds):
    one, seen = speech_of(seconds)
    for run in (lambda: expect_lengths(one), lambda: settle(one, whole_reel(seen), "error", whole_clip=True)):
        with pytest.raises(InputError) as caught:
            run()
        assert f"{seconds:.2f} s" in caught.value.message and "4.00 s" in caught.value.message
        assert all(word in caught.value.hint for word in ("hold", "loop", "bounce", "cut"))
        assert caught.value.exit_code == 3


@pytest.mark.parametrize("how", ["hold", "loop", "bounce"])
def test_longer_speech_lengthens_the_picture(how):
    one, seen = speech_of(5.0)
    settled, reel = settle(one, whole_reel(seen), how, whole_clip=True)
    assert len(reel) == 125 and reel.end == settled.end == 5 and settled.speech_end == 5


def test_longer_speech_is_cut():
    one, seen = speech_of(5.0)
    settled, reel = settle(one, whole_reel(seen), "cut", whole_clip=True)
    assert len(reel) == 100 and settled.speech_end == settled.end == 4


@pytest.mark.parametrize("how", ["hold", "loop", "bounce"])
def test_after_shorter_speech_the_picture_goes_on(how):
    one, seen = speech_of(3.0)
    settled, reel = settle(one, whole_reel(seen), how, whole_clip=True)
    assert len(reel) == 100 and settled.end == 4 and settled.speech_end == 3


def test_shorter_speech_cuts_the_picture_of_a_whole_clip_but_not_of_a_segment():
    one, seen = speech_of(3.0)
    settled, reel = settle(one, whole_reel(seen), "cut", whole_clip=True)
    assert len(reel) == 75 and reel.end == settled.end == 3
    settled, reel = settle(one, whole_reel(seen), "cut", whole_clip=False)
    assert len(reel) == 100 and settled.end == 3


def test_a_segment_in_the_middle_cannot_lengthen_the_picture():
    seen = look(100, track(0, range(100)))
    one = replace(segment(50), speech_end=Fraction(3))
    with pytest.raises(UsageError, match="longer than its segment"):
        settle(one, whole_reel(seen), "hold", whole_clip=False)
