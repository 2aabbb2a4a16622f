"""A new mouth put over the old one: colour as around it, the source's own detail where nothing moved, a soft edge.

Shapes: S crop side, (h, w) a box of the upright source picture. Colours are R'G'B', 0…1, float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lipsync_cli.faces.align import invert

FEATHER = 0.07  # width of the soft edge, of the crop's side
COARSE_PX = 32  # colours are compared at this side
COLOUR_REACH = 0.16  # how far a difference of colour at the edge is carried inwards, of the side
LIKELY_STEP = 0.10  # colours at the edge that differ by more are not the same skin
SAME_STEP = 0.05  # a difference of colour at which half of the detail is the old mouth's
SAME_BLUR = 1 / 40  # of the side
MIN_ALPHA = 1 / 512  # less would not show


@dataclass(frozen=True, eq=False)
class Patch:
    """rgb: (h, w, 3) float32.  alpha: (h, w) float32.  left, top: of its corner in the upright picture."""

    rgb: np.ndarray
    alpha: np.ndarray
    left: int
    top: int


@dataclass(frozen=True, eq=False)
class NewMouth:
    """What an engine made of one crop.

    before, after: (S, S, 3) the crop as it was and with its new mouth.  mask: (S, S) 0…1.  to_crop: (2, 3) upright
    source pixels → crop pixels.
    """

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray
    to_crop: np.ndarray


def mouth_box(mouth: NewMouth, size_px: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """left, top, right, bottom in the picture of what the mask covers; None when that is nothing."""
    ys, xs = np.nonzero(mouth.mask > 0)
    if not len(xs):
        return None
    low, high = np.array([xs.min(), ys.min()]) - 1, np.array([xs.max(), ys.max()]) + 1
    corners = np.array([[x, y, 1] for x in (low[0], high[0]) for y in (low[1], high[1])], np.float64)
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
    same = sameness(mouth.before, after)
    height, width = source.shape[:2]
    moved = mouth.to_crop.copy()
    moved[:, 2] += mouth.to_crop[:, :2] @ (left, top)
    new = _to_source(np.dstack([after, mouth.mask]), moved, (width, height))
    old = _to_source(np.dstack([mouth.before, same]), moved, (width, height))
    # A crop is coarser than most pictures. What it lost (pores, stubble, grain) is put back where the mouth is as it was.
    rgb = new[..., :3] + np.clip(old[..., 3:], 0, 1) * (source - old[..., :3])
    alpha = np.clip(new[..., 3], 0, 1)
    alpha[alpha < MIN_ALPHA] = 0
    return Patch(rgb, alpha, left, top)


def _to_source(image: np.ndarray, to_crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture in the crop's frame, up to four channels, resampled to a box of the source."""
    scale = float(np.hypot(to_crop[0, 0], to_crop[1, 0]))
    if scale > 1.2:  # the face is smaller in the source: average, so that nothing aliases
        image = cv2.GaussianBlur(image, (0, 0), 0.4 * scale)
    return cv2.warpAffine(image, to_crop, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def match_colour(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`after` with the light of `before`: their difference just within the mask's edge, carried inwards smoothly.

    Differences too large to be those of light and shade do not count. (S, S, 3), (S, S, 3), (S, S) → (S, S, 3).
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


def sameness(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far the mouth stayed as it was, (S, S) 0…1: 1 where the crops agree, a half where they differ by a step."""
    side = before.shape[0]
    step = np.abs(after - before).max(2)
    step = cv2.GaussianBlur(cv2.dilate(step, np.ones((3, 3), np.uint8)), (0, 0), SAME_BLUR * side)
    return 1 / (1 + (step / SAME_STEP) ** 4)
