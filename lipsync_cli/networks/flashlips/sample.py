"""Lips numbers for a whole sound: the flow integrated over overlapping windows at once (§3.2).

Shapes: L frames of the sound, T of a window, W windows, M lips numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lipsync_cli.networks.flashlips.audio2lips import AudioToLips
from lipsync_cli.networks.flashlips.speech import SAMPLES_PER_FRAME

Velocity = Callable[[Tensor, float], Tensor]  # (state, t) → its rate of change
PIECE_FRAMES, MARGIN_FRAMES = 500, 50  # of sound heard at once: 20 s, and 2 s to either side of them


@dataclass(frozen=True)
class SamplerConfig:
    """steps: of the flow.  method: "euler" or "midpoint" (two looks a step).  overlap: share of a window that its
    neighbour sees too.  windows: how many the network is shown at once.
    """

    steps: int = 10
    method: str = "euler"
    overlap: float = 0.5
    windows: int = 16


@torch.inference_mode()
def hear(model: AudioToLips, samples: Tensor) -> Tensor:
    """w_a of a sound of any length, heard in pieces with what surrounds them.  (L·640,) → (L, d_a)."""
    num_frames = len(samples) // SAMPLES_PER_FRAME
    rows = []
    for start in range(0, num_frames, PIECE_FRAMES):
        end = min(num_frames, start + PIECE_FRAMES)
        first, last = max(0, start - MARGIN_FRAMES), min(num_frames, end + MARGIN_FRAMES)
        heard = model.speech(samples[None, first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME])[0]
        rows.append(heard[start - first : end - first])
    return torch.cat(rows)


@torch.inference_mode()
def sample_lips(
    model: AudioToLips,
    heard: Tensor,
    references: Tensor,
    *,
    seed: int,
    config: SamplerConfig = SamplerConfig(),
    emotion: Tensor | None = None,
    pose: Tensor | None = None,
) -> Tensor:
    """Lips numbers for every frame of a sound; the same arguments give the same numbers.

    heard: (L, d_a) of `hear`.  references: (K, M) lips numbers of the face as it is.  emotion: (E,) logits.
    pose: (L, P).  Returns (L, M).
    """
    length, size = len(heard), model.config.frames
    starts = window_starts(length, size, config.overlap)
    heard = _padded(heard, max(length, size))
    poses = None if pose is None else _windows(_padded(pose, len(heard)), starts, size)
    windows = _windows(heard, starts, size)
    known = model.normalise(references.to(heard))[None].expand(len(starts), -1, -1)
    felt = None if emotion is None else emotion.to(heard)[None].expand(len(starts), -1)
    condition = model.embed_condition(windows, known, felt)
    weight = cross_fade(starts, size, len(heard)).to(heard)

    def velocity(z: Tensor, t: float) -> Tensor:
        views = _windows(z, starts, size)
        rows = [
            model(views[part], views.new_full((len(views[part]),), t), condition[part], _part(poses, part))
            for part in (slice(k, k + config.windows) for k in range(0, len(starts), config.windows))
        ]
        return blended(torch.cat(rows), starts, weight)

    # Drawn frame by frame on the CPU: a longer sound, or another device, begins with the same noise.
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(heard), model.config.lips, generator=generator).to(heard)
    return model.restore(integrate(velocity, noise, config.steps, config.method))[:length]


def integrate(velocity: Velocity, state: Tensor, steps: int, method: str = "euler") -> Tensor:
    """Follow dz/dt = v(z, t) from t = 0 to 1 in equal steps, by Euler's or the midpoint rule."""
    for step in range(steps):
        t = step / steps
        rate = velocity(state, t)
        if method == "midpoint":
            rate = velocity(state + rate / (2 * steps), t + 0.5 / steps)
        state = state + rate / steps
    return state


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """First frames of windows that cover `length` frames; the last one ends with it, or at `size`."""
    hop = max(1, round(size * (1 - overlap)))
    last = max(0, length - size)
    return [*range(0, last, hop), last]


def cross_fade(starts: list[int], size: int, length: int) -> Tensor:
    """Share of each window in each of its frames: (W, T), 1 over all windows at every frame.

    Rises and falls linearly from the ends of a window, so that no window begins or ends at once.
    """
    ramp = torch.arange(size)
    tent = torch.minimum(ramp + 1, size - ramp).double()
    total = torch.zeros(length, dtype=torch.double)
    for start in starts:
        total[start : start + size] += tent
    return torch.stack([tent / total[start : start + size] for start in starts]).float()


def blended(windows: Tensor, starts: list[int], weight: Tensor) -> Tensor:
    """Windows (W, T, M) as one sequence (L, M)."""
    size = windows.shape[1]
    out = windows.new_zeros(starts[-1] + size, windows.shape[2])
    for window, start, share in zip(windows, starts, weight, strict=True):
        out[start : start + size] += share[:, None] * window
    return out


def _windows(rows: Tensor, starts: list[int], size: int) -> Tensor:
    return torch.stack([rows[start : start + size] for start in starts])


def _padded(rows: Tensor, length: int) -> Tensor:
    """With the last row repeated up to `length`."""
    return torch.cat([rows, rows[-1:].expand(length - len(rows), -1)])


def _part(rows: Tensor | None, part: slice) -> Tensor | None:
    return None if rows is None else rows[part]
