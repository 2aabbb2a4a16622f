"""LatentSync as an engine: its crops, what it hears, what it leaves, and what it says when weights will not do."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from lipsync_cli.core.errors import InputError, UsageError, WeightsError
from lipsync_cli.dubbing.engine import Crops, FaceDrive, SoundDrive
from lipsync_cli.hub import download
from lipsync_cli.networks.latentsync.align import (
    TEMPLATE,
    UNIT_PX,
    brows_and_nose,
    canvas_px,
    cut_faces,
    fit_canvas,
)
from lipsync_cli.tasks.engines import ENGINES, load_engine
from lipsync_cli.tasks.engines.latentsync import load_latentsync_engine, read_options, speech_only
from tests.tiny_latentsync import write_tiny_latentsync

SIDE_PX, LEFT = 70, 9  # the canvas at 64 px: 52 wide, 70 high


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_latentsync(tmp_path_factory.mktemp("latentsync"))


@pytest.fixture(scope="module")
def engine(folder):
    return load_latentsync_engine(str(folder), "cpu", {"steps": "2"})


@pytest.fixture
def face():
    """Landmarks of one face in 24 frames of 320 × 240, moving slowly: (24, 478, 2)."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-40, 40, (478, 2))
    places = {70: (-30, -30), 300: (30, -30), 4: (0, 5)}
    for index, place in places.items():
        points[index] = place
    drift = np.arange(24)[:, None, None] * [0.7, 0.3]
    return (points[None] + [160, 120] + drift).astype(np.float32)


@pytest.fixture
def crops():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (20, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    return Crops(images, np.zeros((20, 478, 2), np.float32), np.arange(20) / 25)


def sound(frames=40, speech=None, seed=0):
    samples = np.random.default_rng(seed).normal(0, 0.1, frames * 640).astype(np.float32)
    return SoundDrive(samples, np.ones(frames, bool) if speech is None else speech)


def some(crops, part):
    return Crops(crops.images[part], crops.landmarks[part], crops.times_s[part])


def nothing(*_):
    return None


def generate(engine, crops, drive, seed=0):
    engine.prepare(some(crops, slice(1)), drive, seed, nothing)
    try:
        return engine.generate(crops)
    finally:
        engine.release()


def test_what_it_says_of_itself(engine, folder):
    spec = engine.spec
    assert (spec.side_px, spec.window_frames, spec.overlap_frames) == (SIDE_PX, 16, 4)
    assert spec.drives == {"audio"} and not spec.any_rate and spec.reference_frames == 1
    assert str(folder) in spec.model and "2 steps of ddim, guidance 1.5, float32" in spec.model
    assert {"latentsync-1.5", "latentsync-1.6"} <= set(ENGINES)


def test_crops_hold_the_published_canvas_in_their_middle(engine, face):
    """The template's points end up where the published canvas has them, 9 px further right."""
    matrices = engine.align(face, np.arange(24) / 25)
    assert matrices.shape == (24, 2, 3)
    scale = np.hypot(matrices[:, 0, 0], matrices[:, 1, 0])
    assert np.allclose(matrices[:, 1, 1], matrices[:, 0, 0]) and np.allclose(
        matrices[:, 0, 1], -matrices[:, 1, 0]
    )
    assert np.ptp(scale) < 1e-6  # a face that only moves is always as large
    points = np.einsum("nij,npj->npi", matrices[:, :, :2], brows_and_nose(face)) + matrices[:, None, :, 2]
    middle = TEMPLATE.mean(0) * UNIT_PX * 64 / 256 + [LEFT, 0]
    assert np.allclose(points.mean(1), middle, atol=1.0)  # but for the nose's memory


def test_a_track_does_not_remember_the_one_before(engine, face):
    first = engine.align(face[:5], np.arange(5) / 25)
    engine.align(face * 2, np.arange(24) / 25)
    assert np.array_equal(engine.align(face[:5], np.arange(5) / 25), first)


def test_the_network_sees_what_the_room_cuts_from_the_frame(engine, face, monkeypatch):
    """Cutting the engine's crop and squeezing its middle gives the square that `cut_faces` takes from the frame."""
    rng = np.random.default_rng(2)
    frames = torch.from_numpy(rng.uniform(0, 255, (2, 3, 240, 320)).astype(np.float32))
    frames = torch.nn.functional.avg_pool2d(frames, 5, 1, 2)
    matrices = engine.align(face[:2], np.arange(2) / 25)
    import cv2

    images = np.stack([
        cv2.warpAffine(frame.permute(1, 2, 0).numpy().round().astype(np.uint8), matrix, (SIDE_PX, SIDE_PX))
        for frame, matrix in zip(frames, matrices, strict=True)
    ])  # fmt: skip
    seen = []
    encode = engine._codec.encode
    monkeypatch.setattr(engine._codec, "encode", lambda faces: seen.append(faces) or encode(faces))
    generate(engine, Crops(images, np.zeros((2, 478, 2), np.float32), np.arange(2) / 25), sound())
    canvas = torch.from_numpy(fit_canvas(brows_and_nose(face[:2]), 64))
    expected = cut_faces(frames, canvas, 64) / 127.5 - 1
    masked, whole = seen
    assert (whole - expected).abs().mean() < 0.02
    hidden = engine._mask[0] == 0
    assert (masked[..., hidden] == 0).all() and torch.equal(masked[..., engine._mask[0] == 1],
                                                           whole[..., engine._mask[0] == 1])  # fmt: skip


def test_only_the_hidden_part_of_the_canvas_changes(engine, crops):
    made = generate(engine, crops, sound()).astype(int)
    assert made.shape == crops.images.shape
    changed = np.abs(made - crops.images) > 0
    beside = np.ones(SIDE_PX, bool)
    beside[LEFT : LEFT + 52] = False
    assert not changed[:, :, beside].any()
    # squeezed and stretched again, pixels above the mask stay nearly themselves; noise is the hardest of pictures
    calm = Crops(np.full_like(crops.images, 90), crops.landmarks, crops.times_s)
    made = generate(engine, calm, sound()).astype(int)
    assert np.abs(made[:, : int(0.3 * SIDE_PX)] - 90).max() <= 1
    assert np.abs(made[:, int(0.6 * SIDE_PX) : int(0.8 * SIDE_PX), 25:45] - 90).mean() > 5


def test_the_same_again_is_the_same_and_another_seed_or_sound_is_not(engine, crops):
    few = some(crops, slice(16))
    first = generate(engine, few, sound())
    assert np.array_equal(first, generate(engine, few, sound()))
    assert not np.array_equal(first, generate(engine, few, sound(), seed=1))
    assert not np.array_equal(first, generate(engine, few, sound(seed=3)))


def test_a_frame_hears_the_sound_of_its_time(engine):
    """Frame k is given states 2k − 4 … 2k + 5, whatever frames are asked for together."""
    engine.prepare(None, sound(frames=40), 0, nothing)
    states = engine._states
    assert len(states) == 80
    heard = engine._heard(np.array([10, 11, 30]) / 25)
    assert heard.shape == (3, 50, 16)
    assert torch.equal(heard[0].unflatten(0, (10, 5)), states[16:26])
    assert torch.equal(heard[2].unflatten(0, (10, 5)), states[56:66])
    last = engine._heard(np.array([45.0]) / 25)  # beyond the sound its end is heard
    assert torch.equal(last[0].unflatten(0, (10, 5))[-1], states[79])
    engine.release()


def test_what_is_no_speech_is_silent_to_it():
    speech = np.zeros(20, bool)
    speech[5:10] = True
    drive = sound(20, speech)
    heard = speech_only(drive)
    assert len(heard) == 20 * 640
    inside = slice(5 * 640 + 320, 10 * 640 - 320)
    assert np.allclose(heard[inside], drive.samples[inside], atol=1e-6)
    assert not heard[: 5 * 640].any() and not heard[10 * 640 :].any()
    gain = heard[5 * 640 : 5 * 640 + 320] / drive.samples[5 * 640 : 5 * 640 + 320]
    assert (np.diff(gain) > 0).all() and gain[0] < 0.01 and gain[-1] > 0.99
    short = speech_only(SoundDrive(drive.samples[:100], np.ones(3, bool)))
    assert (
        len(short) == 3 * 640
        and np.allclose(short[:100], drive.samples[:100], atol=1e-6)
        and not short[100:].any()
    )


def test_drives_that_it_cannot_follow_are_refused(engine, crops):
    with pytest.raises(UsageError, match="speech only") as caught:
        engine.prepare(crops, FaceDrive(crops), 0, nothing)
    assert caught.value.hint == "give --audio FILE"
    with pytest.raises(InputError, match="no speech"):
        engine.prepare(crops, sound(speech=np.zeros(40, bool)), 0, nothing)


def test_more_windows_at_once_are_longer_passages(folder):
    spec = load_latentsync_engine(str(folder), "cpu", {"windows": "3"}).spec
    assert spec.window_frames == 16 + 2 * 12
    cuda = torch.device("cuda")
    assert (
        read_options({}, cuda, 256)[0].windows_at_once == 4
        and read_options({}, cuda, 256)[1] == torch.float16
    )
    assert read_options({}, torch.device("cpu"), 512)[0].windows_at_once == 1


def test_options_reach_the_sampler(folder):
    options = {"steps": "7", "guidance": "1", "solver": "dpm-solver++", "precision": "bf16", "cache": "3"}
    config, dtype = read_options(options, torch.device("cpu"), 256)
    assert (config.steps, config.guidance, config.solver, config.whole_every) == (7, 1.0, "dpm-solver++", 3)
    assert dtype == torch.bfloat16
    said = load_latentsync_engine(str(folder), "cpu", options).spec.model
    assert "7 steps of dpm-solver++, guidance 1, bfloat16, whole every 3" in said


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": "none"}, "none"),
        ({"steps": "0"}, "at least 1"),
        ({"solver": "euler"}, "euler"),
        ({"precision": "fp8"}, "fp8"),
        ({"compile": "yes"}, "yes"),
        ({"stepz": "3"}, "did you mean 'steps'"),
    ],
)
def test_options_that_mean_nothing_are_refused(folder, options, word):
    with pytest.raises(UsageError, match=word) as caught:
        load_latentsync_engine(str(folder), "cpu", options)
    assert caught.value.exit_code == 2


def test_half_precision_runs(folder, crops):
    few = some(crops, slice(4))
    exact = generate(load_latentsync_engine(str(folder), "cpu", {"steps": "2"}), few, sound())
    half = generate(
        load_latentsync_engine(str(folder), "cpu", {"steps": "2", "precision": "bf16"}), few, sound()
    )
    assert np.abs(half.astype(int) - exact).mean() < 6


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")


def test_everything_that_is_missing_is_named_at_once(empty_cache):
    with pytest.raises(WeightsError, match=r"latentsync-1\.6, sd-vae-ft-mse, whisper-tiny") as caught:
        load_engine("latentsync-1.6", "cpu", {})
    assert caught.value.exit_code == 5
    assert caught.value.hint == (
        "lipsync models pull latentsync-1.6 && lipsync models pull sd-vae-ft-mse && lipsync models pull whisper-tiny"
    )


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def relist(copy):
    (copy / "SHA256SUMS").unlink()


def test_a_folder_without_its_own_parts_takes_the_published_ones(copy, empty_cache):
    shutil.rmtree(copy / "whisper")
    with pytest.raises(WeightsError, match="whisper-tiny") as caught:
        load_engine(str(copy), "cpu", {})
    assert caught.value.exit_code == 5 and caught.value.hint == "lipsync models pull whisper-tiny"


def test_a_missing_whisper_file_is_named(copy):
    (copy / "whisper" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="Whisper's weights are missing") as caught:
        load_engine(str(copy), "cpu", {})
    assert caught.value.exit_code == 5 and "whisper" in caught.value.message and caught.value.hint


def test_a_truncated_checkpoint_is_damaged(copy):
    relist(copy)
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_engine(str(copy), "cpu", {})
    assert caught.value.exit_code == 5


def test_a_checkpoint_that_is_not_the_one_it_was_is_refused(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="wrong checksum"):
        load_engine(str(copy), "cpu", {})


def test_weights_of_another_version_are_refused_not_guessed(copy):
    relist(copy)
    described = json.loads((copy / "config.json").read_text())
    del described["preprocess"]["size_px"]
    (copy / "config.json").write_text(json.dumps(described))
    with pytest.raises(WeightsError, match=r"neither LatentSync 1\.5 nor 1\.6") as caught:
        load_engine(str(copy), "cpu", {})
    assert caught.value.exit_code == 5 and "size_px" in caught.value.hint
    described["preprocess"]["size_px"] = 64
    described["config"]["channels"] = [32, 96]
    (copy / "config.json").write_text(json.dumps(described))
    with pytest.raises(WeightsError, match="misshaped"):
        load_engine(str(copy), "cpu", {})


def test_a_whisper_of_another_size_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["config"]["audio_width"] = 24
    (copy / "config.json").write_text(json.dumps(config))
    relist(copy)
    from lipsync_cli.networks.latentsync.convert import save_unet
    from lipsync_cli.networks.latentsync.unet import LatentSyncUNet
    from tests.tiny_latentsync import UNET

    save_unet(LatentSyncUNet(replace(UNET, audio_width=24)), 64, copy, "CC0-1.0")
    with pytest.raises(WeightsError, match="hears 24 numbers, Whisper gives 16") as caught:
        load_engine(str(copy), "cpu", {})
    assert caught.value.exit_code == 5


def test_a_folder_of_another_network_is_refused():
    from lipsync_cli.hub.catalogue import read_catalogue

    with pytest.raises((WeightsError, UsageError)) as caught:
        load_latentsync_engine(str(read_catalogue()["lpips-alex"].folder), "cpu", {})
    assert "lpips" in caught.value.message


def test_canvas_sizes():
    assert canvas_px(64) == (52, SIDE_PX) and canvas_px(256) == (210, 280) and canvas_px(512) == (420, 560)
