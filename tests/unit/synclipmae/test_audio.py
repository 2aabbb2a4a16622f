"""The audio branch: what a token hears, and when."""

import pytest
import torch
from torch import nn

from lipsync_cli.audio.mel import FLOOR_POWER, log_mel
from lipsync_cli.networks.synclipmae.audio import AudioConfig, MelAudio, SpeechAudio, frames_to_samples

FRAMES = 12


@pytest.fixture(scope="module")
def speech_encoder():
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    return Wav2Vec2Model(config)


def sound(clips: int = 2) -> torch.Tensor:
    return torch.randn(clips, FRAMES * 640, generator=torch.Generator().manual_seed(1)) * 0.1


def reach(audio: MelAudio, row: int = 60, rows: int = 121) -> list[int]:
    mel = torch.randn(1, rows, 80, requires_grad=True)
    audio(mel)[0, row].sum().backward()
    assert mel.grad is not None
    return mel.grad[0].abs().amax(-1).nonzero().flatten().tolist()


def test_convolutions_reach_17_rows_to_either_side():
    audio = MelAudio(AudioConfig(branch="mel", hidden=16), 8)
    for layer in audio.layers:
        layer[0] = nn.Identity()  # the norm, which sees the whole stretch
    assert reach(audio) == list(range(60 - 17, 60 + 17 + 1))


def test_the_norm_hears_the_level_of_the_whole_stretch():
    assert reach(MelAudio(AudioConfig(branch="mel", hidden=16), 8)) == list(range(121))


@pytest.mark.parametrize("time_s", [0.2, 0.5, 0.93])
def test_a_click_moves_the_mel_row_of_its_time(time_s):
    samples = torch.zeros(16_000)
    samples[round(time_s * 16_000)] = 1.0
    mel = log_mel(samples)
    assert mel.shape == (101, 80)
    energy = mel.mean(1)
    assert energy.argmax() == round(100 * time_s)
    touched = (energy > energy.min() + 1e-4).nonzero().flatten()
    assert (touched - 100 * time_s).abs().max() <= 1.3, "a window of 25 ms"


def test_mel_level_is_a_third_of_log10_of_power():
    quiet, loud = (log_mel(torch.sin(torch.arange(16_000) * 0.4) * level)[50].max() for level in (0.05, 0.5))
    assert (loud - quiet).item() == pytest.approx(20 / 10 / 3, abs=1e-4)
    floor = torch.tensor(FLOOR_POWER).log10() / 3 + 1.2
    assert torch.allclose(log_mel(torch.zeros(1600)), floor)


def test_all_layers_are_concatenated_in_order(speech_encoder):
    audio = SpeechAudio(AudioConfig(resample="waveform"), 8, speech_encoder)
    count = frames_to_samples(FRAMES, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    features = audio.features(sound(), FRAMES)
    assert features.shape == (2, FRAMES, 3 * 32)
    whole = (sound() - sound().mean(1, keepdim=True)) / (sound().std(1, keepdim=True) + 1e-5)
    stretched = nn.functional.interpolate(whole[:, None], count, mode="linear")[:, 0]
    states = []
    hooks = [
        layer.register_forward_hook(
            lambda _m, _i, out: states.append(out[0] if isinstance(out, tuple) else out)
        )
        for layer in speech_encoder.encoder.layers
    ]
    with torch.no_grad():
        last = speech_encoder.eval()(stretched).last_hidden_state
    for hook in hooks:
        hook.remove()
    assert len(states) == 3
    torch.testing.assert_close(features[..., :32], states[0])
    torch.testing.assert_close(features[..., 32:64], states[1])
    torch.testing.assert_close(features[..., 64:], last)


def test_waveform_mode_asks_for_just_enough_samples(speech_encoder):
    for frames in (1, 2, 7, 50):
        count = frames_to_samples(frames, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
        lengths = [int(speech_encoder._get_feat_extract_output_lengths(n)) for n in (count - 1, count)]
        assert lengths == [frames - 1, frames]


def test_features_are_interpolated_between_the_two_nearest(speech_encoder):
    audio = SpeechAudio(AudioConfig(resample="features"), 8, speech_encoder)
    whole = (sound() - sound().mean(1, keepdim=True)) / (sound().std(1, keepdim=True) + 1e-5)
    with torch.no_grad():
        heard = torch.cat(speech_encoder.eval()(whole, output_hidden_states=True).hidden_states[1:], -1)
    count = heard.shape[1]
    assert count == 2 * FRAMES - 1
    found = audio.features(sound(), FRAMES)
    for frame in range(FRAMES):
        place = min(max((frame + 0.5) * count / FRAMES - 0.5, 0), count - 1)
        low = int(place)
        high, part = min(low + 1, count - 1), place - low
        wanted = (1 - part) * heard[:, low] + part * heard[:, high]
        torch.testing.assert_close(found[:, frame], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("resample", ["features", "waveform"])
def test_the_speech_encoder_is_frozen(speech_encoder, resample):
    audio = SpeechAudio(AudioConfig(resample=resample), 8, speech_encoder).train()
    assert audio.training and audio.adapter.training
    assert not any(module.training for module in audio.encoder.modules())
    first = audio.features(sound(), FRAMES)
    assert torch.equal(first, audio.features(sound(), FRAMES)), "no dropout, no masking"
    audio(first).sum().backward()
    assert all(parameter.grad is None for parameter in audio.encoder.parameters())
    assert all(parameter.grad is not None for parameter in audio.adapter.parameters())


def test_speech_tokens_do_not_depend_on_level(speech_encoder):
    audio = SpeechAudio(AudioConfig(), 8, speech_encoder)
    torch.testing.assert_close(
        audio.features(sound(), FRAMES), audio.features(sound() * 0.3 + 0.05, FRAMES), atol=1e-3, rtol=1e-3
    )
