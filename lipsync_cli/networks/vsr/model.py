"""Lip reading from mouth crops or from SyncLipMAE vocal tokens (SyncLipMAE §4.3): encoder, CTC head, decoder.

Unit 0 is CTC's blank; the last unit both starts and ends a sentence. At its default size and video input all
names and shapes are those of the published Auto-AVSR visual model (250 M parameters).
Shapes: B clips, T frames, W width, V units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lipsync_cli.networks.vsr.conformer import ConformerEncoder
from lipsync_cli.networks.vsr.decoder import TransformerDecoder
from lipsync_cli.networks.vsr.frontend import VisualFrontend

BLANK = 0


@dataclass(frozen=True)
class LipReaderConfig:
    """The shape of a lip reader; the defaults are Auto-AVSR's.

    units: how many units, blank and start/end included.  reads: "video", grey mouth crops through the front
    end, or "tokens", vectors of token_width a frame.  frontend_width: channels of its first stage.
    """

    units: int = 5049
    reads: Literal["video", "tokens"] = "video"
    token_width: int = 0
    frontend_width: int = 64
    width: int = 768
    heads: int = 12
    ffn_width: int = 3072
    encoder_blocks: int = 12
    decoder_blocks: int = 6
    kernel_frames: int = 31
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.reads not in ("video", "tokens"):
            raise ValueError(f'reads must be "video" or "tokens", not "{self.reads}"')
        if self.reads == "tokens" and self.token_width < 1:
            raise ValueError('token_width must be given when reads is "tokens"')
        if self.units < 3:
            raise ValueError(f"units must count blank, start/end and at least one more, not {self.units}")


class LipReader(nn.Module):
    def __init__(self, config: LipReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.end = config.units - 1  # starts sentences too
        if config.reads == "video":
            self.frontend = VisualFrontend(config.frontend_width)
        features = 8 * config.frontend_width if config.reads == "video" else config.token_width
        self.proj_encoder = nn.Linear(features, config.width)
        self.encoder = ConformerEncoder(
            config.width,
            config.heads,
            config.ffn_width,
            config.encoder_blocks,
            config.kernel_frames,
            config.dropout,
        )
        self.decoder = TransformerDecoder(
            config.units, config.width, config.heads, config.ffn_width, config.decoder_blocks, config.dropout
        )
        self.ctc = CTCHead(config.width, config.units, config.dropout)

    def encode(
        self, inputs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states H of §4.3.

        inputs: (B, T, 1, H, W) normalised grey crops or (B, T, token_width); lengths: (B,) frames of each
        clip (all T when None). What lies past a clip's length has no influence on its hidden states. Returns:
        (B, T, W) and which frames are real, (B, T) bool.
        """
        real = real_frames(inputs, lengths)
        # Zeros past the end look to the front end like the end of the tensor.
        inputs = inputs * real.reshape(real.shape + (1,) * (inputs.ndim - 2))
        features = self.frontend(inputs) if self.config.reads == "video" else inputs
        return self.encoder(self.proj_encoder(features), real), real

    def forward(
        self, inputs: torch.Tensor, lengths: torch.Tensor, previous: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """CTC log probabilities (B, T, V) and the decoder's logits (B, U, V) after `previous` (B, U)."""
        memory, real = self.encode(inputs, lengths)
        return self.ctc(memory), self.decoder(previous, memory, real)


class CTCHead(nn.Module):
    """Hidden states (B, T, W) → log probabilities of blank and units (B, T, V)."""

    def __init__(self, width: int, units: int, dropout: float) -> None:
        super().__init__()
        self.ctc_lo = nn.Linear(width, units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, memory: torch.Tensor) -> torch.Tensor:
        return self.ctc_lo(self.dropout(memory)).float().log_softmax(dim=-1)


def real_frames(inputs: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Which frames are not padding: (B, T) bool.

    Raises: ValueError for a clip of no frames or of more frames than there are.
    """
    clips, frames = inputs.shape[:2]
    if lengths is None:
        return torch.ones(clips, frames, dtype=torch.bool, device=inputs.device)
    if lengths.min() < 1 or lengths.max() > frames:
        raise ValueError(f"lengths must lie in 1…{frames}, not {lengths.tolist()}")
    return torch.arange(frames, device=inputs.device) < lengths.to(inputs.device)[:, None]
