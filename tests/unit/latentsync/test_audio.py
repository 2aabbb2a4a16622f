from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import WhisperFeatureExtractor

from lipsync_cli.networks.latentsync.audio import (
    WhisperStates,
    chunk_starts,
    fade_weights,
    frame_windows,
    whisper_mel,
    window_indices,
)


def sound(seconds, seed=0):
    return torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize(
    ("rate", "frame", "expected"),
    [
        (Fraction(25), 0, [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
        (Fraction(25), 1, [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]),
        (Fraction(25), 10, [16, 17, 18, 19, 20, 21, 22, 23, 24, 25]),
        (Fraction(25), 24, [44, 45, 46, 47, 48, 49, 49, 49, 49, 49]),
        (Fraction(30), 7, [7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),  # 7 · 50 / 30 = 11.67 → 11
        (Fraction(24000, 1001), 12, [21, 22, 23, 24, 25, 26, 27, 28, 29, 30]),  # 25.025 → 25
    ],
)
def test_which_states_a_frame_hears(rate, frame, expected):
    assert window_indices(frame + 1, 50, rate)[frame].tolist() == expected


def test_windows_go_through_a_moment_before_the_next():
    states = torch.arange(50 * 5 * 2).reshape(50, 5, 2).float()
    windows = frame_windows(states, 25)
    assert windows.shape == (25, 50, 2)
    assert windows[10, :6, 0].tolist() == [
        160,
        162,
        164,
        166,
        168,
        170,
    ]  # moment 16, states 0 to 4; moment 17
    assert windows[10, -1, 1] == 25 * 10 + 9


def test_mel_is_whispers_own():
    wave = sound(30)
    extractor = WhisperFeatureExtractor()
    published = extractor(wave.numpy(), sampling_rate=16000, return_tensors="np")["input_features"][0]
    assert np.abs(whisper_mel(wave).numpy() - published).max() < 1e-3


def test_the_loudest_moment_of_the_whole_sound_sets_the_floor():
    quiet_then_loud = torch.cat([torch.zeros(16000), sound(1)])
    mel = whisper_mel(quiet_then_loud)
    assert mel.shape == (80, 200)
    assert float(mel[:, :90].max()) == pytest.approx(float(mel.max()) - 2, abs=1e-6)  # 8 decades over 4
    assert whisper_mel(torch.zeros(10)).isfinite().all()


def test_states_are_those_before_the_first_block_and_after_each(tiny_whisper):
    wave = sound(1.5)
    encoder = tiny_whisper.encoder
    mel = F.pad(whisper_mel(wave), (0, 3000 - 150))[None]
    with torch.no_grad():
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2) + encoder.embed_positions.weight
        expected = [x]
        for layer in encoder.layers:
            h = layer.self_attn_layer_norm(x)
            q, k, v = (
                p(h).unflatten(-1, (2, 8)).transpose(1, 2)
                for p in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
            )
            weights = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1)
            x = x + layer.self_attn.out_proj((weights @ v).transpose(1, 2).flatten(2))
            x = x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))
            expected.append(x)
    states = WhisperStates(encoder)(wave, "exact")
    assert states.shape == (75, 5, 16)
    assert torch.allclose(states, torch.stack(expected, 2)[0, :75], atol=1e-4)


def test_exact_encodes_each_thirty_seconds_by_itself(tiny_whisper):
    read = WhisperStates(tiny_whisper.encoder)
    wave = sound(31)
    states = read(wave, "exact")
    assert len(states) == 1550
    mel = whisper_mel(wave)  # one floor for both chunks
    alone = read._encode(mel[:, 3000:], 0)[:50]
    assert torch.allclose(states[1500:], alone, atol=1e-5)


def test_overlapping_chunks_leave_no_step_where_exact_ones_do(tiny_whisper):
    with torch.no_grad():  # states that tell where in its chunk a moment is, as Whisper's do
        tiny_whisper.encoder.embed_positions.weight.copy_(torch.linspace(-3, 3, 1500)[:, None].expand(-1, 16))
    read = WhisperStates(tiny_whisper.encoder)
    wave = torch.sin(torch.arange(16000 * 32) * 0.3) * 0.1
    step = {mode: read(wave, mode)[:, 0].diff(dim=0).abs().mean(-1) for mode in ("exact", "overlap")}
    assert step["exact"][1499] > 5
    assert step["overlap"][100:-100].max() < 0.2


def test_modes_agree_on_short_sound(tiny_whisper):
    read = WhisperStates(tiny_whisper.encoder)
    assert torch.equal(read(sound(3), "exact"), read(sound(3)))


@pytest.mark.parametrize("count", [1, 1500, 1501, 2750, 2751, 9000])
def test_chunks_cover_everything_at_full_weight(count):
    starts = chunk_starts(count, 1500)
    assert starts[0] == 0 and starts == sorted(set(starts))
    total = torch.zeros(count)
    for start in starts:
        end = min(start + 1500, count)
        assert end - start == min(1500, count)
        total[start:end] += fade_weights(end - start, start > 0, end < count)
    assert total.min() >= 1 - 1e-5
