"""Mouth crops as the lip readers' front end wants them: grey, cut to the middle, normalised (Auto-AVSR §3).

Published weights expect a 96 × 96 crop, aligned to a mean face and 25 a second; how it is cut from the frame
is not this module's business. Shapes: T frames, H × W pixels.
"""

from __future__ import annotations

import torch

PUBLISHED_SIZE_PX = 88  # cut from 96
MEAN, STD = 0.421, 0.165  # of grey LRS mouths, in 0…1
GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R BT.601, rounded as torchvision does


def grey(images: torch.Tensor) -> torch.Tensor:
    """RGB (T, H, W, 3) uint8 → grey (T, H, W) float32 in 0…255."""
    weights = torch.tensor(GREY_WEIGHTS, device=images.device)
    return images.float() @ weights


def centre_crop(images: torch.Tensor, height_px: int, width_px: int) -> torch.Tensor:
    """The middle of (…, H, W) → (…, height_px, width_px). Raises: ValueError if the images are smaller."""
    _require_room(images, height_px, width_px)
    top = round((images.shape[-2] - height_px) / 2)
    left = round((images.shape[-1] - width_px) / 2)
    return images[..., top : top + height_px, left : left + width_px]


def random_crop(
    images: torch.Tensor, height_px: int, width_px: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """One place for all images, any place equally likely. Raises: ValueError if the images are smaller."""
    _require_room(images, height_px, width_px)
    top = int(torch.randint(images.shape[-2] - height_px + 1, (), generator=generator))
    left = int(torch.randint(images.shape[-1] - width_px + 1, (), generator=generator))
    return images[..., top : top + height_px, left : left + width_px]


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Grey (T, H, W) in 0…255 → network input (T, 1, H, W) float32."""
    return ((images.float() / 255 - MEAN) / STD).unsqueeze(-3)


def published_input(images: torch.Tensor) -> torch.Tensor:
    """Aligned grey mouths (T, 96, 96) in 0…255 → what Auto-AVSR weights read, (T, 1, 88, 88)."""
    return normalise(centre_crop(images, PUBLISHED_SIZE_PX, PUBLISHED_SIZE_PX))


def _require_room(images: torch.Tensor, height_px: int, width_px: int) -> None:
    if images.shape[-2] < height_px or images.shape[-1] < width_px:
        raise ValueError(f"cannot cut {height_px}×{width_px} from {images.shape[-2]}×{images.shape[-1]}")
