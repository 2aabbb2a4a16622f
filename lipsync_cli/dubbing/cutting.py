"""Aligned crops straight from decoded pictures: each plane is cut as it is stored, and only the crop becomes R'G'B'."""

from __future__ import annotations

import av
import cv2
import numpy as np

from lipsync_cli.faces.align import cut
from lipsync_cli.media.pixels import Channel, from_rgb_matrix, pixel_layout, samples, to_rgb_matrix
from lipsync_cli.media.probe import clockwise_rotation

_BT2020 = 9


def cut_crop(picture: av.VideoFrame, to_crop: np.ndarray, side_px: int) -> np.ndarray:
    """An aligned crop, (S, S, 3) uint8 R'G'B' as coded.

    to_crop: (2, 3), pixels of the upright picture → crop pixels.  Beyond the picture its edge repeats.
    Raises: InputError for a pixel format that cannot be edited.
    """
    stored = _compose(to_crop, _upright(picture))
    channels = pixel_layout(picture.format.name).channels
    planes = [_plane(picture, channel, stored, side_px) for channel in channels]
    if len(planes) == 1:
        return _grey(planes[0], picture)
    rgb = cv2.transform(cv2.merge(planes), to_rgb_matrix(picture))
    return cv2.convertScaleAbs(np.clip(rgb, 0, 1, out=rgb), alpha=255)


def _plane(picture: av.VideoFrame, channel: Channel, to_crop: np.ndarray, side_px: int) -> np.ndarray:
    """Codes of one channel in the crop, (S, S) float32."""
    # Chroma lies on the first of its pixels across; down it does in BT.2020, and in the middle elsewhere.
    down_first = int(picture.colorspace) == _BT2020
    lies = np.array(
        [
            [channel.across, 0, 0],
            [0, channel.down, 0 if down_first else (channel.down - 1) / 2],
        ]
    )
    plane = np.ascontiguousarray(
        samples(picture, channel)
    )  # a view already, but where channels are interleaved
    codes = cut(plane, _compose(to_crop, lies), side_px).astype(np.float32)
    return codes / np.float32(2**channel.low_bits) if channel.low_bits else codes


def _grey(codes: np.ndarray, picture: av.VideoFrame) -> np.ndarray:
    row = from_rgb_matrix(picture)[0]
    light = np.clip((codes - row[3]) / row[:3].sum(), 0, 1)
    return np.repeat((light * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def _upright(picture: av.VideoFrame) -> np.ndarray:
    """Pixels as stored → upright pixels, (2, 3)."""
    right, bottom = picture.width - 1, picture.height - 1
    match clockwise_rotation(picture):
        case 90:
            return np.array([[0.0, -1, bottom], [1, 0, 0]])
        case 180:
            return np.array([[-1.0, 0, right], [0, -1, bottom]])
        case 270:
            return np.array([[0.0, 1, 0], [-1, 0, right]])
    return np.eye(2, 3)


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The map that does `inner` first, (2, 3)."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])
