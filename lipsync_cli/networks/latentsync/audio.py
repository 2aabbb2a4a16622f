"""What LatentSync hears: states of Whisper's encoder around every frame (paper, "Audio layers").

Shapes: n samples, m states at 50 Hz, L states a moment (5: before the first block and after each of tiny's four),
D state width (384), F frames.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
import torchaudio
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

SAMPLE_RATE_HZ = 16_000
STATE_RATE_HZ = 50
FFT_SAMPLES, HOP_SAMPLES = 400, 160
MEL_PER_STATE = 2
DYNAMIC_RANGE = 8.0  # decades of power below the loudest moment, beyond which all is silence
BEFORE, AFTER = 4, 5  # states around a frame's own

# Of overlapping chunks: states at either end that are not used, and over which one chunk gives way to the next.
UNUSED, FADE = 100, 50


class WhisperStates(nn.Module):
    """The encoder of a transformers `WhisperModel`, and what is read from it."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        """encoder: it is changed, as its last normalisation is not wanted."""
        super().__init__()
        encoder.register_module("layer_norm", nn.Identity())
        self.encoder = encoder.requires_grad_(False).eval()
        self.bands: int = encoder.config.num_mel_bins
        self.chunk_states: int = encoder.config.max_source_positions

    @torch.no_grad()
    def forward(self, samples: Tensor, mode: Literal["exact", "overlap"] = "overlap") -> Tensor:
        """All states of 16 kHz sound, −1…1: (n,) → (m, L, D).

        mode: "exact" encodes each 30 s by itself, as published, which is heard as a stumble where they meet; "overlap" lets
        chunks overlap by 5 s and fade into each other. They agree for sound of up to 30 s.
        """
        mel = whisper_mel(samples, self.bands)
        count = mel.shape[1] // MEL_PER_STATE
        if mode == "exact":
            chunks = [self._encode(mel, start) for start in range(0, count, self.chunk_states)]
            return torch.cat(chunks)[:count]
        starts = chunk_starts(count, self.chunk_states)
        total, weights = None, torch.zeros(count, device=mel.device)
        for start in starts:
            end = min(start + self.chunk_states, count)
            weight = fade_weights(end - start, start > 0, end < count).to(mel.device)
            states = self._encode(mel, start)[: end - start]
            total = states.new_zeros(count, *states.shape[1:]) if total is None else total
            total[start:end] += weight[:, None, None] * states
            weights[start:end] += weight
        assert total is not None
        return total / weights[:, None, None]

    def _encode(self, mel: Tensor, start: int) -> Tensor:
        """One chunk from state `start` on, filled with zeros: (chunk, L, D)."""
        wanted = MEL_PER_STATE * self.chunk_states
        piece = mel[:, MEL_PER_STATE * start :][:, :wanted]
        piece = nn.functional.pad(piece, (0, wanted - piece.shape[1]))
        dtype = next(self.encoder.parameters()).dtype
        states = self.encoder(piece[None].to(dtype), output_hidden_states=True).hidden_states
        return torch.stack(states, 2)[0].float()


def chunk_starts(count: int, chunk: int) -> list[int]:
    """First states of overlapping chunks that cover `count` states; the last one ends with the sound."""
    stride = chunk - 2 * UNUSED - FADE
    starts = list(range(0, max(count - chunk, 0), stride))
    return [*starts, max(count - chunk, 0)]


def fade_weights(length: int, fade_in: bool, fade_out: bool) -> Tensor:
    """(length,) weights of one chunk: 0, a ramp, 1, and back where another chunk overlaps it."""
    place = torch.arange(length) + 0.5
    rise = ((place - UNUSED) / FADE).clamp(0, 1) if fade_in else torch.ones(length)
    fall = ((length - place - UNUSED) / FADE).clamp(0, 1) if fade_out else torch.ones(length)
    return torch.minimum(rise, fall)


def frame_windows(states: Tensor, frames: int, rate: Fraction = Fraction(25)) -> Tensor:
    """What each frame hears: (m, L, D) → (F, 10·L, D), every state of a moment before the next moment.

    Frame 0 is at the first sample.  rate: frames a second.
    # differs from the published code: as many windows as there are frames, not one or two more.
    """
    return states[window_indices(frames, len(states), rate)].flatten(1, 2)


def window_indices(frames: int, count: int, rate: Fraction = Fraction(25)) -> Tensor:
    """(F, 10) states that each frame hears: its own, 4 before and 5 after; the first and last stand in beyond the ends."""
    own = torch.tensor([int(frame * STATE_RATE_HZ / rate) for frame in range(frames)], dtype=torch.long)
    return (own[:, None] + torch.arange(-BEFORE, AFTER + 1)).clamp(0, count - 1)


@lru_cache(maxsize=4)
def _filters(bands: int, device: torch.device) -> Tensor:
    return torchaudio.functional.melscale_fbanks(
        FFT_SAMPLES // 2 + 1, 0.0, 8000.0, bands, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney"
    ).to(device)


def whisper_mel(samples: Tensor, bands: int = 80) -> Tensor:
    """Whisper's log-mel of 16 kHz sound: (n,) → (bands, n // 160), 100 columns a second.

    The quietest level follows the loudest moment of the whole sound (Radford et al. 2022, §2.2, and the published code).
    """
    samples = nn.functional.pad(samples, (0, max(0, FFT_SAMPLES - len(samples))))
    window = torch.hann_window(FFT_SAMPLES, device=samples.device)
    spectrum = torch.stft(samples, FFT_SAMPLES, HOP_SAMPLES, window=window, return_complex=True)
    power = _filters(bands, samples.device).T @ spectrum[:, :-1].abs().square()
    decades = power.clamp_min(1e-10).log10()
    return (decades.clamp_min(decades.max() - DYNAMIC_RANGE) + 4) / 4
