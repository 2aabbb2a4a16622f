"""The detector: where it says the face is, what tiles cover, how boxes merge."""

from __future__ import annotations

import numpy as np
import pytest

from lipsync_cli.faces.detector import _merge, tiles
from tests.face_scenes import paint, place


def test_finds_the_face_and_its_parts(photo, reader):
    (face,) = reader.find(photo)
    # By eye in the photo: pupils, tip of the nose, middle of the mouth.
    assert face.points[:4] == pytest.approx(np.array([[123, 101], [166, 103], [143, 126], [143, 145]]), abs=5)
    assert face.score > 0.8
    left, top, right, bottom = face.box
    assert (left < face.points[:4, 0]).all() and (face.points[:4, 0] < right).all()
    assert (top < face.points[:4, 1]).all() and (face.points[:4, 1] < bottom).all()


@pytest.mark.parametrize("width, height", [(640, 480), (480, 640), (1000, 250)])
def test_place_does_not_depend_on_the_shape_of_the_picture(photo, reader, width, height):
    alone = reader.find(photo)[0]
    matrix = place((width / 2, height / 2))
    (face,) = reader.find(paint(photo, [matrix], width=width, height=height))
    moved = alone.points[:4] @ matrix[:, :2].T + matrix[:, 2]
    assert face.points[:4] == pytest.approx(moved, abs=0.03 * max(width, height))


def test_nothing_in_an_empty_picture(reader):
    empty = np.zeros((300, 400, 3), np.uint8)
    assert reader.find(empty) == []
    assert reader.find_small(empty) == []


@pytest.mark.parametrize(
    "width, height, num", [(540, 960, 10), (960, 540, 10), (700, 700, 4), (400, 100, None)]
)
def test_tiles_cover_the_picture_and_any_face_of_two_fifths_of_a_tile(width, height, num):
    squares = tiles(width, height)
    assert num is None or len(squares) == num
    covered = np.zeros((height, width), bool)
    for x, y, side in squares:
        assert 0 <= x <= width - side and 0 <= y <= height - side
        covered[y : y + side, x : x + side] = True
    assert covered.all()
    face = int(0.4 * squares[0][2]) - 1
    for x in range(0, width - face, 7):
        for y in range(0, height - face, 7):
            assert any(
                a <= x and x + face <= a + side and b <= y and y + face <= b + side for a, b, side in squares
            )


def test_overlapping_boxes_merge_by_their_scores():
    def candidate(left, top, right, bottom):
        return np.array([[left, top], [right, bottom]] + [[left, top]] * 6, float)

    found = np.stack([candidate(0, 0, 10, 10), candidate(2, 0, 12, 10), candidate(50, 50, 60, 60)])
    first, second = _merge(found, np.array([0.6, 0.9, 0.7]))
    assert first.box == pytest.approx([1.2, 0, 11.2, 10])  # (0 · 0.6 + 2 · 0.9) / 1.5
    assert first.points[0] == pytest.approx([1.2, 0])
    assert (first.score, second.score) == (0.9, 0.7)
    assert second.box == pytest.approx([50, 50, 60, 60])
