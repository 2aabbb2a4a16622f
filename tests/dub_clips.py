"""Clips to dub: pictures of a photo's face in any format, and speech of any length."""

from __future__ import annotations

import os
import signal
import wave
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from lipsync_cli.audio.load import load_audio
from tests.dub_engine import PaintEngine

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "talking_photo.mp4"
PHOTO = ROOT / "tests/data/astronaut.jpg"
SIDE = 240


def write_speech(path: Path, seconds: float, rate: int = 16_000) -> Path:
    """A stereo WAV of the example's voice from its second second on, over and over."""
    samples = load_audio(EXAMPLE, sample_rate_hz=rate).samples[rate:]
    count = round(seconds * rate)
    samples = np.tile(samples, count // len(samples) + 1)[:count]
    with wave.open(str(path), "wb") as out:
        out.setparams((2, 2, rate, 0, "NONE", ""))
        out.writeframes(np.repeat((samples * 32767).astype("<i2"), 2).tobytes())
    return path


def faces(count: int = 1, side: int = SIDE) -> np.ndarray:
    """`count` photos beside each other, (side, count * side, 3) uint8 RGB."""
    photo = cv2.resize(cv2.imread(str(PHOTO))[..., ::-1], (side, side), interpolation=cv2.INTER_AREA)
    return np.concatenate([photo] * count, axis=1)


def write_pictures(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[Fraction] | None = None,
    options: Mapping[str, str] | None = None,
    sounds: int = 0,
) -> Path:
    """times: seconds of each picture, 25 a second by default.  sounds: tracks of noise beside them."""
    base = Fraction(1, 90000)
    times = times or [Fraction(n, 25) for n in range(len(images))]
    if codec == "libx264":
        options = {"preset": "ultrafast", "crf": "18"} | dict(options or {})
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=dict(options or {}))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = base
        tracks = [out.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(sounds)]
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = round(time / base), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            noise = np.random.default_rng(number).integers(-900, 900, (1, 16_000 * len(images) // 25))
            frame = av.AudioFrame.from_ndarray(noise.astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 16_000, 0
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return path


class DyingEngine(PaintEngine):
    """Kills its own process at its n-th window, as a power cut would."""

    dies_at = int(os.environ.get("DIES_AT", "-1"))

    def generate(self, crops):
        if len(self.windows) == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(crops)
