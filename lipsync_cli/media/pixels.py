"""Where the samples of a decoded picture lie, and what they mean: planes, bit depth, matrix, range.

FFmpeg's pixel formats are read from their names: planar and semi-planar Y'CbCr, planar and packed RGB, grey.
Numbers of colour tags are those of ITU-T H.273, which FFmpeg uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lipsync_cli.core.errors import InputError

_SUBSAMPLING = {"444": (1, 1), "440": (1, 2), "422": (2, 1), "420": (2, 2), "411": (4, 1), "410": (4, 4)}
_SEMI_PLANAR = {  # name: subsampling, bits, unused low bits, order of the two chroma samples
    "nv12": ("420", 8, 0, 0),
    "nv21": ("420", 8, 0, 1),
    "nv16": ("422", 8, 0, 0),
    "nv24": ("444", 8, 0, 0),
    "p010le": ("420", 10, 6, 0),
    "p012le": ("420", 12, 4, 0),
    "p016le": ("420", 16, 0, 0),
    "p210le": ("422", 10, 6, 0),
    "p216le": ("422", 16, 0, 0),
}
_LUMA_WEIGHTS = {  # matrix coefficients: (Kr, Kb)
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 BG, which is BT.601
    6: (0.299, 0.114),  # SMPTE 170M, which is BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
_UNSPECIFIED = 2
_FULL_RANGE = 2


@dataclass(frozen=True)
class Channel:
    """Samples of one component: in which plane, from which sample on, every how many, how wide apart in pixels.

    bits: of the value.  low_bits: unused bits below it.  across, down: pixels of the picture for each sample.
    """

    plane: int
    offset: int
    step: int
    bits: int
    low_bits: int = 0
    across: int = 1
    down: int = 1


@dataclass(frozen=True)
class PixelLayout:
    """channels: Y, Cb, Cr or R, G, B or Y alone; alpha is never touched.  full_range: said by the name itself."""

    channels: tuple[Channel, ...]
    is_rgb: bool
    full_range: bool


@lru_cache
def pixel_layout(name: str) -> PixelLayout:
    """The layout of FFmpeg's pixel format `name`. Raises: InputError for one that cannot be edited."""
    if match := re.fullmatch(r"yuv(a|j)?(444|440|422|420|411|410)p(\d+)?(le)?", name):
        across, down = _SUBSAMPLING[match[2]]
        bits = int(match[3] or 8)
        chroma = [Channel(plane, 0, 1, bits, 0, across, down) for plane in (1, 2)]
        return PixelLayout((Channel(0, 0, 1, bits), *chroma), False, match[1] == "j")
    if name in _SEMI_PLANAR:
        sampling, bits, low, first = _SEMI_PLANAR[name]
        across, down = _SUBSAMPLING[sampling]
        chroma = [Channel(1, n, 2, bits, low, across, down) for n in (first, 1 - first)]
        return PixelLayout((Channel(0, 0, 1, bits, low), *chroma), False, False)
    if name in ("yuyv422", "uyvy422"):
        luma = int(name == "uyvy422")
        chroma = [Channel(0, n + 1 - luma, 4, 8, 0, 2, 1) for n in (0, 2)]
        return PixelLayout((Channel(0, luma, 2, 8), *chroma), False, False)
    if match := re.fullmatch(r"gbra?p(\d+)?(le)?", name):
        return PixelLayout(tuple(Channel(p, 0, 1, int(match[1] or 8)) for p in (2, 0, 1)), True, True)
    if match := re.fullmatch(r"([rgba0]{3,4})(24|32|48le|64le)?", name):
        order, bits = match[1], 16 if match[2] in ("48le", "64le") else 8
        if {"r", "g", "b"} <= set(order):
            places = tuple(Channel(0, order.index(c), len(order), bits) for c in "rgb")
            return PixelLayout(places, True, True)
    if match := re.fullmatch(r"gray(\d+)?(le)?", name):
        return PixelLayout((Channel(0, 0, 1, int(match[1] or 8)),), False, False)
    raise InputError(
        f"pictures of pixel format {name} cannot be edited.",
        "convert the clip first, for example: ffmpeg -i in.mov -c:v ffv1 -pix_fmt yuv444p10le -c:a copy in.mkv",
    )


def samples(picture: Any, channel: Channel) -> np.ndarray:
    """The samples of `channel`, (height, width), as a view into the picture: writing there changes it."""
    plane = picture.planes[channel.plane]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
    if plane.line_size < 0:
        rows = rows[::-1]
    if channel.bits + channel.low_bits > 8:
        rows = rows.view("<u2")
    width = -(-picture.width // channel.across)
    return rows[:, channel.offset : channel.offset + (width - 1) * channel.step + 1 : channel.step]


def from_rgb_matrix(picture: Any) -> np.ndarray:
    """(3, 4) float64: R'G'B' in 0..1 and a 1 to the codes of the picture's channels.

    A picture that does not say its matrix is taken for BT.601 and limited range, as `read_frames` takes it.
    Raises: InputError for a matrix that is not linear in R'G'B', such as constant luminance or ICtCp.
    """
    layout = pixel_layout(picture.format.name)
    bits = layout.channels[0].bits
    if layout.is_rgb:
        return np.eye(3, 4) * (2**bits - 1)
    matrix = int(picture.colorspace)
    if matrix not in _LUMA_WEIGHTS and matrix != _UNSPECIFIED and len(layout.channels) > 1:
        raise InputError(
            f"pictures with colour matrix {matrix} (ITU-T H.273) cannot be edited.",
            "convert the clip to BT.709 or BT.2020 non-constant luminance first",
        )
    red, blue = _LUMA_WEIGHTS.get(matrix, _LUMA_WEIGHTS[6])
    luma = np.array([red, 1 - red - blue, blue])
    chroma = [(np.eye(3)[2] - luma) / (2 * (1 - blue)), (np.eye(3)[0] - luma) / (2 * (1 - red))]
    if layout.full_range or int(picture.color_range) == _FULL_RANGE:
        scale, foot = np.full(3, 2.0**bits - 1), np.array([0, 2 ** (bits - 1), 2 ** (bits - 1)])
    else:
        scale, foot = (
            np.array([219, 224, 224]) * 2.0 ** (bits - 8),
            np.array([16, 128, 128]) * 2 ** (bits - 8),
        )
    return np.column_stack([np.vstack([luma, *chroma]) * scale[:, None], foot])


def to_rgb_matrix(picture: Any) -> np.ndarray:
    """(3, 4) float64: codes of the picture's channels and a 1 to R'G'B'. Raises: as `from_rgb_matrix`."""
    matrix = from_rgb_matrix(picture)
    inverse = np.linalg.inv(matrix[:, :3])
    return np.column_stack([inverse, -inverse @ matrix[:, 3]])
