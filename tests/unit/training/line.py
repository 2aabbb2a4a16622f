"""The smallest objective: fit a noisy line, with dropout if asked."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn


class Line(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, batch):
        wrong = (self.layers(batch["x"])[:, 0] - batch["y"]).square().mean()
        return {"loss": wrong + batch["poison"].sum(), "wrong": wrong}


class LineObjective:
    """poison_at: number of the example that makes the loss not a number.  seen: examples asked for, in order."""

    def __init__(self, dropout: float = 0.0, poison_at: int = -1) -> None:
        self.dropout, self.poison_at = dropout, poison_at
        self.seen: list[int] = []
        self.validations = 0

    def build(self) -> nn.Module:
        return Line(self.dropout)

    def example(self, index: int):
        self.seen.append(index)
        x = torch.randn(4, generator=torch.Generator().manual_seed(index))
        poison = torch.tensor(float("nan") if index == self.poison_at else 0.0)
        return {"x": x, "y": x.sum().sin(), "poison": poison}

    def validate(self, module, device, progress) -> dict[str, float]:
        self.validations += 1
        assert not module.training and not torch.is_grad_enabled()
        return {"bias": float(module.layers[3].bias)}

    def export(self, module, folder: Path, metrics) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(module.state_dict(), folder / "weights.pt")
        (folder / "metrics.json").write_text(json.dumps(metrics))
