"""The autoencoder: diffusers' own, in latents of unit variance, from a folder as it was published."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.networks.latentsync.codec import PictureCodec, load_codec

HINT = "lipsync models pull sd-vae-ft-mse"


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_latents_and_pictures_are_diffusers_scaled(teachers, tiny_vae, pictures):
    codec = load_codec(teachers["vae"], HINT)
    latents = codec.encode(pictures)
    assert torch.allclose(latents, tiny_vae.encode(pictures).latent_dist.mean * 0.18215, atol=1e-6)
    assert torch.allclose(codec.decode(latents), tiny_vae.decode(latents / 0.18215).sample, atol=1e-5)
    torch.manual_seed(0)
    drawn = codec.encode(pictures, draw=True)
    assert not torch.equal(drawn, latents) and not any(p.requires_grad for p in codec.parameters())


@torch.no_grad()
def test_many_pictures_at_once_are_as_one_by_one(tiny_vae, pictures):
    codec = PictureCodec(tiny_vae)
    many = pictures.repeat(4, 1, 1, 1)
    assert torch.allclose(codec.encode(many)[9:], codec.encode(pictures), atol=1e-5)


def test_the_published_names_of_attention_are_understood(teachers, tiny_vae, tmp_path):
    """The published file has query, key, value and proj_attn, which newer ones call otherwise."""
    state = load_file(teachers["vae"] / "diffusion_pytorch_model.safetensors")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    older = {}
    for name, tensor in state.items():
        for ours, theirs in names.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        older[name] = tensor
    assert sum("proj_attn" in name for name in older) == 4 and not any("to_q" in name for name in older)
    save_file(older, tmp_path / "diffusion_pytorch_model.safetensors")
    config = json.loads((teachers["vae"] / "config.json").read_text())
    del config["scaling_factor"]  # as in the published file, which is older than the name
    (tmp_path / "config.json").write_text(json.dumps(config))
    codec = load_codec(tmp_path, HINT)
    expected = tiny_vae.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in codec.vae.state_dict().items())
    assert codec._scale == 0.18215


@pytest.mark.parametrize("spoil", ["no config", "no weights", "cut weights", "another network"])
def test_a_folder_that_will_not_do_is_said_to_be_so(teachers, tmp_path, spoil):
    state = load_file(teachers["vae"] / "diffusion_pytorch_model.safetensors")
    if spoil != "no config":
        (tmp_path / "config.json").write_bytes((teachers["vae"] / "config.json").read_bytes())
    if spoil == "another network":
        state = {"conv_in.weight": torch.zeros(1)}
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    if spoil != "no weights":
        save_file(state, path)
    if spoil == "cut weights":
        path.write_bytes(path.read_bytes()[:100])
    words = {
        "no config": "config.json",
        "no weights": "missing",
        "cut weights": "damaged",
        "another network": "lack",
    }
    with pytest.raises(WeightsError, match=words[spoil]) as caught:
        load_codec(tmp_path, HINT)
    assert caught.value.exit_code == 5
