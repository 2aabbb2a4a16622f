"""StableSyncNet's mel spectrogram, which is Wav2Lip's: 80 bands, 80 columns a second, in −4…4.

Column j is centred on sample 200·j. Shapes: n samples, m columns.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torchaudio
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 200
COLUMNS_PER_S = SAMPLE_RATE_HZ // HOP_SAMPLES
NUM_BANDS = 80
SILENCE = -4.0  # what digital silence comes to
FFT_SAMPLES = 800
PREEMPHASIS = 0.97
FLOOR_DB, REFERENCE_DB = -100.0, 20.0


@lru_cache(maxsize=4)
def _filters(device: torch.device) -> Tensor:
    """(401, 80): Slaney's bands, of equal area, 55 to 7600 Hz."""
    return torchaudio.functional.melscale_fbanks(
        FFT_SAMPLES // 2 + 1, 55.0, 7600.0, NUM_BANDS, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney"
    ).to(device)


def syncnet_mel(samples: Tensor, hop_samples: int = HOP_SAMPLES) -> Tensor:
    """Log-mel of 16 kHz sound, −1…1: (n,) → (80, n // hop + 1) float32.

    hop_samples: smaller for windows that begin between the network's own columns.
    """
    emphasised = torch.cat([samples[:1], samples[1:] - PREEMPHASIS * samples[:-1]])
    spectrum = torch.stft(
        emphasised,
        FFT_SAMPLES,
        hop_samples,
        window=torch.hann_window(FFT_SAMPLES, device=samples.device),
        pad_mode="constant",
        return_complex=True,
    ).abs()
    bands = _filters(samples.device).T @ spectrum
    decibels = 20 * bands.clamp_min(10 ** (FLOOR_DB / 20)).log10() - REFERENCE_DB
    return (8 * (decibels - FLOOR_DB) / -FLOOR_DB + SILENCE).clamp(-4, 4)


def mel_windows(mel: Tensor, starts: Tensor, columns: int, step: int = 1) -> Tensor:
    """Windows of `columns`, every `step`-th from each column in `starts` on: (80, m) → (len(starts), 1, 80, columns).

    Before and after the sound there is silence.
    """
    places = starts[:, None] + step * torch.arange(columns, device=starts.device)
    before, after = max(0, -int(places.min())), max(0, int(places.max()) + 1 - mel.shape[1])
    filled = torch.nn.functional.pad(mel, (before, after), value=SILENCE)
    return filled[:, places + before].transpose(0, 1)[:, None]


def start_column(frame: int) -> int:
    """First column of the window that belongs to 16 pictures from 25 Hz frame `frame` on, as published: rounded down."""
    return frame * COLUMNS_PER_S // 25
