"""The photo, the shipped face models, and where the real clips are."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipsync_cli.faces.follow import FaceModels, FaceReader

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    image = cv2.imread(str(ROOT / "tests/data/astronaut.jpg"))
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


@pytest.fixture(scope="session")
def models() -> FaceModels:
    folder = ROOT / "models/face-mediapipe"
    return FaceModels(folder / "face_detection_full_range.tflite", folder / "face_landmarks_detector.tflite")


@pytest.fixture(scope="session")
def reader(models) -> FaceReader:
    return models.load()


@pytest.fixture(scope="session")
def real_clips() -> Path:
    path = Path(os.environ.get("LIPSYNC_REAL_CLIPS", ROOT.parent / "shared/clips"))
    if not path.is_dir():
        pytest.skip("real clips are absent: set LIPSYNC_REAL_CLIPS to their folder")
    return path
