"""Published weights under our names: same pictures in, same tokens out."""

import pytest
import torch
from torch.nn import functional as F

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import ModelFolder
from lipsync_cli.networks.blocks.speech import load_speech_encoder
from lipsync_cli.networks.synclipmae.convert import convert_sapiens, load_sapiens, resize_positions
from lipsync_cli.networks.synclipmae.encoder import EncoderConfig, VisualEncoder

SIZES = EncoderConfig(image_px=32, patch_px=8, channels=3, width=16, layers=2, heads=2)
WIDTH, HIDDEN, LAYERS, HEADS = 16, 64, 2, 2


def published(*, token: bool = False, grid: int = 4) -> dict[str, torch.Tensor]:
    """A random Vision Transformer under mmpretrain's names."""
    draw = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw) * 0.2

    weights = {
        "pos_embed": random(1, grid * grid + token, WIDTH),
        "patch_embed.projection.weight": random(WIDTH, 3, 8, 8),
        "patch_embed.projection.bias": random(WIDTH),
    }
    for n in range(LAYERS):
        shapes = {
            "ln1": (WIDTH,), "ln2": (WIDTH,), "attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH),
            "ffn.layers.0.0": (HIDDEN, WIDTH), "ffn.layers.1": (WIDTH, HIDDEN),
        }  # fmt: skip
        for name, shape in shapes.items():
            weights[f"layers.{n}.{name}.weight"] = random(*shape)
            weights[f"layers.{n}.{name}.bias"] = random(shape[0])
    weights |= {"ln1.weight": random(WIDTH), "ln1.bias": random(WIDTH)}
    if token:
        weights["cls_token"] = random(1, 1, WIDTH)
    return weights


def reference(w: dict[str, torch.Tensor], frame: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """mmpretrain's forward pass with `prompts` where the class token would be: (C, S, S) → (3 + N, D)."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    projected = F.conv2d(
        frame[None], w["patch_embed.projection.weight"], w["patch_embed.projection.bias"], stride=8
    )
    x = torch.cat([prompts, projected[0].flatten(1).T + w["pos_embed"][0, -16:]])
    for n in range(LAYERS):
        at = f"layers.{n}"
        q, k, v = linear(norm(x, f"{at}.ln1"), f"{at}.attn.qkv").chunk(3, -1)
        heads = []
        for h in range(HEADS):
            part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
            heads.append((q[:, part] @ k[:, part].T / (WIDTH // HEADS) ** 0.5).softmax(-1) @ v[:, part])
        x = x + linear(torch.cat(heads, -1), f"{at}.attn.proj")
        y = linear(norm(x, f"{at}.ln2"), f"{at}.ffn.layers.0.0")
        x = x + linear(0.5 * y * (1 + torch.erf(y / 2**0.5)), f"{at}.ffn.layers.1")
    return norm(x, "ln1")


def with_prefix(weights):
    return {f"backbone.{name}": tensor for name, tensor in weights.items()} | {
        "neck.mask_token": torch.zeros(1), "head.weight": torch.zeros(1)
    }  # fmt: skip


@pytest.mark.parametrize("shape", ["plain", "prefixed", "wrapped", "token"])
def test_loaded_weights_give_the_published_tokens(shape):
    plain = published(token=shape == "token")
    given = plain if shape in ("plain", "token") else with_prefix(plain)
    encoder = VisualEncoder(SIZES).eval()
    load_sapiens(encoder, {"state_dict": given, "meta": {}} if shape == "wrapped" else given)
    frame = torch.randn(3, 32, 32)
    ours = encoder(frame[None, None], torch.arange(16)[None, None])
    theirs = reference(plain, frame, encoder.prompts)
    torch.testing.assert_close(ours.prompts[0, 0], theirs[:3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.patches[0, 0], theirs[3:], atol=1e-4, rtol=1e-4)


def test_a_hidden_patch_is_left_out_of_the_published_tokens_too():
    plain, encoder = published(), VisualEncoder(SIZES).eval()
    load_sapiens(encoder, plain)
    seen = encoder(torch.randn(1, 1, 3, 32, 32), torch.tensor([[[0, 3, 9]]]))
    assert seen.patches.shape == (1, 1, 3, 16)


def test_positions_grow_and_shrink_over_the_picture():
    rows = torch.arange(8.0)[:, None].expand(8, 8).flatten()
    columns = torch.arange(8.0).expand(8, 8).flatten()
    table = torch.stack([rows, columns], 1)[None]
    small = resize_positions(table, 4)
    assert small[:, 0].view(4, 4)[1:3, 1].tolist() == pytest.approx([2.5, 4.5], abs=0.05)
    assert small[:, 1].view(4, 4)[1, 1:3].tolist() == pytest.approx([2.5, 4.5], abs=0.05)
    assert torch.equal(resize_positions(table, 8), table[0])
    with_token = torch.cat([torch.full((1, 1, 2), 99.0), table], 1)
    assert torch.equal(resize_positions(with_token, 8), table[0])


def broken(change):
    weights = published()
    change(weights)
    with pytest.raises(WeightsError) as caught:
        load_sapiens(VisualEncoder(SIZES), weights)
    assert caught.value.exit_code == 5
    return caught.value.message


def test_unknown_names_are_refused():
    assert "layers.0.gamma.weight" in broken(lambda w: w.update({"layers.0.gamma.weight": torch.ones(1)}))
    assert "ssl_head" in broken(lambda w: w.update({"ssl_head.weight": torch.ones(1)}))


def test_missing_weights_are_named():
    assert "blocks.1.qkv.bias" in broken(lambda w: w.pop("layers.1.attn.qkv.bias"))
    assert "position" in broken(lambda w: w.pop("pos_embed"))


def test_other_shapes_are_named():
    assert "blocks.1.mlp.0.weight" in broken(
        lambda w: w.update({"layers.1.ffn.layers.0.0.weight": torch.ones(8, 16)})
    )
    assert "blocks.2" in broken(lambda w: w.update({"layers.2.ln1.weight": torch.ones(16)}))


def test_conversion_leaves_out_what_we_do_not_have():
    names = set(convert_sapiens(with_prefix(published(token=True)), 4))
    assert names == set(VisualEncoder(SIZES).state_dict()) - {"prompts"}


def folder_of(path) -> ModelFolder:
    return ModelFolder(
        name="speech",
        path=path,
        network="wav2vec2",
        config={},
        preprocess={},
        files={},
        licence="",
        origin="",
    )


@pytest.fixture
def speech_folder(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    model = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            conv_dim=(16,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
    )
    model.save_pretrained(tmp_path)
    return tmp_path, model


def test_speech_encoder_comes_back_whole(speech_folder):
    path, model = speech_folder
    loaded = load_speech_encoder(folder_of(path))
    weights = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    assert next(loaded.parameters()).dtype == torch.float32


def test_a_speech_encoder_that_lacks_a_layer_is_refused(speech_folder):
    from safetensors.torch import load_file, save_file

    path, _ = speech_folder
    weights = load_file(path / "model.safetensors")
    del weights["encoder.layers.1.attention.k_proj.weight"]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        WeightsError, match=r"lacks 'encoder\.layers\.1\.attention\.k_proj\.weight'"
    ) as caught:
        load_speech_encoder(folder_of(path))
    assert caught.value.exit_code == 5


def test_a_folder_that_is_no_speech_encoder_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="wav2vec") as caught:
        load_speech_encoder(folder_of(tmp_path))
    assert caught.value.exit_code == 5
