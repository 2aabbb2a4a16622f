"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up and cosine decay.

    lr: at its peak.  warmup_steps: linear rise.  final_lr: share of the peak at the last step.
    weight_decay: on matrices, tables of prompts and positions among them; biases and norms are not decayed.
    """

    lr: float = 1.5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    warmup_steps: int = 1000
    final_lr: float = 0.01
    clip_norm: float = 1.0


def build_optimiser(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in two groups: decayed matrices, undecayed vectors."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
    vectors = [parameter for parameter in trainable if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=config.betas)


def learning_rate(step: int, num_steps: int, config: OptimConfig) -> float:
    """Rate for step 0…num_steps−1: linear rise over the warm-up, then half a cosine to `final_lr` of the peak."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    return config.lr * (
        config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    )
