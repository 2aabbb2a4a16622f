"""Training the lips encoders around the editor: first the expression encoder below, last the distilled one above.

Shapes: B frames, S side of the face square, P points of lips and jaw, M lips numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import Progress
from lipsync_cli.data.clips import ClipData
from lipsync_cli.networks.flashlips.frames import FrameClips, FrameData, face_of, jittered, mirrored, picture
from lipsync_cli.networks.flashlips.lips import (
    DistilledConfig,
    DistilledLipsEncoder,
    ExpressionConfig,
    ExpressionEncoder,
    LipsEncoder,
    expression_target,
    mirrored_points,
)
from lipsync_cli.networks.flashlips.model import FlashLips, FlashLipsConfig
from lipsync_cli.networks.flashlips.weights import load_flashlips, save_flashlips
from lipsync_cli.training.loop import LoopConfig
from lipsync_cli.training.objective import Batch


@dataclass(frozen=True)
class ExpressionRecipe:
    """image_px: S, of prepared crops without their margin, and of every later stage."""

    objective: str
    data: FrameData
    image_px: int = 512
    model: ExpressionConfig = field(default_factory=ExpressionConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "Apache-2.0"


@dataclass(frozen=True)
class DistilRecipe:
    """start: the model folder whose lips encoder is distilled; it is written out again with the distilled one added."""

    objective: str
    data: FrameData
    start: str
    model: DistilledConfig = field(default_factory=DistilledConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "Apache-2.0"


class ExpressionTraining(nn.Module):
    """Faces (B, 3, S, S) and their `expression_target` (B, P, 2) → the mean distance of the points, squared."""

    def __init__(self, network: ExpressionEncoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        away = self.network(batch["face"]).float() - batch["points"]
        return {"loss": away.square().sum(-1).mean()}


class ExpressionObjective:
    """`training.Objective` for the expression encoder."""

    def __init__(self, recipe: ExpressionRecipe) -> None:
        self.recipe = recipe
        self._clips = FrameClips(recipe.data, recipe.image_px)

    def build(self) -> ExpressionTraining:
        return ExpressionTraining(ExpressionEncoder(self.recipe.model))

    def example(self, index: int) -> Batch:
        """face: (3, S, S), −1…1.  points: (P, 2)."""
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        clip = self._clips.draw(rng)
        number = int(rng.integers(len(clip.frames)))
        frame, points = self._clips.frame(clip, number), _targets(clip)[number]
        if rng.random() < self.recipe.data.augment.flip:
            frame, points = mirrored(frame), mirrored_points(points)
        face = jittered([frame.face], self.recipe.data.augment, rng)[0]
        return {"face": picture(face), "points": torch.from_numpy(points)}

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """error: mean distance of the points, in distances from eyes to mouth.  error_moving: with the median over each
        clip taken off the answers too, which is the person they have not got rid of.  error_of_still: of one who says that
        nothing ever moves.
        """
        assert isinstance(module, ExpressionTraining)
        rows = []
        stores = self._clips.validate
        with progress.stage("validate", len(stores.clips), "clips") as stage:
            for clip in map(stores.load, stores.clips):
                some = slice(None, None, self.recipe.data.validate_every)
                faces = face_of(clip.frames[some], self.recipe.image_px).to(device)
                points, answers = _targets(clip)[some], module.network(faces).cpu().numpy()
                aways = (answers - points, answers - np.median(answers, 0) - points, points)
                rows.append([np.linalg.norm(away, axis=-1).mean() for away in aways])
                stage.advance()
        names = ("error", "error_moving", "error_of_still")
        return {name: float(value) for name, value in zip(names, np.mean(rows, 0), strict=True)}

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, ExpressionTraining)
        model = FlashLips(FlashLipsConfig(image_px=self.recipe.image_px), {"expression": module.network})
        save_flashlips(model, folder, self.recipe.licence, {"validation": metrics})


class Distillation(nn.Module):
    """Faces (B, 3, S, S) → how far the distilled encoder's numbers are from the full one's (§4.2), squared."""

    def __init__(self, student: DistilledLipsEncoder, teacher: LipsEncoder) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = self.teacher(batch["face"]).float()
        away = self.student(batch["face"]).float() - wanted
        return {"loss": away.square().mean()}


class DistilObjective:
    """`training.Objective` for the distilled lips encoder."""

    def __init__(self, recipe: DistilRecipe) -> None:
        self.recipe = recipe
        self._start = load_flashlips(recipe.start)
        if self._start.lips is None:
            raise UsageError(f"{recipe.start}: holds no lips encoder.", "train flashlips_editor first")
        if recipe.model.numbers != self._start.lips.config.numbers:
            wanted = self._start.lips.config.numbers
            raise UsageError(
                f"{recipe.start}: its lips encoder gives {wanted} numbers.", f"--set model.numbers={wanted}"
            )
        self._clips = FrameClips(recipe.data, self._start.config.image_px)

    def build(self) -> Distillation:
        assert self._start.lips is not None
        return Distillation(DistilledLipsEncoder(self.recipe.model), self._start.lips)

    def example(self, index: int) -> Batch:
        """face: (3, S, S), −1…1."""
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        clip = self._clips.draw(rng)
        frame = self._clips.frame(clip, int(rng.integers(len(clip.frames))))
        if rng.random() < self.recipe.data.augment.flip:
            frame = mirrored(frame)
        return {"face": picture(jittered([frame.face], self.recipe.data.augment, rng)[0])}

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """unexplained: share of the full encoder's variance that the distilled one does not give, mean over numbers."""
        assert isinstance(module, Distillation)
        wanted, given = [], []
        store = self._clips.validate
        with progress.stage("validate", len(store.clips), "clips") as stage:
            for clip in map(store.load, store.clips):
                frames = clip.frames[:: self.recipe.data.validate_every]
                faces = face_of(frames, self._clips.image_px).to(device)
                wanted.append(module.teacher(faces).cpu())
                given.append(module.student(faces).cpu())
                stage.advance()
        truth, away = torch.cat(wanted), torch.cat(wanted) - torch.cat(given)
        return {"unexplained": float((away.square().mean(0) / truth.var(0).clamp_min(1e-9)).mean())}

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, Distillation)
        whole = self._start.with_networks(distilled=module.student)
        save_flashlips(whole, folder, self.recipe.licence, {"validation": metrics})


def _targets(clip: ClipData) -> np.ndarray:
    """(T, P, 2)."""
    assert clip.landmarks is not None
    return expression_target(clip.landmarks)
