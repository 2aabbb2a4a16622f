"""Fitting the small editor to one face: its own frames, each put together from the others.

Shapes: K frames of the face, S' side of a window's pixels, M lips numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipsync_cli.networks.flashlips.warp_editor import Drawn, WarpEditor


@dataclass(frozen=True)
class AdaptConfig:
    """steps: of the optimiser.  batch: frames a step.  references: R.  apart_s: how far they are from the frame."""

    steps: int = 120
    batch: int = 4
    lr: float = 4e-4
    references: int = 3
    apart_s: float = 0.2


@dataclass(frozen=True, eq=False)
class Face:
    """What is known of a face.

    images: (K, 3, S', S') in −1…1.  holes: (K, 1, S', S').  lips: (K, M).  times_s: (K,) in the clip.
    """

    images: Tensor
    holes: Tensor
    lips: Tensor
    times_s: np.ndarray


def nearest(lips: Tensor, known: Tensor, forbidden: Tensor | None, count: int) -> Tensor:
    """The references whose lips are most alike.  (N, M), (K, M), (N, K) bool → (N, count) long."""
    distance = torch.cdist(lips, known)
    if forbidden is not None:
        distance = distance.masked_fill(forbidden, torch.inf)
    return distance.topk(min(count, known.shape[0]), largest=False).indices


def adapt(
    editor: WarpEditor,
    face: Face,
    loss: Callable[[Tensor, Tensor, Drawn], Tensor],
    config: AdaptConfig,
    seed: int,
    tell: Callable[[int, int], None],
) -> list[float]:
    """Train all of the editor in place; returns the loss of every step.  loss: of truth, holes and what was drawn."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(editor.parameters(), lr=config.lr, betas=(0.9, 0.98))
    times = torch.from_numpy(face.times_s)
    too_near = (times[:, None] - times[None]).abs() <= config.apart_s
    losses = []
    for step in range(config.steps):
        tell(step, config.steps)
        for group in optimiser.param_groups:  # warms up over ten steps, falls to a tenth
            group["lr"] = config.lr * min(1, (step + 1) / 10) * (1 - 0.9 * step / config.steps)
        frames = torch.randint(len(face.images), (config.batch,), generator=generator)
        # Among a random half, so that a frame is not always made of the same few.
        half = torch.rand(config.batch, len(times), generator=generator) < (0.5 if len(times) > 12 else 0.0)
        hidden = too_near[frames] | half
        chosen = nearest(face.lips[frames], face.lips, hidden, config.references)
        references = editor.look(face.images[chosen], face.lips[chosen])
        drawn = editor(face.images[frames], face.holes[frames], references, face.lips[frames])
        value = loss(face.images[frames], face.holes[frames], drawn)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(editor.parameters(), 1.0)
        optimiser.step()
        losses.append(float(value.detach()))
    tell(config.steps, config.steps)
    return losses
