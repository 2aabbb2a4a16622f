import cv2
import numpy as np
import pytest
import torch

from lipsync_cli.networks.latentsync.align import (
    TEMPLATE,
    brows_and_nose,
    canvas_px,
    cut_faces,
    fit_canvas,
    put_back,
    warp,
)


def by_svd(points, size_px):
    """One frame, the long way: Procrustes by singular values, a ratio of standard deviations for the scale."""
    goal = TEMPLATE * size_px / 256 * 2.8
    p, q = points - points.mean(0), goal - goal.mean(0)
    s1, s2 = p.std(ddof=1), q.std(ddof=1)
    u, _, vt = np.linalg.svd((p / s1).T @ (q / s2))
    flip = np.diag([1, np.linalg.det(vt.T @ u.T)])
    linear = s2 / s1 * (vt.T @ flip @ u.T)
    return np.column_stack([linear, goal.mean(0) - linear @ points.mean(0)])


@pytest.mark.parametrize(("size_px", "canvas"), [(256, (210, 280)), (512, (420, 560))])
def test_canvas(size_px, canvas):
    assert canvas_px(size_px) == canvas


def test_points_on_the_template_stay_where_they_are():
    matrices = fit_canvas(TEMPLATE[None] * 2.8, 256)
    assert np.allclose(matrices, [[[1, 0, 0], [0, 1, 0]]], atol=1e-12)
    assert np.allclose(fit_canvas(TEMPLATE[None] * 2.8, 512), [[[2, 0, 0], [0, 2, 0]]], atol=1e-12)


def test_a_face_of_other_proportions_by_hand():
    points = np.array([[[100.0, 100.0], [200.0, 100.0], [150.0, 150.0]]])
    # Σ|q|² = 1107.1667, Σ|p|² = 6666.6667, so the scale is 2.8·√(1107.1667 / 6666.6667)
    scale = 1.1410644
    # centre (150, 116.66667) goes to 2.8·(37.5, 26.66667)
    expected = [[scale, 0, 105 - scale * 150], [0, scale, 74.666667 - scale * 116.666667]]
    assert np.allclose(fit_canvas(points, 256, smooth=False)[0], expected, atol=1e-4)
    # the nose is 13.33333 / 14.88064 of the template's deviations below the centre, 33.33333 / 36.51484 of the face's
    smoothed = fit_canvas(points, 256)[0]
    shift = smoothed[:, 2] - np.array(expected)[:, 2]
    assert np.allclose(shift, [0, 0.896018 - 0.912871], atol=1e-4)


@pytest.mark.parametrize("size_px", [256, 512])
def test_any_face_agrees_with_singular_values(size_px):
    points = TEMPLATE * 3 + 100 + np.random.default_rng(0).normal(0, 8, (20, 3, 2))
    expected = np.stack([by_svd(p, size_px) for p in points])
    assert np.allclose(fit_canvas(points, size_px, smooth=False), expected, atol=1e-9)


def test_the_nose_remembers_a_fifth_within_one_track_only():
    points = TEMPLATE * 3 + np.random.default_rng(1).normal(0, 8, (3, 3, 2))
    alone = np.concatenate([fit_canvas(points[i : i + 1], 256) for i in range(3)])
    bias = (alone - fit_canvas(points, 256, smooth=False))[:, :, 2]
    second = 0.2 * bias[0] + 0.8 * bias[1]
    third = 0.2 * second + 0.8 * bias[2]
    track = (fit_canvas(points, 256) - fit_canvas(points, 256, smooth=False))[:, :, 2]
    assert np.allclose(track, [bias[0], second, third])


def test_the_three_points_are_means_of_the_mesh():
    landmarks = np.zeros((1, 478, 2), np.float32)
    landmarks[0, [70, 63, 105, 66, 107]] = [[0, 10], [10, 5], [20, 0], [30, 5], [40, 10]]
    landmarks[0, [300, 293, 334, 296, 336], 0] = [100, 90, 80, 70, 60]
    landmarks[0, [195, 4, 129, 358]] = [[50, 30], [50, 60], [35, 55], [65, 55]]
    assert np.allclose(brows_and_nose(landmarks)[0], [[20, 6], [80, 0], [50, 50]])


def test_warp_agrees_with_opencv_inside_the_picture():
    image = np.random.default_rng(2).uniform(0, 255, (40, 50, 3)).astype(np.float32)
    matrix = np.array([[1.2, -0.3, 4.0], [0.3, 1.2, -7.0]])
    expected = cv2.warpAffine(image, matrix, (60, 45), flags=cv2.INTER_LINEAR, borderValue=(127, 127, 127))
    frames = torch.from_numpy(image).permute(2, 0, 1)[None]
    ours = warp(frames, torch.from_numpy(matrix)[None], (45, 60), 127.0)[0].permute(1, 2, 0).numpy()
    # OpenCV before 5 places samples on a grid of 1/32 pixel
    assert np.abs(ours - expected).max() < 255 / 16
    assert np.abs(ours - expected).mean() < 1
    assert (ours[0, 59] == 127).all() == (expected[0, 59] == 127).all()


def test_whole_pixels_move_exactly():
    frames = torch.arange(2 * 3 * 6 * 8).reshape(2, 3, 6, 8).float()
    shift = torch.tensor([[[1.0, 0, 2], [0, 1, 1]], [[1.0, 0, 0], [0, 1, 0]]])
    moved = warp(frames, shift, (6, 8), -1.0)
    assert torch.allclose(moved[0, :, 1:, 2:], frames[0, :, :-1, :-2], atol=1e-4)
    assert torch.allclose(moved[0, :, 0], torch.tensor(-1.0)) and torch.allclose(
        moved[1], frames[1], atol=1e-4
    )


def test_the_square_is_the_canvas_squeezed_by_lanczos():
    canvas = np.random.default_rng(3).integers(0, 256, (280, 210, 3), dtype=np.uint8)
    frames = torch.from_numpy(canvas).permute(2, 0, 1)[None].float()
    still = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    expected = cv2.resize(canvas, (256, 256), interpolation=cv2.INTER_LANCZOS4)
    ours = cut_faces(frames, still, 256)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).max() <= 1


def test_there_and_back_again():
    rows, columns = torch.meshgrid(torch.arange(300.0), torch.arange(400.0), indexing="ij")
    picture = 127 + 60 * torch.stack(
        [(rows / 25).sin(), (columns / 30).cos(), (rows / 40 + columns / 35).sin()]
    )
    points = (TEMPLATE * 1.6 + [150, 60])[None]
    matrices = torch.from_numpy(fit_canvas(points, 256))
    back, covered = put_back(cut_faces(picture[None], matrices, 256), matrices, (300, 400))
    inside = covered[0, 0] == 1
    # canvas of 75 × 100 units at 1.6 px, less the edge
    assert inside.sum().item() == pytest.approx(120 * 160, rel=0.02)
    assert (back[0] - picture).abs()[:, inside].mean() < 0.6
    assert covered[0, 0, :50].sum() == 0
