"""The audio branch (§3.2): speech features on video frame times, and the adapter to the shared width.

`SpeechAudio` is the paper's (frozen wav2vec 2.0, all hidden layers);
`MelAudio` is the small one (log-mel in, trained with the rest).

Shapes: B clips, M mel rows at 100 Hz, T times, L layers, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class AudioConfig:
    """Which audio branch, and its sizes.

    branch: "wav2vec2" (frozen, from the Hub) or "mel" (trained here).
    resample: "features" interpolates 50 Hz features to frame times; "waveform" is the paper's literal reading, which
    stretches the sound so that T features come out, and with it the pitch the encoder was trained on.
    """

    branch: str = "wav2vec2"
    pretrained: str = "wav2vec2-base"
    resample: str = "features"
    hidden: int = 128
    bands: int = 80


class MelAudio(nn.Module):
    """Convolutions over log-mel, one token every 10 ms.

    A token depends on ±17 mel rows, which with the mel window is ±182.5 ms of sound, and on the level of the whole
    stretch, as `GroupNorm` takes its mean and deviation over all rows: stretches of seconds, not of single windows.
    # differs from the paper: trained, not frozen, and tiny; the card states what it measures.
    """

    rate_hz = 100
    DILATIONS = (1, 2, 4, 8)

    def __init__(self, config: AudioConfig, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(config.bands, config.hidden, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, config.hidden),
                nn.Conv1d(config.hidden, config.hidden, 3, padding=dilation, dilation=dilation),
                nn.GELU(),
                nn.Conv1d(config.hidden, config.hidden, 1),
            )
            for dilation in self.DILATIONS
        )
        self.norm = nn.LayerNorm(config.hidden)
        self.adapter = nn.Sequential(
            nn.Linear(config.hidden, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, bands) → (B, M, D): a token for every mel row."""
        x = self.stem(mel.transpose(1, 2))
        for layer in self.layers:
            x = x + layer(x)
        return self.adapter(self.norm(x.transpose(1, 2)))


class SpeechAudio(nn.Module):
    """Frozen wav2vec 2.0: all hidden layers concatenated, interpolated to frame times, projected to D."""

    def __init__(self, config: AudioConfig, width: int, encoder: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder.requires_grad_(False).eval()
        sizes: Any = encoder.config
        self.adapter = nn.Sequential(
            nn.Linear(sizes.num_hidden_layers * sizes.hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )

    def train(self, mode: bool = True) -> SpeechAudio:
        """The speech encoder stays in evaluation mode: frozen means no dropout either."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def features(self, samples: Tensor, num_frames: int) -> Tensor:
        """What every layer hears at every video frame.

        samples: (B, n) 16 kHz, spanning exactly the clip.  Returns (B, T, L·H).
        """
        samples = (samples - samples.mean(1, keepdim=True)) / (samples.std(1, keepdim=True) + 1e-5)
        if self.config.resample == "waveform":
            sizes: Any = self.encoder.config
            count = frames_to_samples(num_frames, sizes.conv_kernel, sizes.conv_stride)
            samples = F.interpolate(samples[:, None], count, mode="linear")[:, 0]
        hidden = self.encoder(samples, output_hidden_states=True).hidden_states
        stacked = torch.cat(hidden[1:], -1)  # what the layers say; the first is what they are fed
        if stacked.shape[1] == num_frames:
            return stacked
        # Feature i is centred on its own 25 ms field, frame t on its own 40 ms: both divide the same clip evenly.
        return F.interpolate(stacked.transpose(1, 2), num_frames, mode="linear").transpose(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, L·H) → (B, T, D)."""
        return self.adapter(features)


def frames_to_samples(num_frames: int, kernels: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Fewest samples from which a convolutional front end emits `num_frames` features."""
    count = num_frames
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        count = (count - 1) * stride + kernel
    return count
