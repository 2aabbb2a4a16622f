"""The optional backend: what is said without it, and that its landmarks give the same crop."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from lipsync_cli.core.errors import UsageError, WeightsError
from lipsync_cli.faces.align import STABLE_INDICES, CropGeometry, fit_similarity
from lipsync_cli.faces.face_alignment_backend import TO_MESH, FaceAlignmentModels, to_mesh_points
from lipsync_cli.faces.follow import follow_faces
from tests.face_scenes import film, paint, place

# The mean of the 68 landmarks over training faces, as the lip-reading literature uses it for alignment:
# landmarks 17 to 47, in units of the face's width.
MEAN_X = """.000213256 .0752622 .18113 .29077 .393397 .586856 .689483 .799124 .904991 .98004 .490127 .490127 .490127 .490127
.36688 .426036 .490127 .554217 .613373 .121737 .187122 .265825 .334606 .260918 .182743 .645647 .714428
.793132 .858516
.79751 .719335"""
MEAN_Y = """.106454 .038915 .0187482 .0344891 .0773906 .0773906 .0344891 .0187482 .038915 .106454 .203352 .307009 .409805
.515625 .587326 .609345 .628106 .609345 .587326 .216423 .178758 .179852 .231733 .245099 .244077 .231733
.179852 .178758
.216423 .244077 .245099"""


def mean_face():
    points = np.full((68, 2), np.nan)
    points[17:48] = np.array([MEAN_X.split(), MEAN_Y.split()], float).T * 200 + 50
    return points


def test_mean_face_of_the_literature_lands_on_the_template():
    geometry = CropGeometry()
    mesh = to_mesh_points(mean_face())
    matrix = fit_similarity(mesh[None], geometry)[0]
    found = mesh[STABLE_INDICES] @ matrix[:, :2].T + matrix[:, 2]
    assert np.isfinite(found).all()
    assert np.abs(found - geometry.template()).max() < 2.5  # of 128: two ways to draw one face
    assert len(set(TO_MESH.values())) == len(TO_MESH) == 51


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(UsageError, match="not installed") as error:
        FaceAlignmentModels().load()
    assert error.value.exit_code == 2
    assert error.value.hint == "pip install 'lipsync[face-alignment]'"


def package(aligner):
    return SimpleNamespace(FaceAlignment=aligner, LandmarksType=SimpleNamespace(TWO_D=1))


def test_without_its_weights(monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setitem(sys.modules, "face_alignment", package(offline))
    with pytest.raises(WeightsError, match="no route to host") as error:
        FaceAlignmentModels().load()
    assert error.value.exit_code == 5


def test_its_landmarks_give_nearly_the_crop_of_the_mesh(monkeypatch, photo, models, reader):
    """A stand-in that reads the 68 points off the mesh: what is tested is the way from them to a crop."""
    matrix = place((320, 240), angle_deg=8)
    frames = film([paint(photo, [matrix])] * 4)
    (mesh_crop, *_) = follow_faces(frames, lambda image: False, models)
    points = np.zeros((68, 2), np.float32)
    points[list(TO_MESH)] = mesh_crop.landmarks[list(TO_MESH.values())]
    points[8] = mesh_crop.landmarks[152]
    asked = []

    class Aligner:
        def __init__(self, kind, *, device, compile):
            assert (kind, device, compile) == (1, "cpu", False)
            box = [*np.add(mesh_crop.box, [10, 25, -10, 0]), 0.99]
            self.face_detector = SimpleNamespace(detect_from_image=lambda image: [box])

        def get_landmarks_from_image(self, image, *, detected_faces, return_landmark_score):
            asked.append(np.array(detected_faces[0][:4]))
            return [points], [np.full(68, 0.8)], None

    monkeypatch.setitem(sys.modules, "face_alignment", package(Aligner))
    crops = list(follow_faces(frames, lambda image: False, FaceAlignmentModels()))
    assert [crop.track_id for crop in crops] == [0] * 4
    assert crops[0].score == pytest.approx(0.8)
    assert np.abs(crops[0].to_crop - mesh_crop.to_crop)[:, :2].max() < 0.03
    assert np.abs(crops[0].image.astype(float) - mesh_crop.image).mean() < 6
    middle = (asked[-1][:2] + asked[-1][2:]) / 2
    assert middle == pytest.approx((320, 240), abs=15)
