import hashlib
import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub import catalogue
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.latentsync import convert
from lipsync_cli.networks.latentsync.convert import (
    from_published,
    load_syncnet,
    load_unet,
    load_whisper,
    save_syncnet,
    save_unet,
    size_of,
)
from lipsync_cli.networks.latentsync.unet import LatentSyncUNet, UNetConfig


def local_folder(path, network, config, **preprocess):
    path.mkdir(exist_ok=True)
    described = {"format_version": 1, "network": network, "config": asdict(config), "preprocess": preprocess}
    (path / "config.json").write_text(json.dumps(described))
    return path


def same_weights(a, b):
    b = b.state_dict()
    return all(torch.equal(tensor, b[name]) for name, tensor in a.state_dict().items())


def drop(state):
    del state["conv_in.bias"]


def add(state):
    state["extra.weight"] = torch.zeros(1)


def reshape(state):
    state["conv_in.weight"] = torch.zeros(32, 9, 3, 3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop, r"lack 'conv_in\.bias' \(1 missing\)"),
        (add, r"hold 'extra\.weight'.*\(1 unknown\)"),
        (reshape, r"'conv_in\.weight' is \[32, 9, 3, 3\] where \[32, 13, 3, 3\] is wanted"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tiny_unet, tmp_path, spoil, words):
    before = {name: tensor.clone() for name, tensor in tiny_unet.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    spoil(state)
    with pytest.raises(WeightsError, match=words) as caught:
        load_strictly(tiny_unet, state, tmp_path / "latentsync_unet.pt")
    assert caught.value.exit_code == 5 and "latentsync_unet.pt" in caught.value.message
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_unet.state_dict().items())


def test_weights_without_motion_modules_are_refused(tiny_unet, tmp_path):
    state = {n: t for n, t in tiny_unet.state_dict().items() if "motion_modules" not in n}
    with pytest.raises(WeightsError, match=r"lack 'down_blocks\.0\.motion_modules"):
        load_strictly(tiny_unet, state, tmp_path / "x.pt")


def test_published_checkpoints_are_unwrapped(tiny_unet, tmp_path):
    folder = local_folder(tmp_path / "own", "latentsync", tiny_unet.config, size_px=512)
    torch.save({"global_step": 7, "state_dict": tiny_unet.state_dict()}, folder / "latentsync_unet.pt")
    loaded, size_px = load_unet(load_model_folder(folder))
    assert same_weights(tiny_unet, loaded) and size_px == 512 and not loaded.training


def test_a_converted_unet_is_read_again(tiny_unet, tmp_path):
    save_unet(tiny_unet, 256, tmp_path / "unet", "test")
    assert (tmp_path / "unet" / "model.safetensors").is_file()
    loaded, size_px = load_unet(load_model_folder(tmp_path / "unet", network="latentsync"))
    assert same_weights(tiny_unet, loaded) and size_px == 256 and loaded.config == tiny_unet.config


def test_a_truncated_checkpoint_is_said_to_be_damaged(tiny_unet, tmp_path):
    folder = local_folder(tmp_path / "own", "latentsync", tiny_unet.config, size_px=512)
    path = folder / "latentsync_unet.pt"
    torch.save({"state_dict": tiny_unet.state_dict()}, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_unet(load_model_folder(folder))
    assert caught.value.exit_code == 5


def test_versions_are_told_apart_by_hash(tiny_unet, tmp_path, monkeypatch):
    path = tmp_path / "latentsync_unet.pt"
    path.write_bytes(b"a checkpoint")
    with pytest.raises(WeightsError, match=r"neither LatentSync 1\.5 nor 1\.6") as caught:
        size_of(path, "mine")
    assert caught.value.exit_code == 5 and "size_px" in caught.value.hint
    entries = dict(catalogue.read_catalogue())
    digest = hashlib.sha256(b"a checkpoint").hexdigest()
    file = catalogue.FileEntry(name="latentsync_unet.pt", sha256=digest)
    entries["latentsync-1.5"] = replace(entries["latentsync-1.5"], files=(file,))
    monkeypatch.setattr(convert, "read_catalogue", lambda: entries)
    assert size_of(path, "mine") == 256


def test_names_of_the_catalogue_were_hashed_when_pulled(tmp_path):
    assert size_of(tmp_path / "absent", "latentsync-1.6") == 512
    assert size_of(tmp_path / "absent", "latentsync-1.5") == 256


@pytest.mark.parametrize("published", [True, False])
def test_syncnet_from_a_local_folder(tiny_syncnet, tmp_path, published):
    folder = tmp_path / "syncnet"
    if published:
        local_folder(folder, "stable-syncnet", tiny_syncnet.config)
        torch.save(
            {"state_dict": tiny_syncnet.state_dict(), "train_loss_list": [0.7]}, folder / "stable_syncnet.pt"
        )
    else:
        save_syncnet(tiny_syncnet, folder, "test")
    assert same_weights(tiny_syncnet, load_syncnet(load_model_folder(folder, network="stable-syncnet")))


OPENAI = [  # ours, theirs
    ("self_attn.q_proj", "attn.query"),
    ("self_attn.k_proj", "attn.key"),
    ("self_attn.v_proj", "attn.value"),
    ("self_attn.out_proj", "attn.out"),
    ("self_attn_layer_norm", "attn_ln"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("final_layer_norm", "mlp_ln"),
    ("embed_positions.weight", "positional_embedding"),
    ("layer_norm", "ln_post"),
    ("layers", "blocks"),
]


def openai_checkpoint(whisper):
    state = {}
    for name, tensor in whisper.encoder.state_dict().items():
        for ours, theirs in OPENAI:
            if f".{ours}." in f".{name}.":
                name = f".{name}.".replace(f".{ours}.", f".{theirs}.").strip(".")
        state[f"encoder.{name}"] = tensor
    state["decoder.positional_embedding"] = torch.zeros(4, 16)
    dims = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 4}
    return {"dims": dims, "model_state_dict": state}


def test_whisper_from_openais_checkpoint(tiny_whisper, tmp_path):
    checkpoint = openai_checkpoint(tiny_whisper)
    assert "encoder.blocks.3.attn.key.weight" in checkpoint["model_state_dict"]
    torch.save(checkpoint, tmp_path / "tiny.pt")
    loaded = load_whisper(tmp_path / "tiny.pt")
    mel = torch.randn(1, 80, 3000)
    with torch.no_grad():
        expected = tiny_whisper.encoder(mel).last_hidden_state
        assert torch.allclose(loaded(mel).last_hidden_state, expected, atol=1e-5)


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_whisper_from_transformers(tiny_whisper, tmp_path, prefix):
    tiny_whisper.config.to_json_file(tmp_path / "config.json")
    state = {prefix + name: tensor.clone() for name, tensor in tiny_whisper.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert same_weights(tiny_whisper.encoder, load_whisper(tmp_path / "model.safetensors"))


def test_another_whisper_is_refused(tiny_whisper, tmp_path):
    checkpoint = openai_checkpoint(tiny_whisper)
    checkpoint["dims"]["n_audio_layer"] = 12  # as if small's sizes lay beside tiny's weights
    torch.save(checkpoint, tmp_path / "tiny.pt")
    with pytest.raises(WeightsError, match=r"lack 'layers\.10\.") as caught:
        load_whisper(tmp_path / "tiny.pt")
    assert caught.value.exit_code == 5


def test_missing_whisper_files(tiny_whisper, tmp_path):
    with pytest.raises(WeightsError, match="missing"):
        load_whisper(tmp_path / "tiny.pt")
    save_file({"encoder.conv1.bias": torch.zeros(16)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_whisper(tmp_path / "model.safetensors")


def test_wrapping_is_optional(tiny_unet):
    state = tiny_unet.state_dict()
    assert from_published(state) is state and from_published({"state_dict": state}) is state


def test_real_sizes_load_strictly_on_the_meta_device(tmp_path):
    with torch.device("meta"):
        published, ours = (LatentSyncUNet(UNetConfig()) for _ in range(2))
    load_strictly(ours, published.state_dict(), tmp_path / "latentsync_unet.pt")
