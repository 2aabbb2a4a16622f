"""Clips with the photo's face, still, and a tiny network with random weights: enough for everything but the answer."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

PHOTO = Path(__file__).parent / "data/astronaut.jpg"
SAMPLE_RATE_HZ = 16000


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    """float32 (n,), falling and rising four times a second."""
    count = round(seconds * SAMPLE_RATE_HZ)
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * np.arange(count) / SAMPLE_RATE_HZ)
    return (np.random.default_rng(3).standard_normal(count) * level * swing).astype(np.float32)


def write_face_clip(
    path: Path,
    *,
    seconds: float = 3,
    rate: Fraction = Fraction(25),
    size: tuple[int, int] = (320, 320),
    face: bool = True,
    sound: np.ndarray | None = None,
    picture: bool = True,
    codec: str = "libx264",
) -> Path:
    """size: (width, height); the photo stands in the middle, as high as the shorter side.  sound: None for none."""
    with av.open(str(path), "w") as out:
        streams = []
        if picture:
            video = out.add_stream(codec, rate=rate)
            video.width, video.height = size
            odd, full_range = size[0] % 2 or size[1] % 2, "j" if codec == "mjpeg" else ""
            video.pix_fmt = f"yuv{full_range}444p" if odd else f"yuv{full_range}420p"
            if codec == "libx264":
                video.options = {"preset": "ultrafast", "crf": "23"}
            streams.append((video, [_image(size, face)] * max(1, round(seconds * rate))))
        if sound is not None:
            audio = out.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
            streams.append((audio, _pieces(sound)))
        for stream, frames in streams:
            for number, frame in enumerate(frames):
                if stream.type == "video":
                    frame.pts = number
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


def _image(size: tuple[int, int], face: bool) -> av.VideoFrame:
    canvas = np.full((size[1], size[0], 3), 96, np.uint8)
    if face:
        side = min(size)
        photo = cv2.resize(cv2.imread(str(PHOTO))[..., ::-1], (side, side))
        top, left = (size[1] - side) // 2, (size[0] - side) // 2
        canvas[top : top + side, left : left + side] = photo
    return av.VideoFrame.from_ndarray(canvas, format="rgb24")


def _pieces(sound: np.ndarray) -> list[av.AudioFrame]:
    frames = []
    for at in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(sound[None, at : at + 1024].copy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, at, Fraction(1, SAMPLE_RATE_HZ)
        frames.append(frame)
    return frames


def write_random_model(folder: Path) -> Path:
    """A SyncLipMAE that has learnt nothing, as a model folder."""
    import torch

    from lipsync_cli.core.config import build_config
    from lipsync_cli.networks.synclipmae.model import SyncLipMAE, SyncLipMAEConfig
    from lipsync_cli.networks.synclipmae.weights import save_model

    encoder = {"image_px": 32, "patch_px": 16, "channels": 1, "width": 32, "layers": 1, "heads": 2}
    config = {
        "encoder": encoder,
        "decoder": {"width": 32, "layers": 1, "heads": 2},
        "audio": {"branch": "mel", "hidden": 32, "bands": 80},
        "pixel_mean": [0.5],
        "pixel_std": [0.25],
    }
    torch.manual_seed(0)
    network = SyncLipMAE(build_config(config, SyncLipMAEConfig, source="random"))
    save_model(network, folder, "Apache-2.0", {})
    return folder
