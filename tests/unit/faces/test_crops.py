"""Numbers read off landmarks: a head made of points and turned in space."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.faces.crops import FaceCrop, Track, TrackLog, box_of, mouth_open, yaw_deg


def head(yaw=0.0, pitch=0.0, roll=0.0):
    """Landmarks of a head whose eyes are 100 apart and whose nose stands 57 before them and 50 below, seen from afar."""
    space = np.zeros((478, 3))
    space[33], space[263], space[4] = (-50, 0, 0), (50, 0, 0), (0, 50, -57)
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    about_y = [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
    about_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    about_z = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    turned = space @ (np.array(about_z) @ np.array(about_y) @ np.array(about_x)).T
    return (turned[:, :2] + 300).astype(np.float32)


@pytest.mark.parametrize("roll", [-30, 0, 45])
@pytest.mark.parametrize("yaw", [-60, -30, -5, 0, 20, 60])
def test_yaw_of_a_turned_head(yaw, roll):
    assert yaw_deg(head(yaw=yaw, roll=roll)) == pytest.approx(yaw, abs=0.5)


@pytest.mark.parametrize("pitch", [-15, 15])
def test_pitch_disturbs_yaw_little(pitch):
    assert yaw_deg(head(pitch=pitch)) == pytest.approx(0, abs=0.5)
    assert yaw_deg(head(yaw=30, pitch=pitch)) == pytest.approx(30, abs=10)


def test_yaw_is_positive_when_the_nose_points_to_the_viewers_right():
    points = head()
    points[4, 0] += 20
    assert yaw_deg(points) > 10


def test_mouth_open_is_the_gap_over_the_eye_distance():
    points = head()
    points[[82, 13, 312]] = [[290, 340], [300, 340], [310, 340]]
    points[[87, 14, 317]] = [[290, 360], [300, 366], [310, 360]]
    assert mouth_open(points) == pytest.approx((20 + 26 + 20) / 3 / 100)
    points[[87, 14, 317]] = points[[82, 13, 312]]
    assert mouth_open(points) == 0


def test_box_leaves_unknown_points_out():
    points = np.full((478, 2), np.nan)
    points[[5, 9]] = [[3, 40], [10, 20]]
    assert box_of(points).tolist() == [3, 20, 10, 40]


def test_log_keeps_tracks_of_shots_apart():
    log = TrackLog()
    for number, (track, shot) in enumerate([(0, 0), (1, 0), (0, 0), (2, 1)]):
        points = np.full((478, 2), number, np.float32)
        points[0] += 10
        log.add(FaceCrop(track, shot, Fraction(number, 25), np.zeros(1), np.zeros(1), points, 1.0, 0.0, 0.0))
    first, second, third = log.tracks()
    assert isinstance(first, Track)
    assert (first.id, first.shot, first.times) == (0, 0, (Fraction(0), Fraction(2, 25)))
    assert first.boxes.tolist() == [[0, 0, 10, 10], [2, 2, 12, 12]]
    assert [(t.id, t.shot) for t in (second, third)] == [(1, 0), (2, 1)]
