"""Before and after: the right pictures beside each other, with the sound of the result."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from lipsync_cli.core.errors import InputError
from lipsync_cli.media.compare import write_contact_sheet, write_side_by_side
from lipsync_cli.media.frames import read_frames
from lipsync_cli.media.patch import paste
from lipsync_cli.media.probe import probe
from tests.finishing import remake
from tests.media_clips import Clip, write_clip
from tests.unit.media.test_timeline import measured_lead


def green(picture: av.VideoFrame) -> av.VideoFrame:
    """A green square at (100, 60), 40 pixels wide."""
    return paste(
        picture, np.broadcast_to(np.float32((0, 1, 0)), (40, 40, 3)), np.ones((40, 40), np.float32), 100, 60
    )


@pytest.mark.parametrize(
    "clip", [Clip(size=(256, 144)), Clip(size=(256, 144), rate=None, audio_start=Fraction(1, 5))]
)
def test_the_two_clips_run_side_by_side_in_time(tmp_path, clip):
    source, result, out = tmp_path / "in.mov", tmp_path / "out.mov", tmp_path / "both.mp4"
    write_clip(source, clip)
    remake(source, result, edit=green)
    write_side_by_side(source, result, out)
    info = probe(out)
    assert (info.video[0].width, info.video[0].height) == (512, 144) and len(info.audio) == 1
    assert float(info.duration) == pytest.approx(float(clip.duration), abs=0.1)
    image = list(read_frames(out))[10].image.astype(int)
    square = image[65:95, 256 + 105 : 256 + 135]
    assert square[..., 1].min() > 200 and square[..., 0].max() < 60  # on the right only
    left, right = image[30:, :256], image[30:, 256:].copy()
    right[30:70, 100:140] = left[30:70, 100:140]
    assert abs(left - right).mean() < 1.5
    # the flash and the burst of the clip are where they were, to a picture of the preview
    assert measured_lead(out)[1] == pytest.approx(measured_lead(source)[1], abs=0.03)
    assert sorted(p.suffix for p in tmp_path.iterdir() if p.suffix != ".piece") == [".mov", ".mov", ".mp4"]


def test_a_longer_result_stands_beside_the_last_picture(tmp_path):
    source, result, out = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "both.mp4"
    write_clip(source, Clip(size=(64, 48), duration=Fraction(1, 2), audio_codec=None))
    write_clip(result, Clip(size=(64, 48), duration=Fraction(1), audio_codec=None))
    write_side_by_side(source, result, out)
    assert len(list(read_frames(out))) == 25


def test_a_contact_sheet_shows_what_changed(tmp_path):
    source, result, out = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "sheet.png"
    write_clip(source, Clip(size=(256, 144)))
    remake(source, result, edit=green)
    write_contact_sheet(source, result, out, [Fraction(1, 2), Fraction(3, 2)])
    sheet = cv2.imread(str(out))[..., ::-1].astype(int)
    assert sheet.shape[1] == 3 * 360 and sheet.shape[0] > 2 * 300  # square crops around the change
    row = sheet[28 : 28 + 360]
    before, after, change = (row[:, n * 360 : (n + 1) * 360] for n in range(3))
    middle = np.s_[150:210, 150:210]
    assert before[middle][..., 1].mean() < 120 and after[middle][..., 1].mean() > 220
    assert change[middle][..., 1].min() > 200 and change[2:20, 2:20].mean() < 12


def test_what_to_show_can_be_said(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "sheet.png"
    write_clip(source, Clip(size=(256, 144)))
    write_contact_sheet(source, source, out, [Fraction(1, 2)], [(0, 0, 128, 64)])
    assert cv2.imread(str(out)).shape[0] == 28 + 180 + 28


def test_a_time_after_the_end_is_refused(tmp_path):
    write_clip(tmp_path / "in.mp4")
    with pytest.raises(InputError, match=r"no picture at 60\.000 s") as caught:
        write_contact_sheet(tmp_path / "in.mp4", tmp_path / "in.mp4", tmp_path / "a.png", [Fraction(60)])
    assert caught.value.exit_code == 3 and not (tmp_path / "a.png").exists()
