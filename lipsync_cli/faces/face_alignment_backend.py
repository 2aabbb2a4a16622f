"""The face-alignment package as another source of faces: S3FD detector and 68 landmarks by FAN.

Bulat and Tzimiropoulos 2017, "How far are we from solving the 2D & 3D Face Alignment problem?". Its weights
are fetched by the package itself on first use; they were trained on research data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

import numpy as np

from lipsync_cli.core.errors import UsageError, WeightsError
from lipsync_cli.faces.detector import Detection
from lipsync_cli.faces.follow import FaceReader
from lipsync_cli.faces.mesh import NUM_POINTS, REGION_TO_FACE, Mesh, Region

# iBUG landmark → face-mesh index: brows, nose, eyes, lips. The outline of the jaw is drawn otherwise there.
TO_MESH: dict[int, int] = {
    **dict(zip(range(17, 27), (70, 63, 105, 66, 107, 336, 296, 334, 293, 300), strict=True)),
    **dict(zip(range(27, 36), (168, 197, 5, 4, 98, 97, 2, 326, 327), strict=True)),
    **dict(zip(range(36, 48), (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380), strict=True)),
    **dict(zip(range(48, 60), (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181), strict=True)),
    **dict(zip(range(60, 68), (78, 82, 13, 312, 308, 317, 14, 87), strict=True)),
}
CHIN, MESH_CHIN = 8, 152
MESH_BRIDGE, MESH_FOREHEAD = 6, 10


@dataclass(frozen=True)
class FaceAlignmentModels:
    """Faces by the face-alignment package.  device: as torch names it."""

    device: str = "cpu"

    def load(self) -> FaceReader:
        """Raises: UsageError when the package is absent, WeightsError when its weights cannot be fetched."""
        try:
            import face_alignment  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError(
                "the face-alignment package is not installed.", "pip install 'lipsync[face-alignment]'"
            ) from None
        try:
            # compile=False: compiling takes minutes, and this is for a clip or two.
            aligner = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D, device=self.device, compile=False
            )
        except URLError as error:
            raise WeightsError(
                f"the weights of face-alignment cannot be fetched: {error.reason}.",
                "connect to the network once, or use the built-in face models",
            ) from error
        return _FaceAlignmentReader(aligner)


class _FaceAlignmentReader:
    def __init__(self, aligner: Any) -> None:
        self._aligner = aligner

    def find(self, image: np.ndarray) -> list[Detection]:
        rows = self._aligner.face_detector.detect_from_image(image.copy())
        return [_detection(np.asarray(row, np.float64)) for row in rows]

    find_small = find  # the detector sees the picture at its full size already

    def read(self, image: np.ndarray, region: Region) -> Mesh:
        half = region.side_px / REGION_TO_FACE / 2
        box = [*(region.center - half), *(region.center + half), 1.0]
        points, scores, _ = self._aligner.get_landmarks_from_image(
            image, detected_faces=[box], return_landmark_score=True
        )
        return Mesh(to_mesh_points(points[0]), float(np.clip(scores[0].mean(), 0, 1)))


def to_mesh_points(points: np.ndarray) -> np.ndarray:
    """68 iBUG landmarks (68, 2) as face-mesh landmarks (478, 2) float32, NaN where there is no counterpart.

    All that `align`, the numbers of a crop and its box need is there; the forehead is set where the bridge
    and the bottom of the nose let one expect it.
    """
    mesh = np.full((NUM_POINTS, 2), np.nan, np.float32)
    mesh[list(TO_MESH.values())] = points[list(TO_MESH)]
    mesh[MESH_CHIN] = points[CHIN]
    mesh[MESH_BRIDGE] = (points[27] + points[28]) / 2
    mesh[MESH_FOREHEAD] = points[27] - 1.2 * (points[33] - points[27])
    return mesh


def _detection(row: np.ndarray) -> Detection:
    """The detector gives no landmarks: they are set where an upright face has them in its box."""
    low, size = row[:2], row[2:4] - row[:2]
    usual = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.5, 0.8], [0.0, 0.5], [1.0, 0.5]])
    return Detection(row[:4], low + usual * size, float(row[4]))
