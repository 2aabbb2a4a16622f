"""`lipsync dub --engine FOLDER` with LatentSync of made-up weights: every frame comes back, changed at the mouth only."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from lipsync_cli.audio.load import load_audio
from lipsync_cli.cli.app import main
from lipsync_cli.faces.follow import FollowConfig, follow_faces
from lipsync_cli.faces.mouth import mouth_polygon
from lipsync_cli.hub import download
from lipsync_cli.media.frames import read_frames
from lipsync_cli.media.write import write_flac, write_video
from lipsync_cli.tasks.faces import face_models
from tests.tiny_latentsync import write_tiny_latentsync

EXAMPLE = Path(__file__).parents[2] / "examples/talking_photo.mp4"
CLIPS = Path(__file__).parents[3] / "shared/clips"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return write_tiny_latentsync(tmp_path_factory.mktemp("latentsync"))


def luma(path: Path) -> np.ndarray:
    """(T, H, W) of every picture of a file, as coded."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="gray") for frame in file.decode(video=0)])


def mouths(path: Path) -> np.ndarray:
    """(H, W) True where a mouth's outline, and a little around it, is in any picture of a file."""
    crops = list(follow_faces(read_frames(path), lambda _: False, face_models(), FollowConfig(mesh_every=1)))
    where = np.zeros(next(iter(read_frames(path))).image.shape[:2], np.uint8)
    for outline in mouth_polygon(np.stack([crop.landmarks for crop in crops])):
        cv2.fillPoly(where, [outline.round().astype(np.int32)], 1)
    return cv2.dilate(where, np.ones((9, 9))) > 0


def dubbed(clip: Path, speech: Path, engine: Path, capsys, *more: str) -> tuple[Path, dict]:
    out = clip.with_name("out.mkv")
    command = [
        "dub",
        str(clip),
        "--audio",
        str(speech),
        "--engine",
        str(engine),
        "--on-length-mismatch",
        "cut",
    ]
    options = ["--video-codec", "ffv1", "-o", str(out), "--device", "cpu", "--json", "-q"]
    assert main([*command, *options, *more]) == 0
    return out, json.loads(capsys.readouterr().out)


def check(clip: Path, out: Path, answer: dict) -> None:
    after = luma(out)
    before = luma(clip)[: len(after)]
    assert answer["frames"] == answer["edited"] == len(before) == len(after)
    may_change = mouths(clip)
    assert 0.005 < may_change.mean() < 0.3
    assert np.array_equal(before[:, ~may_change], after[:, ~may_change])  # coded without loss: bit for bit
    difference = np.abs(before.astype(int) - after)[:, may_change].mean(1)
    assert (difference > 3).all()  # weights that have learnt nothing make no mouth


def test_every_frame_comes_back_with_another_mouth_and_nothing_else(engine, tmp_path, capsys):
    clip, speech = tmp_path / "clip.mkv", tmp_path / "speech.flac"
    images = [frame.image for frame in read_frames(EXAMPLE, long_side_px=240, end=Fraction(4, 5))]
    write_video(clip, images, Fraction(25))
    write_flac(speech, load_audio(EXAMPLE, sample_rate_hz=16_000).samples[:16_000], 16_000)
    out, answer = dubbed(clip, speech, engine, capsys, "--engine-set", "steps=3", "--engine-set", "cache=2")
    assert len(images) == answer["frames"] == 20  # more than a window
    check(clip, out, answer)
    assert "3 steps of ddim, guidance 1.5, float32, whole every 2" in answer["model"]


@pytest.mark.real
def test_a_real_clip(engine, tmp_path, capsys):
    if not CLIPS.is_dir():
        pytest.skip("the real clips are not here")
    speaker, other = (sorted((CLIPS / "grid" / name).glob("*.mp4"))[0] for name in ("s23", "s1"))
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(speaker.read_bytes())
    out, answer = dubbed(clip, other, engine, capsys, "--preview", "0.8", "--engine-set", "steps=3")
    assert answer["frames"] == 20
    check(clip, out, answer)


@pytest.mark.parametrize(
    ("setting", "word"),
    [("steps", "KEY=VALUE"), ("stepz=3", "did you mean 'steps'"), ("steps=0", "at least 1")],
)
def test_settings_that_mean_nothing_are_refused(engine, tmp_path, capsys, setting, word):
    clip, speech = tmp_path / "clip.mkv", tmp_path / "speech.flac"
    write_video(
        clip,
        [frame.image for frame in read_frames(EXAMPLE, long_side_px=160, end=Fraction(2, 5))],
        Fraction(25),
    )
    write_flac(speech, load_audio(EXAMPLE, sample_rate_hz=16_000).samples[:6400], 16_000)
    command = ["dub", str(clip), "--audio", str(speech), "--engine", str(engine), "--engine-set", setting]
    assert main(command) == 2
    assert word in capsys.readouterr().err


def test_weights_that_are_not_there_end_with_what_brings_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    clip, speech = tmp_path / "clip.mkv", tmp_path / "speech.flac"
    write_video(
        clip,
        [frame.image for frame in read_frames(EXAMPLE, long_side_px=160, end=Fraction(2, 5))],
        Fraction(25),
    )
    write_flac(speech, load_audio(EXAMPLE, sample_rate_hz=16_000).samples[:6400], 16_000)
    assert main(["dub", str(clip), "--audio", str(speech), "--engine", "latentsync-1.6"]) == 5
    said = capsys.readouterr().err
    assert "hint: lipsync models pull latentsync-1.6 && lipsync models pull sd-vae-ft-mse" in said
    assert not clip.with_name("clip.dub.mkv").exists()
