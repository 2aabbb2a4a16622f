"""Prepared clips with landmarks, without footage: a mouth that opens with a tone, and the mesh that says where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lipsync_cli.data.clips import write_landmarks
from lipsync_cli.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from lipsync_cli.faces.align import STABLE_INDICES, CropGeometry
from lipsync_cli.networks.flashlips.lips import INNER_LIPS, JAW, OUTER_LIPS
from tests.prepared_clips import KEYS, write_prepared

# Cheeks beside the mouth, of the face square: subject's left, and right.
CHEEKS = {326: (0.55, 0.51), 426: (0.66, 0.53), 427: (0.73, 0.56), 434: (0.78, 0.6)}
CHEEKS |= {97: (0.45, 0.51), 206: (0.34, 0.53), 207: (0.27, 0.56), 214: (0.22, 0.6)}


def write_faces(folder: Path, *, num_frames: int = 20, size_px: int = 32, margin_px: int = 2) -> Path:
    """Write clips (of `write_prepared`), their landmarks and manifest; returns the folder."""
    write_prepared(folder, KEYS, num_frames=num_frames, side_px=size_px + 2 * margin_px)
    clips = []
    for seed, clip in enumerate(read_manifest(folder)):
        loud = np.random.default_rng(KEYS.index(clip.key)).random(num_frames)  # as in `write_prepared`
        points = f"clips/{clip.key}.landmarks.npy"
        write_landmarks(folder / points, mesh(loud, CropGeometry(size_px, margin_px), seed))
        clips.append(replace(clip, landmarks=points))
    write_manifest(folder / MANIFEST_NAME, clips)
    return folder


def mesh(opening: np.ndarray, geometry: CropGeometry, seed: int = 0) -> np.ndarray:
    """Landmarks of a face that looks straight ahead; its mouth opens a little to one side.

    opening: (T,) 0…1.  Returns (T, 478, 2), crop pixels.
    """
    points = np.random.default_rng(seed).uniform(0, geometry.side_px, (478, 2))
    points = np.repeat(points[None], len(opening), 0)
    points[:, STABLE_INDICES] = geometry.template()
    size, left = geometry.size_px, geometry.margin_px
    points[:, list(CHEEKS)] = left + size * np.array(list(CHEEKS.values()))
    for ring, width, height in ((OUTER_LIPS, 0.14, 0.05), (INNER_LIPS, 0.11, 0.02)):
        angle = np.pi - 2 * np.pi * np.arange(len(ring)) / len(ring)  # from a corner over the lower lip
        points[:, ring, 0] = left + size * (0.5 + width * np.cos(angle) + 0.01 * opening[:, None])
        tall = height + 0.05 * opening[:, None]
        points[:, ring, 1] = left + size * (0.68 + tall * np.sin(angle))
    angle = np.pi * np.arange(len(JAW)) / (len(JAW) - 1)
    points[:, JAW, 0] = left + size * (0.5 - 0.3 * np.cos(angle))
    points[:, JAW, 1] = left + size * (0.62 + (0.28 + 0.05 * opening[:, None]) * np.sin(angle))
    return points
