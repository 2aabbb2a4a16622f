"""What a room gives the loop so that it can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from lipsync_cli.core.progress import Progress

Batch = dict[str, Tensor]


class Objective(Protocol):
    """A network, its training examples and its losses.

    Examples are addressed by number and depend on nothing else, so a run that is resumed, or split over several
    processes, sees exactly what an uninterrupted run on one process would have seen.
    """

    def build(self) -> nn.Module:
        """The module to train. `forward(batch)` returns scalars by name; "loss" is the one that is minimised."""
        ...

    def example(self, index: int) -> Batch:
        """Training example number `index` ≥ 0 (any number: the stream never ends), the same at every call."""
        ...

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """Metrics of the module, in evaluation mode, on clips that are never trained on."""
        ...

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        """Write a model folder: config.json and model.safetensors."""
        ...
