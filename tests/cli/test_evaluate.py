"""`lipsync evaluate offset` on clips whose lips and sound carry one known curve, read by a network that sees only it."""

import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lipsync_cli.cli import evaluate
from lipsync_cli.core.errors import UsageError
from lipsync_cli.data.manifest import Clip, write_manifest
from lipsync_cli.media.write import write_flac, write_video
from lipsync_cli.tasks import evaluate as task

FRAMES, SIDE_PX = 110, 32
SOUND_EARLY_MS = 20


class CurveReader:
    """An embedder: brightness of the picture, or level of the sound, as a smooth point on the unit sphere."""

    crop_px, context_frames, audio_rate = SIDE_PX, 0, Fraction(100)
    systematic_ms = 0.0

    def __init__(self, bias_ms=0.0):
        self.bias_ms = bias_ms
        rng = np.random.default_rng(5)
        self._slopes, self._phases = rng.normal(0, 9, 24), rng.uniform(0, 2 * np.pi, 24)

    def embed_pictures(self, crops):
        return self._points(np.array([crop.mean() / 255 for crop in crops]))

    def embed_sound(self, samples):
        return self._points(np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).mean(1))

    def comparable(self, tokens):
        return tokens / np.linalg.norm(tokens, axis=1, keepdims=True)

    def _points(self, values):
        return np.cos(values[:, None] * self._slopes + self._phases).astype(np.float32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Four clips whose sound is early by SOUND_EARLY_MS, of two subjects."""
    folder = tmp_path_factory.mktemp("prepared")
    clips = []
    for number, key in enumerate(("a/one", "a/two", "b/one", "b/two")):
        noise = np.random.default_rng(number).normal(size=4 * FRAMES + 200)
        curve = np.convolve(noise, np.hanning(25), "same")
        curve = 0.5 + 0.35 * np.tanh(curve / curve.std())  # per 10 ms
        (folder / "a").mkdir(exist_ok=True)
        (folder / "b").mkdir(exist_ok=True)
        levels = curve[: 4 * FRAMES : 4]
        pictures = [np.full((SIDE_PX, SIDE_PX, 3), round(255 * level), np.uint8) for level in levels]
        write_video(folder / f"{key}.mp4", pictures, Fraction(25))
        heard = np.repeat(curve[SOUND_EARLY_MS // 10 :][: 4 * FRAMES], 160) * np.tile(
            [1, -1], 80 * 4 * FRAMES
        )
        write_flac(folder / f"{key}.flac", heard, 16_000)
        clips.append(Clip(key, key[0], f"{key}.mp4", f"{key}.flac", FRAMES, f"{key}.mov", 0.0))
    write_manifest(folder / "manifest.jsonl", clips)
    return folder


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the command with a model of a known bias."""
    model = tmp_path / "model"
    model.mkdir()
    config = {"format_version": 1, "network": "curve", "preprocess": {"validation": {"acc": 1}}}
    (model / "config.json").write_text(json.dumps(config))

    def run(*arguments, bias_ms=float(SOUND_EARLY_MS)):
        monkeypatch.setattr(task, "load_embedder", lambda name, device: CurveReader(bias_ms))
        app = typer.Typer()
        evaluate.register(app)
        app.callback()(lambda: None)
        arguments = ["evaluate", "offset", *map(str, arguments), "--model", str(model), "--json", "--quiet"]
        done = CliRunner().invoke(app, arguments)
        if done.exception:
            raise done.exception
        return json.loads(done.stdout)

    run.model = model
    return run


def test_a_calibrated_model_is_right_at_every_shift(run, prepared):
    scores = run(prepared)
    assert scores["schema"] == "lipsync.evaluate.offset/1"
    assert (scores["clips"], scores["answers"]) == (4, 4 * 31)
    assert scores["within_percent"] == 100 and scores["mean_error_ms"] < 4
    assert scores["subframe_ordered"] and scores["subframe_error_ms"] < 4
    assert [row["shift_ms"] for row in scores["subframe"]] == [0, 10, 20, 30]


def test_a_wrong_constant_shows_as_error(run, prepared):
    scores = run(prepared, bias_ms=SOUND_EARLY_MS - 100.0)
    assert scores["within_percent"] == 0
    assert scores["mean_error_ms"] == pytest.approx(100, abs=4)


def test_keys_and_last_choose_clips(run, prepared):
    assert run(prepared, "--keys", "a/*")["clips"] == 2
    assert run(prepared, "--last", 1)["clips"] == 2


def test_the_sound_of_another_clip_is_asked_about_once_per_clip(run, prepared):
    scores = run(prepared, "--mismatched")
    assert scores["clips"] == 4
    assert scores["false_trust_percent"] == 25 * len(scores["trusted"])


def test_calibration_is_written_and_hashed(run, prepared, monkeypatch):
    monkeypatch.setattr(task, "MIN_CALIBRATION_CLIPS", 4)
    found = run(prepared, "--calibrate", bias_ms=55.0)  # what the model believed before does not matter
    assert found["bias_ms"] == pytest.approx(SOUND_EARLY_MS, abs=3) and found["used"] == 4
    config = run.model / "config.json"
    preprocess = json.loads(config.read_text())["preprocess"]
    assert preprocess["calibration"]["bias_ms"] == pytest.approx(found["bias_ms"], abs=0.01)
    assert preprocess["validation"] == {"acc": 1}
    assert hashlib.sha256(config.read_bytes()).hexdigest() in (run.model / "SHA256SUMS").read_text()


def test_too_few_clips_calibrate_nothing(run, prepared):
    with pytest.raises(UsageError, match="only 4 clips") as caught:
        run(prepared, "--calibrate")
    assert caught.value.exit_code == 2
    assert "calibration" not in (run.model / "config.json").read_text()


def test_what_contradicts_itself_or_is_missing_is_refused(run, prepared, tmp_path):
    with pytest.raises(UsageError, match="two measurements"):
        run(prepared, "--mismatched", "--calibrate")
    with pytest.raises(task.InputError, match="neither a folder") as caught:
        run(tmp_path / "nowhere")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("lead_ms", "first", "kept"), [(0, 1.0, 8), (10, 161.0, 7), (-20, 0.0, 6)])
def test_a_lead_moves_the_sound_forward(lead_ms, first, kept):
    samples = np.arange(1, 8 * 160 + 1, dtype=np.float32)
    moved, own = task.shift_sound(samples, lead_ms)
    assert moved[0] == first and own.stop - own.start == kept * 160
    assert np.all(np.diff(moved[own]) == 1) and np.all(np.delete(moved, np.r_[own]) == 0)
