"""Scoring engines: one that errs by a known amount, and one whose mouths lag by a known time."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lipsync_cli.cli.app import main
from lipsync_cli.core.errors import InputError
from lipsync_cli.dubbing.engine import Crops, EngineSpec, FaceDrive, SoundDrive
from lipsync_cli.faces.align import CropGeometry, fit_similarity
from lipsync_cli.tasks import evaluate_dub as task
from lipsync_cli.tasks.evaluate_dub import Performance, cut_boxes, pasted, score_mouths
from tests.speaking_faces import mesh, write_faces

ERROR = 5
SIDE_PX = 72


class OffByFive:
    """Gives back what it was shown, brighter by ERROR."""

    spec = EngineSpec("off", "off@0", SIDE_PX, frozenset({"audio", "video"}), 16, 0, True, 9)

    def __init__(self) -> None:
        self.references: list[Crops] = []
        self.drives: list[FaceDrive | SoundDrive] = []
        self.asked: list[np.ndarray] = []

    def align(self, landmarks, times_s):
        return fit_similarity(landmarks, CropGeometry(SIDE_PX))

    def prepare(self, references, drive, seed, tell):
        self.references.append(references)
        self.drives.append(drive)

    def generate(self, crops):
        self.asked.append(crops.times_s)
        return crops.images + np.uint8(ERROR)

    def release(self):
        pass


def performance(count: int = 60) -> Performance:
    rng = np.random.default_rng(0)
    pictures = rng.integers(60, 200, (count, 144, 144, 3)).astype(np.uint8)
    return Performance(
        "a/one", pictures, mesh(rng.random(count), CropGeometry(128, 8)), np.zeros(640 * count), 8
    )


def test_a_known_error_is_what_is_measured():
    scores = score_mouths(OffByFive(), performance())
    assert scores.frames == 3
    assert scores.psnr_db == pytest.approx(20 * math.log10(255 / ERROR), abs=1e-6)
    assert 0.98 < scores.ssim < 1 and 0 <= scores.lpips < 0.02
    assert scores.outside_difference == 0


def test_an_engine_that_follows_sound_only_is_given_it_for_the_whole_clip():
    engine = OffByFive()
    engine.spec = replace(OffByFive.spec, drives=frozenset({"audio"}))
    scores = score_mouths(engine, performance())
    assert scores.psnr_db == pytest.approx(20 * math.log10(255 / ERROR), abs=1e-6)
    assert [type(drive) for drive in engine.drives] == [SoundDrive]
    assert np.array_equal(np.concatenate(engine.asked), np.arange(60) / 25)  # in order, not here and there


def test_no_frame_near_a_hidden_one_is_shown():
    engine = OffByFive()
    score_mouths(engine, performance())
    shown, asked = engine.references[0].times_s, engine.asked[0]
    np.testing.assert_allclose(asked, np.array([10, 30, 50]) / 25)
    assert np.abs(shown[:, None] - asked).min() > 5.5 / 25
    assert len(shown) == engine.spec.reference_frames


def test_too_short_a_clip_is_an_input_error():
    with pytest.raises(InputError, match="a/one") as caught:
        score_mouths(OffByFive(), performance(9))
    assert caught.value.exit_code == 3


def test_pasting_changes_nothing_outside_the_mask():
    clip, engine = performance(12), OffByFive()
    matrices = engine.align(clip.landmarks, clip.times_s)
    before = np.full((SIDE_PX, SIDE_PX, 3), 120, np.uint8)
    picture, difference = pasted(clip, 4, before, before + np.uint8(60), matrices[4])
    changed = (picture != clip.pictures[4]).any(-1)
    assert difference == 0 and changed.any()
    rows, columns = np.nonzero(changed)
    assert rows.min() > 60 and columns.min() > 20 and columns.max() < 124  # under the nose, within the cheeks


def test_boxes_are_squares_about_the_lips():
    points = mesh(np.zeros(2), CropGeometry(SIDE_PX))
    points[1] += [6, -4]
    images = np.zeros((2, SIDE_PX, SIDE_PX, 3), np.uint8)
    images[0, 49, 36] = images[1, 45, 42] = 255  # the middles of the lips: 0.68 and 0.5 of the side
    boxes = cut_boxes(images, points)
    assert boxes.shape[1] == boxes.shape[2] == 32  # 1.5 widths of 0.28 sides are 30: not below 32
    for box in boxes:
        y, x = np.argwhere(box.any(-1))[0]
        assert abs(y - 16) <= 1 and abs(x - 16) <= 1


class Brightness:
    """An embedder: brightness of the face, or level of the sound, as a smooth point on the unit sphere."""

    crop_px, context_frames, audio_rate = 32, 0, Fraction(25)
    bias_ms = systematic_ms = 0.0

    def embed_pictures(self, crops):
        return self._points(np.array([crop.mean() / 255 for crop in crops]))

    def embed_sound(self, samples):
        return self._points(np.abs(samples[: len(samples) // 640 * 640]).reshape(-1, 640).mean(1))

    def comparable(self, tokens):
        return tokens / np.linalg.norm(tokens, axis=1, keepdims=True)

    def _points(self, values):
        rng = np.random.default_rng(5)
        return np.cos(values[:, None] * rng.normal(0, 9, 24) + rng.uniform(0, 2 * np.pi, 24)).astype(
            np.float32
        )


@pytest.mark.parametrize("late_frames", [0, 3])
def test_lips_that_come_late_are_measured_late(late_frames):
    noise = np.convolve(np.random.default_rng(1).normal(size=140), np.hanning(7), "same")
    curve = 0.5 + 0.3 * np.tanh(noise / noise.std())
    samples = np.repeat(curve[20:120], 640)
    light = curve[20 - late_frames : 120 - late_frames]
    pictures = np.round(255 * light)[:, None, None, None] * np.ones((1, 36, 36, 3))
    estimate = task.measure(pictures.astype(np.uint8), 2, samples.astype(np.float32), Brightness())
    assert estimate.audio_lead_ms == pytest.approx(40 * late_frames, abs=15)  # the sound comes early


def test_the_command_scores_prepared_clips(tmp_path, monkeypatch, capsys):
    engine = OffByFive()
    monkeypatch.setattr(task, "load_engine", lambda *_: engine)
    monkeypatch.setattr(task, "load_embedder", lambda *_: Brightness())
    folder = write_faces(tmp_path / "p", num_frames=40, size_px=128, margin_px=8)
    assert main(["evaluate", "dub", str(folder), "--json", "-q"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["schema"] == "lipsync.evaluate.dub/1" and len(row["clips"]) == 5
    assert row["psnr_db"] == pytest.approx(34.15, abs=0.01) and row["outside_difference"] == 0
    driven = [drive for drive in engine.drives if isinstance(drive, SoundDrive)]
    assert len(driven) == 3 * 5  # own sound, the same late, and another clip's
    assert not driven[1].samples[: 16 * 200].any() and driven[0].samples[: 16 * 200].any()
    np.testing.assert_array_equal(driven[1].samples[3200:], driven[0].samples[:-3200])


def test_without_landmarks_clips_cannot_be_scored(tmp_path, monkeypatch, capsys):
    from lipsync_cli.data.manifest import MANIFEST_NAME, read_manifest, write_manifest

    monkeypatch.setattr(task, "load_engine", lambda *_: OffByFive())
    folder = write_faces(tmp_path / "p")
    write_manifest(folder / MANIFEST_NAME, [replace(clip, landmarks="") for clip in read_manifest(folder)])
    assert main(["evaluate", "dub", str(folder), "-q"]) == 3
    assert "landmarks" in capsys.readouterr().err
