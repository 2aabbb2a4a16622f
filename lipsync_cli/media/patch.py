"""A new piece of picture, blended inside the picture's own planes: what it does not cover stays bit for bit.

Colours are R'G'B' as coded, 0..1, in the picture's own primaries and transfer: nothing is made linear or mapped.
Places are upright display pixels, before any stretch of non-square pixels. Shapes: (h, w) of the piece.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

import av
import av.filter
import cv2
import numpy as np

from lipsync_cli.media.pixels import Channel, from_rgb_matrix, pixel_layout, samples, to_rgb_matrix
from lipsync_cli.media.probe import clockwise_rotation

Siting = Literal["left", "topleft", "center"]
Box = tuple[int, int, int, int]  # left, top, right, bottom
_BT2020 = 9


def to_rgb(picture: av.VideoFrame, box: Box | None = None, *, siting: Siting | None = None) -> np.ndarray:
    """float32 (h, w, 3) R'G'B', upright, of the whole picture or of `box`, by its own matrix and range.

    box: left, top, right, bottom in upright pixels, inside the picture.  siting: where chroma samples lie; None =
    left, and top left in BT.2020.  Values are not clipped: whiter than white is above 1.
    Raises: InputError for a pixel format or matrix that cannot be edited, ValueError for a box outside the picture.
    """
    stored = _stored_box(picture, box or (0, 0, *_upright_size(picture)))
    left, top, right, bottom = stored
    if not (0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height):
        raise ValueError(f"box {box} is not inside the picture")
    image = _codes(picture, stored, siting or _default_siting(picture))
    if image.shape[2] == 1:
        scale, foot = from_rgb_matrix(picture)[0, :3].sum(), from_rgb_matrix(picture)[0, 3]
        image = np.repeat((image - np.float32(foot)) / np.float32(scale), 3, axis=2)
    else:
        image = cv2.transform(image, to_rgb_matrix(picture))
    return np.ascontiguousarray(np.rot90(image, -(clockwise_rotation(picture) // 90)))


def paste(
    picture: av.VideoFrame,
    patch: np.ndarray,
    alpha: np.ndarray,
    left: int,
    top: int,
    *,
    siting: Siting | None = None,
) -> av.VideoFrame:
    """A copy of `picture` (with its time, tags and side data) in which `patch` lies over it at (left, top).

    patch: float32 (h, w, 3) R'G'B'.  alpha: float32 (h, w), 0 = the picture, 1 = the patch. Both upright; what lies
    outside the picture is left out.  Samples whose alpha is 0 keep their bits; the alpha of a chroma sample is the
    mean over the pixels that it colours. A patch that equals `to_rgb` changes nothing but rounding.
    Raises: InputError for a pixel format or matrix that cannot be edited.
    """
    width, height = _upright_size(picture)
    box = (max(left, 0), max(top, 0), min(left + patch.shape[1], width), min(top + patch.shape[0], height))
    result = copy_picture(picture)
    if box[0] >= box[2] or box[1] >= box[3]:
        return result
    inside = np.s_[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    turns = clockwise_rotation(picture) // 90
    patch, alpha = (np.ascontiguousarray(np.rot90(a[inside], turns), np.float32) for a in (patch, alpha))
    stored = _stored_box(picture, box)
    channels = pixel_layout(picture.format.name).channels
    matrix = from_rgb_matrix(picture)[: len(channels)]
    codes = cv2.transform(patch, matrix).reshape(*alpha.shape, len(channels))
    for number, channel in enumerate(channels):
        if channel.across == channel.down == 1:
            region = samples(result, channel)[stored[1] : stored[3], stored[0] : stored[2]]
            old = (region >> channel.low_bits).astype(np.float32)
            _put(region, channel, old + alpha * (codes[..., number] - old))
        else:
            _paste_chroma(
                result, channel, codes[..., number], alpha, stored, siting or _default_siting(picture)
            )
    return result


def copy_picture(picture: av.VideoFrame) -> av.VideoFrame:
    """The same picture in memory of its own, with its time, tags and side data."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width,
        height=picture.height,
        format=picture.format,
        time_base=picture.time_base or Fraction(1),
    )
    copy, sink = graph.add("copy"), graph.add("buffersink")
    source.link_to(copy)
    copy.link_to(sink)
    graph.configure()
    source.push(picture)
    copied: Any = sink.pull()
    return copied


def _upright_size(picture: av.VideoFrame) -> tuple[int, int]:
    turned = clockwise_rotation(picture) in (90, 270)
    return (picture.height, picture.width) if turned else (picture.width, picture.height)


def _stored_box(picture: av.VideoFrame, box: Box) -> Box:
    """An upright box in the pixels as stored."""
    left, top, right, bottom = box
    width, height = picture.width, picture.height
    match clockwise_rotation(picture):
        case 90:
            return top, height - right, bottom, height - left
        case 180:
            return width - right, height - bottom, width - left, height - top
        case 270:
            return width - bottom, left, width - top, right
    return box


def _default_siting(picture: av.VideoFrame) -> Siting:
    return "topleft" if int(picture.colorspace) == _BT2020 else "left"


def _put(region: np.ndarray, channel: Channel, values: np.ndarray) -> None:
    codes = np.clip(np.rint(values), 0, 2**channel.bits - 1).astype(region.dtype)
    region[:] = codes << channel.low_bits if channel.low_bits else codes


def _codes(picture: av.VideoFrame, box: Box, siting: Siting) -> np.ndarray:
    """float32 (h, w, channels): codes of a stored box, chroma brought to every pixel."""
    left, top, right, bottom = box
    values = []
    for channel in pixel_layout(picture.format.name).channels:
        if channel.across == channel.down == 1:
            view = samples(picture, channel)[top:bottom, left:right]
            values.append((view >> channel.low_bits).astype(np.float32))
        else:
            values.append(_chroma_everywhere(picture, channel, box, siting))
    return np.ascontiguousarray(np.stack(values, axis=-1))


def _chroma_everywhere(picture: av.VideoFrame, channel: Channel, box: Box, siting: Siting) -> np.ndarray:
    """float32 (h, w): one chroma channel, interpolated linearly to the pixels of a stored box."""
    left, top, right, bottom = box
    view = samples(picture, channel)
    rows = _sources(top, bottom, channel.down, siting == "topleft", view.shape[0])
    columns = _sources(left, right, channel.across, siting != "center", view.shape[1])
    first, last = columns[0].min(), columns[1].max() + 1
    near = view[rows[0].min() : rows[1].max() + 1, first:last].astype(np.float32) / 2**channel.low_bits
    low, high, part = (*(index - rows[0].min() for index in rows[:2]), rows[2][:, None])
    near = near[low] + part * (near[high] - near[low]) if part.any() else near[low]
    low, high, part = (*(index - first for index in columns[:2]), columns[2])
    return near[:, low] + part * (near[:, high] - near[:, low]) if part.any() else near[:, low]


def _sources(
    begin: int, end: int, each: int, cosited: bool, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For pixels begin..end: the chroma sample at or before each, the next one, and how far it is between them.

    each: pixels for each sample: 1, 2, or 4, which is not interpolated.  cosited: samples lie on the first of their
    pixels, not in the middle.
    """
    pixels = np.arange(begin, end)
    if each != 2:
        index = np.minimum(pixels // each, count - 1)
        return index, index, np.zeros(len(pixels), np.float32)
    place = pixels / 2 if cosited else (pixels - 0.5) / 2
    low = np.floor(place).astype(int)
    part = (place - low).astype(np.float32)
    return np.clip(low, 0, count - 1), np.clip(low + 1, 0, count - 1), part


def _paste_chroma(
    result: av.VideoFrame, channel: Channel, codes: np.ndarray, alpha: np.ndarray, box: Box, siting: Siting
) -> None:
    """Move the chroma samples under the patch by what the patch changes at full resolution, averaged to them.

    Averaging the change, rather than the patch, leaves a patch that repeats the picture without any effect: chroma
    that was interpolated and averaged again would come out softer than it was.
    """
    left, top, right, bottom = box
    across, down = channel.across, channel.down
    change = codes - _chroma_everywhere(result, channel, box, siting)
    begin_x, begin_y = left // across, top // down
    end_x, end_y = -(-right // across), -(-bottom // down)
    edges = (
        (top - begin_y * down, end_y * down - bottom),
        (left - begin_x * across, end_x * across - right),
    )
    alpha, change = np.pad(alpha, edges), np.pad(alpha * change, edges)
    cover = _mean(_mean(alpha, down, False, 0), across, False, 1)
    for axis, each, cosited in ((0, down, siting == "topleft"), (1, across, siting != "center")):
        alpha, change = _mean(alpha, each, cosited, axis), _mean(change, each, cosited, axis)
    region = samples(result, channel)[begin_y:end_y, begin_x:end_x]
    old = (region >> channel.low_bits).astype(np.float32)
    # a chroma sample whose filter covers nothing keeps its value; the mean is over what is covered
    _put(region, channel, old + cover * (change / np.maximum(alpha, 1e-6)))


def _mean(values: np.ndarray, each: int, cosited: bool, axis: int) -> np.ndarray:
    """Mean over every `each` neighbours along `axis`; cosited: 1-2-1 around the first of two."""
    if each == 1:
        return values
    values = np.moveaxis(values, axis, 0)
    pieces = [values[n::each] for n in range(each)]
    if cosited and each == 2:
        before = np.concatenate([np.zeros_like(pieces[1][:1]), pieces[1][:-1]])
        mean = (before + 2 * pieces[0] + pieces[1]) / 4
    else:
        mean = np.sum(pieces, axis=0) / np.float32(each)
    return np.moveaxis(mean, 0, axis)
