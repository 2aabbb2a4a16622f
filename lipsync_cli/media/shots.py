"""Shot cuts while streaming: a small grey thumbnail and its histogram against the frame before."""

from __future__ import annotations

import cv2
import numpy as np

_THUMB_PX = (32, 18)
_BINS = 32
_MIN_CHANGE = 0.10  # mean grey change, of 0..1, below which nothing is a cut
_MIN_HISTOGRAM = 0.22  # share of the picture that changes its brightness class
_JUMP = 3.0  # a cut changes this many times more than the frames before it


class ShotDetector:
    """Tells cuts from motion. Feed frames in presentation order; state is one thumbnail and one number."""

    def __init__(self) -> None:
        self._thumb: np.ndarray | None = None
        self._histogram = np.zeros(_BINS)
        self._usual = 0.02  # running mean of the change between frames of one shot

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether `image`, uint8 (H, W, 3) RGB, starts a new shot. The first frame does not."""
        thumb = _thumbnail(image)
        histogram = np.bincount((thumb * (_BINS - 1)).astype(np.intp).ravel(), minlength=_BINS) / thumb.size
        before, self._thumb = self._thumb, thumb
        histogram_before, self._histogram = self._histogram, histogram
        if before is None:
            return False
        change = float(np.abs(thumb - before).mean())
        moved = 0.5 * float(np.abs(histogram - histogram_before).sum())
        # a cut changes structure; a flash or a fade keeps it and shifts brightness
        structure = 1.0 - _correlation(thumb, before)
        cut = change > max(_MIN_CHANGE / 2, _JUMP * self._usual) and structure > 0.35
        cut = cut or (
            change > max(_MIN_CHANGE, _JUMP * self._usual) and moved > _MIN_HISTOGRAM and structure > 0.15
        )
        if not cut:
            self._usual = 0.8 * self._usual + 0.2 * change
        else:
            self._usual = 0.02
        return cut


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """float32 grey 0..1, (18, 32)."""
    step = max(1, min(image.shape[0] // 72, image.shape[1] // 128))  # thinning first keeps 8K cheap
    small = cv2.resize(image[::step, ::step], _THUMB_PX, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two pictures; 1 when either is flat, as structure says nothing then."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-3 * a.size else 1.0
