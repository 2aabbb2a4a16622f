"""Tokens for comparing lips and sound, piece by piece, so that an hour needs no more memory than its tokens.

Shapes: n pictures, S crop side, D width, m audio tokens.
"""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import torch

from lipsync_cli.networks.synclipmae.audio import MelAudio
from lipsync_cli.networks.synclipmae.encoder import VOCAL
from lipsync_cli.networks.synclipmae.model import SyncLipMAE

SAMPLE_RATE_HZ = 16_000
FRAME_RATE = Fraction(25)
PIECE_TOKENS = 8192


class SyncLipMAEEmbedder:
    """A loaded network with its calibration: `bias_ms` and `systematic_ms` of `sync.LeadConfig`."""

    def __init__(self, network: SyncLipMAE, device: torch.device, calibration: dict[str, float]) -> None:
        self.network = network.to(device).eval()
        self.device = device
        self.bias_ms = float(calibration.get("bias_ms", 0.0))
        self.systematic_ms = float(calibration.get("systematic_ms", 0.0))
        self.crop_px, self.margin_px = network.config.encoder.image_px, 0
        self.context_frames = network.config.encoder.context_frames // 2
        self._grey = network.config.encoder.channels == 1
        self.audio_rate = Fraction(MelAudio.rate_hz) if isinstance(network.audio, MelAudio) else FRAME_RATE

    @torch.inference_mode()
    def embed_pictures(self, crops: list[np.ndarray]) -> np.ndarray:
        """Vocal tokens of consecutive aligned crops.

        crops: n of (S, S, 3) uint8 RGB.  Returns (n, D) float16, as the network gives them.  The first and last
        `context_frames` see less of their neighbours than the others.
        """
        stack = np.stack([cv2.cvtColor(c, cv2.COLOR_RGB2GRAY)[..., None] if self._grey else c for c in crops])
        frames = torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2).float()[None] / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "mps"):
            tokens = self.network.factors(frames).prompts[0, :, VOCAL]
        return tokens.half().cpu().numpy()

    @torch.inference_mode()
    def embed_sound(self, samples: np.ndarray) -> np.ndarray:
        """Audio tokens of 16 kHz sound: (k,) float32, k a whole number of frames → (m, D) float16.

        Token j is centred on second j / audio_rate.
        """
        frames = len(samples) * 25 // SAMPLE_RATE_HZ
        heard = self.network.hear(torch.from_numpy(samples)[None].to(self.device), frames)
        return self.network.audio(heard)[0].half().cpu().numpy()

    def comparable(self, tokens: np.ndarray) -> np.ndarray:
        """All tokens of one face or one sound as unit vectors: (n, D) → (n, D) float16.

        In pieces and in half precision: an hour of sound in float32 is 184 MB, several times over on the way.
        """
        units = np.empty(tokens.shape, np.float16)
        mean = torch.from_numpy(tokens.mean(0, dtype=np.float32, keepdims=True))[None]
        for first in range(0, len(tokens), PIECE_TOKENS):
            piece = torch.from_numpy(tokens[first : first + PIECE_TOKENS])[None]
            units[first : first + PIECE_TOKENS] = self.network.shared_space(piece, mean)[0].numpy()
        return units
