"""What the audio-to-lips network hears of a sound at every frame of a 25 Hz picture (§3.2, w_a of table A.3).

Shapes: N sounds of L samples at 16 kHz, L = T·640; T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipsync_cli.audio.mel import NUM_BANDS, log_mel

SAMPLES_PER_FRAME = 640


@dataclass(frozen=True)
class SpeechConfig:
    """branch: "wav2vec2" (frozen, of the Hub) or "mel" (log-mel and convolutions, trained here).  pretrained: its
    catalogue name.  heard: width of a wav2vec2 feature.  width: d_a.  hidden: of the convolutions.
    """

    branch: str = "wav2vec2"
    pretrained: str = "wav2vec2-base"
    heard: int = 768
    width: int = 512
    hidden: int = 128


class Wav2Vec2Speech(nn.Module):
    """The last layer of a frozen wav2vec 2.0, interpolated to the middles of the frames.  (N, L) → (N, T, d_a)."""

    def __init__(self, config: SpeechConfig, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.project = nn.Sequential(
            nn.Linear(config.heard, config.width), nn.LayerNorm(config.width), nn.SiLU()
        )

    def train(self, mode: bool = True) -> Wav2Vec2Speech:
        """The speech encoder stays in evaluation mode: frozen means no dropout either."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, samples: Tensor) -> Tensor:
        return self.project(self.hear(samples))

    @torch.no_grad()
    def hear(self, samples: Tensor) -> Tensor:
        """(N, L) → (N, T, heard)."""
        samples = (samples - samples.mean(1, keepdim=True)) / (samples.std(1, keepdim=True) + 1e-5)
        sizes: Any = self.encoder.config
        features = self.encoder(samples).last_hidden_state
        stride, field = _stride_and_field(sizes.conv_stride, sizes.conv_kernel)
        num_frames = samples.shape[1] // SAMPLES_PER_FRAME
        # Frame t has its middle at sample (t + ½)·640, feature i at i·stride + field / 2.
        middles = (torch.arange(num_frames, device=samples.device) + 0.5) * SAMPLES_PER_FRAME
        return interpolated(features, (middles - field / 2) / stride)


class MelSpeech(nn.Module):
    """Log-mel and convolutions over it, for models that must be small.  (N, L) → (N, T, d_a).

    A frame hears ±7 frames. Nothing is averaged over the sound, so a frame hears the same in a longer one.
    # differs from the paper: trained, not frozen
    """

    DILATIONS = (1, 2, 4)

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        hidden = config.hidden
        # Rows stand at 10 ms · j: five from 4t on are centred on the middle of frame t.
        self.stem = nn.Conv1d(NUM_BANDS, hidden, 5, stride=4)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in self.DILATIONS)
        self.layers = nn.ModuleList(
            nn.Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation) for dilation in self.DILATIONS
        )
        self.project = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, config.width), nn.SiLU())

    def forward(self, samples: Tensor) -> Tensor:
        x = self.stem(log_mel(samples).transpose(1, 2)).transpose(1, 2)  # (N, T, hidden)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + F.gelu(layer(norm(x).transpose(1, 2)).transpose(1, 2))
        return self.project(x)


def interpolated(features: Tensor, places: Tensor) -> Tensor:
    """Features (N, F, D) at fractional places (T,), linearly; the first and last beyond the ends.  (N, T, D)."""
    places = places.clamp(0, features.shape[1] - 1)
    before = places.floor().long()
    after = (before + 1).clamp_max(features.shape[1] - 1)
    share = (places - before)[:, None].to(features.dtype)
    return features[:, before] * (1 - share) + features[:, after] * share


def _stride_and_field(strides: tuple[int, ...], kernels: tuple[int, ...]) -> tuple[int, int]:
    """Samples from one feature to the next, and samples that one feature hears: 320 and 400 for wav2vec2-base."""
    stride, field = 1, 1
    for step, kernel in zip(strides, kernels, strict=True):
        field += (kernel - 1) * stride
        stride *= step
    return stride, field
