"""The order of pictures: as they are, cut short, lengthened; read so that few are held."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.dubbing.reel import lengthened, plain_reel, read_reel
from lipsync_cli.media.native import read_native
from tests.media_clips import Clip, write_clip

STEP = Fraction(1, 25)


def reel_of(count, cuts=()):
    times = tuple(k * STEP for k in range(count))
    return plain_reel(times, count * STEP, np.array(cuts, int))


def test_the_clip_as_it_is():
    reel = reel_of(5, cuts=[3])
    assert reel.is_whole and reel.numbers.tolist() == [0, 1, 2, 3, 4]
    assert reel.jumps.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("how", "numbers", "jumps"),
    [
        ("hold", [3, 3, 3, 3, 3], [0, 0, 0, 0, 0]),
        ("loop", [0, 1, 2, 3, 0], [1, 0, 1, 0, 1]),
        ("bounce", [2, 1, 0, 1, 2], [0, 1, 0, 0, 1]),
    ],
)
def test_pictures_added_at_the_end(how, numbers, jumps):
    reel = lengthened(reel_of(4, cuts=[2]), 9 * STEP, how)
    assert reel.numbers.tolist() == [0, 1, 2, 3, *numbers]
    assert reel.jumps[4:].tolist() == [bool(jump) for jump in jumps]
    assert reel.times == tuple(k * STEP for k in range(9)) and reel.end == 9 * STEP
    assert not reel.is_whole


def test_pictures_that_are_added_keep_the_pace_of_those_they_repeat():
    times = (Fraction(0), Fraction(1, 10), Fraction(1, 2))
    reel = lengthened(plain_reel(times, Fraction(1), np.zeros(0, int)), Fraction(2), "loop")
    assert [float(t) for t in reel.times] == pytest.approx([0, 0.1, 0.5, 1, 1.1, 1.5])
    assert reel.end == 2


def test_one_picture_alone_can_be_held_looped_and_bounced():
    for how in ("hold", "loop", "bounce"):
        assert lengthened(reel_of(1), 3 * STEP, how).numbers.tolist() == [0, 0, 0]


def test_a_reel_cut_short_keeps_one_picture_at_least():
    assert reel_of(10).until(Fraction(1, 5)).numbers.tolist() == [0, 1, 2, 3, 4]
    short = reel_of(10).until(Fraction(0))
    assert len(short) == 1


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("reel") / "clip.mp4"
    write_clip(path, Clip(audio_codec=None, duration=Fraction(3)))
    return path, [(native.time, native.picture.to_ndarray()) for native in read_native(path)]


@pytest.mark.parametrize("how", [None, "hold", "loop", "bounce"])
@pytest.mark.parametrize("start", [0, 1, 60, 75, 80, 148, 160])
def test_pictures_are_read_in_the_reels_order_from_anywhere(clip, how, start):
    path, pictures = clip
    times = tuple(time for time, _ in pictures)
    reel = plain_reel(times, Fraction(3), np.zeros(0, int))
    if how:
        reel = lengthened(reel, Fraction(13, 2), how)
    read = list(read_reel(path, times, reel, start))
    assert [position for position, _ in read] == list(range(start, len(reel)))
    for position, native in read[:: 9 if how else 20]:
        assert native.time == times[reel.numbers[position]]
        assert np.array_equal(native.picture.to_ndarray(), pictures[reel.numbers[position]][1])
