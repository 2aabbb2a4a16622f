"""Which network a model folder is measured with."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.hub.model_folder import write_model_folder
from lipsync_cli.networks.latentsync.convert import save_syncnet
from lipsync_cli.networks.latentsync.embed import StableSyncNetEmbedder
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, StableSyncNetConfig, SyncEncoderConfig
from lipsync_cli.tasks.offset import OffsetMeter, OffsetRequest, load_embedder

TINY = StableSyncNetConfig(
    audio=SyncEncoderConfig(1, (32, 128), ((16, 8), (8, 8))),
    visual=SyncEncoderConfig(48, (32, 128), ((8, 8), (4, 8))),
    crop_px=64,
)


def test_stable_syncnet_from_a_local_folder(tmp_path):
    torch.manual_seed(0)
    network = StableSyncNet(TINY)
    save_syncnet(network, tmp_path / "syncnet", "test", {"calibration": {"bias_ms": 3.5}})
    embedder = load_embedder(str(tmp_path / "syncnet"), "cpu")
    assert isinstance(embedder, StableSyncNetEmbedder)
    assert (embedder.bias_ms, embedder.crop_px, embedder.margin_px) == (3.5, 64, 8)
    wave = np.random.default_rng(0).normal(0, 0.1, 6400).astype(np.float32)
    expected = StableSyncNetEmbedder(network, torch.device("cpu")).embed_sound(wave)
    assert np.array_equal(embedder.embed_sound(wave), expected)


def test_a_network_that_compares_nothing_is_refused(tmp_path):
    write_model_folder(
        tmp_path / "other",
        network="vsr",
        config={},
        preprocess={},
        weights={"a": torch.zeros(1)},
        licence="test",
    )
    with pytest.raises(WeightsError, match="'vsr'") as caught:
        load_embedder(str(tmp_path / "other"), "cpu")
    assert caught.value.exit_code == 5


def test_a_published_model_that_was_not_pulled_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("lipsync_cli.hub.download.cache_folder", lambda: tmp_path)
    with pytest.raises(WeightsError, match="not on this machine") as caught:
        load_embedder("stable-syncnet", "cpu")
    assert caught.value.hint == "lipsync models pull stable-syncnet"


@pytest.mark.real
def test_an_untrained_network_cannot_tell(tmp_path):
    clip = Path(__file__).resolve().parents[4] / "shared/clips/wild/talk2.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip} is not there")
    torch.manual_seed(0)
    save_syncnet(StableSyncNet(TINY), tmp_path / "syncnet", "test")
    result = OffsetMeter(str(tmp_path / "syncnet"), "cpu").measure(OffsetRequest(clip))
    assert not result.trusted and result.suggested_audio_delay_ms is None
    assert "no-match" in [reason.code for reason in result.estimate.reasons]
