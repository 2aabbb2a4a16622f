"""What is heard stands where the frames are, and is the same in a longer sound."""

from types import SimpleNamespace

import pytest
import torch

from lipsync_cli.networks.flashlips.speech import MelSpeech, SpeechConfig, Wav2Vec2Speech, interpolated


class Clock(torch.nn.Module):
    """A stand-in for wav2vec2-base: feature i says where the middle of what it hears is, in samples."""

    config = SimpleNamespace(conv_stride=(5, 2, 2, 2, 2, 2, 2), conv_kernel=(10, 3, 3, 3, 3, 2, 2))

    def forward(self, samples):
        count = (samples.shape[1] - 400) // 320 + 1
        middles = torch.arange(count) * 320.0 + 200
        return SimpleNamespace(last_hidden_state=middles[None, :, None].expand(len(samples), -1, 2))


def test_features_are_read_at_the_middle_of_each_frame():
    speech = Wav2Vec2Speech(SpeechConfig(heard=2, width=4), Clock())
    heard = speech.hear(torch.randn(1, 640 * 10))[0, :, 0]
    middles = [320 + 640 * t for t in range(10)]
    assert heard[:-1].tolist() == middles[:-1]
    assert heard[-1] == (6400 - 400) // 320 * 320 + 200  # the last feature there is: 6 ms early
    assert speech(torch.randn(2, 6400)).shape == (2, 10, 4)


def test_the_frozen_ear_stays_in_evaluation_mode():
    speech = Wav2Vec2Speech(SpeechConfig(heard=2, width=4), torch.nn.Dropout(0.5)).train()
    assert speech.training and speech.project.training and not speech.encoder.training


def test_interpolation():
    features = torch.tensor([[[0.0], [10.0], [40.0]]])
    places = torch.tensor([-1.0, 0.25, 1.5, 9.0])
    assert interpolated(features, places).flatten().tolist() == [0.0, 2.5, 25.0, 40.0]


@pytest.fixture
def mel() -> MelSpeech:
    torch.manual_seed(0)
    return MelSpeech(SpeechConfig("mel", width=8, hidden=8)).eval()


def test_a_frame_hears_the_same_in_a_longer_sound(mel):
    sound = torch.randn(1, 640 * 60) * 0.1
    whole = mel(sound)
    assert whole.shape == (1, 60, 8)
    part = mel(sound[:, 640 * 20 : 640 * 50])
    torch.testing.assert_close(part[:, 8:-8], whole[:, 28:42], rtol=1e-4, atol=1e-5)


def test_a_click_is_heard_as_much_before_as_after_the_middle_of_its_frame(mel):
    """With layers that do the same either way round, a click in the middle of frame 15 moves 14 as it moves 16."""
    for layer in (mel.stem, *mel.layers):
        layer.weight.data = (layer.weight.data + layer.weight.data.flip(2)) / 2
    quiet = torch.zeros(1, 640 * 31)
    click = quiet.clone()
    click[0, 640 * 15 + 320] = 0.9
    moved = (mel(click) - mel(quiet))[0].abs().sum(1)
    assert moved[15] > 1e-3
    torch.testing.assert_close(moved[:15].flip(0), moved[16:], rtol=1e-3, atol=1e-5)
    assert moved[:7].max() < 1e-6 and moved[8] > 0
