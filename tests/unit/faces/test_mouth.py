"""The outline around the mouth and its mask: construction, invariance, feathering."""

import cv2
import numpy as np
import pytest

from lipsync_cli.faces.mouth import MOUTH_INDICES, WIDE_OPEN, mouth_mask, mouth_polygon

LIPS = {13: (64.0, 80.0), 14: (64.0, 82.0), 61: (50.0, 81.0), 291: (78.0, 81.0)}
# A face drawn by hand: bridge 40 px above the point under the nose, jaw as a half ellipse.
UPPER = {168: (64.0, 24.0), 2: (64.0, 64.0), 97: (58.0, 63.0), 326: (70.0, 63.0)}
CHEEKS = {
    206: (50.0, 66.0),
    426: (78.0, 66.0),
    207: (42.0, 70.0),
    427: (86.0, 70.0),
}
JAW = [172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397]


def face(gap_px: float = 2.0, chin_px: float = 0.0) -> np.ndarray:
    """(1, 478, 2) landmarks; the chin is `chin_px` lower than with closed lips."""
    points = np.full((478, 2), 64.0, np.float32)
    for index, place in (UPPER | CHEEKS | LIPS).items():
        points[index] = place
    points[14] = (64.0, 80.0 + gap_px)
    for number, index in enumerate(JAW):
        angle = np.pi * (number + 0.5) / len(JAW)
        points[index] = (64 - 26 * np.cos(angle), 84 + (22 + chin_px) * np.sin(angle))
    return points[None]


def turned(landmarks: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return landmarks @ linear.T + shift


def test_outline_holds_the_lips_and_stays_under_the_nose():
    polygon = mouth_polygon(face())[0].astype(np.float32)
    for place in LIPS.values():
        assert cv2.pointPolygonTest(polygon, place, False) > 0
    assert polygon[:, 1].min() >= 63.0
    assert cv2.pointPolygonTest(polygon, (64.0, 40.0), False) < 0  # the nose


def test_outline_reaches_below_the_chin_by_the_wide_open_mouth():
    closed = mouth_polygon(face(gap_px=0.0))[0]
    chin = closed[list(MOUTH_INDICES).index(152)]
    assert chin[1] == pytest.approx(face()[0, 152, 1] + 0.44 * WIDE_OPEN * 40, abs=0.01)


def test_outline_does_not_tell_how_far_the_mouth_is_open():
    # A jaw that falls by 0.44 of the gap, as measured on real faces.
    chin = list(MOUTH_INDICES).index(152)
    lows = [mouth_polygon(face(gap, 0.44 * gap / np.sin(np.pi / 2)))[0, chin, 1] for gap in (0.0, 6.0, 14.0)]
    assert np.ptp(lows) < 0.01


def test_outline_moves_with_the_face():
    plain = face(5.0)
    moved = turned(plain, 17.0, 1.6, (30.0, -12.0))
    np.testing.assert_allclose(
        mouth_polygon(moved)[0], turned(mouth_polygon(plain), 17.0, 1.6, (30.0, -12.0))[0], atol=1e-3
    )


def test_hard_mask_is_the_polygon():
    mask = mouth_mask(face(), 128)[0]
    polygon = mouth_polygon(face())[0].astype(np.float32)
    ys, xs = np.mgrid[:128, :128]
    distance = np.array(
        [
            cv2.pointPolygonTest(polygon, (float(x), float(y)), True)
            for x, y in zip(xs.ravel(), ys.ravel(), strict=True)
        ]
    )
    clear = np.abs(distance) > 1.0  # on the edge itself the raster decides
    np.testing.assert_array_equal(mask.ravel()[clear], (distance > 0)[clear])


@pytest.mark.parametrize("feather_px", [1.0, 6.0, 40.0])
def test_soft_mask_is_nowhere_more_than_the_hard_one(feather_px):
    hard, soft = mouth_mask(face(), 128)[0], mouth_mask(face(), 128, feather_px)[0]
    assert (soft <= hard).all()
    assert soft[hard > 0].min() < 0.75 and soft.min() >= 0 and soft.max() <= 1
    if feather_px < 10:
        assert soft.max() == 1


def test_soft_mask_is_soft_at_the_edge_of_the_crop_too():
    lowered = face() + np.float32([0, 24])  # the chin leaves the crop
    assert mouth_mask(lowered, 128)[0, -1].max() == 1
    assert mouth_mask(lowered, 128, 6.0)[0, -1].max() < 0.2


def test_a_face_that_is_not_known_has_no_mask():
    unknown = np.full((1, 478, 2), np.nan, np.float32)
    assert not mouth_mask(np.concatenate([unknown, face()]), 128)[0].any()
    assert mouth_mask(np.concatenate([unknown, face()]), 128)[1].any()
    assert mouth_mask(np.zeros((0, 478, 2), np.float32), 64).shape == (0, 64, 64)
