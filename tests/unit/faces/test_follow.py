"""Following faces: the photo moves in known ways, so where every face is, is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.faces.crops import TrackLog
from lipsync_cli.faces.follow import FaceModels, FollowConfig, follow_faces
from tests.face_scenes import FACE_HEIGHT_PX, FACE_PX, film, paint, place

STILL = place((320, 240))


def never(image):
    return False


def cuts_at(*numbers):
    calls = iter(range(10**9))
    return lambda image: next(calls) in numbers


def center(crop):
    return (crop.box[:2] + crop.box[2:]) / 2


def swaying(num=50):
    """Translation, roll and zoom at speeds of a talking head: 40 px, 10 degrees and 15 % within 2.5 s."""
    phases = 2 * np.pi * np.arange(num) / 25 * 0.4
    return [
        place(
            (320 + 40 * np.sin(a), 240 + 15 * np.sin(2 * a)),
            scale=1 + 0.15 * np.cos(a),
            angle_deg=10 * np.sin(a),
        )
        for a in phases
    ]


@pytest.fixture(scope="module")
def sway_crops(photo, models):
    motion = swaying()
    return motion, list(follow_faces(film([paint(photo, [m]) for m in motion]), never, models))


def test_aligned_crop_stays_still_under_known_motion(sway_crops):
    motion, crops = sway_crops
    assert [crop.time * 25 for crop in crops] == list(range(50))
    assert {crop.track_id for crop in crops} == {0}
    corners = FACE_PX + np.array([[-40, -40], [40, -40], [0, 0], [-40, 50], [40, 50]])
    shown = np.array(
        [
            (corners @ m[:, :2].T + m[:, 2]) @ crop.to_crop[:, :2].T + crop.to_crop[:, 2]
            for m, crop in zip(motion, crops, strict=True)
        ]
    )
    wander = np.linalg.norm(shown - shown.mean(0), axis=-1)
    # Of 128. What is left is the smoothing itself, which rounds off the turning points of the motion.
    assert np.sqrt((wander**2).mean()) < 1.4
    assert wander.max() < 2.5
    assert wander[[0, -1]].max() < 1.5  # the first and last frames do not lag behind


def test_pictures_agree_with_their_matrices(sway_crops):
    _, crops = sway_crops
    face = np.array([crop.image[25:110, 30:98] for crop in crops], np.float64)
    assert face.std((1, 2)).min() > 20  # a face, not a flat patch
    assert np.abs(face - face.mean(0)).mean() < 7


def test_frames_between_key_frames_are_interpolated(photo, models):
    frames = film([paint(photo, [place((200 + 3 * i, 240))]) for i in range(20)])
    every = list(follow_faces(frames, never, models, FollowConfig(mesh_every=1)))
    third = list(follow_faces(frames, never, models, FollowConfig(mesh_every=3)))
    assert len(every) == len(third) == 20
    gap = [np.abs(a.landmarks - b.landmarks).mean() for a, b in zip(every, third, strict=True)]
    assert max(gap) < 0.4
    step = np.diff([center(crop)[0] for crop in third])
    assert step == pytest.approx(3, abs=0.6)


def test_crop_has_the_size_asked_for(photo, models):
    config = FollowConfig(geometry=CropGeometry(size_px=96, margin_px=16))
    (crop,) = follow_faces(film([paint(photo, [STILL])]), never, models, config)
    assert crop.image.shape == (128, 128, 3)
    assert crop.image.dtype == np.uint8
    assert crop.landmarks.shape == (478, 2)
    assert crop.landmarks.dtype == np.float32
    assert crop.score > 0.9
    assert crop.box == pytest.approx([320 - 46, 240 - 56, 320 + 46, 240 + 56], abs=12)


@pytest.mark.parametrize("dark_frames, ids", [(8, {0}), (20, {0, 1})])
def test_blackout_keeps_the_face_only_when_short(photo, models, dark_frames, ids):
    seen, dark = paint(photo, [STILL]), np.zeros((480, 640, 3), np.uint8)
    frames = film([seen] * 10 + [dark] * dark_frames + [seen] * 10)
    crops = list(follow_faces(frames, never, models))
    assert {crop.track_id for crop in crops} == ids
    numbers = [int(crop.time * 25) for crop in crops]
    assert set(range(9)) <= set(numbers)  # the last frame before may lie between a key frame and a dark one
    assert set(range(16 + dark_frames, 20 + dark_frames)) <= set(numbers)  # a new one may take 0.2 s
    assert not set(range(10, 10 + dark_frames)) & set(numbers)


def test_track_ends_at_a_cut(photo, models):
    first, second = paint(photo, [STILL]), paint(photo, [place((330, 240))])
    crops = list(follow_faces(film([first] * 9 + [second] * 8), cuts_at(9), models))
    assert [crop.time * 25 for crop in crops] == list(range(17))
    assert [(crop.shot, crop.track_id) for crop in crops] == [(0, 0)] * 9 + [(1, 1)] * 8
    log = TrackLog()
    for crop in crops:
        log.add(crop)
    assert [(track.id, track.shot, len(track.times)) for track in log.tracks()] == [(0, 0, 9), (1, 1, 8)]
    # Smoothing does not mix the shots: the crop is at its place at once.
    moved = np.array([crop.to_crop @ [330, 240, 1] for crop in crops[9:]])
    assert np.ptp(moved, 0).max() < 0.3


def test_cut_at_the_first_frame_is_still_shot_zero(photo, models):
    crops = list(follow_faces(film([paint(photo, [STILL])] * 2), cuts_at(0), models))
    assert [crop.shot for crop in crops] == [0, 0]


def test_no_face_gives_no_crops(models):
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    grey = np.full((480, 640, 3), 96, np.uint8)
    assert list(follow_faces(film([grey] * 30 + [noise] * 10), never, models)) == []
    assert list(follow_faces([], never, models)) == []


def test_two_faces_never_swap(photo, models):
    """They come close, bob and part; the mirrored one turns."""
    mirrored = np.ascontiguousarray(photo[:, ::-1])
    frames, true = [], []
    for i in range(50):
        a = 2 * np.pi * i / 50
        left = place((150 + 60 * np.sin(a), 240 + 30 * np.sin(2 * a)), scale=0.8)
        right = place((520 - 70 * np.sin(a), 240 - 40 * np.sin(a)), scale=0.9, angle_deg=8 * np.sin(a))
        frames.append(paint(photo, [left], width=720))
        other = paint(mirrored, [right], width=720)
        drawn = (other != 96).any(-1)
        frames[-1][drawn] = other[drawn]
        true.append([left @ [*FACE_PX, 1], right @ [*FACE_PX, 1]])
    crops = list(follow_faces(film(frames), never, models))
    assert len(crops) == 100
    assert [crop.time for crop in crops] == sorted(crop.time for crop in crops)
    by_id = {number: [crop for crop in crops if crop.track_id == number] for number in (0, 1)}
    assert [len(by_id[0]), len(by_id[1])] == [50, 50]
    side = int(center(by_id[0][0])[0] > 360)
    for number in (0, 1):
        gap = [np.linalg.norm(center(crop) - true[i][number ^ side]) for i, crop in enumerate(by_id[number])]
        assert max(gap) < 30


def test_face_that_leaps_is_found_again_with_its_id(photo, models):
    frames = film([paint(photo, [STILL])] * 9 + [paint(photo, [place((395, 240))])] * 9)
    crops = list(follow_faces(frames, never, models))
    assert {crop.track_id for crop in crops} == {0}
    assert len(crops) >= 17


@pytest.mark.parametrize("share, width, height", [(0.15, 1080, 1920), (0.08, 1080, 1920), (0.06, 1920, 1080)])
def test_small_face_is_found(photo, models, share, width, height):
    matrix = place((0.6 * width, 0.3 * height), scale=share * height / FACE_HEIGHT_PX)
    frame = paint(photo, [matrix], width=width, height=height)
    (crop,) = follow_faces(film([frame]), never, models)
    assert center(crop) == pytest.approx((0.6 * width, 0.3 * height), abs=0.15 * share * height)
    assert crop.box[3] - crop.box[1] == pytest.approx(share * height, rel=0.15)


@pytest.mark.parametrize("angle_deg", [-60, -30, 30, 60])
def test_turned_face_is_set_upright(photo, models, angle_deg):
    upright, turned = (
        next(follow_faces(film([paint(photo, [place((320, 240), angle_deg=a)])]), never, models))
        for a in (0, angle_deg)
    )
    true = (upright.landmarks - (320, 240)) @ place((0, 0), angle_deg=angle_deg)[:, :2].T + (320, 240)
    assert np.abs(turned.landmarks - true).mean() < 1.5
    assert np.abs(turned.image[25:110, 30:98].astype(float) - upright.image[25:110, 30:98]).mean() < 8


def test_crops_follow_their_frames_closely(photo, models):
    """Bounded memory: a quarter of a second and a key frame, whatever the length."""
    taken = 0

    def counted():
        nonlocal taken
        for frame in film([paint(photo, [STILL])] * 60):
            taken += 1
            yield frame

    waiting = [taken - given for given, _ in enumerate(follow_faces(counted(), never, models), 1)]
    assert len(waiting) == 60
    assert 0 < max(waiting) <= 9


def test_missing_and_broken_models_are_weights_errors(models, tmp_path):
    broken = tmp_path / "face.tflite"
    broken.write_bytes(b"not a network")
    for bad in (FaceModels(Path("/absent.tflite"), models.mesh), FaceModels(models.detector, broken)):
        with pytest.raises(WeightsError, match="face model") as error:
            list(follow_faces([], never, bad))
        assert error.value.exit_code == 5
        assert error.value.hint
