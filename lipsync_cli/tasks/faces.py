"""The face networks that every verb follows faces with."""

from __future__ import annotations

from lipsync_cli.faces.follow import FaceModels
from lipsync_cli.hub.model_folder import load_model_folder


def face_models() -> FaceModels:
    """The embedded detector and mesh.  Raises: WeightsError when the installation lacks them."""
    folder = load_model_folder("face-mediapipe", network="face-mediapipe")
    return FaceModels(
        folder.file("face_detection_full_range.tflite"), folder.file("face_landmarks_detector.tflite")
    )
