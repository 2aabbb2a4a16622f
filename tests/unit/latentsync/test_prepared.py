"""Squares out of prepared clips: fitted to landmarks, continued at the edge, the same as when measuring."""

import numpy as np
import pytest
import torch

from lipsync_cli.core.errors import UsageError
from lipsync_cli.data.clips import ClipData
from lipsync_cli.data.manifest import ClipChoice
from lipsync_cli.networks.latentsync.align import brows_and_nose, canvas_px, fit_canvas
from lipsync_cli.networks.latentsync.embed import squares
from lipsync_cli.networks.latentsync.prepared import canvases, clip_store, squares_of, window_pictures
from tests.prepared_clips import KEYS, write_prepared

SAMPLES = np.zeros(640, np.float32)


def pictures(count=3, side=72, seed=0):
    rng = np.random.default_rng(seed)
    rough = torch.from_numpy(rng.uniform(0, 255, (count, 3, side, side)).astype(np.float32))
    soft = torch.nn.functional.avg_pool2d(rough, 7, 1, 3, count_include_pad=False)
    return soft.permute(0, 2, 3, 1).round().byte().numpy()


def landmarks(count, side):
    """Brows and nose as in a prepared crop, drifting a little."""
    points = np.random.default_rng(1).uniform(0, side, (478, 2))
    points[[70, 63, 105, 66, 107]] = np.array([0.3, 0.2]) * side
    points[[300, 293, 334, 296, 336]] = np.array([0.7, 0.2]) * side
    points[[195, 4, 129, 358]] = np.array([0.5, 0.42]) * side
    return (points[None] + np.arange(count)[:, None, None] * [0.5, 0.0]).astype(np.float32)


def test_the_canvas_follows_the_landmarks_of_each_frame():
    clip = ClipData(pictures(), SAMPLES, landmarks(3, 72))
    found = canvases(clip, 64)
    assert np.allclose(found, fit_canvas(brows_and_nose(clip.landmarks), 64), atol=1e-4)
    assert np.allclose(np.diff(found[:, 0, 2]), -0.5 * found[0, 0, 0], atol=0.02)


def test_a_clip_without_landmarks_has_the_place_that_measuring_has():
    """Where the canvas lies within the picture both see the same; beyond it one repeats the edge, one is grey."""
    clip = ClipData(pictures(), SAMPLES)
    ours = squares_of(*window_pictures(clip, canvases(clip, 64), 0, 3), 64)
    measured = squares(torch.from_numpy(clip.frames), 64)
    assert ours.shape == (3, 3, 64, 64)
    inside = slice(8, 58)
    assert torch.allclose(ours[:, :, inside], measured[:, :, inside], atol=1e-3)
    assert (measured[:, :, 0].abs() < 0.01).all() and (ours[:, :, 0].abs() > 0.02).any()


def test_beyond_the_picture_its_edge_goes_on():
    rows = np.repeat(np.linspace(0, 250, 72).round().astype(np.uint8)[:, None], 72, 1)
    clip = ClipData(np.repeat(rows[None, :, :, None], 3, 3), SAMPLES)
    square = squares_of(*window_pictures(clip, canvases(clip, 64), 0, 1), 64)[0, 0]
    assert square[0].mean() == pytest.approx(-1, abs=0.02) and square[-1].mean() == pytest.approx(
        250 / 127.5 - 1, abs=0.05
    )
    assert (square.mean(1).diff() > -0.01).all()


@pytest.mark.parametrize(("side", "size"), [(144, 64), (72, 64), (72, 128)])
def test_faces_fill_the_square_whatever_they_were_prepared_at(side, size):
    """A mark at a place of the face comes to the same place of the square, at any size of either."""
    frames = np.zeros((1, side, side, 3), np.uint8)
    place = round(0.5 * side), round(0.6 * side)
    frames[
        0, place[1] - side // 36 : place[1] + side // 36, place[0] - side // 36 : place[0] + side // 36
    ] = 255
    clip = ClipData(frames, SAMPLES)
    square = squares_of(*window_pictures(clip, canvases(clip, size), 0, 1), size)[0, 0] + 1
    weights = square / square.sum()
    grid = (torch.arange(size) + 0.5) / size
    # the canvas lies from −0.104 to 1.096 of the face's side, and from 0.05 to 0.95 across (see `embed`)
    face, margin = side * 8 / 9, side / 18
    across, down = ((at - margin) / face for at in place)
    assert float((weights.sum(0) * grid).sum()) == pytest.approx((across - 0.05) / 0.9, abs=0.01)
    assert float((weights.sum(1) * grid).sum()) == pytest.approx((down + 0.104) / 1.2, abs=0.015)


def test_canvas_of_the_published_size():
    assert canvas_px(256) == (210, 280)


def test_only_long_clips_are_taken(tmp_path):
    folder = write_prepared(tmp_path, KEYS[:2], num_frames=20, side_px=36)
    store = clip_store(str(folder), ClipChoice(), 20, 0.1)
    assert len(store.clips) == 2
    with pytest.raises(UsageError, match="21 frames") as caught:
        clip_store(str(folder), ClipChoice(), 21, 0.1)
    assert caught.value.exit_code == 2
