"""Conformer encoder with relative positions, shaped and named as in Auto-AVSR (ESPnet's "latest" rel_mha).

One block: half FFN → relative self-attention → convolution → half FFN → norm (Gulati et al. 2020, §2).
Shapes: B clips, T frames, W width, H heads, D = W / H.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, silu

NORM_EPSILON = 1e-12  # ESPnet's


class ConformerEncoder(nn.Module):
    """(B, T, W) and which frames are real (B, T) bool → (B, T, W).

    Frames past a clip's end never reach its real frames: attention masks them, and they are zeroed before
    each depthwise convolution. # differs from the published code, whose convolution lets padding in: there a
    clip's result depends on what it is batched with. padding_leaks=True brings that back, for comparison
    only.
    """

    def __init__(
        self,
        width: int = 768,
        heads: int = 12,
        ffn_width: int = 3072,
        blocks: int = 12,
        kernel_frames: int = 31,
        dropout: float = 0.1,
        padding_leaks: bool = False,
    ) -> None:
        super().__init__()
        self.padding_leaks = padding_leaks
        self.dropout = nn.Dropout(dropout)
        self.encoders = nn.ModuleList(
            ConformerBlock(width, heads, ffn_width, kernel_frames, dropout) for _ in range(blocks)
        )
        self.after_norm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        positions = self.dropout(relative_positions(x.shape[1], x.shape[2]).to(x))
        x = self.dropout(x * math.sqrt(x.shape[2]))
        kept = None if self.padding_leaks else real
        for block in self.encoders:
            x = block(x, positions, real, kept)
        return self.after_norm(x)


class ConformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, ffn_width: int, kernel_frames: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(width, heads, dropout)
        self.feed_forward = FeedForward(width, ffn_width, dropout)
        self.conv_module = ConvolutionModule(width, kernel_frames)
        self.norm_ff = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.norm_mha = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.feed_forward_macaron = FeedForward(width, ffn_width, dropout)
        self.norm_ff_macaron = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.norm_conv = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.norm_final = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: torch.Tensor, positions: torch.Tensor, real: torch.Tensor, kept: torch.Tensor | None
    ) -> torch.Tensor:
        x = x + 0.5 * self.dropout(self.feed_forward_macaron(self.norm_ff_macaron(x)))
        x = x + self.dropout(self.self_attn(self.norm_mha(x), positions, real))
        x = x + self.dropout(self.conv_module(self.norm_conv(x), kept))
        x = x + 0.5 * self.dropout(self.feed_forward(self.norm_ff(x)))
        return self.norm_final(x)


class RelativeAttention(nn.Module):
    """Self-attention with relative positions (Transformer-XL, Dai et al. 2019, §3.3): score(i, j) is
    (qᵢ + u)·kⱼ + (qᵢ + v)·r(i − j), over √D."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """x: (B, T, W); positions: (2T − 1, W), of i − j = T − 1 … 1 − T; real: (B, T) bool."""
        query, key, value = (
            split_heads(linear(x), self.heads) for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        relative = split_heads(self.linear_pos(positions)[None], self.heads)  # (1, H, 2T − 1, D)
        bias = (query + self.pos_bias_v[:, None]) @ relative.transpose(-2, -1)
        bias = shift_to_keys(bias) / math.sqrt(query.shape[-1])
        bias = bias.masked_fill(~real[:, None, None, :], -torch.inf)
        mixed = scaled_dot_product_attention(
            query + self.pos_bias_u[:, None],
            key,
            value,
            attn_mask=bias,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.linear_out(mixed.transpose(1, 2).flatten(2))


class ConvolutionModule(nn.Module):
    """Pointwise → GLU → depthwise over time → BatchNorm → Swish → pointwise."""

    def __init__(self, width: int, kernel_frames: int) -> None:
        super().__init__()
        if kernel_frames % 2 == 0:
            raise ValueError(f"kernel_frames must be odd, not {kernel_frames}")
        self.pointwise_cov1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise_conv = nn.Conv1d(width, width, kernel_frames, padding=kernel_frames // 2, groups=width)
        self.norm = nn.BatchNorm1d(width)
        self.pointwise_cov2 = nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        x = nn.functional.glu(self.pointwise_cov1(x.transpose(1, 2)), dim=1)
        if kept is not None:
            x = x * kept[:, None]
        x = silu(self.norm(self.depthwise_conv(x)))
        return self.pointwise_cov2(x).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, width: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, ffn_width)
        self.w_2 = nn.Linear(ffn_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w_2(self.dropout(torch.relu(self.w_1(x))))


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, T, W) → (B, H, T, D)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Sines in even and cosines in odd columns (Vaswani et al. 2017, §3.5). positions: (N,) → (N, width)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = positions[:, None].float() * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def relative_positions(frames: int, width: int) -> torch.Tensor:
    """Sinusoids of the distances frames − 1, …, 0, …, 1 − frames: (2 · frames − 1, width)."""
    return sinusoids(torch.arange(frames - 1, -frames, -1), width)


def shift_to_keys(by_distance: torch.Tensor) -> torch.Tensor:
    """Row i indexed by distance T − 1 … 1 − T → row i indexed by key j: (B, H, T, 2T − 1) → (B, H, T, T)."""
    frames = by_distance.shape[2]
    padded = nn.functional.pad(by_distance, (1, 0))  # one column more makes each row start one step later
    shifted = padded.flatten(2).unflatten(2, (2 * frames, frames))[:, :, 1:]
    return shifted.reshape(by_distance.shape)[..., :frames]
