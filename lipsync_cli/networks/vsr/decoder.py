"""Transformer decoder that writes units one after another, shaped and named as in Auto-AVSR.

Pre-norm blocks: causal self-attention → attention to the encoder → FFN. It can be run over whole sequences
(training) or a unit at a time with kept keys and values (beam search); both give the same numbers.
Shapes: B clips or N hypotheses, U units written, T frames, W width, H heads, D = W / H, V units known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from lipsync_cli.networks.vsr.conformer import NORM_EPSILON, FeedForward, sinusoids, split_heads

KeysValues = tuple[torch.Tensor, torch.Tensor]  # each (N, H, length, D)


@dataclass(frozen=True)
class DecoderState:
    """What N hypotheses share and keep between units: per block, keys and values of the written units and of
    the frames (one row, shared by all hypotheses)."""

    written: tuple[KeysValues, ...]
    frames: tuple[KeysValues, ...]

    def select(self, rows: torch.Tensor) -> DecoderState:
        """The state of chosen hypotheses, in that order. rows: (N',) int64."""
        return DecoderState(tuple((k[rows], v[rows]) for k, v in self.written), self.frames)


class TransformerDecoder(nn.Module):
    def __init__(
        self,
        units: int,
        width: int = 768,
        heads: int = 12,
        ffn_width: int = 3072,
        blocks: int = 6,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Embedding(units, width))
        layers = [DecoderBlock(width, heads, ffn_width, dropout) for _ in range(blocks)]
        self.decoders: list[DecoderBlock] = nn.ModuleList(layers)  # pyright: ignore[reportAttributeAccessIssue]
        self.after_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.output_layer = nn.Linear(width, units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, previous: torch.Tensor, memory: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Logits of the next unit after each of `previous` (teacher forcing).

        previous: (B, U) int64, first the start unit; memory: (B, T, W); real: (B, T) bool → (B, U, V).
        """
        length = previous.shape[1]
        x = self._embed(previous, start=0)
        past = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        for block in self.decoders:
            x = block(x, memory, past, real[:, None, None, :])
        return self.output_layer(self.after_norm(x))

    def start(self, memory: torch.Tensor) -> DecoderState:
        """The state of one hypothesis with nothing written. memory: (T, W) of one clip, real frames only."""
        frames = tuple(block.src_attn.keys_values(memory[None]) for block in self.decoders)
        return DecoderState(tuple((k[:, :, :0], v[:, :, :0]) for k, v in frames), frames)

    def step(self, last: torch.Tensor, state: DecoderState) -> tuple[torch.Tensor, DecoderState]:
        """Log probabilities of the next unit (N, V) after writing `last` (N,) to each hypothesis."""
        x = self._embed(last[:, None], start=state.written[0][0].shape[2])
        written = []
        for block, past, frames in zip(self.decoders, state.written, state.frames, strict=True):
            x, now = block.step(x, past, frames)
            written.append(now)
        logits = self.output_layer(self.after_norm(x[:, 0]))
        return logits.log_softmax(dim=-1), DecoderState(tuple(written), state.frames)

    def _embed(self, units: torch.Tensor, start: int) -> torch.Tensor:
        x = self.embed(units)
        positions = sinusoids(torch.arange(start, start + units.shape[1]), x.shape[2]).to(x)
        return self.dropout(x * math.sqrt(x.shape[2]) + positions)


class DecoderBlock(nn.Module):
    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.src_attn = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, ffn_width, dropout)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.norm3 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, past: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        normed = self.norm1(x)
        x = x + self.dropout(self.self_attn(normed, self.self_attn.keys_values(normed), past))
        x = x + self.dropout(self.src_attn(self.norm2(x), self.src_attn.keys_values(memory), real))
        return x + self.dropout(self.feed_forward(self.norm3(x)))

    def step(self, x: torch.Tensor, past: KeysValues, frames: KeysValues) -> tuple[torch.Tensor, KeysValues]:
        normed = self.norm1(x)
        key, value = self.self_attn.keys_values(normed)
        now = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        x = x + self.self_attn(normed, now, None)
        shared = frames[0].expand(len(x), -1, -1, -1), frames[1].expand(len(x), -1, -1, -1)
        x = x + self.src_attn(self.norm2(x), shared, None)
        return x + self.feed_forward(self.norm3(x)), now


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)

    def keys_values(self, x: torch.Tensor) -> KeysValues:
        """(N, length, W) → two of (N, H, length, D)."""
        return split_heads(self.linear_k(x), self.heads), split_heads(self.linear_v(x), self.heads)

    def forward(self, x: torch.Tensor, keys_values: KeysValues, mask: torch.Tensor | None) -> torch.Tensor:
        query = split_heads(self.linear_q(x), self.heads)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, *keys_values, attn_mask=mask, dropout_p=dropout)
        return self.linear_out(mixed.transpose(1, 2).flatten(2))
