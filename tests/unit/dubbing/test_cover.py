"""Something over the mouth is noticed by the skin around it; light, and a mouth that moves, are not taken for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lipsync_cli.dubbing.cover import GEOMETRY, covered, skin_colours
from lipsync_cli.faces.align import cut, fit_similarity
from lipsync_cli.faces.follow import FaceReader
from lipsync_cli.faces.mesh import region_of_detection
from lipsync_cli.tasks.faces import face_models

PHOTO = Path(__file__).resolve().parents[2] / "data/astronaut.jpg"
COUNT = 60


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The photo, its similarity to the crop, and its landmarks."""
    image = np.ascontiguousarray(cv2.imread(str(PHOTO))[..., ::-1])
    reader: FaceReader = face_models().load()
    points = reader.read(image, region_of_detection(reader.find(image)[0])).points
    return image, fit_similarity(points[None], GEOMETRY)[0], points


def colours(face, change) -> np.ndarray:
    """Of COUNT pictures, each the photo with `change(picture, number)` drawn into it."""
    image, to_crop, _ = face
    rng = np.random.default_rng(0)
    rows = []
    for number in range(COUNT):
        picture = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        rows.append(skin_colours(cut(change(picture, number), to_crop, GEOMETRY.side_px)))
    return np.stack(rows)


def mouth(face) -> tuple[tuple[int, int], int]:
    points = face[2]
    wide = np.linalg.norm(points[61] - points[291])
    return tuple(int(v) for v in points[[13, 14]].mean(0)), int(wide)


@pytest.mark.parametrize("colour", [(20, 20, 22), (200, 30, 30), (60, 110, 200)])
def test_a_thing_before_the_mouth_is_noticed_while_it_is_there(face, colour):
    middle, wide = mouth(face)

    def cover(picture, number):
        if 20 <= number < 35:
            cv2.circle(picture, middle, int(0.7 * wide), colour, -1)
        return picture

    found = covered(colours(face, cover))
    assert found[20:35].all()
    assert not found[:18].any() and not found[37:].any()


def test_light_that_changes_is_no_cover(face):
    def dim(picture, number):
        return (picture * (0.4 + 0.6 * abs(np.cos(number / 9)))).astype(np.uint8)

    assert not covered(colours(face, dim)).any()


def test_an_open_mouth_is_no_cover(face):
    middle, wide = mouth(face)

    def speak(picture, number):
        cv2.ellipse(
            picture,
            middle,
            (int(0.4 * wide), 1 + int(0.25 * wide * (number % 7) / 6)),
            0,
            0,
            360,
            (40, 15, 15),
            -1,
        )
        return picture

    assert not covered(colours(face, speak)).any()


def test_one_picture_alone_shows_nothing_odd(face):
    assert covered(colours(face, lambda picture, _: picture)[:1]).tolist() == [False]
