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


def syncnet_mel(samples: Tensor) -> Tensor:
    """Log-mel of 16 kHz sound, −1…1: (n,) → (80, n // 200 + 1) float32."""
    emphasised = torch.cat([samples[:1], samples[1:] - PREEMPHASIS * samples[:-1]])
    spectrum = torch.stft(
        emphasised,
        FFT_SAMPLES,
        HOP_SAMPLES,
        window=torch.hann_window(FFT_SAMPLES, device=samples.device),
        pad_mode="constant",
        return_complex=True,
    ).abs()
    bands = _filters(samples.device).T @ spectrum
    decibels = 20 * bands.clamp_min(10 ** (FLOOR_DB / 20)).log10() - REFERENCE_DB
    return (8 * (decibels - FLOOR_DB) / -FLOOR_DB + SILENCE).clamp(-4, 4)


def mel_windows(mel: Tensor, starts: Tensor, columns: int) -> Tensor:
    """Windows of `columns` from each column in `starts`: (80, m) → (len(starts), 1, 80, columns).

    Before and after the sound there is silence.
    """
    before, after = max(0, -int(starts.min())), max(0, int(starts.max()) + columns - mel.shape[1])
    filled = torch.nn.functional.pad(mel, (before, after), value=SILENCE)
    windows = filled.unfold(1, columns, 1)  # (80, m', columns)
    return windows[:, starts + before].transpose(0, 1)[:, None]


def start_column(frame: int) -> int:
    """First column of the window that belongs to 16 pictures from 25 Hz frame `frame` on, as published: rounded down."""
    return frame * COLUMNS_PER_S // 25
