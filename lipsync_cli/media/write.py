"""Writing pictures and sound that nobody delivers: training crops and previews."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, frames: Iterable[np.ndarray], rate: Fraction, *, quality: int = 14) -> int:
    """H.264 with every picture a key frame, so that any one can be read alone.

    frames: uint8 (H, W, 3) RGB, even sizes.  quality: x264's CRF, lower is better.  Returns the number written.
    """
    count = 0
    with av.open(str(path), "w") as container:
        stream = None
        for image in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.thread_count = 1
                stream.options = {"crf": str(quality), "preset": "veryfast", "g": "1"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            count += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return count


def write_flac(path: Path, samples: np.ndarray, sample_rate_hz: int) -> None:
    """16-bit mono FLAC.  samples: (n,) float, −1…1."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=sample_rate_hz, layout="mono", format="s16")
        whole = (np.clip(samples, -1, 1) * 32767).round().astype(np.int16)
        for start in range(0, len(whole), 4096):
            frame = av.AudioFrame.from_ndarray(whole[None, start : start + 4096], "s16", "mono")
            frame.sample_rate, frame.pts = sample_rate_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
