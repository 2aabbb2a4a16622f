"""Prepared clips as `lipsync prepare` leaves them, without footage: a bar that jumps when a tone does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from lipsync_cli.data.manifest import MANIFEST_NAME, Clip, write_manifest
from lipsync_cli.media.write import write_flac, write_video


def write_prepared(folder: Path, keys: tuple[str, ...], *, num_frames: int = 20, side_px: int = 36) -> Path:
    """Write clips and their manifest; returns the folder."""
    clips = []
    for seed, key in enumerate(keys):
        rng = np.random.default_rng(seed)
        picture, sound = folder / "clips" / f"{key}.mp4", folder / "clips" / f"{key}.flac"
        picture.parent.mkdir(parents=True, exist_ok=True)
        loud = rng.random(num_frames)
        frames = np.full((num_frames, side_px, side_px, 3), 90, np.uint8)
        for frame, level in zip(frames, loud, strict=True):
            frame[side_px // 2 : side_px // 2 + 2 + round(level * side_px / 3), 6:-6] = (40 + 30 * seed) % 255
        write_video(picture, frames, Fraction(25))
        tone = np.sin(np.arange(num_frames * 640) * 0.15 * (1 + seed)) * np.repeat(loud, 640) * 0.4
        write_flac(sound, tone, 16_000)
        clips.append(
            Clip(
                key=key,
                subject=key.split("/")[0],
                picture=str(picture.relative_to(folder)),
                sound=str(sound.relative_to(folder)),
                num_frames=num_frames,
                source=f"{key}.mov",
                start_s=0.0,
            )
        )
    write_manifest(folder / MANIFEST_NAME, clips)
    return folder


# The tiny recipe, shrunk until a step takes milliseconds.
SHRUNK = (
    "data.train={keys: ['a/*', 'b/*']}", "data.validate={keys: ['c/*']}", "data.window_frames=8",
    "data.cache_gb=0.1", "model.encoder.image_px=32", "model.encoder.width=16", "model.encoder.layers=1",
    "model.encoder.heads=2", "model.decoder.width=16", "model.decoder.layers=1", "model.decoder.heads=2",
    "model.audio.hidden=16", "loop.batch_size=2", "loop.workers=0", "loop.optim.warmup_steps=2",
)  # fmt: skip
KEYS = ("a/one", "a/two", "b/three", "c/four", "c/five")
