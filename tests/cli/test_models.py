"""`lipsync models` and `lipsync doctor` as a user meets them."""

import json
import shutil

import pytest

from lipsync_cli.cli.app import main
from lipsync_cli.hub import catalogue, download
from lipsync_cli.hub.catalogue import read_catalogue


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    """A copy of the model folders that a test may damage."""
    copy = tmp_path / "models"
    shutil.copytree(read_catalogue()["face-mediapipe"].folder, copy / "face-mediapipe")
    monkeypatch.setattr(catalogue, "shipped_folder", lambda kind: tmp_path / kind)
    return copy


def test_list_shows_every_model(capsys):
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert len(read_catalogue()) > 5
    for name in read_catalogue():
        assert f"\n{name} " in out


def test_list_as_json(capsys):
    assert main(["models", "list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert next(iter(shown)) == "schema" and shown["schema"] == "lipsync.models.list/1"
    faces = next(model for model in shown["models"] if model["name"] == "face-mediapipe")
    assert faces["present"] and faces["pinned"] and faces["licence"] == "Apache-2.0"


def test_path_is_one_line(capsys):
    assert main(["models", "path", "face-mediapipe"]) == 0
    assert capsys.readouterr().out == f"{read_catalogue()['face-mediapipe'].folder}\n"


def test_verify_accepts_what_is_right(capsys):
    assert main(["models", "verify", "face-mediapipe", "-q"]) == 0
    assert capsys.readouterr().out == "face-mediapipe: ok (3 files)\n"


def test_verify_finds_one_flipped_bit(own_models, capsys):
    file = own_models / "face-mediapipe" / "face_landmarks_detector.tflite"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    assert main(["models", "verify", "--json"]) == 5
    out, err = capsys.readouterr()
    assert "face_landmarks_detector.tflite" in err and "wrong checksum" in err
    assert json.loads(out)["status"] == "error"


def test_a_missing_model_names_the_command_that_brings_it(capsys):
    assert main(["models", "path", "stable-syncnet"]) == 5
    assert "hint: lipsync models pull stable-syncnet" in capsys.readouterr().err


def test_an_unknown_model_is_guessed(capsys):
    assert main(["models", "pull", "stable-syncnt"]) == 5
    assert "did you mean 'stable-syncnet'?" in capsys.readouterr().err


def test_pulling_what_comes_along_downloads_nothing(capsys):
    assert main(["models", "pull", "face-mediapipe"]) == 0
    assert "comes with lipsync" in capsys.readouterr().out


def test_pulling_offline_says_why(capsys):
    assert main(["models", "pull", "lrs3-vsr"]) == 5
    err = capsys.readouterr().err
    assert "HF_HUB_OFFLINE is set" in err and "HF_HUB_OFFLINE=0 lipsync models pull lrs3-vsr" in err


def test_an_unpinned_source_is_a_usage_error(capsys):
    assert main(["models", "pull", "hf:org/repo"]) == 2
    assert "40 digits" in capsys.readouterr().err


def test_doctor_tells_what_is_here(capsys):
    assert main(["doctor", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema"] == "lipsync.doctor/1"
    assert shown["devices"][0]["name"] == "cpu"
    assert shown["encoders"]["libx264"] and shown["encoders"]["aac"]
    assert shown["models"]["face-mediapipe"] is True


def test_doctor_in_words(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "models here: face-mediapipe" in out and "encoders: libx264" in out
