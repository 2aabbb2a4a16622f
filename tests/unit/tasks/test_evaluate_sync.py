"""LSE-C and LSE-D of clips whose distances are known."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from lipsync_cli.cli.app import main
from lipsync_cli.hub import download
from lipsync_cli.networks.latentsync.convert import save_syncnet
from lipsync_cli.networks.latentsync.embed import StableSyncNetEmbedder
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, StableSyncNetConfig, SyncEncoderConfig
from lipsync_cli.sync.reasons import Evidence
from lipsync_cli.tasks.evaluate import SeenClip
from lipsync_cli.tasks.evaluate_sync import measure, told_rightly
from tests.prepared_clips import KEYS, write_prepared

FRAMES = 80


class Given:
    """An embedder of sound whose tokens are given, 50 a second."""

    audio_rate = Fraction(50)

    def __init__(self, tokens):
        self._tokens = tokens

    def embed_sound(self, samples):
        return self._tokens

    def comparable(self, tokens):
        return tokens


def clip(vocal):
    samples = np.zeros(len(vocal) * 640, np.float32)
    return SeenClip("a/one", "a", vocal, np.ones(len(vocal), bool), samples, Evidence())


def walk(count, width, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("late_frames", [0, 3, -2])
def test_the_least_distance_is_where_sound_and_lips_are_the_same(late_frames):
    """Sound that is the lips' own vectors, moved: distance 0 there, that of strangers (√2) everywhere else."""
    vocal = walk(FRAMES, 256)
    audio = np.zeros((2 * FRAMES, 256), np.float32)
    audio[::2] = np.roll(vocal, late_frames, 0)
    audio[1::2] = walk(FRAMES, 256, seed=1)
    found = measure(clip(vocal), Given(audio))
    assert found.lse_d == pytest.approx(0, abs=1e-3)
    assert found.lse_c == pytest.approx(math.sqrt(2), abs=0.02)
    assert found.audio_lead_ms == -40 * late_frames  # late sound leads by less than nothing
    assert math.isnan(found.accuracy_percent)


def test_distances_by_hand():
    """Two kinds of frames by turns: the same kind is at distance 0, the other at √(2 − 2·0.6)."""
    one, other = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    vocal = np.stack([one, other] * (FRAMES // 2)).astype(np.float32)
    found = measure(clip(vocal), Given(np.repeat(vocal, 2, 0)))
    apart = math.sqrt(2 - 1.2)
    # of 31 shifts 15 are even: the median is that of odd ones
    assert found.lse_d == pytest.approx(0, abs=1e-3) and found.lse_c == pytest.approx(apart, abs=1e-3)


def test_accuracy_counts_windows_of_one_moment_and_of_two():
    embedder = object.__new__(StableSyncNetEmbedder)
    embedder.audio_rate = Fraction(50)
    vocal = np.zeros((40, 40), np.float32)
    vocal[np.arange(40), np.arange(40)] = 1
    audio = np.repeat(vocal, 2, 0)
    assert told_rightly(clip(vocal), audio, embedder) == 100
    same = np.repeat(vocal[:1], 40, 0)  # everything is alike: its own is right, the other's is not
    assert told_rightly(clip(same), np.repeat(same, 2, 0), embedder) == 50


def test_the_command_reads_prepared_clips(tmp_path, capsys):
    torch.manual_seed(0)
    config = StableSyncNetConfig(
        audio=SyncEncoderConfig(1, (32, 64), ((16, 8), (8, 8))),
        visual=SyncEncoderConfig(48, (32, 64), ((8, 8), (4, 8))),
        crop_px=64,
    )
    save_syncnet(StableSyncNet(config), tmp_path / "net", "CC0-1.0")
    clips = write_prepared(tmp_path / "prepared", KEYS[:2], num_frames=40, side_px=80)
    command = ["evaluate", "sync", str(clips), "--model", str(tmp_path / "net"), "--device", "cpu", "-q"]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "lipsync.evaluate.sync/1" and len(answer["clips"]) == 2
    for row in answer["clips"]:
        assert 0 <= row["lse_d"] <= 2 and row["lse_c"] >= 0 and 0 <= row["accuracy_percent"] <= 100
    assert answer["lse_c"] == pytest.approx(np.mean([row["lse_c"] for row in answer["clips"]]))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "LSE-C" in said and "a/one" in said and "mean" in said


def test_without_its_weights_it_says_what_brings_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    assert main(["evaluate", "sync", str(tmp_path)]) == 5
    assert "hint: lipsync models pull stable-syncnet" in capsys.readouterr().err
