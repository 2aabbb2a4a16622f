"""The fixed mask that hides the lower face: 1 keeps a pixel, 0 has it made anew (LatentSync §3.1, "Affine transformation").

It never follows the landmarks, as those would give the movement of the mouth away. Polarity is the opposite of VACE's.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIZE_PX = 256
LATENT_PX = 8  # pixels to a latent, each way
# Hidden: two squares beside the nose, rows 95 to 127 …
BESIDE_NOSE = (slice(95, 128), (slice(9, 78), slice(178, 247)))
# … and below them one shape: from this row on, these first and last columns.
OUTLINE = (
    (128, 9, 247), (135, 9, 246), (136, 10, 246), (149, 10, 245), (150, 11, 245), (163, 11, 244),
    (164, 12, 244), (170, 12, 243), (171, 13, 243), (172, 13, 242), (173, 14, 242), (174, 14, 241),
    (175, 15, 241), (176, 15, 240), (177, 16, 240), (178, 16, 239), (179, 17, 238), (180, 18, 238),
    (181, 18, 237), (182, 19, 236), (184, 20, 235), (185, 21, 234), (187, 22, 233), (188, 22, 232),
    (189, 23, 232), (190, 24, 231), (191, 25, 230), (192, 26, 230), (193, 26, 229), (194, 27, 228),
    (195, 28, 228), (196, 29, 227), (197, 30, 226), (198, 31, 225), (199, 32, 224), (200, 33, 223),
    (201, 34, 223), (202, 34, 222), (203, 35, 221), (204, 36, 220), (205, 37, 219), (206, 38, 218),
    (207, 39, 217), (208, 40, 216), (209, 42, 215), (210, 43, 214), (211, 44, 213), (212, 45, 212),
    (213, 47, 211), (214, 48, 210), (215, 49, 208), (216, 51, 207), (217, 52, 206), (218, 54, 204),
    (219, 56, 203), (220, 57, 202), (221, 59, 200), (222, 60, 199), (223, 62, 197), (224, 64, 196),
    (225, 66, 194), (226, 68, 192), (227, 70, 191), (228, 72, 189), (229, 74, 187), (230, 76, 185),
    (231, 78, 183), (232, 80, 180), (233, 82, 178), (234, 85, 175), (235, 87, 173), (236, 90, 171),
    (237, 93, 168), (238, 95, 166), (239, 99, 164), (240, 104, 160), (241, 108, 156), (242, 131, 152),
)  # fmt: skip
LAST_ROW = 242


def fixed_mask(size_px: int) -> Tensor:
    """(1, S, S) float32: 1 = keep, 0 = regenerate; in between at the edge when S is not 256.

    Enlarged as published, by Lanczos over 8 × 8 pixels, to whole levels of 255.
    """
    mask = np.full((SIZE_PX, SIZE_PX), 255, np.uint8)
    rows, squares = BESIDE_NOSE
    for columns in squares:
        mask[rows, columns] = 0
    ends = [row for row, _, _ in OUTLINE[1:]] + [LAST_ROW + 1]
    for (row, first, last), end in zip(OUTLINE, ends, strict=True):
        mask[row:end, first : last + 1] = 0
    resized = cv2.resize(mask, (size_px, size_px), interpolation=cv2.INTER_LANCZOS4)
    return torch.from_numpy(resized)[None].float() / 255


def latent_mask(size_px: int) -> Tensor:
    """(1, S/8, S/8) float32, the nearest pixel of `fixed_mask` for each latent: the U-Net's fifth channel."""
    return F.interpolate(fixed_mask(size_px)[None], (size_px // LATENT_PX, size_px // LATENT_PX))[0]
