"""A patch in a picture's own planes: colours by the standards' formulas, every other sample bit for bit."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from lipsync_cli.core.errors import InputError
from lipsync_cli.media.native import read_native
from lipsync_cli.media.patch import copy_picture, paste, to_rgb
from lipsync_cli.media.pixels import pixel_layout, samples

YUV = [
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv444p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "yuva444p10le",
]
OTHERS = ["nv12", "p010le", "yuyv422", "uyvy422", "yuv411p", "rgb24", "bgra", "gbrp", "gbrp10le", "rgb48le"]
GREY = ["gray", "gray10le"]
WIDTH, HEIGHT = 46, 34
# ITU-R BT.601, BT.709, BT.2020: weight of red and of blue in luma, and what divides B - Y and R - Y
MATRICES = {
    5: (0.299, 0.114, 1.772, 1.402),
    1: (0.2126, 0.0722, 1.8556, 1.5748),
    9: (0.2627, 0.0593, 1.8814, 1.4746),
}


def picture_of(pixel_format: str, *, matrix: int = 1, full: bool = False, seed: int = 0) -> av.VideoFrame:
    """Noise in every byte that means something, edges and padding included."""
    picture = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    rng = np.random.default_rng(seed)
    for plane in picture.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    for channel in pixel_layout(pixel_format).channels:
        view = samples(picture, channel)
        limit = 2**channel.bits
        codes = rng.integers(limit // 4, 3 * limit // 4, view.shape)  # colours that exist
        view[:] = (codes << channel.low_bits).astype(view.dtype)
    picture.pts, picture.time_base = 7, Fraction(1, 25)
    picture.colorspace, picture.color_range = matrix, 2 if full or "j" in pixel_format else 1
    return picture


SAMPLES_EACH = {
    "nv12": (1, 2),
    "p010le": (1, 2),
    "yuyv422": (2,),
    "uyvy422": (2,),
    "rgb24": (3,),
    "bgra": (4,),
    "rgb48le": (3,),
}


def raw(picture: av.VideoFrame) -> list[np.ndarray]:
    """Each plane as it lies in memory, without the padding of its rows."""
    name = picture.format.name
    planes = []
    for number, plane in enumerate(picture.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1).copy()
        width = (
            plane.width
            * SAMPLES_EACH.get(name, (1,) * 4)[number]
            * (1 + (picture.format.components[0].bits > 8))
        )
        planes.append(rows[:, :width])
    return planes


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    return np.clip(4 * (0.45 - distance), 0, 1).astype(np.float32)


def codes_by_formula(colour, matrix: int, full: bool, bits: int) -> list[float]:
    red, blue, by, ry = MATRICES[matrix]
    r, g, b = colour
    luma = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - luma) / by, (r - luma) / ry
    if full:
        top = 2**bits - 1
        return [luma * top, 2 ** (bits - 1) + cb * top, 2 ** (bits - 1) + cr * top]
    return [v * 2 ** (bits - 8) for v in (16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr)]


@pytest.mark.parametrize("pixel_format", YUV + OTHERS + GREY)
@pytest.mark.parametrize(("left", "top"), [(8, 6), (11, 9)])
def test_what_the_patch_does_not_cover_keeps_its_bits(pixel_format, left, top):
    picture = picture_of(pixel_format)
    before = raw(picture)
    alpha = disc(17, 21)
    patch = np.random.default_rng(1).random((17, 21, 3), np.float32)
    result = paste(picture, patch, alpha, left, top)
    assert all((a == b).all() for a, b in zip(before, raw(picture), strict=True)), "the picture was changed"
    cover = np.zeros((HEIGHT, WIDTH), np.float32)
    cover[top : top + 17, left : left + 21] = alpha
    changed = 0
    for channel in pixel_layout(pixel_format).channels:
        old, new = samples(picture, channel), samples(result, channel)
        for y, x in np.ndindex(old.shape):
            block = cover[
                y * channel.down : (y + 1) * channel.down, x * channel.across : (x + 1) * channel.across
            ]
            if not block.any():
                assert old[y, x] == new[y, x]
            changed += old[y, x] != new[y, x]
    assert changed > 100
    assert (result.pts, result.time_base, result.colorspace) == (7, Fraction(1, 25), 1)


@pytest.mark.parametrize("pixel_format", ["yuva444p10le", "bgra"])
def test_alpha_of_the_picture_stays(pixel_format):
    picture = picture_of(pixel_format)
    result = paste(picture, np.zeros((20, 20, 3), np.float32), np.ones((20, 20), np.float32), 4, 4)
    if pixel_format == "bgra":
        assert (raw(picture)[0][:, 3::4] == raw(result)[0][:, 3::4]).all()
    else:
        assert (raw(picture)[3] == raw(result)[3]).all()


@pytest.mark.parametrize("pixel_format", YUV + OTHERS + GREY)
@pytest.mark.parametrize("matrix", list(MATRICES))
def test_a_patch_that_repeats_the_picture_changes_no_sample_by_more_than_a_code(pixel_format, matrix):
    picture = picture_of(pixel_format, matrix=matrix)
    box = (5, 3, 38, 30)
    result = paste(picture, to_rgb(picture, box), np.ones((27, 33), np.float32), 5, 3)
    for channel in pixel_layout(pixel_format).channels:
        old, new = (samples(p, channel).astype(int) >> channel.low_bits for p in (picture, result))
        assert abs(old - new).max() <= 1


@pytest.mark.parametrize("matrix", list(MATRICES))
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p12le", "nv12", "p010le"])
@pytest.mark.parametrize("colour", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0.25, 0.5, 0.75)])
def test_colours_land_where_the_standards_say(matrix, full, pixel_format, colour):
    picture = picture_of(pixel_format, matrix=matrix, full=full)
    for channel in pixel_layout(pixel_format).channels:
        samples(picture, channel)[:] = 2 ** (channel.bits - 1) << channel.low_bits
    patch = np.broadcast_to(np.float32(colour), (16, 16, 3))
    result = paste(picture, patch, np.ones((16, 16), np.float32), 8, 8)
    layout = pixel_layout(pixel_format)
    expected = codes_by_formula(colour, matrix, full, layout.channels[0].bits)
    for channel, code in zip(layout.channels, expected, strict=True):
        y, x = 16 // channel.down, 16 // channel.across
        limit = 2**channel.bits - 1
        assert abs((int(samples(result, channel)[y, x]) >> channel.low_bits) - min(code, limit)) <= 0.5001
    read = to_rgb(result, (12, 12, 16, 16))
    assert abs(read - np.float32(colour)).max() <= 1.5 / 2 ** (layout.channels[0].bits - 1)


def test_half_the_alpha_is_half_the_way():
    picture = picture_of("yuv444p")
    patch = np.ones((10, 10, 3), np.float32)
    result = paste(picture, patch, np.full((10, 10), 0.5, np.float32), 10, 10)
    luma = [
        samples(p, pixel_layout("yuv444p").channels[0])[10:20, 10:20].astype(float) for p in (picture, result)
    ]
    assert abs(luma[1] - (luma[0] + 235) / 2).max() <= 0.5


@pytest.mark.parametrize(("siting", "weights"), [("left", (1, 2, 1)), ("center", (0, 2, 2))])
def test_chroma_is_averaged_around_where_its_samples_lie(siting, weights):
    """Columns 16 to 19 are red, the rest of a grey patch is not: a brute-force mean around each chroma sample."""
    picture = picture_of("yuv420p", matrix=5)
    for channel in pixel_layout("yuv420p").channels:
        samples(picture, channel)[:] = 128
    patch = np.full((16, 24, 3), 0.5, np.float32)
    patch[:, 8:12] = (1, 0, 0)
    result = paste(picture, patch, np.ones((16, 24), np.float32), 8, 8, siting=siting)
    red = np.zeros(WIDTH)
    red[16:20] = 1
    cr = codes_by_formula((1, 0, 0), 5, False, 8)[2] - 128
    seen = samples(result, pixel_layout("yuv420p").channels[2])[8]
    for x in range(5, 14):
        share = sum(w * red[2 * x + d] for w, d in zip(weights, (-1, 0, 1), strict=True)) / 4
        assert abs(seen[x] - (128 + share * cr)) <= 0.5001, x


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_places_are_upright_in_turned_clips(tmp_path, rotation):
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.set_display_rotation(-rotation)
        out.mux([*stream.encode(picture_of("yuv420p")), *stream.encode(None)])
    picture = next(read_native(path)).picture
    whole = to_rgb(picture)
    stored = [samples(picture, c).astype(int) for c in pixel_layout("yuv420p").channels]
    assert whole.shape[:2] == ((HEIGHT, WIDTH) if rotation in (0, 180) else (WIDTH, HEIGHT))
    luma = np.rot90(stored[0], -(rotation // 90))
    np.testing.assert_allclose(
        (whole @ np.float32((0.299, 0.587, 0.114))) * 219 + 16, luma, atol=0.01
    )  # untagged: BT.601
    patch = np.zeros((9, 12, 3), np.float32)
    patch[:4, :5] = 1  # white in the upper left corner, black elsewhere
    result = paste(picture, patch, np.ones((9, 12), np.float32), 6, 7)
    new = np.rot90(samples(result, pixel_layout("yuv420p").channels[0]).astype(int), -(rotation // 90))
    assert (
        (new[7:11, 6:11] == 235).all() and (new[11:16, 6:18] == 16).all() and (new[7:16, 11:18] == 16).all()
    )
    inside = np.zeros(new.shape, bool)
    inside[7:16, 6:18] = True
    assert (new[~inside] == luma[~inside]).all()
    np.testing.assert_allclose(to_rgb(picture, (3, 5, 20, 30)), whole[5:30, 3:20], atol=1e-6)


@pytest.mark.parametrize(("left", "top"), [(-6, -5), (WIDTH - 7, HEIGHT - 4), (WIDTH + 3, 0), (-40, -40)])
def test_what_hangs_over_the_edge_is_left_out(left, top):
    picture = picture_of("yuv420p")
    result = paste(picture, np.ones((12, 14, 3), np.float32), np.ones((12, 14), np.float32), left, top)
    old, new = (samples(p, pixel_layout("yuv420p").channels[0]) for p in (picture, result))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = (y >= top) & (y < top + 12) & (x >= left) & (x < left + 14)
    assert (new[inside] == 235).all() and (new[~inside] == old[~inside]).all()


def test_whiter_than_white_is_kept_where_nothing_changes():
    picture = picture_of("yuv420p")
    luma = samples(picture, pixel_layout("yuv420p").channels[0])
    luma[:] = 250
    read = to_rgb(picture, (0, 0, 20, 20))
    assert read.max() > 1.05
    result = paste(picture, read, np.ones((20, 20), np.float32), 0, 0)
    assert (samples(result, pixel_layout("yuv420p").channels[0]) == 250).all()


def test_a_copy_lies_elsewhere():
    picture = picture_of("yuv420p10le")
    copy = copy_picture(picture)
    samples(copy, pixel_layout("yuv420p10le").channels[0])[:] = 0
    assert samples(picture, pixel_layout("yuv420p10le").channels[0]).any()


def test_a_box_outside_the_picture_is_a_mistake():
    with pytest.raises(ValueError, match="not inside"):
        to_rgb(picture_of("yuv420p"), (0, 0, WIDTH + 1, 10))


def test_formats_and_matrices_that_cannot_be_edited_are_refused():
    with pytest.raises(InputError, match="pixel format pal8") as caught:
        to_rgb(av.VideoFrame(8, 8, "pal8"))
    assert caught.value.exit_code == 3 and "ffv1" in caught.value.hint
    with pytest.raises(InputError, match="matrix 10"):
        to_rgb(picture_of("yuv420p", matrix=10))
