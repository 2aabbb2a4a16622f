"""A model folder is read, held to its hashes and written, wherever it comes from."""

import hashlib
import json

import pytest
import torch

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub import catalogue
from lipsync_cli.hub.catalogue import read_catalogue
from lipsync_cli.hub.model_folder import load_model_folder, read_weights, verify, write_model_folder

WEIGHTS = {
    "layer.weight": torch.arange(6.0).reshape(2, 3).T,
    "layer.bias": torch.zeros(2),
}  # .T: not contiguous


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny@2"  # an @ in a path is just a letter
    write_model_folder(
        path,
        network="synclipmae",
        config={"width": 3},
        preprocess={"rate_hz": 25},
        weights=WEIGHTS,
        licence="CC0-1.0",
    )
    return path


def test_what_is_written_is_read(folder):
    model = load_model_folder(str(folder))
    assert (model.network, model.licence, model.origin) == ("synclipmae", "CC0-1.0", str(folder))
    assert model.config == {"width": 3} and model.preprocess == {"rate_hz": 25}
    read = read_weights(model.weights)
    assert read.keys() == WEIGHTS.keys()
    assert torch.equal(read["layer.weight"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))


def test_sums_are_what_sha256sum_writes(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    expected = [
        f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}"
        for n in ("config.json", "model.safetensors")
    ]
    assert lines == expected


def test_a_card_may_change_and_weights_may_not(folder):
    (folder / "README.md").write_text("# card")
    assert verify(str(folder)).path == folder
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match=r"model\.safetensors: wrong checksum") as caught:
        load_model_folder(str(folder))
    assert caught.value.exit_code == 5


def test_a_listed_file_that_is_gone(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing"):
        load_model_folder(folder)


def test_another_network_is_refused(folder):
    with pytest.raises(WeightsError, match="'synclipmae', where one of 'vsr'"):
        load_model_folder(folder, network="vsr")
    assert load_model_folder(folder, network="synclipmae").network == "synclipmae"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}', "null"])
def test_what_is_no_model_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"not the config\.json of a lipsync model"):
        load_model_folder(tmp_path)


def test_a_newer_format_asks_for_a_newer_lipsync(folder):
    described = json.loads((folder / "config.json").read_text())
    (folder / "SHA256SUMS").unlink()
    (folder / "config.json").write_text(json.dumps({**described, "format_version": 2}))
    with pytest.raises(WeightsError, match="format_version 2") as caught:
        load_model_folder(folder)
    assert "--upgrade" in caught.value.hint


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere/config\.json"):
        load_model_folder(f"{tmp_path}/nowhere")


def test_the_face_models_are_those_that_google_publishes():
    model = load_model_folder("face-mediapipe", network="face-mediapipe")
    published = {
        "detection_full_range": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        "landmarks_detector": "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
    }
    for name, digest in published.items():
        assert hashlib.sha256(model.file(f"face_{name}.tflite").read_bytes()).hexdigest() == digest
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        _ = model.weights


def test_an_embedded_model_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "shipped_folder", lambda kind: tmp_path / kind)
    with pytest.raises(WeightsError, match="this installation lacks the model"):
        load_model_folder("face-mediapipe")


def test_every_embedded_model_that_is_here_is_whole():
    here = [entry for entry in read_catalogue().values() if entry.embedded and entry.folder.is_dir()]
    assert here
    for entry in here:
        assert (entry.folder / "SHA256SUMS").is_file() and (entry.folder / "README.md").is_file()
        model = load_model_folder(entry.name, network=entry.network)
        assert model.licence == entry.licence


def test_every_folder_of_models_is_in_the_catalogue():
    folders = {
        path.name for path in read_catalogue()["face-mediapipe"].folder.parent.iterdir() if path.is_dir()
    }
    assert folders <= set(read_catalogue())


def test_a_published_pickle_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": WEIGHTS}, tmp_path / "good.pt")
    assert read_weights(tmp_path / "good.pt")["state_dict"].keys() == WEIGHTS.keys()
    torch.save({"x": Trap()}, tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"bad\.pt"):
        read_weights(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_damaged_and_missing_weights(tmp_path, name):
    with pytest.raises(WeightsError, match="missing"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="damaged"):
        read_weights(tmp_path / name)
