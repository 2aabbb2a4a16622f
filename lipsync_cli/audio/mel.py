"""Log-mel spectrogram on a fixed 10 ms grid: frame j is centred on sample j·160, so its time is start + j/100 s."""

from __future__ import annotations

from functools import lru_cache

import torch
import torchaudio
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
MEL_RATE_HZ = 100
HOP_SAMPLES = SAMPLE_RATE_HZ // MEL_RATE_HZ  # 10 ms
WINDOW_SAMPLES = 400  # 25 ms
NUM_BANDS = 80
FLOOR_POWER = 1e-7  # about −70 dB of a full-scale tone: below it only the recorder speaks


@lru_cache(maxsize=4)
def _transform(device: torch.device) -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE_HZ, n_fft=512, win_length=WINDOW_SAMPLES, hop_length=HOP_SAMPLES,
        f_min=20.0, f_max=7600.0, n_mels=NUM_BANDS, center=True, pad_mode="constant",
        normalized="window",  # pyright: ignore[reportArgumentType]  torchaudio takes it, its annotation lags
    ).to(device)  # fmt: skip


def log_mel(samples: Tensor) -> Tensor:
    """Log-mel power of 16 kHz sound, scaled so that speech lies roughly in −1…1.

    samples: (..., n) float, −1…1.  Returns (..., n // 160 + 1, 80); row j is centred on sample j·160.
    """
    power = _transform(samples.device)(samples).transpose(-1, -2)
    return power.clamp_min(FLOOR_POWER).log10() / 3.0 + 1.2
