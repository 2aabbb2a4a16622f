"""The engine on board, with small random networks: fitting, keeping what was fitted, silence, drives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lipsync_cli.core.errors import InputError, UsageError, WeightsError
from lipsync_cli.dubbing.engine import Crops, FaceDrive, SoundDrive
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.flashlips.audio2lips import AudioToLipsConfig
from lipsync_cli.networks.flashlips.mesh_lips import MeshLipsConfig
from lipsync_cli.networks.flashlips.speech import SpeechConfig
from lipsync_cli.networks.flashlips.tiny import TinyConfig, TinyFlashLips, align_windows, load_tiny, save_tiny
from lipsync_cli.networks.flashlips.warp_editor import WarpEditorConfig
from lipsync_cli.tasks.engines import load_engine
from lipsync_cli.tasks.engines.flashlips import SIDE_PX
from lipsync_cli.tasks.engines.lips_track import LipsTrack, closed_in_silence, retargeted
from tests.speaking_faces import mesh

CONFIG = TinyConfig(
    WarpEditorConfig(side_px=96, lips_numbers=6, channels=(4, 8, 8), flow_channels=(4, 8), blocks=1),
    MeshLipsConfig(main=4, extra=2, mouth_px=48, channels=(4, 4)),
    AudioToLipsConfig(
        SpeechConfig("mel", width=8, hidden=8), frames=10, lips=6, references=2, emotions=0, pose=0, width=16,
        depth=1, heads=2,
    ),
)  # fmt: skip
COUNT = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    torch.manual_seed(0)
    network = TinyFlashLips(CONFIG)
    network.lips.learn_basis([mesh(np.random.default_rng(1).random(30), CropGeometry(128))], [1.0])
    assert network.audio2lips is not None
    torch.nn.init.normal_(network.audio2lips.output.weight)
    path = tmp_path_factory.mktemp("tiny")
    save_tiny(network, path, "CC0-1.0", {})
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lipsync" / "adapted"


def speaking(count: int = COUNT) -> Crops:
    """A face whose mouth, a dark ellipse, opens and closes."""
    opening = 0.5 + 0.5 * np.sin(np.arange(count) * 0.7)
    source = mesh(opening, CropGeometry(400)).astype(np.float32)
    times_s = np.arange(count) / 25
    matrices = align_windows(source, times_s, SIDE_PX)
    points = np.einsum("nij,nkj->nki", matrices[:, :, :2], source) + matrices[:, None, :, 2]
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    images = np.full((count, SIDE_PX, SIDE_PX, 3), (200, 150, 130), np.uint8)
    for image, wide in zip(images, opening, strict=True):
        inside = ((x - 96) / 30) ** 2 + ((y - 90) / (2 + 14 * wide)) ** 2 < 1
        image[inside] = (60, 20, 20)
    return Crops(images, points.astype(np.float32), times_s)


def nothing(*_) -> None:
    pass


def made(folder: str, adapt: str, drive, crops: Crops | None = None, tell=nothing) -> np.ndarray:
    engine = load_engine(folder, "cpu", {"adapt": adapt})
    crops = crops or speaking()
    engine.prepare(crops, drive, 0, tell)
    result = engine.generate(crops)
    engine.release()
    return result


def test_what_was_fitted_is_kept_and_gives_the_same_frames(folder, cache):
    drive, told = FaceDrive(speaking()), []
    first = made(folder, "4", drive, tell=lambda *step: told.append(step))
    assert (
        told == [("fitting to the face", n, 4) for n in range(5)]
        and len(list(cache.glob("*.safetensors"))) == 1
    )
    told.clear()
    assert (
        np.array_equal(made(folder, "4", drive, tell=lambda *step: told.append(step)), first) and told == []
    )
    made(folder, "3", drive)
    assert len(list(cache.glob("*.safetensors"))) == 2  # another length of fitting is another one


def test_without_fitting_nothing_is_kept(folder, cache):
    made(folder, "off", FaceDrive(speaking()))
    assert not cache.exists()


def test_windows_lie_where_training_had_them():
    # In crops of 128 px with a margin of 8 px training took rows 48…144 and columns 24…120, at half this scale.
    source = mesh(np.zeros(1), CropGeometry(128, 8))
    matrix = align_windows(source, np.zeros(1), 192)[0]
    for prepared_px, window_px in (((24, 48), (0, 0)), ((120, 144), (192, 192))):
        corner = matrix @ [prepared_px[0] - 0.5, prepared_px[1] - 0.5, 1]  # OpenCV's −½ is a pixel's edge
        np.testing.assert_allclose(corner, np.array(window_px) - 0.5, atol=0.05)


def test_the_mouth_rests_in_silence(folder):
    crops = speaking()
    samples = np.random.default_rng(0).normal(0, 0.1, 640 * COUNT).astype(np.float32)
    speech = np.arange(COUNT) < COUNT // 2
    engine = load_engine(folder, "cpu", {"adapt": "off"})
    engine.prepare(crops, SoundDrive(samples, speech), 0, nothing)
    told = engine._track.lips  # type: ignore[attr-defined]
    silent = told[COUNT // 2 + 6 :]
    assert np.ptp(silent, 0).max() == 0 and np.ptp(told[: COUNT // 2], 0).max() > 0.01


def test_sound_without_speech_drives_nothing(folder):
    samples = np.zeros(640 * COUNT, np.float32)
    with pytest.raises(InputError, match="speech") as caught:
        made(folder, "off", SoundDrive(samples, np.zeros(COUNT, bool)))
    assert caught.value.exit_code == 3


def test_weights_that_cannot_hear_say_so(folder, tmp_path):
    network = load_tiny(load_model_folder(folder))
    deaf = TinyFlashLips(replace(CONFIG, audio2lips=None))
    deaf.load_state_dict({n: t for n, t in network.state_dict().items() if not n.startswith("audio2lips")})
    save_tiny(deaf, tmp_path / "deaf", "CC0-1.0", {})
    engine = load_engine(str(tmp_path / "deaf"), "cpu", {"adapt": "off"})
    assert engine.spec.drives == {"video"}
    with pytest.raises(WeightsError, match="hear") as caught:
        engine.prepare(speaking(), SoundDrive(np.zeros(640, np.float32), np.ones(1, bool)), 0, nothing)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("adapt", ["some", "-3", "1.5"])
def test_adapt_is_auto_off_or_a_number(folder, adapt):
    with pytest.raises(UsageError, match=adapt):
        load_engine(folder, "cpu", {"adapt": adapt})


def test_a_track_is_read_between_its_frames():
    track = LipsTrack(np.array([0.0, 0.04, 0.08]), np.array([[0.0, 1], [2, 1], [4, 5]]))
    np.testing.assert_allclose(
        track.at(np.array([-1.0, 0.02, 0.06, 9])), [[0, 1], [1, 1], [3, 3], [4, 5]], atol=1e-6
    )


def test_movement_starts_from_the_other_faces_rest():
    np.testing.assert_allclose(
        retargeted(np.array([[1.0, 2], [3, 5]]), np.array([1, 1]), np.array([10, 20])), [[10, 21], [12, 24]]
    )


def test_the_mouth_closes_softly_and_not_in_speech():
    lips, rest = np.ones((40, 1)), np.zeros(1)
    speech = np.zeros(40, bool)
    speech[15:25] = True
    share = closed_in_silence(lips, rest, speech)[:, 0]
    assert (share[15:25] == 1).all() and (share[:10] == 0).all() and (share[30:] == 0).all()
    assert (np.diff(share[9:15]) >= 0).all() and 0 < np.abs(np.diff(share)).max() < 0.6


def test_a_glimpse_of_a_face_is_not_fitted_to(folder, cache):
    crops, told = speaking(10), []
    made(folder, "5", FaceDrive(crops), crops, tell=lambda *step: told.append(step))
    assert told == [] and not cache.exists()


def test_a_damaged_adaptation_is_made_again(folder, cache):
    first = made(folder, "2", FaceDrive(speaking()))
    (kept,) = cache.glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(made(folder, "2", FaceDrive(speaking())), first)
    assert kept.stat().st_size > 1000
