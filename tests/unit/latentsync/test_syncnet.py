import pytest
import torch

from lipsync_cli.networks.latentsync.mel import SILENCE, mel_windows, start_column, syncnet_mel
from lipsync_cli.networks.latentsync.syncnet import SyncEncoderConfig, lower_half


def test_the_lower_half_of_each_frame_colours_together():
    faces = torch.arange(2 * 16 * 3 * 4 * 4).reshape(2, 16, 3, 4, 4).float()
    seen = lower_half(faces)
    assert seen.shape == (2, 48, 2, 4)
    assert torch.equal(seen[1, 3 * 5 + 2], faces[1, 5, 2, 2:])


@torch.no_grad()
def test_embeddings_are_unit_vectors_without_negatives(tiny_syncnet):
    seen, heard = tiny_syncnet(torch.randn(2, 48, 32, 64), torch.randn(2, 1, 80, 52))
    assert seen.shape == heard.shape
    for vectors in (seen, heard):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(2)) and vectors.min() >= 0


def test_as_many_strides_as_channels():
    with pytest.raises(ValueError, match="2 channels and 1 strides"):
        SyncEncoderConfig(1, (32, 32), ((2, 2),))


def test_mel_is_bounded_and_silence_is_its_floor():
    assert (syncnet_mel(torch.zeros(3200)) == SILENCE).all()
    loud = syncnet_mel(torch.sin(torch.arange(3200) * 0.5))
    assert loud.shape == (80, 17) and loud.max() <= 4 and loud.max() > 0


def test_a_click_lies_on_its_column():
    wave = torch.zeros(8000)
    wave[200 * 20] = 1.0
    assert int(syncnet_mel(wave).mean(0).argmax()) == 20
    fine = syncnet_mel(wave, 40).mean(0)
    assert fine.shape == (201,) and abs(int(fine.argmax()) - 100) <= 1
    assert torch.allclose(syncnet_mel(wave, 40)[:, ::5], syncnet_mel(wave), atol=1e-4)


def test_windows_beyond_the_sound_hear_silence():
    mel = torch.arange(10.0).expand(80, 10)
    windows = mel_windows(mel, torch.tensor([-2, 7]), 4)
    assert windows.shape == (2, 1, 80, 4)
    assert windows[:, 0, 0].tolist() == [[SILENCE, SILENCE, 0, 1], [7, 8, 9, SILENCE]]
    assert mel_windows(mel, torch.tensor([1]), 3, step=4)[0, 0, 0].tolist() == [1, 5, 9]


@pytest.mark.parametrize(("frame", "column"), [(0, 0), (1, 3), (2, 6), (3, 9), (4, 12), (5, 16), (8, 25)])
def test_window_starts_are_rounded_down(frame, column):
    assert start_column(frame) == column
