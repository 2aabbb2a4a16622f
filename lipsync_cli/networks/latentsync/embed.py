"""StableSyncNet for measuring: tokens of a face at every frame, tokens of the sound every 20 ms.

A token stands for the middle of what was seen or heard: 8 frames before it and 8 from it on, 26 mel columns before it and
26 from it on. 8 frames are 25.6 columns; training rounded the start of each window down, by 0.4 columns in the mean, and
what is learnt that way is undone by adding them: 26.

Shapes: n pictures, S crop side, D embedding width (2048), m audio tokens.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lipsync_cli.networks.latentsync.align import canvas_px, cut_faces
from lipsync_cli.networks.latentsync.mel import COLUMNS_PER_S, HOP_SAMPLES, mel_windows, syncnet_mel
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, lower_half

FRAMES_PER_S = 25
TOKENS_PER_S = 50  # of sound: a whole number to each frame, which 80 columns a second are not
TOKEN_SAMPLES = 320
FINE_SAMPLES = 40  # divides a token and a mel column: the columns of every window are among the fine ones
COLUMNS_PER_FRAME = Fraction(COLUMNS_PER_S, FRAMES_PER_S)
ROUNDED_DOWN = Fraction(2, 5)  # columns, the mean of 0, 0.2, 0.4, 0.6 and 0.8
# Where LatentSync's canvas lies on our face crops, in shares of their side: left, top, width. Its own alignment goes by
# brows and nose; over 31 clips of 6 people it was found here, to within 0.01 in the mean of a person's clips.
CANVAS_LEFT, CANVAS_TOP, CANVAS_WIDTH = 0.05, -0.104, 0.9
BATCH_WINDOWS = 16


class StableSyncNetEmbedder:
    """A loaded network with its calibration: `bias_ms` and `systematic_ms` of `sync.LeadConfig`."""

    def __init__(
        self, network: StableSyncNet, device: torch.device, calibration: dict[str, float] | None = None
    ) -> None:
        calibration = calibration or {}
        self.network = network.to(device).eval()
        self.device = device
        self.bias_ms = float(calibration.get("bias_ms", 0.0))
        self.systematic_ms = float(calibration.get("systematic_ms", 0.0))
        self.crop_px = network.config.crop_px
        self.margin_px = network.config.crop_px // 8  # the canvas is higher than our crop
        self.context_frames = network.config.frames // 2
        self.audio_rate = Fraction(TOKENS_PER_S)

    @torch.inference_mode()
    def embed_pictures(self, crops: list[np.ndarray]) -> np.ndarray:
        """Tokens of consecutive aligned crops with their margin.

        crops: n of (S, S, 3) uint8 RGB, S = crop_px + 2·margin_px.  Returns (n, D) float16, unit norm.  Near the ends
        the first or last frame stands in for those beyond it.
        """
        pictures = torch.from_numpy(np.stack(crops)).to(self.device)
        seen = lower_half(squares(pictures, self.crop_px)[:, None])  # (n, 3, S/2, S)
        before, frames = self.context_frames, self.network.config.frames
        places = torch.arange(-before, len(crops) - before)[:, None] + torch.arange(frames)
        places = places.clamp(0, len(crops) - 1).to(self.device)
        batches = [
            self._half(self.network.embed_frames, seen[p].flatten(1, 2)) for p in places.split(BATCH_WINDOWS)
        ]
        return torch.cat(batches).cpu().numpy()

    @torch.inference_mode()
    def embed_sound(self, samples: np.ndarray) -> np.ndarray:
        """Tokens of 16 kHz sound: (k,) float32 → (k // 320, D) float16, unit norm.

        Token j is centred on second j / 50; before and after the sound there is silence.
        """
        mel = syncnet_mel(torch.from_numpy(samples).to(self.device), FINE_SAMPLES)
        tokens = torch.arange(len(samples) // TOKEN_SAMPLES, device=self.device)
        step = HOP_SAMPLES // FINE_SAMPLES
        before = round(self.context_frames * COLUMNS_PER_FRAME + ROUNDED_DOWN) * step
        starts = tokens * (TOKEN_SAMPLES // FINE_SAMPLES) - before
        windows = mel_windows(mel, starts, self.network.config.mel_columns, step)
        batches = [self._half(self.network.embed_mel, w) for w in windows.split(4 * BATCH_WINDOWS)]
        return torch.cat(batches).cpu().numpy()

    def comparable(self, tokens: np.ndarray) -> np.ndarray:
        """Unit vectors whose products are cosines, of 0…1: (n, D) → (n, D) float32."""
        return F.normalize(torch.from_numpy(tokens).float(), dim=-1).numpy()

    def _half(self, embed, inputs: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            return embed(inputs).half()


def squares(crops: Tensor, size_px: int) -> Tensor:
    """The aligned squares that StableSyncNet sees, from our face crops and their margin.

    crops: (n, C, C, 3) uint8 RGB, of which the inner `size_px` are the face.  Returns (n, 3, S, S) in −1…1.
    # differs from the published code: the canvas has one place on all our crops, which are aligned already.
    """
    matrix = torch.from_numpy(canvas_on_crop(crops.shape[1], size_px, size_px)).float().to(crops.device)
    pictures = crops.permute(0, 3, 1, 2).float()
    return cut_faces(pictures, matrix.expand(len(crops), 2, 3), size_px) / 127.5 - 1


def canvas_on_crop(side_px: int, face_px: int, size_px: int) -> np.ndarray:
    """(2, 3) float64, pixels of a face crop → of the canvas, whose place on our aligned crops is always the same.

    side_px: of the crop, of which the inner `face_px` are the face.  size_px: of the square that the canvas becomes.
    """
    scale = canvas_px(size_px)[0] / (CANVAS_WIDTH * face_px)
    margin = (side_px - face_px) / 2
    left, top = CANVAS_LEFT * face_px + margin, CANVAS_TOP * face_px + margin
    return np.array([[scale, 0, -scale * left], [0, scale, -scale * top]])
