"""VideoMAE-v2's encoder against transformers' VideoMAE, and the distance built on it."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import VideoMAEConfig, VideoMAEModel

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import ModelFolder, load_model_folder
from lipsync_cli.networks.latentsync.trepa import (
    PUBLISHED,
    VideoEncoder,
    VideoEncoderConfig,
    load_video_encoder,
    movement_distance,
)

TINY = VideoEncoderConfig(width=16, layers=2, heads=2, inner_width=24, patch_px=14, frames=4, size_px=28)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = VideoEncoder(TINY)
    for parameter in encoder.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder.eval()


@torch.no_grad()
def test_it_is_transformers_videomae_with_pooled_and_normalised_tokens(encoder):
    config = VideoMAEConfig(
        image_size=28, patch_size=14, num_frames=4, tubelet_size=2, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=24, layer_norm_eps=1e-6, use_mean_pooling=True,
    )  # fmt: skip
    other = VideoMAEModel(config).eval()
    state = encoder.state_dict()
    names = {"attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
             "layernorm_before": "norm1", "layernorm_after": "norm2"}  # fmt: skip
    copied = {f"embeddings.patch_embeddings.projection.{kind}": state[f"patch_embed.proj.{kind}"]
              for kind in ("weight", "bias")}  # fmt: skip
    for layer in range(2):
        theirs, ours = f"encoder.layer.{layer}", f"blocks.{layer}"
        for place, part in enumerate(("query", "key", "value")):
            qkv = state[f"{ours}.attn.qkv.weight"][16 * place : 16 * (place + 1)]
            copied[f"{theirs}.attention.attention.{part}.weight"] = qkv
        for part in ("query", "value"):
            copied[f"{theirs}.attention.attention.{part}.bias"] = state[f"{ours}.attn.{part[0]}_bias"]
        for name, own in names.items():
            copied |= {
                f"{theirs}.{name}.{kind}": state[f"{ours}.{own}.{kind}"] for kind in ("weight", "bias")
            }
    other.load_state_dict(copied)
    frames = torch.rand(2, 3, 4, 28, 28, generator=torch.Generator().manual_seed(1))
    tokens = other(frames.transpose(1, 2)).last_hidden_state
    expected = torch.nn.functional.layer_norm(
        tokens.mean(1), (16,), state["fc_norm.weight"], state["fc_norm.bias"], 1e-6
    )
    assert torch.allclose(encoder(frames), expected, atol=1e-5)


def test_it_has_the_published_names_and_size():
    with torch.device("meta"):
        published = VideoEncoder(VideoEncoderConfig())
    state = published.state_dict()
    assert state["patch_embed.proj.weight"].shape == (1408, 3, 2, 14, 14)
    assert state["blocks.39.attn.qkv.weight"].shape == (4224, 1408)
    assert state["blocks.39.mlp.fc1.weight"].shape == (6144, 1408) and "blocks.0.attn.qkv.bias" not in state
    assert sum(tensor.numel() for tensor in state.values()) == pytest.approx(1.01e9, rel=0.01)


def film(seed: int) -> torch.Tensor:
    return torch.rand(1, 4, 3, 40, 40, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_distance_is_nought_for_one_film_and_small_steps_along_its_gradient_lessen_it(encoder):
    real = film(0)
    assert float(movement_distance(encoder, real, real)) == 0
    made = film(1).requires_grad_()
    distance = movement_distance(encoder, made, real)
    (gradient,) = torch.autograd.grad(distance, made)
    with torch.no_grad():
        closer = movement_distance(encoder, made - 0.02 * gradient / gradient.abs().max(), real)
    assert 0 < closer < distance


def test_the_order_of_frames_matters(encoder):
    real = film(0)
    assert float(movement_distance(encoder, real.flip(1), real)) > 1e-4


@torch.no_grad()
def test_the_distance_by_hand(encoder):
    made, real = film(1), film(0)
    small = [torch.nn.functional.interpolate(x[0], (28, 28), mode="bicubic") for x in (made, real)]
    a, b = (encoder(((x + 1) / 2).clamp(0, 1).transpose(0, 1)[None])[0] for x in small)
    expected = ((a / a.norm() - b / b.norm()) ** 2).mean()
    assert float(movement_distance(encoder, made, real)) == pytest.approx(float(expected), rel=1e-4)


def test_recomputing_changes_no_gradient(encoder):
    real, gradients = film(0), []
    for recompute in (False, True):
        encoder.recompute = recompute
        made = film(1).requires_grad_()
        gradients.append(torch.autograd.grad(movement_distance(encoder, made, real), made)[0])
    assert torch.allclose(*gradients, atol=1e-8)


def test_a_published_checkpoint_is_unwrapped_and_held_to_its_names(encoder, tmp_path):
    path = tmp_path / "published.pth"
    state = {**encoder.state_dict(), "head.weight": torch.zeros(174, 16), "head.bias": torch.zeros(174)}
    torch.save({"module": {name: tensor.half() for name, tensor in state.items()}}, path)
    config = {name: getattr(TINY, name) for name in TINY.__dataclass_fields__}
    folder = ModelFolder(name="x", path=tmp_path, network="videomae2", config=config, preprocess={},
                         files={PUBLISHED: path}, licence="", origin="")  # fmt: skip
    loaded = load_video_encoder(folder)
    assert torch.equal(loaded.blocks[1].attn.q_bias, encoder.blocks[1].attn.q_bias.half().float())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(WeightsError, match=r"lack 'blocks\.2\.") as caught:
        load_video_encoder(replace(folder, config={**config, "layers": 3}))
    assert caught.value.exit_code == 5


def test_a_folder_of_ours_loads(teachers):
    loaded = load_video_encoder(load_model_folder(teachers["videomae"], network="videomae2"), recompute=True)
    assert loaded.recompute and not loaded.training


def test_a_damaged_file_is_refused(encoder, tmp_path):
    save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    folder = ModelFolder(name="x", path=tmp_path, network="videomae2", config={}, preprocess={},
                         files={"model.safetensors": tmp_path / "model.safetensors"}, licence="", origin="")  # fmt: skip
    with pytest.raises(WeightsError, match="damaged"):
        load_video_encoder(folder)
