"""TFLite networks run by OpenCV, whichever engine it has."""

from __future__ import annotations

from pathlib import Path

import cv2

from lipsync_cli.core.errors import WeightsError


def load_network(path: Path) -> cv2.dnn.Net:
    """Read a .tflite file.

    Raises: WeightsError when the file is missing or is not a network that OpenCV can read.
    """
    # These networks take 8 ms on one thread; several threads win nothing alone and stall on a busy machine.
    cv2.setNumThreads(1)
    hint = "restore the folder with: lipsync models pull face-mediapipe"
    if not path.is_file():
        raise WeightsError(f"{path}: the face model is missing.", hint)
    try:
        if hasattr(cv2.dnn, "ENGINE_CLASSIC"):  # OpenCV 5: its new engine returns the last output only
            return cv2.dnn.readNetFromTFLite(str(path), cv2.dnn.ENGINE_CLASSIC)
        return cv2.dnn.readNetFromTFLite(str(path))
    except cv2.error as error:
        raise WeightsError(f"{path}: not a readable face model.", hint) from error
