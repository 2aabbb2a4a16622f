"""Crops cut plane by plane are those that are cut from the whole picture in R'G'B'."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from lipsync_cli.dubbing.cutting import cut_crop
from lipsync_cli.faces.align import cut
from lipsync_cli.media.patch import to_rgb

TO_CROP = {
    "large": np.array([[0.35, 0.08, -9.0], [-0.08, 0.35, -2.0]]),
    "small": np.array([[1.3, -0.2, -40.0], [0.2, 1.3, -60.0]]),
}


def picture(pixel_format: str) -> av.VideoFrame:
    noise = np.random.default_rng(5).random((180, 240, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    smooth = np.clip(0.5 + (smooth - 0.5) * 8, 0, 1)
    codes = (smooth * 65535).astype(np.uint16) if pixel_format != "gray" else None
    if codes is None:
        return av.VideoFrame.from_ndarray((smooth[..., 0] * 255).astype(np.uint8), "gray")
    frame = av.VideoFrame.from_ndarray(codes, "rgb48le")
    # with several threads swscale now and then spoils the chroma where their slices meet
    return frame.reformat(format=pixel_format, dst_colorspace=1, dst_color_range=1, threads=1)


@pytest.mark.parametrize("size", TO_CROP)
@pytest.mark.parametrize(
    "pixel_format",
    [
        "yuv420p",
        "yuv422p10le",
        "yuv444p12le",
        "nv12",
        "p010le",
        "yuyv422",
        "rgb24",
        "gbrp",
        "gray",
        "yuvj420p",
    ],
)
def test_it_agrees_with_the_whole_picture_in_rgb(pixel_format, size):
    source = picture(pixel_format)
    whole = (np.clip(to_rgb(source), 0, 1) * 255 + 0.5).astype(np.uint8)
    wanted = cut(whole, TO_CROP[size], 64).astype(int)
    got = cut_crop(source, TO_CROP[size], 64).astype(int)
    # chroma of half the size is sampled rather than averaged, which fine colour noise such as this shows
    full = pixel_format in ("yuv444p12le", "rgb24", "gbrp", "gray")
    most, mean = (2, 0.5) if full else (8, 1.2)
    apart = np.abs(got - wanted)[2:-2, 2:-2]
    assert wanted.std() > 10
    assert apart.max() <= most and apart.mean() < mean


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_picture_is_cut_upright(tmp_path, turn):
    path = tmp_path / "turned.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 240, 180, "yuv444p"
        matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]
        a, b, c, d = (value * 65536 for value in matrix)
        stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        out.mux(stream.encode(picture("yuv444p")))
        out.mux(stream.encode(None))
    with av.open(str(path)) as container:
        source = next(container.decode(video=0))
    whole = (np.clip(to_rgb(source), 0, 1) * 255 + 0.5).astype(np.uint8)
    assert whole.shape[:2] == ((180, 240) if turn == 180 else (240, 180))
    wanted = cut(whole, TO_CROP["large"], 64).astype(int)
    got = cut_crop(source, TO_CROP["large"], 64).astype(int)
    assert np.abs(got - wanted)[2:-2, 2:-2].max() <= 3
