import numpy as np

from lipsync_cli.networks.vsr.mouths import FaceView, MouthWindow, cut_mouths


def test_window_is_centred_on_the_mouth_of_the_face_square():
    face = np.zeros((144, 144, 3), np.uint8)  # a face square of 128 with 8 of margin
    face[8 + 84 - 8 : 8 + 84 + 8, 8 + 64 - 8 : 8 + 64 + 8] = 255  # its mouth: level 0.66 of 128 is 84
    mouth = cut_mouths([face], MouthWindow(64, 24, 40, 0.66), square_px=128)[0]
    assert mouth.shape == (24, 40)
    rows, columns = np.nonzero(mouth > 128)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
        8,
        15,
        16,
        23,
    )  # half size, in the middle


def test_margin_and_slack_do_not_move_the_mouth():
    face = np.random.default_rng(0).integers(0, 255, (144, 144), np.uint8)
    window = MouthWindow(128, 24, 40, 0.66)
    from_margin = cut_mouths([face], window, square_px=128)[0]
    without = cut_mouths([face[8:136, 8:136]], window, square_px=128)[0]
    slack = cut_mouths([face], window, square_px=128, slack_px=5)[0]
    assert np.array_equal(from_margin, without)
    assert np.array_equal(slack[5:-5, 5:-5], without)


def test_what_lies_outside_repeats_the_edge():
    face = np.full((64, 64), 7, np.uint8)
    assert (cut_mouths([face], MouthWindow(64, 60, 80, 0.9), square_px=64) == 7).all()


def test_view_moves_the_face_by_a_share_of_the_square():
    face = np.zeros((100, 100, 3), np.uint8)
    face[40:44, 60:64] = 200
    down, closer = FaceView(right=-0.1, down=0.05), FaceView(scale=2.0)
    rows, columns, _ = np.nonzero(down.of([face])[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 48, 50, 53)
    rows, columns, _ = np.nonzero(closer.of([face])[0] > 100)
    # about the middle, 49.5: rows 40…43 are then 30.5…36.5, columns 60…63 are 70.5…76.5
    assert abs(rows.mean() - 33.5) < 0.1 and abs(columns.mean() - 73.5) < 0.1
    (same,) = FaceView().of([face])
    assert np.array_equal(same, face)
