"""Choosing a face: what users may type, and which track it names."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.faces.choose import FaceAt, FaceChoice, choice_from_boxes, choose_tracks, parse_choice
from lipsync_cli.faces.crops import Track


def track(number, shot, start_s, box):
    times = tuple(Fraction(start_s) + Fraction(i, 25) for i in range(50))
    return Track(number, shot, times, np.tile(np.array(box, float), (50, 1)))


LEFT, RIGHT = track(0, 0, 0, (100, 100, 200, 220)), track(1, 0, 0, (400, 100, 500, 220))
LATER = track(2, 1, 2, (110, 100, 210, 220))
TRACKS = [LEFT, RIGHT, LATER]


def test_what_can_be_typed():
    assert parse_choice("auto") == FaceChoice()
    assert parse_choice("12") == FaceChoice(track_id=12)
    assert parse_choice("640,360.5@1.25") == FaceChoice(places=(FaceAt((640, 360.5, 640, 360.5), 1.25),))


@pytest.mark.parametrize(
    "text", ["", "-1", "left", "1,2", "1,2@", "1@2", "1,2,3@4", "nan,1@0", "1,2@inf", "1,2@3@4"]
)
def test_what_cannot(text):
    with pytest.raises(UsageError, match="does not name a face") as error:
        parse_choice(text)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "text, ids",
    [
        ("auto", [0, 1, 2]),
        ("1", [1]),
        ("150,150@1", [0]),
        ("450,150@0.5", [1]),
        ("150,150@3", [2]),
        ("150,150@4.1", [2]),
    ],
)
def test_choice_names_tracks(text, ids):
    assert [one.id for one in choose_tracks(TRACKS, parse_choice(text))] == ids


@pytest.mark.parametrize("text", ["7", "300,150@1", "450,150@3", "150,150@9"])
def test_choice_of_nobody_says_who_there_is(text):
    with pytest.raises(InputError, match="0, 1, 2") as error:
        choose_tracks(TRACKS, parse_choice(text))
    assert error.value.exit_code == 3


def test_no_faces_at_all():
    with pytest.raises(InputError, match="no face"):
        choose_tracks([], FaceChoice())


def test_point_in_two_boxes_names_the_nearer_middle():
    crowd = [track(0, 0, 0, (0, 0, 400, 400)), track(1, 0, 0, (20, 20, 100, 100))]
    assert [one.id for one in choose_tracks(crowd, parse_choice("70,60@1"))] == [1]


def test_boxes_follow_a_person_through_shots():
    content = {"boxes": [{"time": 1, "box": [105, 95, 205, 225]}, {"time": 3.0, "box": [100, 100, 200, 220]}]}
    assert [one.id for one in choose_tracks(TRACKS, choice_from_boxes(content))] == [0, 2]
    off = {"boxes": [{"time": 1, "box": [180, 190, 300, 330]}]}
    with pytest.raises(InputError, match="no face fits"):
        choose_tracks(TRACKS, choice_from_boxes(off))


@pytest.mark.parametrize(
    "content, word",
    [
        ({}, "boxes"),
        ({"boxes": []}, "boxes"),
        ({"boxes": [{"time": 1}]}, r"boxes\[0\]"),
        ({"boxes": [{"time": "x", "box": [0, 0, 1, 1]}]}, r"boxes\[0\]"),
        ({"boxes": [{"time": 0, "box": [0, 0, 1, 1]}, {"time": 1, "box": [5, 0, 1, 1]}]}, r"boxes\[1\]"),
        ({"boxes": [[0, 0, 1, 1]]}, r"boxes\[0\]"),
    ],
)
def test_boxes_of_another_form(content, word):
    with pytest.raises(UsageError, match=word) as error:
        choice_from_boxes(content)
    assert error.value.exit_code == 2
