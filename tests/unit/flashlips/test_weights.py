"""A model folder holds the networks there are, and gives them back."""

import json

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import read_weights
from lipsync_cli.networks.flashlips import weights
from lipsync_cli.networks.flashlips.audio2lips import AudioToLipsConfig
from lipsync_cli.networks.flashlips.editor import EditorConfig
from lipsync_cli.networks.flashlips.lips import DistilledConfig
from lipsync_cli.networks.flashlips.model import (
    AutoencoderConfig,
    FlashLips,
    FlashLipsConfig,
    build_flashlips,
    load_autoencoder,
)
from lipsync_cli.networks.flashlips.resnet import ResNetConfig
from lipsync_cli.networks.flashlips.speech import SpeechConfig
from lipsync_cli.networks.flashlips.weights import load_flashlips, save_flashlips

TRUNK = ResNetConfig(10, 8)
EDITOR = EditorConfig(
    latent_channels=12, reference_channels=6, channels=(8, 16), blocks=1, groups=4, reference_width=8, reference_blocks=1
)  # fmt: skip
CONFIG = FlashLipsConfig(
    image_px=16, autoencoder=AutoencoderConfig("pixels", factor=2), distilled=DistilledConfig(TRUNK, 32), editor=EDITOR
)  # fmt: skip
SPOKEN = AudioToLipsConfig(SpeechConfig(heard=16, width=8), width=16, depth=1, heads=2)


def saved(folder, model: FlashLips):
    save_flashlips(model, folder, "Apache-2.0", {"validation": {"psnr_db": 30.0}})
    return folder


def test_the_networks_come_back(tmp_path):
    torch.manual_seed(0)
    model = build_flashlips(CONFIG)
    loaded = load_flashlips(saved(tmp_path, model))
    assert loaded.config == CONFIG and not loaded.training
    assert loaded.lips is None and loaded.audio2lips is None
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert json.loads((tmp_path / "config.json").read_text())["preprocess"]["validation"] == {"psnr_db": 30.0}


def test_the_frozen_ear_is_not_stored_again(tmp_path, monkeypatch):
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    ear = Wav2Vec2Model(config)
    monkeypatch.setattr(weights, "load_ear", lambda config: ear if config else None)
    model = build_flashlips(FlashLipsConfig(audio2lips=SPOKEN), ear)
    stored = read_weights(saved(tmp_path, model) / "model.safetensors")
    assert stored and not any("encoder" in name for name in stored)
    loaded = load_flashlips(tmp_path)
    assert loaded.audio2lips is not None and loaded.audio2lips.speech.encoder is ear


def test_networks_are_added_replaced_and_left_out():
    model = build_flashlips(CONFIG)
    other = build_flashlips(CONFIG).editor
    changed = model.with_networks(editor=other, distilled=None)
    assert changed.editor is other and changed.distilled is None and changed.config.distilled is None
    assert changed.config.editor == EDITOR and changed.config.image_px == 16
    assert model.distilled is not None and model.config == CONFIG


def test_a_folder_that_lacks_a_weight_is_refused(tmp_path):
    from safetensors.torch import save_file

    saved(tmp_path, build_flashlips(CONFIG))
    held = read_weights(tmp_path / "model.safetensors")
    del held["editor.backbone.input.bias"]
    save_file(held, tmp_path / "model.safetensors")
    (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(WeightsError, match=r"editor\.backbone\.input\.bias") as caught:
        load_flashlips(tmp_path)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("masked", [True, False])
def test_a_masked_editor_never_sees_the_mouth(masked):
    torch.manual_seed(0)
    model = build_flashlips(FlashLipsConfig(**{**CONFIG.__dict__, "masked": masked})).eval()
    assert model.editor is not None
    torch.nn.init.normal_(model.editor.backbone.output[-1].weight)
    codec = load_autoencoder(CONFIG.autoencoder)
    faces, masks = torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    masks[:, :, 8:14, 4:12] = 1
    features = model.reference_features(codec, faces[:1])
    lips = model.read_lips(faces)
    out = model.edit(codec, faces, masks, features, lips)
    assert out.shape == faces.shape
    other = faces.clone()
    other[:, :, 8:14, 4:12] = 0.9
    same = torch.equal(model.edit(codec, other, masks, features, lips), out)
    assert same is masked
