"""What a picture says about its colours and how to show it, and the same in an encoder's words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np

_RGB, _BT709 = 0, 1
_LIMITED, _FULL = 1, 2
_DYNAMIC = {"DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_RPU_BUFFER": "Dolby Vision", "DOVI_METADATA": "Dolby Vision"}


@dataclass(frozen=True)
class ColourTags:
    """primaries, transfer, matrix, range: numbers of ITU-T H.273 as FFmpeg gives them.

    mastering: "G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)" in units of 0.00002 and 0.0001 cd/m², light: "MaxCLL,MaxFALL" in
    cd/m²; "" where the picture does not say.
    """

    primaries: int
    transfer: int
    matrix: int
    range: int
    mastering: str
    light: str


def colour_tags(picture: Any) -> ColourTags:
    """The tags of a decoded picture."""
    side = _side_data(picture)
    return ColourTags(
        int(picture.color_primaries),
        int(picture.color_trc),
        int(picture.colorspace),
        int(picture.color_range),
        _mastering(side.get("MASTERING_DISPLAY_METADATA", b"")),
        _light(side.get("CONTENT_LIGHT_LEVEL", b"")),
    )


def converted_tags(tags: ColourTags, source: str, target: str) -> ColourTags:
    """The tags of pictures that go from pixel format `source` to `target`: R'G'B' becomes BT.709, and back."""
    was_rgb, is_rgb = (av.VideoFormat(name).is_rgb for name in (source, target))
    if was_rgb == is_rgb:
        return tags
    return replace(tags, matrix=_RGB, range=_FULL) if is_rgb else replace(tags, matrix=_BT709, range=_LIMITED)


def dynamic_metadata(picture: Any) -> tuple[str, ...]:
    """Names of the kinds of per-picture HDR metadata, which belong to the old picture and are not written again."""
    return tuple(sorted({_DYNAMIC[name] for name in _side_data(picture) if name in _DYNAMIC}))


def display_matrix(picture: Any) -> tuple[int, ...]:
    """The nine numbers by which a player turns and flips the picture; () where there are none."""
    raw = _side_data(picture).get("DISPLAYMATRIX", b"")
    return tuple(int(n) for n in np.frombuffer(raw, "<i4", 9)) if raw else ()


def _side_data(picture: Any) -> dict[str, bytes]:
    return {data.type.name: bytes(data) for data in picture.side_data}


def _mastering(raw: bytes) -> str:
    """From FFmpeg's struct: ten fractions (R, G, B and white, x and y; least and greatest light), two flags."""
    if len(raw) < 88:
        return ""
    numbers = np.frombuffer(raw, "<i4", 22)
    if not (numbers[20] and numbers[21]):
        return ""
    values = numbers[:20:2] / np.maximum(numbers[1:20:2], 1)
    red, green, blue, white = (
        "({},{})".format(*np.rint(pair * 50000).astype(int)) for pair in values[:8].reshape(4, 2)
    )
    least, most = np.rint(values[8:] * 10000).astype(int)
    return f"G{green}B{blue}R{red}WP{white}L({most},{least})"


def _light(raw: bytes) -> str:
    return "{},{}".format(*np.frombuffer(raw, "<u4", 2)) if len(raw) >= 8 else ""
