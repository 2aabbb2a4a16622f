"""Training the small editor: a face's own frames put its hidden mouth together again (§3.1.1, §3.1.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipsync_cli.core.errors import InputError
from lipsync_cli.core.progress import Progress
from lipsync_cli.data.clips import ClipData, ClipStore
from lipsync_cli.data.manifest import Clip, ClipChoice, choose_clips, read_manifest
from lipsync_cli.faces.mouth import mouth_mask
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.blocks.lpips import load_lpips
from lipsync_cli.networks.flashlips.mesh_lips import MeshLips, MeshLipsConfig
from lipsync_cli.networks.flashlips.tiny import (
    HOLE_FEATHER,
    WINDOW_LEFT,
    WINDOW_SIDE,
    WINDOW_TOP,
    TinyConfig,
    TinyFlashLips,
    cut_mouths,
    save_tiny,
)
from lipsync_cli.networks.flashlips.warp_editor import Drawn, WarpEditor, WarpEditorConfig
from lipsync_cli.networks.flashlips.warp_losses import WarpLossConfig, mouth_losses
from lipsync_cli.networks.flashlips.warp_views import (
    ViewConfig,
    coloured,
    draw_colour,
    draw_geometry,
    sampling_grid,
    sharpened,
)
from lipsync_cli.training.loop import LoopConfig
from lipsync_cli.training.objective import Batch


@dataclass(frozen=True)
class WarpData:
    """What is trained on.

    references: R.  apart_frames: how far references are from the frame to be edited.  pool: among so many frames
    the nearest by lips numbers are taken, half of the time.  evenness: clips are drawn so that a speaker of n clips
    counts n^(1 − evenness).  margin_px: of the prepared crops.
    """

    manifest: str
    train: ClipChoice = ClipChoice()
    validate: ClipChoice = ClipChoice()
    references: int = 3
    apart_frames: int = 5
    pool: int = 16
    evenness: float = 0.7
    margin_px: int = 8
    cache_gb: float = 3.0


@dataclass(frozen=True)
class WarpRecipe:
    """recipes/dub/flashlips_editor_tiny.yaml."""

    objective: str
    data: WarpData
    editor: WarpEditorConfig = field(default_factory=WarpEditorConfig)
    lips: MeshLipsConfig = field(default_factory=MeshLipsConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    loss: WarpLossConfig = field(default_factory=WarpLossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    licence: str = "Apache-2.0"


class MouthEditing(nn.Module):
    """What is trained: the editor and what reads the lips."""

    def __init__(self, recipe: WarpRecipe) -> None:
        super().__init__()
        self.editor = WarpEditor(recipe.editor)
        self.lips = MeshLips(recipe.lips)
        self.loss = recipe.loss
        self.judge = [
            load_lpips(load_model_folder("lpips-alex"))
        ]  # in a list, so that it is no part of the module

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One step's losses.  batch: see `WarpObjective.example`, stacked."""
        truth, hole, drawn = self.reconstruct(batch)
        return mouth_losses(truth, hole, drawn, self.loss, self.judge[0])

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor, Drawn]:
        side = self.editor.config.side_px
        raw = batch["pictures"].permute(0, 1, 4, 2, 3)  # (B, 1 + R, 4, s, s): colours and hole
        grid = sampling_grid(batch["matrices"], batch["shifts"], batch["bend"], batch["window"][0], side)
        views = F.grid_sample(raw.flatten(0, 1).float(), grid, padding_mode="border", align_corners=False)
        views = views.unflatten(0, raw.shape[:2])
        hole = views[:, 0, 3:] / 255
        pictures = sharpened(views[:, :, :3] / 127.5 - 1, batch["sharpness"])
        pictures = coloured(pictures, batch["colour"])
        glances = coloured(pictures, batch["glance_colour"])
        extra = self.lips.look(cut_mouths(glances.flatten(0, 1), self.lips.config.mouth_px))
        lips = torch.cat([batch["shapes"], extra.unflatten(0, raw.shape[:2])], -1)
        lips = lips + self.loss.lips_noise * batch["noise"]
        references = self.editor.look(pictures[:, 1:], lips[:, 1:])
        return pictures[:, 0], hole, self.editor(pictures[:, 0], hole, references, lips[:, 0])


class WarpObjective:
    """`training.Objective` for the small editor."""

    def __init__(self, recipe: WarpRecipe) -> None:
        self.recipe = recipe
        data = recipe.data
        manifest = Path(data.manifest)
        folder = manifest if manifest.is_dir() else manifest.parent
        clips = [clip for clip in read_manifest(manifest) if clip.landmarks]
        if not clips:
            raise InputError(f"{manifest}: no clip has landmarks.", "lipsync prepare FOOTAGE OUT")
        self._store = ClipStore(folder, choose_clips(clips, data.train), grey=False, cache_gb=data.cache_gb)
        self._held_out = ClipStore(folder, choose_clips(clips, data.validate), grey=False, cache_gb=1.0)
        self._chances = _chances(self._store.clips, data.evenness)
        self._shapes: dict[str, np.ndarray] = {}
        self._module: MouthEditing | None = None

    def build(self) -> MouthEditing:
        module = MouthEditing(self.recipe).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        several = self._store.clips[:: max(1, len(self._store.clips) // 150)]
        rare = [
            clip for clip in self._store.clips if clip not in several and clip.subject != several[0].subject
        ]
        clips = several + rare
        chances = dict(zip((clip.key for clip in self._store.clips), self._chances, strict=True))
        landmarks = [_landmarks(self._store.load(clip)) for clip in clips]
        module.lips.learn_basis(landmarks, [chances[clip.key] for clip in clips])
        self._module = module
        return module

    def example(self, index: int) -> Batch:
        """One frame and its references with everything random about them drawn.

        pictures: (1 + R, s, s, 4) uint8, the last channel the frame's hole.  shapes: (1 + R, main).  noise: (1 + R, M).
        matrices, shifts, bend: see `draw_geometry`.  window: see `sampling_grid`.  sharpness: ().  colour,
        glance_colour: (3, 4).
        """
        rng = np.random.default_rng((self.recipe.loop.seed, index))
        clip = self._store.clips[int(rng.choice(len(self._store.clips), p=self._chances))]
        view = self.recipe.view
        data = self._store.load(clip)
        flip = bool(rng.integers(2))
        shapes = self._clip_shapes(clip, data, flip)
        frame = int(rng.integers(len(data.frames)))
        chosen = [frame, *self._references(rng, frame, shapes)]
        example = make_example(data, shapes, chosen, self.recipe)
        example |= {
            name: torch.from_numpy(value) for name, value in draw_geometry(rng, view, len(chosen)).items()
        }
        example["noise"] = torch.from_numpy(rng.normal(0, 1, example["noise"].shape).astype(np.float32))
        example["sharpness"] = torch.tensor(view.sharpness * rng.uniform(-0.8, 1.5), dtype=torch.float32)
        example["colour"] = torch.from_numpy(draw_colour(rng, view.colour))
        example["glance_colour"] = torch.from_numpy(draw_colour(rng, view.colour / 2))
        if flip:
            example["matrices"] = example["matrices"] * torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
        return example

    def _clip_shapes(self, clip: Clip, data: ClipData, mirrored: bool) -> np.ndarray:
        name = f"{clip.key} {mirrored}"
        if name not in self._shapes:
            assert self._module is not None
            self._shapes[name] = self._module.lips.shape(_landmarks(data), mirrored)
        return self._shapes[name]

    def _references(self, rng: np.random.Generator, frame: int, shapes: np.ndarray) -> list[int]:
        data = self.recipe.data
        far = np.flatnonzero(np.abs(np.arange(len(shapes)) - frame) > data.apart_frames)
        pool = rng.choice(far, min(data.pool, len(far)), replace=False)
        if rng.integers(2):
            pool = pool[np.argsort(np.square(shapes[pool] - shapes[frame]).sum(-1))]
        return [int(n) for n in pool[: data.references]]

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """Error in the hole of frames of unseen speakers, with the nearest references: PSNR, and the losses."""
        assert isinstance(module, MouthEditing)
        rows: list[dict[str, float]] = []
        with progress.stage("validate", len(self._held_out.clips), "clips") as stage:
            for clip in self._held_out.clips[::2]:
                data = self._held_out.load(clip)
                shapes = module.lips.shape(_landmarks(data))
                rng = np.random.default_rng(0)
                examples = []
                for frame in range(4, len(shapes), 12):
                    far = np.flatnonzero(
                        np.abs(np.arange(len(shapes)) - frame) > self.recipe.data.apart_frames
                    )
                    near = far[np.argsort(np.square(shapes[far] - shapes[frame]).sum(-1))]
                    chosen = [frame, *near[: self.recipe.data.references]]
                    example = make_example(data, shapes, chosen, self.recipe)
                    still = ViewConfig(*[0.0] * 7)
                    for name, value in draw_geometry(rng, still, len(chosen)).items():
                        example[name] = torch.from_numpy(value)
                    examples.append(example)
                batch = {name: torch.stack([e[name] for e in examples]).to(device) for name in examples[0]}
                truth, hole, drawn = module.reconstruct(batch)
                losses = mouth_losses(truth, hole, drawn, module.loss, module.judge[0])
                square = ((drawn.picture.clamp(-1, 1) - truth).square() * (hole > 0)).sum((1, 2, 3))
                error = square / ((hole > 0).sum((1, 2, 3)) * 3)
                losses["psnr_db"] = (10 * torch.log10(4 / error)).mean()
                rows.append({name: float(value) for name, value in losses.items()})
                stage.advance()
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        assert isinstance(module, MouthEditing)
        network = TinyFlashLips(TinyConfig(self.recipe.editor, self.recipe.lips))
        network.editor.load_state_dict(module.editor.state_dict())
        network.lips.load_state_dict(module.lips.state_dict())
        save_tiny(network, folder, self.recipe.licence, {"validation": metrics})


def make_example(data: ClipData, shapes: np.ndarray, chosen: list[int], recipe: WarpRecipe) -> Batch:
    """An example as it is, nothing random about it; `chosen` are the frame and its references."""
    landmarks = _landmarks(data)
    side = data.frames.shape[1]
    size = side - 2 * recipe.data.margin_px
    hole = mouth_mask(landmarks[chosen[:1]], side, HOLE_FEATHER * WINDOW_SIDE * size)
    pictures = np.zeros((len(chosen), side, side, 4), np.uint8)
    pictures[..., :3] = data.frames[chosen]
    pictures[0, ..., 3] = np.round(hole[0] * 255)
    margin = recipe.data.margin_px
    window = [margin + WINDOW_LEFT * size, margin + WINDOW_TOP * size, WINDOW_SIDE * size, side]
    same = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]])
    return {
        "pictures": torch.from_numpy(pictures),
        "shapes": torch.from_numpy(shapes[chosen].astype(np.float32)),
        "noise": torch.zeros(len(chosen), recipe.lips.numbers),
        "window": torch.tensor(window),
        "sharpness": torch.tensor(0.0),
        "colour": same,
        "glance_colour": same,
    }


def _landmarks(data: ClipData) -> np.ndarray:
    assert data.landmarks is not None
    return data.landmarks


def _chances(clips: list[Clip], evenness: float) -> np.ndarray:
    counts = {
        subject: sum(clip.subject == subject for clip in clips)
        for subject in {clip.subject for clip in clips}
    }
    weights = np.array([counts[clip.subject] ** -evenness for clip in clips])
    return weights / weights.sum()
