"""The engine of trained FlashLips folders, on random small networks: what drives, what is drawn, what is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lipsync_cli.core.errors import InputError, UsageError, WeightsError
from lipsync_cli.dubbing.engine import Crops, FaceDrive, SoundDrive
from lipsync_cli.faces.align import CropGeometry
from lipsync_cli.networks.flashlips.audio2lips import AudioToLipsConfig
from lipsync_cli.networks.flashlips.editor import EditorConfig
from lipsync_cli.networks.flashlips.lips import DistilledConfig
from lipsync_cli.networks.flashlips.model import AutoencoderConfig, FlashLipsConfig, build_flashlips
from lipsync_cli.networks.flashlips.resnet import ResNetConfig
from lipsync_cli.networks.flashlips.speech import SpeechConfig
from lipsync_cli.networks.flashlips.weights import save_flashlips
from lipsync_cli.tasks.engines import load_engine
from tests.speaking_faces import mesh

SIDE = 32
CONFIG = FlashLipsConfig(
    image_px=SIDE, autoencoder=AutoencoderConfig("pixels", factor=4),
    distilled=DistilledConfig(ResNetConfig(10, 8), 32, numbers=3),
    editor=EditorConfig(
        latent_channels=48, reference_channels=4, lips_numbers=3, channels=(8, 16), blocks=1, groups=4,
        reference_width=8, reference_blocks=1,
    ),
    audio2lips=AudioToLipsConfig(
        SpeechConfig("mel", width=8, hidden=8), frames=10, lips=3, references=2, pose=16, width=16, depth=1, heads=2
    ),
)  # fmt: skip


def folder_of(path, config=CONFIG) -> str:
    torch.manual_seed(0)
    model = build_flashlips(config)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    save_flashlips(model, path, "Apache-2.0", {})
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("model"))


def crops(count, seed=0) -> Crops:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (count, SIDE, SIDE, 3), np.uint8)
    return Crops(
        images, mesh(rng.random(count), CropGeometry(SIDE)).astype(np.float32), np.arange(count) / 25
    )


def sound(count=20, seed=0) -> SoundDrive:
    samples = np.random.default_rng(seed).normal(0, 0.1, 640 * count).astype(np.float32)
    return SoundDrive(samples, np.ones(count, bool))


def drawn(folder, drive, references=None, seed=0, shown=None):
    engine = load_engine(folder, "cpu", {})
    engine.prepare(references or crops(6), drive, seed, lambda *_: None)
    out = engine.generate(shown or crops(12, seed=5))
    engine.release()
    return out


def test_it_says_what_it_is(folder):
    spec = load_engine(folder, "cpu", {"adapt": "off"}).spec
    assert (spec.name, spec.side_px, spec.drives) == ("flashlips", SIDE, {"audio", "video"})
    name, _, digest = spec.model.rpartition("@")
    assert name == folder and len(digest) == 64


@pytest.mark.parametrize("drive", [sound(), FaceDrive(crops(15, seed=3))], ids=["sound", "face"])
def test_the_same_drive_gives_the_same_frames_and_another_gives_others(folder, drive):
    frames = drawn(folder, drive)
    assert frames.shape == (12, SIDE, SIDE, 3) and frames.dtype == np.uint8
    assert (drawn(folder, drive) == frames).all()
    other = sound(seed=1) if isinstance(drive, SoundDrive) else FaceDrive(crops(15, seed=4))
    assert (drawn(folder, other) != frames).any()


def test_the_seed_is_of_the_sound(folder):
    assert (drawn(folder, sound(), seed=1) != drawn(folder, sound(), seed=0)).any()
    face = FaceDrive(crops(15, seed=3))
    assert (drawn(folder, face, seed=1) == drawn(folder, face, seed=0)).all()


def test_windows_are_independent_of_their_size(folder):
    shown = crops(20, seed=6)
    engine = load_engine(folder, "cpu", {})
    engine.prepare(crops(6), sound(), 0, lambda *_: None)
    whole = engine.generate(shown).astype(int)
    for part in (slice(0, 1), slice(1, 9), slice(9, 20)):
        some = Crops(shown.images[part], shown.landmarks[part], shown.times_s[part])
        assert np.abs(engine.generate(some) - whole[part]).max() <= 1


def test_the_mouth_that_is_there_is_not_seen_by_a_masked_editor(folder):
    shown = crops(4)
    images = shown.images.copy()
    images[:, 20:24, 14:18] = 0
    other = Crops(images, shown.landmarks, shown.times_s)
    assert (drawn(folder, sound(), shown=shown) == drawn(folder, sound(), shown=other)).all()


def test_alignment_is_that_of_prepared_clips(folder):
    """A face that lies in the picture as in the crop, twice as large and shifted, is taken back."""
    engine = load_engine(folder, "cpu", {})
    landmarks = mesh(np.linspace(0, 1, 9), CropGeometry(SIDE)) * 2 + [30, 10]
    matrices = engine.align(landmarks, np.arange(9) / 25)
    np.testing.assert_allclose(matrices, np.tile([[0.5, 0, -15], [0, 0.5, -5]], (9, 1, 1)), atol=1e-5)


def test_what_cannot_be_is_said(folder, tmp_path):
    silence = replace(sound(), speech=np.zeros(20, bool))
    with pytest.raises(InputError, match="no speech"):
        drawn(folder, silence)
    deaf = folder_of(tmp_path / "deaf", replace(CONFIG, audio2lips=None))
    assert load_engine(deaf, "cpu", {}).spec.drives == {"video"}
    with pytest.raises(WeightsError, match="cannot hear"):
        drawn(deaf, sound())
    blind = folder_of(tmp_path / "blind", replace(CONFIG, distilled=None))
    with pytest.raises(WeightsError, match="no editor with lips encoder") as caught:
        load_engine(blind, "cpu", {})
    assert caught.value.exit_code == 5


def test_a_folder_of_another_network_does_not_dub(tmp_path):
    from lipsync_cli.hub.model_folder import write_model_folder

    write_model_folder(
        tmp_path, network="vsr", config={}, preprocess={}, weights={"a": torch.ones(1)}, licence="MIT"
    )
    with pytest.raises(UsageError, match="'vsr' does not dub") as caught:
        load_engine(str(tmp_path), "cpu", {})
    assert caught.value.exit_code == 2
