"""Training StableSyncNet: windows that belong together or not, the loss, validation by accuracy (LatentSync §3.3).

Shapes: B pairs, E embedding width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_cli.core.progress import Progress
from lipsync_cli.data.clips import ClipData
from lipsync_cli.data.manifest import ClipChoice
from lipsync_cli.networks.latentsync.convert import save_syncnet
from lipsync_cli.networks.latentsync.mel import mel_windows, start_column, syncnet_mel
from lipsync_cli.networks.latentsync.prepared import (
    canvases,
    check_side,
    clip_store,
    squares_of,
    window_pictures,
)
from lipsync_cli.networks.latentsync.syncnet import StableSyncNet, StableSyncNetConfig, lower_half
from lipsync_cli.training.loop import LoopConfig
from lipsync_cli.training.objective import Batch

MATCH = 0.5  # cosine above which two windows are said to belong together
GUESSING = math.log(2)  # the loss of one who has learnt nothing (equation 8)


@dataclass(frozen=True)
class SyncNetData:
    """manifest: of `lipsync prepare`.  train, validate: which clips; validation clips are never trained on.

    positive: share of windows shown with their own sound.  cache_gb: decoded clips kept in memory by each process.
    """

    manifest: str
    train: ClipChoice = ClipChoice()
    validate: ClipChoice = ClipChoice()
    positive: float = 0.5
    cache_gb: float = 2.0


@dataclass(frozen=True)
class SyncNetRecipe:
    """recipes/syncnet/*.yaml."""

    objective: str
    data: SyncNetData
    model: StableSyncNetConfig = field(default_factory=StableSyncNetConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "Apache-2.0"


class TrainedSyncNet(nn.Module):
    """A batch of `SyncNetObjective.example`s → its loss, and how many pairs are judged rightly."""

    def __init__(self, network: StableSyncNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        seen, heard = self.network(batch["frames"], batch["mel"])
        cosine = (seen.float() * heard.float()).sum(1)
        right = (cosine > MATCH) == (batch["match"] > 0.5)
        return {"loss": match_loss(cosine, batch["match"]), "accuracy": right.float().mean()}


def match_loss(cosine: Tensor, match: Tensor) -> Tensor:
    """Binary cross-entropy of cosines 0…1 taken as probabilities (equation 8, appendix B).

    cosine, match: (B,), match 1 where the windows belong together, else 0.
    """
    chance = torch.where(match > 0.5, cosine, 1 - cosine).clamp(0, 1)
    return -(chance + 1e-6).log().mean()  # the gradient stays finite at 0


class SyncNetObjective:
    """`training.Objective` for StableSyncNet."""

    def __init__(self, recipe: SyncNetRecipe) -> None:
        self.recipe = recipe
        data, wanted = recipe.data, 2 * recipe.model.frames
        self._train = clip_store(data.manifest, data.train, wanted, data.cache_gb)
        self._validate = clip_store(data.manifest, data.validate, wanted, 0)

    def build(self) -> TrainedSyncNet:
        """Raises: UsageError when the crops are too small."""
        check_side(self._train, self.recipe.model.crop_px)
        return TrainedSyncNet(StableSyncNet(self.recipe.model))

    def example(self, index: int) -> Batch:
        """A window of sound with its own pictures, or with those of another moment of the same clip.

        frames: (48, S/2, S).  mel: (1, 80, 52).  match: scalar, 1 or 0.
        """
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        clip = self._train.load(self._train.clips[int(rng.integers(len(self._train.clips)))])
        last = len(clip.frames) - self.recipe.model.frames
        heard = int(rng.integers(last + 1))
        match = bool(rng.random() < self.recipe.data.positive)
        other = int(rng.integers(last))
        return self._pair(clip, heard if match else other + (other >= heard), heard)

    def _pair(self, clip: ClipData, seen: int, heard: int) -> Batch:
        """Pictures from frame `seen` on with the sound from frame `heard` on."""
        config = self.recipe.model
        window = window_pictures(clip, canvases(clip, config.crop_px), seen, config.frames)
        mel, start = syncnet_mel(torch.from_numpy(clip.samples)), torch.tensor([start_column(heard)])
        return {
            "frames": lower_half(squares_of(*window, config.crop_px)[None])[0],
            "mel": mel_windows(mel, start, config.mel_columns)[0],
            "match": torch.tensor(float(seen == heard)),
        }

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """`accuracy`, `loss` over windows of all validation clips, half of them with the sound of half the clip away;
        `stuck`: 1 when the loss sits where guessing has it, the usual way for this network to fail.
        """
        totals = {"loss": 0.0, "accuracy": 0.0}
        with progress.stage("validate", len(self._validate.clips), "clips") as stage:
            for clip in self._validate.clips:
                losses = module(self._judged(self._validate.load(clip), device))
                totals = {name: total + float(losses[name]) for name, total in totals.items()}
                stage.advance()
            metrics = {name: total / len(self._validate.clips) for name, total in totals.items()}
            stuck = abs(metrics["loss"] - GUESSING) < 0.01
            if stuck:
                stage.note("loss at 0.693: nothing learnt; larger batches, or clips better in sync, help")
        return metrics | {"stuck": float(stuck)}

    def _judged(self, clip: ClipData, device: torch.device) -> Batch:
        """Windows of a clip end to end, each with its own sound and with that of half the clip away."""
        frames = self.recipe.model.frames
        places = len(clip.frames) - frames + 1
        starts = range(0, places, frames)
        pairs = [self._pair(clip, s, h) for s in starts for h in (s, (s + places // 2) % places)]
        return {name: torch.stack([pair[name] for pair in pairs]).to(device) for name in pairs[0]}

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, TrainedSyncNet)
        save_syncnet(module.network, folder, self.recipe.licence, {"validation": metrics})
