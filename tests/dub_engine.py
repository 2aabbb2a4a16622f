"""Engines without weights: a mouth painted in a colour that tells its time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from lipsync_cli.dubbing.engine import Crops, Drive, EngineSpec, SoundDrive, Tell
from lipsync_cli.faces.align import CropGeometry, fit_similarity, smooth_matrices
from lipsync_cli.faces.mouth import mouth_mask

SPEC = EngineSpec(
    name="paint",
    model="paint@0",
    side_px=64,
    drives=frozenset({"audio", "video"}),
    window_frames=8,
    overlap_frames=0,
    any_rate=True,
    reference_frames=5,
)
ON_THE_GRID = replace(SPEC, name="paint-grid", any_rate=False, overlap_frames=3)


@dataclass
class PaintEngine:
    """Paints the lips green by how far the time has gone, blue by the drive, red by the seed."""

    spec: EngineSpec = SPEC
    calls: list[str] = field(default_factory=list)
    drive: Drive | None = None
    seed: int = 0
    seen_drive: str = ""
    windows: list[np.ndarray] = field(default_factory=list)

    def align(self, landmarks: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        return smooth_matrices(fit_similarity(landmarks, CropGeometry(self.spec.side_px)), times_s, 0.08)

    def prepare(self, references: Crops, drive: Drive, seed: int, tell: Tell) -> None:
        assert self.drive is None, "the segment before was not released"
        self.drive, self.seed = drive, seed
        shown = "" if isinstance(drive, SoundDrive) else f" {drive.crops.images.shape}"
        self.seen_drive = type(drive).__name__ + shown
        self.calls.append(f"prepare {len(references.images)}")

    def generate(self, crops: Crops) -> np.ndarray:
        assert self.drive is not None, "nothing was prepared"
        self.windows.append(crops.times_s)
        out = crops.images.copy()
        lips = mouth_mask(crops.landmarks, self.spec.side_px) > 0
        for image, where, time_s in zip(out, lips, crops.times_s, strict=True):
            image[cv2.erode(where.astype(np.uint8), np.ones((9, 9))) > 0] = self.colour(float(time_s))
        return out

    def colour(self, time_s: float) -> tuple[int, int, int]:
        """What the lips are painted at a time of the segment."""
        loud = 0
        if isinstance(self.drive, SoundDrive):
            at = min(int(time_s * 25 + 0.5), len(self.drive.speech) - 1)
            loud = 200 if self.drive.speech[at] else 50
        return 40 + self.seed % 100, int(time_s * 40) % 256, loud

    def release(self) -> None:
        self.drive = None
        self.calls.append("release")
