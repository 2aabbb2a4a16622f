"""The whole network: sizes, the two passes, shuffled identity, and its folder."""

from dataclasses import replace

import pytest
import torch

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import load_model_folder, write_model_folder
from lipsync_cli.networks.synclipmae.audio import AudioConfig
from lipsync_cli.networks.synclipmae.decoder import DecoderConfig
from lipsync_cli.networks.synclipmae.encoder import AMBIENT, IDENTITY, VOCAL, EncoderConfig
from lipsync_cli.networks.synclipmae.model import MaskConfig, SyncLipMAE, SyncLipMAEConfig, Views
from lipsync_cli.networks.synclipmae.weights import load_model, save_model

TINY = SyncLipMAEConfig(
    encoder=EncoderConfig(image_px=32, patch_px=8, channels=1, context_frames=3, width=16, layers=1, heads=2),
    decoder=DecoderConfig(width=16, layers=1, heads=2),
    audio=AudioConfig(branch="mel", hidden=8),
    pixel_mean=(0.45,),
    pixel_std=(0.25,),
)


def network(config: SyncLipMAEConfig = TINY) -> SyncLipMAE:
    torch.manual_seed(0)
    return SyncLipMAE(config).eval()


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_base_sizes_are_the_papers():
    with torch.device("meta"):
        base = SyncLipMAE(replace(SyncLipMAEConfig(), audio=AudioConfig(branch="mel")))
    assert parameters(base.encoder) == pytest.approx(0.3e9, rel=0.05)
    # ViTMAE-B's decoder by hand: 8 blocks of 12·512² (biases and norms beside), the embedding and the head …
    vit_mae = 8 * (12 * 512**2 + 13 * 512) + 512 * 768
    # … and ours beside: cross-attention in each block, wider input, prompts.
    ours = 8 * (4 * 512**2 + 6 * 512) + 2 * 1024 * 512
    assert parameters(base.decoder) == pytest.approx(vit_mae + ours, rel=0.01)
    assert len(base.encoder.blocks) == 24 and len(base.decoder.blocks) == 8


def batch(b: int = 2, t: int = 5):
    draw = torch.Generator().manual_seed(2)
    frames = torch.rand(b, t, 1, 32, 32, generator=draw)
    visible = torch.stack([torch.randperm(16, generator=draw)[:4].sort().values for _ in range(b * t)]).view(
        b, t, 4
    )
    motion = torch.randn(b, t, 3, 16, generator=draw)
    audio = torch.randn(b, t, 16, generator=draw)
    views = Views(visible, torch.tensor([[4, 0, 2], [1, 3, 0]]), torch.tensor([[2, 0, 1], [1, 2, 0]]))
    return frames, motion, audio, views


def test_restoration_is_the_decoder_frame_by_frame_with_shuffled_identity():
    model = network()
    frames, motion, audio, views = batch()
    found = model.restore(frames, motion, audio, views)
    whole = model.encoder(frames, views.visible)
    row = 0
    for clip in range(2):
        for place in range(3):
            time = int(views.chosen[clip, place])
            lender = int(views.chosen[clip, views.order[clip, place]])  # whose identity this frame gets
            identity = whole.prompts[clip, lender, IDENTITY]
            torch.testing.assert_close(found.identity[row], identity)
            for condition, restored in (
                (motion[clip, time, VOCAL], found.from_vocal),
                (audio[clip, time], found.from_audio),
            ):
                prompts = torch.stack([identity, motion[clip, time, AMBIENT], condition])[None]
                wanted = model.decoder(
                    whole.patches[clip, time][None], views.visible[clip, time][None], prompts
                )
                torch.testing.assert_close(restored[row], wanted[0], atol=1e-5, rtol=1e-5)
            assert torch.equal(found.vocal[row], motion[clip, time, VOCAL])
            assert torch.equal(found.ambient[row], motion[clip, time, AMBIENT])
            for patch in range(16):
                y, x = 8 * (patch // 4), 8 * (patch % 4)
                assert torch.equal(
                    found.target[row, patch], frames[clip, time, :, y : y + 8, x : x + 8].flatten()
                )
            row += 1


def test_both_passes_share_their_weights():
    model = network()
    frames, motion, _, views = batch()
    same = model.restore(frames, motion, motion[:, :, VOCAL], views)
    assert torch.equal(same.from_vocal, same.from_audio)


def test_identity_is_shuffled_within_a_clip_only():
    model = network()
    frames, motion, audio, views = batch()
    other = frames.clone()
    other[1] = torch.rand(5, 1, 32, 32)
    first, second = (model.restore(f, motion, audio, views) for f in (frames, other))
    assert torch.equal(first.identity[:3], second.identity[:3])
    assert not torch.equal(first.identity[3:], second.identity[3:])


def test_only_bypass_1_gives_pixels_and_identity():
    """What bypass 2 sees reaches the decoder through its two motion prompts alone."""
    model = network()
    frames, motion, audio, views = batch()
    motion.requires_grad_(True)
    restored = model.restore(frames, motion, audio, views)
    restored.from_vocal.sum().backward()
    assert motion.grad is not None
    assert not motion.grad[:, :, IDENTITY].any()
    assert motion.grad[0, 4, VOCAL].any() and motion.grad[0, 4, AMBIENT].any()
    assert not motion.grad[0, 1].any(), "frame 1 of clip 0 was not chosen"


def test_one_audio_token_for_each_frame():
    model = network()
    samples = torch.randn(1, 10 * 640) * 0.1
    features = model.hear(samples, 10)
    assert features.shape == (1, 40, 80)
    every = model.audio(features)
    assert torch.equal(model.audio_tokens(features, 10), every[:, ::4])
    assert model.encode_audio(samples, 10).shape == (1, 40, 16)


@pytest.mark.parametrize("centre", [False, True])
def test_shared_space_is_unit_and_centred_on_the_clip(centre):
    model = network(replace(TINY, centre=centre))
    given = torch.randn(2, 7, 16) + 3
    tokens = model.shared_space(given)
    for clip in range(2):
        base = given[clip] - given[clip].mean(0) if centre else given[clip]
        for t in range(7):
            torch.testing.assert_close(tokens[clip, t], base[t] / base[t].square().sum().sqrt())


def test_measuring_sees_the_view_it_is_told_to():
    frames = torch.rand(1, 2, 1, 32, 32)
    full = network().factors(frames)
    assert full.patches.shape == (1, 2, 16, 16)
    some = network(replace(TINY, mask=MaskConfig(ratio=0.75, measure_full=False))).factors(frames)
    assert some.patches.shape == (1, 2, 4, 16)
    normal = (frames - 0.45) / 0.25
    torch.testing.assert_close(
        full.prompts, network().encoder(normal, torch.arange(16).expand(1, 2, -1)).prompts
    )


def test_a_saved_network_comes_back_bit_for_bit(tmp_path):
    model = network()
    save_model(model, tmp_path / "m", "Apache-2.0", {"validation": {"acc_k1": 50.0}})
    folder = load_model_folder(tmp_path / "m", network="synclipmae")
    loaded = load_model(folder)
    assert loaded.config == model.config and not loaded.training
    assert folder.preprocess["validation"]["acc_k1"] == 50.0 and folder.licence == "Apache-2.0"
    assert model.state_dict().keys() == loaded.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    frames = torch.rand(1, 3, 1, 32, 32)
    assert torch.equal(model.encode_vocal(frames), loaded.encode_vocal(frames))


def rewritten(tmp_path, change):
    model = network()
    save_model(model, tmp_path / "m", "Apache-2.0", {})
    described = load_model_folder(tmp_path / "m")
    weights = dict(model.state_dict())
    change(weights)
    write_model_folder(
        tmp_path / "m",
        network="synclipmae",
        config=described.config,
        preprocess={},
        weights=weights,
        licence="x",
    )
    with pytest.raises(WeightsError) as caught:
        load_model(load_model_folder(tmp_path / "m"))
    assert caught.value.exit_code == 5
    return caught.value.message


def test_wrong_weights_are_refused(tmp_path):
    assert "encoder.prompts" in rewritten(
        tmp_path, lambda w: w.update({"encoder.prompts": torch.zeros(3, 8)})
    )
    assert "encoder.prompts" in rewritten(tmp_path, lambda w: w.pop("encoder.prompts"))
    assert "encoder.extra" in rewritten(tmp_path, lambda w: w.update({"encoder.extra": torch.zeros(3)}))


def test_the_frozen_speech_encoder_is_not_stored_again(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    speech = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=48,
            conv_dim=(16,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
    )
    model = SyncLipMAE(replace(TINY, audio=AudioConfig(branch="wav2vec2")), speech)
    save_model(model, tmp_path / "m", "x", {})
    from lipsync_cli.hub.model_folder import read_weights

    names = read_weights(tmp_path / "m" / "model.safetensors").keys()
    assert "audio.adapter.0.weight" in names and not [name for name in names if "audio.encoder" in name]
    assert model.encode_audio(torch.randn(1, 6400), 10).shape == (1, 10, 16)
