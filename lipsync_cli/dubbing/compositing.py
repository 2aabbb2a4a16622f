"""A new mouth put over the old one: colour as around it, the source's own detail where nothing moved, a soft edge.

Shapes: S crop side, (h, w) a part of the crop or a box of the upright source picture, as said. Colours are R'G'B', 0…1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lipsync_cli.faces.align import invert

FEATHER = 0.07  # width of the soft edge, of the crop's side
COARSE_PX = 32  # colours are compared at this side of the mouth's part of the crop
COLOUR_REACH = 0.18  # how far a difference of colour at the edge is carried inwards, of that side
LIKELY_STEP = 0.10  # colours at the edge that differ by more are not the same skin
SAME_STEP = 0.05  # a difference of colour at which half of the detail is the old mouth's
SAME_BLUR = 1 / 40  # of the crop's side
MIN_ALPHA = 1 / 512  # less would not show
_MARGIN_PX = 3  # of crop kept around a mask, for interpolation


@dataclass(frozen=True, eq=False)
class Patch:
    """rgb: (h, w, 3) float32.  alpha: (h, w) float32.  left, top: of its corner in the upright picture."""

    rgb: np.ndarray
    alpha: np.ndarray
    left: int
    top: int


@dataclass(frozen=True, eq=False)
class NewMouth:
    """What an engine made of the part of a crop that a mask covers, (h, w) crop pixels.

    before, after: (h, w, 3) as it was and with its new mouth.  mask: (h, w) 0…1.  to_crop: (2, 3) upright source pixels
    → pixels of the part.  side_px: of the whole crop.
    """

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray
    to_crop: np.ndarray
    side_px: int


def new_mouth(
    before: np.ndarray, after: np.ndarray, mask: np.ndarray, to_crop: np.ndarray
) -> NewMouth | None:
    """The part of a crop that matters; None when the mask is empty.

    before: (S, S, 3) uint8.  after: (S, S, 3), 0…255.  mask: (S, S) 0…1.  to_crop: (2, 3), source → crop pixels.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    top, left = max(rows[0] - _MARGIN_PX, 0), max(columns[0] - _MARGIN_PX, 0)
    part = np.s_[top : rows[-1] + _MARGIN_PX + 1, left : columns[-1] + _MARGIN_PX + 1]
    moved = to_crop.copy()
    moved[:, 2] -= left, top
    light = np.float32(1 / 255)
    return NewMouth(before[part] * light, after[part] * light, mask[part].copy(), moved, mask.shape[0])


def mouth_box(mouth: NewMouth, size_px: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """left, top, right, bottom in the picture of what the mask may cover; None when that is nothing."""
    high = np.array(mouth.mask.shape[::-1]) - 1
    corners = np.array([[x, y, 1] for x in (0, high[0]) for y in (0, high[1])], np.float64)
    reach = corners @ invert(mouth.to_crop[None])[0].T
    start = np.maximum(np.floor(reach.min(0)).astype(int), 0)
    end = np.minimum(np.ceil(reach.max(0)).astype(int) + 1, size_px)
    if (end <= start).any():
        return None
    return int(start[0]), int(start[1]), int(end[0]), int(end[1])


def make_patch(mouth: NewMouth, source: np.ndarray, left: int, top: int) -> Patch:
    """The new mouth in the picture's own pixels.

    source: (h, w, 3) the picture in the mouth's box, whose corner is (left, top).
    """
    after = match_colour(mouth.before, mouth.after, mouth.mask)
    same = sameness(mouth.before, after, mouth.side_px)
    moved = mouth.to_crop.copy()
    moved[:, 2] += mouth.to_crop[:, :2] @ (left, top)
    size = source.shape[1::-1]
    # A crop is coarser than most pictures. What it lost (pores, stubble, grain) is put back where the mouth is as it was:
    # new + same · (source − old), the crop's part of which is resampled at once.
    rgb = _to_source(after - same[..., None] * mouth.before, moved, size)
    rgb += np.clip(_to_source(same, moved, size), 0, 1)[..., None] * source
    alpha = np.clip(_to_source(mouth.mask, moved, size), 0, 1)
    alpha[alpha < MIN_ALPHA] = 0
    return Patch(rgb, alpha, left, top)


def _to_source(image: np.ndarray, to_crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture in the crop's frame resampled to a box of the source; 0 beyond the crop."""
    scale = float(np.hypot(to_crop[0, 0], to_crop[1, 0]))
    if scale > 1.2:  # the face is smaller in the source: average, so that nothing aliases
        image = cv2.GaussianBlur(image, (0, 0), 0.4 * scale)
    elif (
        scale < 0.8
    ):  # cubic to twice the size and linear from there looks like cubic, in a third of the time
        image = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        to_crop = 2 * to_crop
        to_crop[:, 2] += 0.5  # pixel centres: u goes to 2·u + ½
    return cv2.warpAffine(image, to_crop, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def match_colour(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`after` with the light of `before`: their difference just within the mask's edge, carried inwards smoothly.

    Differences too large to be those of light and shade do not count. (h, w, 3), (h, w, 3), (h, w) → (h, w, 3).
    """
    coarse = (COARSE_PX, COARSE_PX)
    small = [cv2.resize(image, coarse, interpolation=cv2.INTER_AREA) for image in (before, after, mask)]
    difference = small[0] - small[1]
    edge = 4 * small[2] * (1 - small[2])
    likely = 1 / (1 + (np.abs(difference).max(2) / LIKELY_STEP) ** 4)
    weight = (edge * likely)[..., None].astype(np.float32)
    sigma = COLOUR_REACH * COARSE_PX
    known = cv2.GaussianBlur(np.dstack([difference * weight, weight]), (0, 0), sigma)
    field = known[..., :3] / (known[..., 3:] + 1e-3)
    return after + cv2.resize(field, before.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def sameness(before: np.ndarray, after: np.ndarray, side_px: int) -> np.ndarray:
    """How far the mouth stayed as it was, (h, w) 0…1: 1 where both agree, a half where they differ by a step.

    side_px: of the crop that both are part of.
    """
    step = cv2.absdiff(after, before).max(2)
    step = cv2.dilate(step, np.ones((3, 3), np.uint8))
    step = cv2.GaussianBlur(step, (0, 0), SAME_BLUR * side_px) / np.float32(SAME_STEP)
    step *= step
    return 1 / (1 + step * step)
